"""Whose jobs are whose, on a cluster that several users share."""

from __future__ import annotations

import getpass

import pytest

from dask_async_run.owners import current_owner, owned, owner_of, short_name, short_names


@pytest.mark.parametrize(
    ("notebook", "owner", "short"),
    [
        ("home/me/a.ipynb", "", "a.ipynb"),
        ("~alice/home/jovyan/a.ipynb", "alice", "alice: a.ipynb"),
        ("~alice@lab.org/a.ipynb", "alice@lab.org", "alice@lab.org: a.ipynb"),
        ("~alice/kernel-1234", "alice", "alice: kernel-1234"),
        ("a.ipynb", "", "a.ipynb"),
        ("~a.ipynb", "", "~a.ipynb"),
        ("", "", ""),
    ],
)
def test_whose_a_notebook_is(notebook: str, owner: str, short: str) -> None:
    assert owner_of(notebook) == owner
    assert short_name(notebook) == short
    if owner:
        assert owned(notebook.partition("/")[2], owner) == notebook
        assert owned(notebook, "") == notebook


def test_owners_are_said_where_there_are_several() -> None:
    alone = {"~a/x/n.ipynb": "n.ipynb", "~a/y/m.ipynb": "m.ipynb"}
    assert short_names(alone) == alone
    both = {"~a/x/n.ipynb": "a: n.ipynb", "~b/x/n.ipynb": "b: n.ipynb"}
    assert short_names(both) == both
    assert short_names([]) == {}


def test_no_two_notebooks_are_called_the_same() -> None:
    """What is listed as ``x/n.ipynb/train`` can be asked for so."""
    alike = {
        "home/me/x/n.ipynb": "me/x/n.ipynb",
        "home/you/x/n.ipynb": "you/x/n.ipynb",
        "home/me/y/n.ipynb": "y/n.ipynb",
        "n.ipynb": "n.ipynb",
        "home/me/m.ipynb": "m.ipynb",
    }
    assert short_names(alike) == alike
    odd = {"x//n": "x//n", "x/n": "x/n", "x/": "x", "y/x": "y/x"}
    assert short_names(odd).keys() == odd.keys()
    assert len({*short_names(odd).values()}) == 4
    both = {"~a/x/n.ipy": "a: x/n.ipy", "~a/y/n.ipy": "a: y/n.ipy", "~b/n.ipy": "b: n.ipy"}
    assert short_names(both) == both


def test_who_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's user before the system's, where everybody has the same; a number without a name."""
    monkeypatch.delenv("JUPYTERHUB_USER", raising=False)
    monkeypatch.setenv("LOGNAME", "jovyan")
    assert current_owner() == "jovyan"
    monkeypatch.setenv("JUPYTERHUB_USER", "lab/alice")
    assert current_owner() == "lab_alice"
    monkeypatch.setenv("JUPYTERHUB_USER", " ")

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert current_owner().startswith("user-")
