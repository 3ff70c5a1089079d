"""Global names of compiled code, and which of them are certainly bound where.

The compiler has already decided what every name means: scopes of functions,
classes, comprehensions and type parameters, ``global``, mangling, which
annotations are evaluated, which code is dead. So scoping is read off its
output rather than decided a second time. What is added is a small data-flow
analysis: where code certainly has overwritten a name before reading it, the
old value is not an input.
"""

from __future__ import annotations

import dis
import inspect
from bisect import bisect_left
from dataclasses import dataclass, field
from functools import lru_cache
from types import CodeType
from typing import NamedTuple

from dask_async_run.namespace._strings import strings, words

_LOADS = {"LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"}
_JUMPS = {"JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT"}
_RETURNS = {"RETURN_VALUE", "RETURN_CONST"}
_ENDS = _RETURNS | _JUMPS | {"RERAISE", "RAISE_VARARGS"}
_ATTRIBUTES = {"LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR", "IMPORT_FROM"}
# What cannot raise, nor be interrupted: no way leads from it to a handler.
_SAFE = {"STORE_NAME", "STORE_GLOBAL", "STORE_FAST", "LOAD_CONST", "NOP"}
_DOCSTRING = 4096
"""Characters of a docstring that are read for words."""

_DYNAMIC_NAMES = {"globals", "exec", "eval"}
_DYNAMIC_ATTRIBUTES = set(
    """
    user_ns user_global_ns user_module run_cell run_cell_async run_code safe_execfile
    safe_execfile_ipy safe_run_module f_globals f_locals __globals__ _getframe currentframe testmod
    """.split()
)
_SHELL_ATTRIBUTES = {"ev", "ex", "push", "reset", "del_var", "drop_by_id"}
_PICKLERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "torch"}


class State(NamedTuple):
    """What is certain at a point of the code, whatever way led there.

    Parameters
    ----------
    past : frozenset of str
        Global names whose value from before the cell is gone: they were bound
        or deleted since, so that nothing can read the old value any more.
    own : frozenset of str
        In the body of a class: names that are bound now in the class itself.
    """

    past: frozenset[str] = frozenset()
    own: frozenset[str] = frozenset()

    def meet(self, other: State) -> State:
        """What holds whichever of the two ways was taken."""
        return self if self == other else State(self.past & other.past, self.own & other.own)

    def join(self, other: State) -> State:
        """What holds after both."""
        return State(self.past | other.past, self.own | other.own)


@dataclass(slots=True)
class Found:
    """Names found in code so far."""

    reads: dict[str, int] = field(default_factory=dict)
    """Global names whose value from before may be read, with the first line."""
    loads: set[str] = field(default_factory=set)
    """All global names that are mentioned, `reads` or not."""
    binds: set[str] = field(default_factory=set)
    deletes: set[str] = field(default_factory=set)
    erases: dict[str, int] = field(default_factory=dict)
    """The part of `deletes` that needs the name from before, value or no value."""
    imports: set[str] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)
    texts: list[str] = field(default_factory=list)

    def read(self, name: str, line: int | None) -> None:
        """Note that `line` reads `name`."""
        line = line or 1
        self.reads[name] = min(line, self.reads.get(name, line))

    def add(self, other: Found) -> None:
        """Add all of `other` but its `reads`."""
        self.loads |= other.loads
        self.binds |= other.binds
        self.deletes |= other.deletes
        self.imports |= other.imports
        self.attributes |= other.attributes
        self.texts += other.texts
        for name, line in other.erases.items():
            self.erases.setdefault(name, line)

    @property
    def dynamic(self) -> bool:
        """Whether the code may reach names that it does not mention."""
        return bool(
            _DYNAMIC_NAMES & self.reads.keys()
            or _DYNAMIC_ATTRIBUTES & self.attributes
            or "__main__" in self.imports
            or ("get_ipython" in self.loads and _SHELL_ATTRIBUTES & self.attributes)
            or ("sys" in self.loads and "modules" in self.attributes)
            or ("unittest" in self.loads | self.imports and "main" in self.attributes)
        )

    @property
    def unpickles(self) -> bool:
        """Whether the code may look classes and functions up by name, to pickle or unpickle."""
        mentioned = self.loads | self.attributes
        return bool(
            mentioned & {"read_pickle", "Unpickler", "to_pickle", "Pickler"}
            or (
                mentioned & {"load", "loads", "dump", "dumps", "open"}
                and (mentioned | self.imports) & _PICKLERS
            )
        )


class Scan(NamedTuple):
    """What one code object does, its nested code objects left aside.

    Parameters
    ----------
    nested : list of (CodeType, State)
        Functions, classes, comprehensions..., with what is certain when each
        of them is made.
    exit : State or None
        What is certain when the code ends normally; None if it never does.
    """

    nested: list[tuple[CodeType, State]]
    exit: State | None


def is_class(code: CodeType) -> bool:
    """Whether nested `code` is the body of a class, which runs where it stands."""
    return not code.co_flags & inspect.CO_OPTIMIZED


def scan(code: CodeType, state: State, found: Found, *, module: bool = False) -> Scan:
    """Add the names of `code` to `found`.

    Parameters
    ----------
    code : CodeType
        Its own instructions are looked at, not those of nested code objects.
    state : State
        What is certain when it starts.
    found : Found
        Is added to.
    module : bool
        Whether names without further ado are global (not for a class body).
    """
    bytecode = dis.Bytecode(code)
    instructions = list(bytecode)
    states, out = _states(bytecode, instructions, state, module)
    nested: list[tuple[CodeType, State]] = []
    for i, (instruction, before) in enumerate(zip(instructions, states, strict=True)):
        if before is None:  # no way leads here
            continue
        op, value = instruction.opname, instruction.argval
        line = instruction.positions.lineno if instruction.positions else None
        if op in _LOADS:
            found.loads.add(value)
            if value not in before.past and not (op == "LOAD_NAME" and value in before.own):
                found.read(value, line)
        elif op == "STORE_GLOBAL" or (module and op == "STORE_NAME"):
            found.binds.add(value)
        elif op == "DELETE_GLOBAL" or (module and op == "DELETE_NAME"):
            found.deletes.add(value)
            if value not in before.past:
                found.erases.setdefault(value, line or 1)
        elif op in _ATTRIBUTES:
            found.attributes.add(value)
        elif op == "IMPORT_NAME":
            if value:
                found.imports.add(value.partition(".")[0])
        elif op in ("LOAD_CONST", "RETURN_CONST"):
            if isinstance(value, CodeType):
                nested.append((value, before))
            elif not _is_label(instructions, i):
                found.texts += strings(value)
    if code.co_consts and not is_class(code) and isinstance(code.co_consts[0], str):
        found.texts.append(code.co_consts[0][:_DOCSTRING])
    return Scan(nested, out)


def _is_label(instructions: list[dis.Instruction], i: int) -> bool:
    """Whether the constant that instruction `i` loads names something for the interpreter only.

    That is a class's own name, keywords of a call, and what ``from`` imports:
    without this a class that is defined again would drag its old self along.
    """
    before = instructions[i - 1].opname if i else ""
    after = instructions[i + 1] if i + 1 < len(instructions) else None
    return (
        before == "MAKE_FUNCTION"
        or (after is not None and after.opname in ("CALL_KW", "IMPORT_NAME"))
        or (after is not None and after.argval == "__qualname__")
    )


def scan_all(code: CodeType, state: State, found: Found, *, module: bool = False) -> None:
    """Add the names of `code` and of all code nested in it to `found`.

    Nested code runs when it is made or later; what was certain by then stays
    certain (see `State.past`), so the former is the careful assumption.
    """
    for child, made in scan(code, state, found, module=module).nested:
        scan_all(child, State(made.past), found)


def _states(
    bytecode: dis.Bytecode, instructions: list[dis.Instruction], start: State, module: bool
) -> tuple[list[State | None], State | None]:
    """State before each instruction (None: unreachable), and at the normal end.

    The usual forward analysis with a meet over all ways, run over the
    instructions in order until nothing changes: two or three times, since
    only loops lead backwards.
    """
    index = {instruction.offset: i for i, instruction in enumerate(instructions)}
    handlers: dict[int, int] = {}
    offsets = list(index)
    for entry in bytecode.exception_entries:  # type: ignore[attr-defined]  # do not overlap
        for i in range(bisect_left(offsets, entry.start), bisect_left(offsets, entry.end)):
            handlers[i] = index[entry.target]
    states: list[State | None] = [None] * len(instructions)
    states[0] = start
    out: State | None = None
    jumps = {*dis.hasjrel, *dis.hasjabs}
    changed = True

    def arrive(target: int, state: State) -> None:
        nonlocal changed
        known = states[target]
        merged = state if known is None else known.meet(state)
        if merged != known:
            states[target] = merged
            changed = True

    while changed:
        changed = False
        for i, instruction in enumerate(instructions):
            before = states[i]
            if before is None:
                continue
            if i in handlers and instruction.opname not in _SAFE:
                arrive(handlers[i], before)
            after = _after(before, instruction, module)
            if instruction.opname in _RETURNS:
                out = after if out is None else out.meet(after)
            if instruction.opcode in jumps:
                arrive(index[instruction.argval], after)
            if instruction.opname not in _ENDS and i + 1 < len(instructions):
                arrive(i + 1, after)
    return states, out


def _after(state: State, instruction: dis.Instruction, module: bool) -> State:
    """What is certain after `instruction`."""
    if instruction.opname == "SETUP_ANNOTATIONS" and not module:
        return State(state.past, state.own | {"__annotations__"})
    kind, _, scope = instruction.opname.partition("_")
    if scope not in ("NAME", "GLOBAL") or kind not in ("STORE", "DELETE"):
        return state
    name = frozenset([instruction.argval])
    if module or scope == "GLOBAL":
        return State(state.past | name, state.own)
    return State(state.past, state.own | name if kind == "STORE" else state.own - name)


@dataclass(frozen=True, slots=True)
class CodeNames:
    """Global names that a function's code uses, its nested code included.

    Parameters
    ----------
    reads : frozenset of str
        Names it may read, builtins among them.
    binds : frozenset of str
        Names it may bind or delete (``global``).
    weak : frozenset of str
        Words of its strings that are not in `reads`.
    imports : frozenset of str
        Top-level modules that it imports.
    dynamic : bool
        It may reach names that it does not mention (``globals()``, ``eval``).
    unpickles : bool
        It may look up classes and functions of ``__main__`` by name (``pickle.load``).
    """

    reads: frozenset[str]
    binds: frozenset[str]
    weak: frozenset[str]
    imports: frozenset[str]
    dynamic: bool
    unpickles: bool


@lru_cache(maxsize=4096)
def global_names(code: CodeType) -> CodeNames:
    """Find the global names that `code` uses.

    Parameters
    ----------
    code : CodeType
        A function's ``__code__``, or compiled module code.
    """
    found = Found()
    scan_all(code, State(), found, module=code.co_name == "<module>" and is_class(code))
    reads = frozenset([*found.reads, *found.erases])
    return CodeNames(
        reads=reads,
        binds=frozenset(found.binds | found.deletes),
        weak=frozenset(words(found.texts) - reads),
        imports=frozenset(found.imports),
        dynamic=found.dynamic,
        unpickles=found.unpickles,
    )
