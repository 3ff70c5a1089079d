"""Enumerations in streams: cloudpickle makes the members again from their values alone.

What a member's ``__init__`` or the notebook gave it, and what a ``__new__`` made of its
value, would be lost. Here the members are made without running either, and get
their values and attributes back as they were.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

_PYTHONS = frozenset({"_value_", "_name_", "__objclass__", "_sort_order_"})
"""Attributes of a member that Python's own machinery sets."""


def own_attributes(member: Any) -> dict[str, Any]:
    """Answer the attributes of a member that are not Python's own."""
    return {name: value for name, value in vars(member).items() if name not in _PYTHONS}


def attributes_of_members(kind: Any) -> dict[str, Any]:
    """Answer the attributes of all members of an enumeration: ``RED.note`` to value."""
    members = ((n, m) for n, m in kind.__members__.items() if n == m._name_)
    return {f"{n}.{name}": v for n, m in members for name, v in own_attributes(m).items()}


def values_of_members(kind: type) -> list[Any]:
    """Answer what the members of a class stand for, if it is an enumeration: a list may change."""
    if not isinstance(kind, enum.EnumMeta):
        return []
    members: Mapping[str, Any] = kind.__members__
    return [member._value_ for member in members.values()]


def with_members(kind: Any, args: tuple[Any, ...], state: Any) -> tuple[tuple[Any, ...], Any]:
    """Answer cloudpickle's arguments and state of an enumeration, members kept whole.

    Parameters
    ----------
    kind : EnumMeta
    args : tuple
        For ``_make_skeleton_enum``: bases, name, qualified name, members and more.
    state : (dict, dict)
    """
    attributes, slots = state
    data = kind._member_type_
    members: dict[str, Any] = {}
    details: dict[str, Any] = {}
    for name, member in kind.__members__.items():
        attributes.pop(name, None)
        # What a member is as a number, text or bytes, whatever its value is.
        members[name] = member._value_ if data is object else _plain(data, member)
        if name == member._name_:
            details[name] = member._value_, own_attributes(member)
    bases, name, qualname, _, *rest = args
    return (bases, name, qualname, members, *rest), (attributes, slots, details)


def _plain(data: Any, member: Any) -> Any:
    try:
        return data.__str__(member) if data is str else data(member)
    except Exception:  # noqa: BLE001 - a data type with a constructor of its own
        return member._value_


def set_members(cls: Any, details: dict[str, tuple[Any, dict[str, Any]]]) -> None:
    """Give the members of a new enumeration their values and attributes."""
    for name, (value, attributes) in details.items():
        member = cls._member_map_[name]
        if member._value_ is not value:
            for known, other in list(cls._value2member_map_.items()):
                if other is member:
                    del cls._value2member_map_[known]
            member._value_ = value
            try:
                cls._value2member_map_[value] = member
            except TypeError:
                pass  # it cannot be a key: Python finds it by comparing
        vars(member).update(attributes)
