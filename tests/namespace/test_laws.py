"""What must hold for any graph of objects and any cell that changes it."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from graphs import NAMES, graphs, program, shape, statements
from notebook import Run, notebook_in

QUICK = settings(
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.generate],
)
READ_ALL = f"seen = [{', '.join(NAMES)}]\n"


def plainly(setup: str, *cells: str) -> list[Any]:
    """Run cells in one namespace; answer the shape of all that was and is there."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(setup, namespace)
    first = [namespace[name] for name in NAMES]
    for cell in cells:
        exec(cell, namespace)
    return outcome(namespace, first)


def outcome(namespace: dict[str, Any], first: list[Any]) -> list[Any]:
    names = [name for name in (*NAMES, "m", "seen") if name in namespace]
    return [names, shape([*(namespace[name] for name in names), *first])]


@QUICK
@given(setup=graphs())
def test_any_graph_is_the_same_in_the_cell(folders: Any, setup: str) -> None:
    """Shape, aliases and cycles of what goes in are there as they are here."""
    with notebook_in(folders.home / "frames") as notebook:
        notebook.here(setup)
        cell = f"import graphs\nfound = graphs.shape([{', '.join(NAMES)}])"
        notebook.there(cell)
        assert notebook["found"] == shape(notebook[name] for name in NAMES)


@QUICK
@given(setup=graphs())
def test_what_is_not_changed_stays_the_same_object(folders: Any, setup: str) -> None:
    """A cell that only puts what it got into a new list brings back the very objects."""
    with notebook_in(folders.home / "frames") as notebook:
        notebook.here(setup)
        job = notebook.there(READ_ALL)
        assert all(
            seen is notebook[name] for seen, name in zip(notebook["seen"], NAMES, strict=True)
        )
        assert not job.load().updates


@QUICK
@given(setup=graphs(), lines=statements(10, deletes=True))
def test_any_change_comes_back_as_if_made_here(folders: Any, setup: str, lines: list[str]) -> None:
    """A program that changes a graph leaves the same graph, made of the same objects."""
    with notebook_in(folders.home / "frames") as notebook:
        notebook.here(setup)
        first = [notebook[name] for name in NAMES]
        job = notebook.submit(program(lines))
        assert not job.gather().conflicts
        assert not job.run().failed
        assert outcome(notebook.namespace, first) == plainly(setup, program(lines))


@QUICK
@given(setup=graphs(), lines=statements(6, deletes=True), more=statements(6, deletes=True))
def test_jobs_in_a_row_leave_what_cells_in_a_row_leave(
    folders: Any, setup: str, lines: list[str], more: list[str]
) -> None:
    """A job that builds on an ungathered one goes on where that one stopped."""
    cells = program(lines), program(more)
    with notebook_in(folders.home / "frames") as notebook:
        notebook.here(setup)
        first = [notebook[name] for name in NAMES]
        earlier = notebook.submit(cells[0])
        later = notebook.submit(cells[1], parents=[earlier])
        later.run()
        earlier.gather()
        assert not later.gather().conflicts
        assert outcome(notebook.namespace, first) == plainly(setup, *cells)


@QUICK
@given(setup=graphs(), lines=statements(8, deletes=True), gathers=st.integers(1, 3))
def test_gathering_again_changes_nothing(
    folders: Any, setup: str, lines: list[str], gathers: int
) -> None:
    """However often a result is gathered, it is merged once."""
    with notebook_in(folders.home / "frames") as notebook:
        notebook.here(setup)
        first = [notebook[name] for name in NAMES]
        job: Run = notebook.submit(program(lines))
        for _ in range(gathers):
            job.gather()
        assert outcome(notebook.namespace, first) == plainly(setup, program(lines))


LISTS = st.sampled_from("abcd")
NUMBERS = st.integers(10, 99)
CHANGES = st.lists(
    st.one_of(
        st.builds("{}.append({})".format, LISTS, NUMBERS),
        st.builds("{}[0] = {}".format, LISTS, NUMBERS),
        st.builds("{}.append([{}])".format, LISTS, LISTS),
        st.builds("{} = [{}]".format, LISTS, NUMBERS),
        st.builds("{} = {}".format, LISTS, LISTS),
    ),
    min_size=1,
    max_size=5,
).map("\n".join)
REBINDINGS = st.lists(
    st.one_of(
        st.builds("{} = [{}]".format, LISTS, NUMBERS),
        st.builds("{0} = globals().get('{1}', 0)".format, LISTS, LISTS),
        st.builds("globals().pop('{}', None)".format, LISTS),
    ),
    max_size=4,
).map("\n".join)
PARTS = st.lists(st.lists(LISTS, max_size=2).map(tuple), max_size=3)


@QUICK
@given(CHANGES, REBINDINGS, REBINDINGS, PARTS, st.sampled_from("ad"))
def test_overwrite_has_all_as_the_job_had_it(
    folders: Any,
    cell: str,
    meanwhile: str,
    later: str,
    parts: list[tuple[str, ...]],
    last: str,
) -> None:
    """Whatever names were given here meanwhile, and whatever parts were gathered before."""
    setup = f"a = [1]; b = [2]; c = [3]; d = [4]; d = {last}"
    plain: dict[str, Any] = {}
    exec(setup, plain)
    exec(cell, plain)
    with notebook_in(folders.home / "frames") as notebook:
        notebook.here(setup)
        job = notebook.submit(cell)
        notebook.here(meanwhile)
        for only in parts:
            job.gather(only)
            notebook.here(later)
        assert not job.gather(overwrite=True).conflicts
        loaded = job.load()
        names = sorted({*loaded.bound, *loaded.changed})
        assert shape(notebook[name] for name in names) == shape(plain[name] for name in names)
