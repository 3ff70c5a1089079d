"""The figures that pyplot holds open: its registry, from which ``plt.gcf()`` answers.

A figure that is open where it is pickled opens itself where it is loaded, under the next free
number and as the current one. Here it gets its own number and place back; what the cell opens,
closes, or makes the current figure is so here, too.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dask_async_run.surroundings.saver import Saver, Shell

Open = dict[int, Any]
"""Open figures by their numbers, the current one last."""


@contextmanager
def undrawn() -> Iterator[None]:
    """Have pyplot not show the figures that are opened by being loaded."""
    matplotlib = sys.modules.get("matplotlib")
    if matplotlib is None or not hasattr(matplotlib, "rcParams"):
        yield
        return
    before = matplotlib.is_interactive(), _drawn()
    matplotlib.interactive(False)
    try:
        yield
    finally:
        matplotlib.interactive(before[0])
        if _drawn() != before[1]:  # loading has chosen the backend, which is interactive at first
            show = sys.modules["matplotlib_inline.backend_inline"].show
            show._draw_called, show._to_draw = before[1][0], list(before[1][1])


def _drawn() -> tuple[bool, list[Any]]:
    """Answer whether the inline backend has figures to show after the cell, and which ones."""
    show = getattr(sys.modules.get("matplotlib_inline.backend_inline"), "show", None)
    return (False, []) if show is None else (show._draw_called, list(show._to_draw))


def open_figures() -> dict[int, Any]:
    """Answer the figures that pyplot holds open here, by their numbers."""
    return {number: manager.canvas.figure for number, manager in _managers().items()}


@contextmanager
def unopened() -> Iterator[None]:
    """Have pyplot neither show nor keep figures that are loaded: copies of those that are here.

    One that is here, and gets a new state, stays as open as it is.
    """
    managers = list(_managers().items())
    with undrawn():
        try:
            yield
        finally:
            there = _managers()
            if dict(managers).keys() != there.keys():
                there.clear()
                there.update(managers)
            for _, manager in managers:
                if (figure := manager.canvas.figure).canvas is not manager.canvas:
                    figure.set_canvas(manager.canvas)


def _managers() -> dict[int, Any]:
    helpers = sys.modules.get("matplotlib._pylab_helpers")
    found: dict[int, Any] = getattr(getattr(helpers, "Gcf", None), "figs", {})
    return found


def left_open(figures: Mapping[int, Any], sent: Collection[int]) -> dict[str, str]:
    """Answer which open figures stay behind, and why.

    Parameters
    ----------
    figures : dict of int to Figure
        `open_figures`.
    sent : collection of int
        ``id`` of the objects that travel: figures among them are opened where they arrive.
    """
    return {
        f"figure {number} of pyplot": "it cannot be pickled"
        for number, figure in figures.items()
        if id(figure) not in sent
    }


def shows(words: Iterable[str]) -> bool:
    """Whether code with those words may ask pyplot for a figure, itself or through seaborn."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    names = {name for name in vars(pyplot or sys) if not name.startswith("_")}
    return not names.union(("plt", "pyplot", "pylab", "sns", "seaborn")).isdisjoint(words)


def place_figures(surroundings: Mapping[str, Any]) -> list[Any]:
    """Give the figures that came with some surroundings their numbers and order; answer them."""
    value = surroundings.get(FIGURES.name, {})
    figures: Open = value if isinstance(value, dict) else value[0]
    for number, figure in figures.items():
        _open(figure, number)
    return list(figures.values())


def _open(figure: Any, number: int) -> None:
    """Make a figure the current one, under its number if nobody else has that."""
    from matplotlib import pyplot
    from matplotlib._pylab_helpers import Gcf

    there = _managers()
    manager = next((m for m in there.values() if m.canvas.figure is figure), None)
    if manager is None:
        free = number if number not in there else max(there) + 1
        with undrawn():
            manager = pyplot._get_backend_mod().new_figure_manager_given_figure(free, figure)
            Gcf._set_new_active_manager(manager)
    elif number not in there:
        del there[manager.num]
        manager.num = figure._number = number
    Gcf.set_active(manager)


def _state(shell: Shell) -> list[tuple[int, Any]]:
    return list(open_figures().items())  # unlike dicts, these differ if their order does


def _difference(
    before: list[tuple[int, Any]], now: list[tuple[int, Any]]
) -> tuple[Open, list[Any]]:
    """Answer the figures that are open, and those that were."""
    return dict(now), [figure for _, figure in before]


def _merge(change: tuple[Open, list[Any]], shell: Shell) -> None:
    now, before = change
    here = list(open_figures().values())
    # One that was closed here meanwhile stays closed.
    place_figures({FIGURES.name: {n: f for n, f in now.items() if f in here or f not in before}})
    for figure in before:
        if figure not in now.values():
            sys.modules["matplotlib.pyplot"].close(figure)


FIGURES = Saver(
    "figures",
    False,
    lambda shell: open_figures() or None,
    lambda figures, shell: None,  # `place_figures` has been asked before
    "matplotlib.pyplot",
    state=_state,
    difference=_difference,
    merge=_merge,
    piecemeal=True,
)
