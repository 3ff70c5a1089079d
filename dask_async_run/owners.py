"""Whose jobs are whose, on a cluster that several users share.

There notebooks are kept as ``~alice/home/alice/train.ipynb``: two users' notebooks of the
same path, as ``/home/jovyan/Untitled.ipynb`` is on a hub, are two notebooks. On a server of
one's own there is one user, and no owner is said.
"""

from __future__ import annotations

import getpass
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePath

_SIGN = "~"


def current_owner() -> str:
    """Answer who runs this process: the hub's user, where there is a hub, or the system's."""
    hub = os.environ.get("JUPYTERHUB_USER", "").strip()
    if hub:
        return _clean(hub)
    try:
        return _clean(getpass.getuser())
    except (KeyError, OSError):  # a container may run as a number that nobody has
        return f"user-{os.getuid()}"


def owned(notebook: str, owner: str) -> str:
    """Answer the name under which an owner's notebook is kept; an empty owner is none."""
    return f"{_SIGN}{owner}/{notebook}" if owner else notebook


def owner_of(notebook: str) -> str:
    """Answer whose a notebook is, or a job by its full name; empty: it is not said."""
    first, rest, _ = notebook.partition("/")
    return first[len(_SIGN) :] if rest and first.startswith(_SIGN) else ""


def short_name(notebook: str) -> str:
    """Answer what a notebook is called in a list: its owner, and a path's last part."""
    owner = owner_of(notebook)
    return f"{owner}: {_last_part(notebook)}" if owner else _last_part(notebook)


def short_names(notebooks: Iterable[str]) -> dict[str, str]:
    """Answer what notebooks are called in one list: no two the same.

    Without owners where there is but one. Of a path as many of the last parts as it takes to
    tell it from another notebook of that name: what a list says can be asked for.
    """
    listed = set(notebooks)
    names = {notebook: _last_part(notebook) for notebook in listed}
    parts = 1
    while unclear := _of_one_name(names):
        parts += 1
        names |= {notebook: "/".join(notebook.split("/")[-parts:]) for notebook in unclear}
    if len({owner_of(notebook) for notebook in listed}) > 1:
        return {n: f"{owner}: {names[n]}" if (owner := owner_of(n)) else names[n] for n in listed}
    return names


def _of_one_name(names: Mapping[str, str]) -> list[str]:
    """Answer the notebooks that share their name with another one, and can have a longer one."""
    often = Counter((owner_of(notebook), name) for notebook, name in names.items())
    return [n for n, name in names.items() if often[owner_of(n), name] > 1 and name != n]


def _last_part(notebook: str) -> str:
    return PurePath(notebook).name or notebook


def _clean(user: str) -> str:
    return user.replace("/", "_").replace("\\", "_").strip()
