"""Which jobs somebody means."""

from __future__ import annotations

import pytest

from dask_async_run.errors import JobStateError, NoSuchJobError
from dask_async_run.job import JobView
from dask_async_run.kernel.names import resolve
from dask_async_run.selection import select, select_one, select_unambiguous

VIEWS = [
    JobView(id="a" * 32, notebook="n.ipynb", name="train", version=1, latest=False),
    JobView(id="b" * 32, notebook="n.ipynb", name="train", version=2),
    JobView(id="c" * 32, notebook="m.ipynb", name="train", version=1),
    JobView(id="d" * 32, notebook="m.ipynb", name="cell-7", version=1),
    JobView(id="e" * 32, notebook="m.ipynb", name="odd[1]*", version=1),
]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (["train"], "bc"),
        (["n.ipynb/train"], "b"),
        (["train@1"], "ac"),
        (["n.ipynb/train@1"], "a"),
        (["n.ipynb/train@2"], "b"),
        (["dddddd"], "d"),
        (["b" * 32], "b"),
        (["t*"], "bc"),
        (["*"], "bcde"),
        (["m.*/*"], "cde"),
        (["train@*"], "abc"),
        (["odd[1]*"], "e"),
        (["cell-?", "train@1"], "acd"),
        (["cell-7", "cell-7"], "d"),
    ],
)
def test_names(wanted: list[str], found: str) -> None:
    assert "".join(view.id[0] for view in select(VIEWS, wanted)) == found


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("n.ipynb/train", "b"),
        ("a/n.ipynb/train", "b"),
        ("/home/a/n.ipynb/train", "b"),
        ("n.ipynb/train@1", "a"),
        ("n.ipynb/t*", "b"),
        ("m.ipynb/train", "c"),  # its full name, and the end of another's
        ("*/m.ipynb/train", "d"),
        ("*.ipynb/train", "bcd"),
    ],
)
def test_a_notebook_is_named_by_the_end_of_its_path(wanted: str, found: str) -> None:
    """As the lists of jobs have it."""
    views = [
        JobView(id="a" * 32, notebook="home/a/n.ipynb", name="train", version=1, latest=False),
        JobView(id="b" * 32, notebook="home/a/n.ipynb", name="train", version=2),
        JobView(id="c" * 32, notebook="m.ipynb", name="train"),
        JobView(id="d" * 32, notebook="home/m.ipynb", name="train"),
    ]
    assert "".join(view.id[0] for view in select(views, [wanted])) == found
    for name in (".ipynb/train", "b/n.ipynb/train", "ipynb/train", "/train"):
        with pytest.raises(NoSuchJobError):
            select(views, [name])


@pytest.mark.parametrize("name", ["", "tran", "train@3", "x/train", "ddddd", "zz*", "/"])
def test_what_names_nothing(name: str) -> None:
    with pytest.raises(NoSuchJobError):
        select(VIEWS, [name])


def test_the_nearest_name_is_offered() -> None:
    with pytest.raises(NoSuchJobError, match="'train'"):
        select(VIEWS, ["trian"])


def test_a_member_that_is_not_there_is_not_another_name() -> None:
    """The sweep itself is the nearest name, and is not meant."""
    with pytest.raises(NoSuchJobError, match=r"'train\[9\]'\. 'train' has no such member\."):
        select(VIEWS, ["train[9]"])


def test_blanks_separate_names() -> None:
    """Who separates them by commas is told so."""
    with pytest.raises(NoSuchJobError, match=r"Blanks separate names: train train\."):
        select(VIEWS, ["train, train"])


def test_one_means_one() -> None:
    assert select_one(VIEWS, "cell-7").id[0] == "d"
    with pytest.raises(JobStateError, match=r"n\.ipynb/train, m\.ipynb/train"):
        select_one(VIEWS, "train")


def test_a_plain_name_means_one_job_where_it_matters() -> None:
    """What cannot be undone is not done to another notebook's job of the same name."""
    with pytest.raises(JobStateError, match=r"n\.ipynb/train, m\.ipynb/train\. Say which one"):
        select_unambiguous(VIEWS, ["cell-7", "train"])
    assert select_unambiguous(VIEWS, ["trai*"]) == select(VIEWS, ["trai*"])
    assert len(select_unambiguous(VIEWS, ["n.ipynb/train", "cell-7", "m.ipynb/train"])) == 3
    members = [
        JobView(id="e" * 32, notebook="n.ipynb", name="lr[3]"),
        JobView(id="f" * 32, notebook="m.ipynb", name="lr[3]"),
    ]
    with pytest.raises(JobStateError, match="ambiguous"):
        select_unambiguous(members, ["lr[3]"])


def test_a_pattern_means_this_notebooks_jobs_or_those_of_one_that_it_names() -> None:
    """``%async_forget *`` in a new notebook leaves the only job of another one alone."""
    there = [
        JobView(id="a" * 32, notebook="home/n.ipynb", name="train"),
        JobView(id="b" * 32, notebook="home/n.ipynb", name="test"),
        JobView(id="c" * 32, notebook="m.ipynb", name="lone"),
    ]
    assert resolve(there, ["n.ipynb/t*", "*/lone"], "new.ipynb") == there
    assert resolve(there, ["*"], "m.ipynb") == there[2:]
    for name in ("*", "lon?", "t*", "x.ipynb/*"):
        with pytest.raises(NoSuchJobError):
            resolve(there, [name], "new.ipynb")
    assert resolve(there, ["lone"], "new.ipynb") == there[2:]


def test_a_member_is_not_taken_for_a_pattern() -> None:
    """``lr[3]`` means member 3 of lr; only where there is none, a job that is called lr3."""
    member = JobView(id="f" * 32, notebook="n.ipynb", name="lr[3]")
    other = JobView(id="0" * 32, notebook="n.ipynb", name="lr3")
    for choose in (select, lambda views, wanted: resolve(views, wanted, "n.ipynb")):
        assert choose([member, other], ["lr[3]"]) == [member]
        assert choose([other], ["lr[3]"]) == [other]


def test_jobs_of_other_users_are_meant_in_full_only() -> None:
    """Whoever cancels ``train`` and has none must not cancel somebody else's."""
    alices = JobView(id="a" * 32, notebook="~alice/n.ipynb", name="train")
    bobs = JobView(id="b" * 32, notebook="~bob/n.ipynb", name="train")
    second = JobView(id="c" * 32, notebook="~bob/m.ipynb", name="train")
    views = [alices, bobs, second]
    assert resolve(views, ["train"], "~bob/n.ipynb") == [bobs]
    assert resolve(views, ["train"], "~alice/other.ipynb") == [alices]
    for name in ("train", "t*", "*", "n.ipynb/train"):
        with pytest.raises(NoSuchJobError):
            resolve(views, [name], "~carol/n.ipynb")
    assert resolve(views, ["~alice/n.ipynb/train"], "~carol/n.ipynb") == [alices]
    assert resolve(views, ["bbbbbb"], "~carol/n.ipynb") == [bobs]
    # A name may look like the beginning of an id, and an id be one's own.
    facade = JobView(id="d" * 32, notebook="~bob/n.ipynb", name="facade")
    with pytest.raises(NoSuchJobError):
        resolve([facade], ["facade"], "~carol/n.ipynb")
    assert resolve([facade], ["dddddd"], "~bob/other.ipynb") == [facade]
    with pytest.raises(JobStateError, match="ambiguous"):
        resolve(views, ["train"], "~bob/other.ipynb")
    # A server of one's own may have taken in what was made elsewhere.
    assert resolve([alices], ["train"], "n.ipynb") == [alices]
