"""Random graphs of containers: built twice alike, told apart by shape and identity."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable
from typing import Any

from hypothesis import strategies as st

SETUP = """
import collections
class Node: pass
class Slotted:
    __slots__ = ("x", "y")
class Rows(list): pass
class Table(dict): pass
def node(**attributes):
    made = Node(); vars(made).update(attributes); return made
"""

ATOMS = ["1", "2.5", "None", "'text'", "True", "10**20"]
MAKERS = ["[]", "{}", "set()", "Node()", "Slotted()", "collections.deque()", "Rows()", "Table()"]
MAKERS += ["collections.defaultdict(list)", "collections.OrderedDict()", "bytearray(b'ab')"]
NAMES = [f"n{number}" for number in range(6)]


def shape(roots: Iterable[Any]) -> list[Any]:
    """Answer a description of a graph that is equal for isomorphic graphs only."""
    numbers: dict[int, int] = {}
    kept: list[Any] = []
    rows: list[Any] = []

    def ref(obj: Any) -> Any:
        if obj is None or isinstance(obj, (int, float, str, type)):
            return repr(obj)
        if id(obj) not in numbers:
            numbers[id(obj)] = len(numbers)
            kept.append(obj)
        return numbers[id(obj)]

    top = [ref(root) for root in roots]
    at = 0
    while at < len(kept):
        obj = kept[at]
        at += 1
        parts: list[Any] = [type(obj).__name__]
        if isinstance(obj, dict):
            parts.append([(ref(key), ref(value)) for key, value in obj.items()])
        elif isinstance(obj, (set, frozenset)):
            parts.append(sorted(map(repr, obj)))
        elif isinstance(obj, (list, tuple, collections.deque)):
            parts.append([ref(item) for item in obj])
        elif isinstance(obj, bytearray):
            parts.append(bytes(obj))
        slots = [(name, getattr(obj, name)) for name in ("x", "y") if hasattr(obj, name)]
        attributes = getattr(obj, "__dict__", None)
        pairs = slots if attributes is None else list(attributes.items())
        parts.append([(name, ref(value)) for name, value in pairs])
        rows.append(parts)
    return [top, rows]


@st.composite
def statements(draw: Callable[[Any], Any], count: int, deletes: bool) -> list[str]:
    """Draw statements that change graphs in place, bind names, or fail."""
    name = st.sampled_from(NAMES)
    new = st.builds(lambda a, b: f"[{a}, {b}]", name, name)
    pair = st.builds(lambda a, b: f"({a}, {b}, 1)", name, name)
    part = st.builds(lambda a: f"at({a})", name)
    value = st.one_of(name, name, st.sampled_from(ATOMS), new, pair, part)
    target = st.one_of(name, part)
    templates = [
        "{t}.append({v})",
        "{t}.append({v})",
        "{t}[0] = {v}",
        "{t}['k'] = {v}",
        "{t}[1] = {v}",
        "{t}.x = {v}",
        "{t}.y = {v}",
        "{t}.add({a})",
        "{t}.extend([{v}, {v}])",
        "{n} = {v}",
        "{n} = ({v}, {v})",
        "put({t}, {v})",
    ]
    if deletes:
        templates += ["del {t}[0]", "del {t}.x", "{t}.clear()", "{t}.pop()", "{t}.reverse()"]
        templates += ["del {t}['k']", "{n} += [{v}]", "del {n}", "m = {v}", "{t}.popleft()"]
        templates += ["{t}.__class__ = Node", "{t}.move_to_end(1)"]
    lines = []
    for _ in range(draw(st.integers(0, count))):
        line = draw(st.sampled_from(templates))
        for hole, strategy in (("{t}", target), ("{n}", name), ("{a}", st.sampled_from(ATOMS))):
            if hole in line:
                line = line.replace(hole, draw(strategy))
        while "{v}" in line:
            line = line.replace("{v}", draw(value), 1)
        lines.append(line)
    return lines


HELPERS = """
def at(obj):
    if isinstance(obj, dict): return next(iter(obj.values()))
    if hasattr(obj, "x"): return obj.x
    return obj[0]
def put(obj, value):
    if hasattr(obj, "__dict__"): vars(obj)["z"] = value
    else: obj.x = value
"""


@st.composite
def graphs(draw: Callable[[Any], Any]) -> str:
    """Draw code that builds a graph under `NAMES`."""
    lines = [f"{name} = {draw(st.sampled_from(MAKERS))}" for name in NAMES]
    return SETUP + HELPERS + "\n".join(lines) + "\n" + program(draw(statements(8, deletes=False)))


def program(lines: Iterable[str]) -> str:
    """Answer code that goes on after a statement that fails."""
    return "".join(f"try:\n    {line}\nexcept Exception: pass\n" for line in lines)
