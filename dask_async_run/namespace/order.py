"""The order in which a set is walked, which a copy of it need not have.

It is that of the slots of a table: its size depends on how the set came about (a literal, a
union, one by one), and where two elements want the same slot, the later one gets another. A set
that was filled with the same elements in the order of its walk has perhaps a table of another
size. So it is tried out how to fill an empty set to have the same one.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

_EMPTY = set().__sizeof__()
_ENTRY = 16
_SMALLEST = 8
_NEAR = 9
"""Places beside the first one that are tried before one far away."""
_FEW = 6
"""Elements of which every order is tried."""
_ROUNDS = 20
_MANY = 20_000
"""Elements of which no order is looked for any more."""
_PLAIN = frozenset({int, float, complex, bool, str, bytes})

Recipe = tuple[list[Any], list[Any]]
"""What a set is to be filled with: at once, which makes the table, and one by one."""


def recipe(elements: set[Any]) -> Recipe | None:
    """Answer how to fill a set so that it is walked as this one.

    None if that comes by itself, of filling it one by one, in order, as unpickling does; if no
    way is found; and for elements whose hash is the user's code.
    """
    wanted = list(set.__iter__(elements))
    if not 1 < len(wanted) <= _MANY or not all(map(_is_plain, wanted)):
        return None
    if _same(wanted, set(wanted)):
        return None
    size = (set.__sizeof__(elements) - _EMPTY) // _ENTRY or _SMALLEST
    at_once = min(len(wanted), size // 2 - 1)
    orders: Iterable[Sequence[Any]] = (wanted, *_refilled(wanted, size))
    if len(wanted) <= _FEW:
        orders = itertools.chain(orders, itertools.permutations(wanted))
    for order in orders:
        for first in (at_once, 0):
            found = list(order[:first]), list(order[first:])
            copy: set[Any] = set()
            fill(copy, found)
            if _same(wanted, copy):
                return found
    return None


def fill(elements: set[Any], how: Recipe) -> None:
    """Empty a set and fill it as `recipe` says."""
    at_once, one_by_one = how
    set.clear(elements)
    if at_once:
        set.update(elements, dict.fromkeys(at_once))  # a dict makes room for all of it first
    set.update(elements, one_by_one)


def recipes(objects: Iterable[Any]) -> list[tuple[set[Any], Recipe]]:
    """Answer those sets among some objects that have to be filled by a recipe."""
    found = ((each, recipe(each)) for each in objects if issubclass(type(each), set))
    return [(each, how) for each, how in found if how is not None]


def _is_plain(element: Any) -> bool:
    kind = type(element)
    return kind in _PLAIN or (kind in (tuple, frozenset) and all(map(_is_plain, element)))


def _same(wanted: list[Any], walked: Iterable[Any]) -> bool:
    return all(one is other for one, other in zip(wanted, walked, strict=True))


def _refilled(wanted: list[Any], size: int) -> Iterator[list[Any]]:
    """Answer orders in which elements may have come to lie in a table as they are walked.

    First those that lie where their hash says, with or without those that were pushed on by
    the ones before them; then, as long as there is one, any other that would now get a place
    between its neighbours.
    """
    hashes = [hash(element) for element in wanted]
    homes = [value & (size - 1) for value in hashes]
    row = _ascending(homes)
    for first in (_with_pushed(row, homes), row):
        places: dict[int, int] = {}
        taken: set[int] = set()
        for index in first:
            places[index] = _free_place(hashes[index], size, taken)
            taken.add(places[index])
        pending = [index for index in range(len(wanted)) if index not in places]
        _place(pending, places, hashes, size)
        yield [wanted[index] for index in [*places, *(i for i in pending if i not in places)]]


def _with_pushed(row: list[int], homes: list[int]) -> list[int]:
    """Add to a row the elements that want a place before that of the next one in it."""
    found = []
    following = iter(row)
    upcoming = next(following, -1)
    for index, home in enumerate(homes):
        if index == upcoming:
            upcoming = next(following, -1)
            found.append(index)
        elif upcoming == -1 or home < homes[upcoming]:
            found.append(index)
    return found


def _place(pending: list[int], places: dict[int, int], hashes: list[int], size: int) -> None:
    """Add elements to `places` in an order in which each gets one between its neighbours."""
    taken = set(places.values())
    placed = sorted(places)
    for _ in range(_ROUNDS):
        later = []
        for index in pending:
            place = _free_place(hashes[index], size, taken)
            at = bisect_left(placed, index)
            low = places[placed[at - 1]] if at > 0 else -1
            high = places[placed[at]] if at < len(placed) else size
            if low < place < high:
                places[index] = place
                placed.insert(at, index)
                taken.add(place)
            else:
                later.append(index)
        if len(later) in (0, len(pending)):
            return
        pending = later


def _free_place(value: int, size: int, taken: set[int]) -> int:
    """Answer the place in which CPython's sets put an element of this hash."""
    mask = size - 1
    rest = value & (1 << 64) - 1
    place = rest & mask
    while True:
        near = _NEAR if place + _NEAR <= mask else 0
        for found in range(place, place + near + 1):
            if found not in taken:
                return found
        rest >>= 5
        place = (place * 5 + 1 + rest) & mask


def _ascending(homes: list[int]) -> list[int]:
    """Answer the indices of the longest row of numbers that ascend, of equal ones the first."""
    ends: list[int] = []
    lengths = []
    for home in homes:
        length = bisect_left(ends, home)
        ends[length : length + 1] = [home]
        lengths.append(length)
    found = []
    length = len(ends) - 1
    above = max(homes) + 1
    for index in range(len(homes) - 1, -1, -1):
        if lengths[index] == length and homes[index] < above:
            found.append(index)
            above = homes[index]
            length -= 1
    row: list[int] = []
    for index in reversed(found):
        begin = row[-1] + 1 if row else 0
        row.append(homes.index(homes[index], begin, index + 1))
    return row
