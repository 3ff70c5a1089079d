"""Suspended generators: taken apart where they stand, and made again to stand there.

A suspended frame is a place in its code, variables, and what lies on its stack (the iterators
of the loops that it is in). Python lets all of these be seen, but not be set. So a generator is
made of a copy of the code in which a few instructions come first: they fill stack and variables
and go to the ``yield`` at which the other one stood. It stops there, as the other did, and goes
on as the other would. No instruction has moved: tracebacks, ``finally`` and ``yield from`` are
the code's own.

What instructions there are differs between versions of Python: only those that this has been
tried with are supported.
"""

from __future__ import annotations

import dis
import gc
import itertools
import pickle
import sys
import types
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

SUPPORTED = sys.version_info[:2] == (3, 11)

_FARTHEST = 1 << 16
"""Instructions that a jump of two can pass over."""


@dataclass(frozen=True, slots=True)
class Suspended:
    """A suspended generator, taken apart.

    Parameters
    ----------
    function : function
        Whose call it is.
    place : int
        Offset of the ``yield``.
    slots : tuple of int
        Variables that have a value, by their places in the frame.
    values : list
        Theirs; those that closures share as the cells that they share.
    stack : list
        From the bottom.
    """

    function: types.FunctionType
    place: int
    slots: tuple[int, ...]
    values: list[Any]
    stack: list[Any]


class _Supply:
    """The constant of a copied code from which it fills stack and variables, once."""

    def __init__(self, function: types.FunctionType) -> None:
        self.function = function
        self.items: list[Any] = []

    def __iter__(self) -> Iterator[Any]:
        items, self.items = self.items, []
        return iter(items)


def function_of(generator: Any) -> types.FunctionType | None:
    """Find the function whose call a generator or a coroutine is: its frame refers to it."""
    code = generator.gi_code if isinstance(generator, types.GeneratorType) else generator.cr_code
    for part in gc.get_referents(generator):
        if type(part) is types.FunctionType and part.__code__ is code:
            supply = _supply(code)
            return part if supply is None else supply.function
    return None


def _supply(code: types.CodeType) -> _Supply | None:
    last = code.co_consts[-1] if code.co_consts else None
    return last if isinstance(last, _Supply) else None


def take_apart(generator: types.GeneratorType[Any, Any, Any]) -> Suspended:
    """Take apart a suspended generator, which goes on standing where it does.

    Raises
    ------
    TypeError
        It can't be.
    """
    function = function_of(generator) if SUPPORTED and not generator.gi_running else None
    if function is None:
        raise TypeError("cannot pickle a 'generator' object that is half-way through")
    frame: Any = generator.gi_frame
    place = frame.f_lasti
    depth = _depths(function.__code__).get(place)
    if depth is None:
        raise TypeError("cannot pickle a 'generator' object that stands in an 'except' block")
    slots = _filled(function.__code__, frame.f_locals)
    referents = gc.get_referents(generator)
    start = next(i for i, part in enumerate(referents) if type(part) is types.FunctionType) + 2
    held = referents[start:]
    if len(held) == len(slots) + depth and held[-1] is None:
        held.pop()  # not of the stack: the exception that was handled last, and is no more
    if len(held) != len(slots) + depth - 1:
        raise TypeError("cannot pickle a 'generator' object that stands in the middle of a call")
    return Suspended(function, place, slots, held[: len(slots)], held[len(slots) :])


def _filled(code: types.CodeType, variables: dict[str, Any]) -> tuple[int, ...]:
    """Answer the places in a frame that are not empty."""
    cells = {*code.co_cellvars, *code.co_freevars}
    names = [*code.co_varnames]
    names += [name for name in code.co_cellvars if name not in code.co_varnames]
    names += code.co_freevars
    return tuple(i for i, name in enumerate(names) if name in cells or name in variables)


def _depths(code: types.CodeType) -> dict[int, int]:
    """Answer how much lies on the stack before each instruction that is come to without error."""
    instructions = list(dis.get_instructions(code))
    following = {one.offset: other.offset for one, other in itertools.pairwise(instructions)}
    by_offset = {instruction.offset: instruction for instruction in instructions}
    depths: dict[int, int] = {}
    pending = [(0, 1)]  # what is sent first, and dropped, comes from RETURN_GENERATOR
    while pending:
        offset, depth = pending.pop()
        if offset in depths:
            continue
        depths[offset] = depth
        instruction = by_offset[offset]
        jumps = instruction.opcode in dis.hasjrel or instruction.opcode in dis.hasjabs
        argument = instruction.arg if instruction.opcode >= dis.HAVE_ARGUMENT else None

        def after(jump: bool, opcode: int = instruction.opcode, arg: Any = argument) -> int:
            return depth + dis.stack_effect(opcode, arg, jump=jump)  # noqa: B023 - called at once

        if jumps:
            pending.append((instruction.argval, after(jump=True)))
        if instruction.opname not in _LEAVING and offset in following:
            pending.append((following[offset], after(jump=False)))
    return depths


_LEAVING = frozenset(
    "RETURN_VALUE RAISE_VARARGS RERAISE "
    "JUMP_FORWARD JUMP_BACKWARD JUMP_BACKWARD_NO_INTERRUPT".split()
)


def check_of(function: types.FunctionType) -> tuple[Any, ...]:
    """Answer what must be the same where a generator is made again: Python, and the code."""
    return sys.version_info[:2], zlib.crc32(function.__code__.co_code)


def make_suspended(
    function: types.FunctionType,
    place: int,
    slots: tuple[int, ...],
    depth: int,
    names: tuple[str, str],
    check: tuple[Any, ...],
) -> Any:
    """Make a generator that `resume` will have stand at a ``yield``.

    Parameters
    ----------
    function : function
    place : int
    slots : tuple of int
        As in `Suspended`.
    depth : int
        Number of things on its stack.
    names : tuple of str
        Its name and qualified name.
    check : tuple
        What `check_of` answered where it was taken apart.
    """
    if not SUPPORTED or check != check_of(function):
        raise pickle.UnpicklingError(
            f"the generator {names[1]} is half-way through code that is another one here"
        )
    supply = _Supply(function)
    code = _going_to(function.__code__, place, slots, depth, supply)
    copy = types.FunctionType(
        code, function.__globals__, function.__name__, None, function.__closure__
    )
    made = copy()
    made.__name__, made.__qualname__ = names
    return made


def resume(generator: Any, state: tuple[list[Any], list[Any]]) -> None:
    """Have a generator of `make_suspended` stand where the other stood.

    Parameters
    ----------
    generator : generator
    state : tuple
        `Suspended.values` and `Suspended.stack`.
    """
    values, stack = state
    supply = _supply(generator.gi_code)
    assert supply is not None
    supply.items = [*values, *reversed(stack)]
    next(generator)


def _going_to(
    code: types.CodeType, place: int, slots: tuple[int, ...], depth: int, supply: _Supply
) -> types.CodeType:
    """Answer code that takes all that is in `supply` and goes to `place`."""
    units = bytearray(code.co_code)
    begins = next(
        i.offset // 2 for i in dis.get_instructions(code) if i.opname == "RETURN_GENERATOR"
    )
    consts = (*code.co_consts, None, supply)
    block = _instruction("POP_TOP", 0)
    block += _instruction("LOAD_CONST", len(consts) - 1)
    block += _instruction("UNPACK_SEQUENCE", len(slots) + depth) + _instruction("CACHE", 0)
    for slot in slots:
        block += _instruction("STORE_FAST", slot)
    block += _instruction("LOAD_CONST", len(consts) - 2)
    # What comes after RETURN_GENERATOR, POP_TOP and RESUME, no loop goes back to.
    end = len(units) // 2
    forward = _instruction("JUMP_FORWARD", end - (begins + 3), 2)
    back = end + len(block) // 2 + 2 - place // 2
    block += _instruction("JUMP_BACKWARD_NO_INTERRUPT", back, 2)
    units[2 * begins + 2 : 2 * begins + 6] = forward
    return code.replace(
        co_code=bytes(units) + block,
        co_consts=consts,
        co_stacksize=code.co_stacksize + len(slots) + depth + 1,
        co_argcount=0,
        co_posonlyargcount=0,
        co_kwonlyargcount=0,
        co_flags=code.co_flags & ~(0x04 | 0x08),
    )


def _instruction(name: str, argument: int, size: int = 0) -> bytes:
    """Answer an instruction, of `size` units if that is given."""
    if argument >= _FARTHEST:
        raise pickle.UnpicklingError("the code of a generator is too long to be gone on with")
    high, low = divmod(argument, 256)
    found = bytes([dis.opmap[name], low])
    if high or size == 2:
        found = bytes([dis.EXTENDED_ARG, high]) + found
    return found
