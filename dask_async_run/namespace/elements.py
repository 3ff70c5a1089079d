"""Elements of XML documents (`xml.etree`): written in C, but made of references like a list."""

from __future__ import annotations

import sys
from typing import Any

from dask_async_run.namespace.kinds import Kind, Undo, same_items


def is_element(cls: type) -> bool:
    """Whether a class is that of the elements of XML documents."""
    return cls is getattr(sys.modules.get("xml.etree.ElementTree"), "Element", None)


def reduce_element(element: Any) -> Any:
    """Reduce an element with the very dict of its attributes, which is only made when asked for.

    Without that its own way writes a dict that is nobody's, and a change of it would be lost.
    """
    element.attrib  # noqa: B018 - asks
    return element.__reduce_ex__(5)


def _state(element: Any, snapshot: Any = None) -> list[Any]:
    return [element.tag, element.text, element.tail, element.attrib, *element]


def _apply(element: Any, state: list[Any]) -> Undo:
    def put(tag: Any, text: Any, tail: Any, attributes: dict[str, str], *children: Any) -> None:
        element.tag, element.text, element.tail = tag, text, tail
        element.attrib = attributes
        element[:] = children

    before = _state(element)
    put(*state)
    return lambda: put(*before)


ELEMENT = Kind(
    "element",
    _state,
    _state,
    lambda element, snapshot: same_items(snapshot, _state(element)),
    _state,
    _apply,
)
