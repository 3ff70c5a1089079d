"""Figures of plotly's and what they are made of: traces, axes, markers, legends.

All numbers and settings of a figure are in plain dicts of its own; its parts (as
``fig.data[0].marker``) are views of these, which look them up by where they stand. Their own
pickles are copies that stand nowhere: a change of such a part is none of the figure's. So a part
goes as its place in the figure, and a figure is changed in place in its dicts, with all parts left
where they are. A figure's own pickle has arrays as texts, and stays so: it goes as those dicts.
"""

from __future__ import annotations

import sys
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from dask_async_run.namespace.kinds import Kind, NotInPlace, Undo, per_class, same_items
from dask_async_run.namespace.making import put_in_order

Step = str | int


def _plotly(name: str) -> Any:
    return getattr(sys.modules.get("plotly.basedatatypes"), name, None)


@per_class
def is_chart(cls: type) -> bool:
    """Whether a class is that of plotly's figures, or of a part of them; widgets are not."""
    figure, part = _plotly("BaseFigure"), _plotly("BasePlotlyType")
    if figure is None or cls.__module__ == "__main__":
        return False
    return issubclass(cls, part) or (issubclass(cls, figure) and not hasattr(cls, "comm"))


def _parent(obj: Any) -> Any:
    return None if isinstance(obj, _plotly("BaseFigure")) else obj.parent


def is_part(obj: Any) -> bool:
    """Whether something `is_chart` that stands in another."""
    return _parent(obj) is not None


def root_of(part: Any) -> Any:
    """Answer the figure that a part stands in, or what has all parts of one in none."""
    while (parent := _parent(part)) is not None:
        part = parent
    return part


# -- pickled ------------------------------------------------------------------------------


def reduce_chart(obj: Any) -> Any:
    """Reduce a figure, or a part: that to its place, unless it stands nowhere."""
    place = reduce_part(obj) if is_part(obj) else None
    return place or (make_chart, (type(obj), _state(obj)))


@contextmanager
def _silently() -> Iterator[None]:
    """Have plotly say nothing of what it has in its templates itself, and finds outdated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@_silently()
def make_chart(cls: type, state: dict[str, Any]) -> Any:
    """Make a figure, or a part that stands in none."""
    made: Any
    if "props" in state:
        made = cls(_copied(state["props"]))
        _assign(made, state["props"])
        return made
    reference, text = state["grid"]
    # Copies: what makes a trace takes its type out of them.
    parts = {name: _copied(state[name]) for name in ("data", "layout", "frames")}
    made = cls({**parts, "_grid_ref": reference, "_grid_str": text})
    # In their order, with what is there and empty.
    for trace, props in zip(made.data, state["data"], strict=True):
        _assign(trace, props)
    _assign(made.layout, state["layout"])
    return made


def reduce_part(part: Any) -> Any:
    """Reduce a part to its place; None if it has been taken out of there."""
    steps: list[Step] = []
    obj = part
    while (parent := _parent(obj)) is not None:
        step = _step(parent, obj)
        if step is None:
            return None
        steps[:0] = step
        obj = parent
    return part_at, (obj, tuple(steps))


def _step(parent: Any, child: Any) -> list[Step] | None:
    """Answer how one gets from a part to the next."""
    if isinstance(parent, _plotly("BaseFigure")):
        if child is parent.layout:
            return ["layout"]
        number = next((n for n, each in enumerate(parent.data) if each is child), None)
        return None if number is None else ["data", number]
    for key, children in parent._compound_array_props.items():
        for number, each in enumerate(children or ()):
            if each is child:
                return [key, number]
    return next(([key] for key, each in parent._compound_props.items() if each is child), None)


def part_at(root: Any, steps: tuple[Step, ...]) -> Any:
    """Answer the part of a figure at a place."""
    found = root
    for step in steps:
        found = found[step]
    return found


# -- changed in place -----------------------------------------------------------------------


def _traces(obj: Any) -> list[Any]:
    return list(obj.data) if isinstance(obj, _plotly("BaseFigure")) else []


def _state(obj: Any, before: Sequence[Any] = ()) -> Any:
    """Answer the dicts of a figure, or of a part that stands in none; they are its own.

    Parameters
    ----------
    obj : object
    before : sequence of object
        The traces of a figure as they were: which of them are there still, and where.
    """
    if not isinstance(obj, _plotly("BaseFigure")):
        return {"props": obj._props or {}}
    return {
        "data": obj._data,
        "layout": obj._layout,
        "frames": [frame._props or {} for frame in obj.frames],
        "grid": (obj._grid_ref, obj._grid_str),
        "kept": _places(obj.data, before),
    }


def _places(traces: Iterable[Any], before: Sequence[Any]) -> list[int | None]:
    """Answer for each trace which one it was before; None for a new one."""
    known = {id(trace): number for number, trace in enumerate(before)}
    return [known.get(id(trace)) for trace in traces]


def same_chart(one: Any, other: Any) -> bool:
    """Whether two figures, or parts that stand in none, have the same numbers and settings."""
    equal = _plotly("BasePlotlyType")._vals_equal
    return type(one) is type(other) and bool(equal(_state(one), _state(other)))


def _copied(state: Any) -> Any:
    """Copy dicts and lists, whose values nobody changes in place."""
    if isinstance(state, dict):
        return {key: _copied(value) for key, value in state.items()}
    return [_copied(value) for value in state] if isinstance(state, list) else state


def _apply(obj: Any, state: Any) -> Undo:
    before, traces = _copied(_state(obj)), _traces(obj)
    _put(obj, state)

    def undo() -> None:
        # Those that were taken out are none of the figure's any more: others are put there.
        _put(obj, {**before, "kept": _places(traces, _traces(obj))} if traces else before)

    return undo


@_silently()
def _put(obj: Any, state: Any) -> None:
    if "props" in state:
        _assign(obj, state["props"])
        return
    _put_traces(obj, state["data"], state["kept"])
    for trace, props in zip(obj.data, state["data"], strict=True):
        _assign(trace, props)
    _assign(obj.layout, state["layout"])
    figure: Any = obj
    if len(figure.frames) != len(state["frames"]):
        figure.frames = state["frames"]
    for frame, props in zip(figure.frames, state["frames"], strict=True):
        _assign(frame, props)
    obj._grid_ref, obj._grid_str = state["grid"]


def _put_traces(figure: Any, data: list[dict[str, Any]], kept: Sequence[int | None]) -> None:
    """Have a figure keep some of its traces, in their new order, and get the others."""
    mine = list(figure.data)
    found: list[Any] = []
    for place, props in zip(kept, data, strict=True):
        fits = place is not None and place < len(mine) and mine[place].type == props["type"]
        found.append(mine[place] if fits and place is not None else None)
    if same_items(found, mine):  # equal ones are apart
        return
    figure.data = tuple(trace for trace in found if trace is not None)
    new = [props for props, trace in zip(data, found, strict=True) if trace is None]
    if new:
        figure.add_traces(_copied(new))
        added = iter(figure.data[len(figure.data) - len(new) :])
        figure.data = tuple(next(added) if trace is None else trace for trace in found)


def _assign(part: Any, props: dict[str, Any]) -> None:
    """Give a part these properties; what stands in it stays, with what changes in it."""
    equal: Callable[[Any, Any], bool] = _plotly("BasePlotlyType")._vals_equal
    own = part._props or {}
    for name in [name for name in own if name not in props]:
        part[name] = None
    for name, value in props.items():
        if name in own and equal(own[name], value):
            continue
        try:
            inner = part[name]
        except KeyError:  # another pair of axes
            inner = None
        if isinstance(value, dict) and isinstance(inner, _plotly("BasePlotlyType")):
            inner._init_props()
            _assign(inner, value)
        elif _are_parts(inner) and isinstance(value, list) and len(inner) == len(value):
            for each, its in zip(inner, value, strict=True):
                _assign(each, its)
        else:
            part[name] = _copied(value)
    put_in_order(part._props, props)


def _are_parts(value: Any) -> bool:
    kind = _plotly("BasePlotlyType")
    return isinstance(value, tuple) and bool(value) and all(isinstance(v, kind) for v in value)


def chart_kind(fingerprint: Callable[[Any], Any]) -> Kind:
    """Make the kind of figures and of parts that stand in none.

    Parameters
    ----------
    fingerprint : callable
        Answers what tells whether a value has changed.
    """

    def snapshot_of(obj: Any) -> Any:
        # Of the traces so that it keeps no figure from going.
        traces = _traces(obj)
        return fingerprint(_state(obj, traces)), [weakref.ref(trace) for trace in traces]

    def before(snapshot: Any) -> list[Any]:
        return [trace() for trace in snapshot[1]]

    def state(obj: Any, snapshot: Any) -> Any:
        try:
            return _state(obj, before(snapshot) if snapshot is not None else _traces(obj))
        except Exception as error:
            raise NotInPlace("it cannot be looked into") from error

    return Kind(
        "chart",
        lambda obj: (),
        snapshot_of,
        lambda obj, snapshot: bool(fingerprint(_state(obj, before(snapshot))) == snapshot[0]),
        state,
        _apply,
    )


CHART_PART = Kind(
    "part of a chart",
    lambda part: (root_of(part),),
    lambda part: None,
    lambda part, snapshot: True,
    lambda part, snapshot: None,
    lambda part, state: lambda: None,
)
