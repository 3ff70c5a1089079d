"""What must hold for any cell: it runs alike on the names that it is said to read.

Programs are drawn at random over a handful of names, run on a namespace in
which all of them have values, and run again on what `analyse` says they need.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dask_async_run.namespace.analyse import analyse, global_names

NAMES = ["a", "b", "c", "d", "e"]
FUNCTIONS = ["f", "g"]
CLASSES = ["K", "L"]
ERRORS = ["NameError", "ValueError", "Exception"]
FUEL = 300
"""Steps after which a program is stopped: by an exception that it can't catch."""


LAW = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


class Exhausted(BaseException):
    pass


name = st.sampled_from(NAMES)
target = st.sampled_from([*NAMES, *NAMES, *FUNCTIONS, *CLASSES])


@dataclass
class Program:
    """Source text, line by line, and how deep in what the next line stands."""

    draw: Callable[[Any], Any]
    lines: list[str] = field(default_factory=list)
    depth: int = 0

    def line(self, text: str) -> None:
        self.lines.append("  " * self.depth + text)

    def block(self, head: str, function: bool, loop: bool, size: int = 2) -> None:
        self.line(head)
        self.depth += 1
        for _ in range(self.draw(st.integers(1, size))):
            self.statement(function, loop)
        self.depth -= 1

    def expression(self, deep: int = 2) -> str:
        kind = self.draw(st.integers(0, 13 if deep else 2))
        inner = lambda: self.expression(deep - 1)  # noqa: E731
        match kind:
            case 0:
                return str(self.draw(st.integers(0, 3)))
            case 1 | 2 | 3:
                return self.draw(target)
            case 4:
                return f"add({inner()}, {inner()})"
            case 5:
                return f"{self.draw(st.sampled_from(FUNCTIONS))}()"
            case 6:
                return f"({inner()} if {inner()} else {inner()})"
            case 7:
                return f"({inner()} and {inner()})"
            case 8:
                v = self.draw(name)
                return f"[{inner()} for {v} in items({self.draw(name)}) if {inner()}]"
            case 9:
                return f"({self.draw(name)} := {inner()})"
            case 10:
                return f"(lambda {self.draw(name)}={self.draw(name)}: {inner()})()"
            case 11:
                return f"f'{{stable({self.draw(name)})}}'"
            case 12:
                return f"{self.draw(st.sampled_from(CLASSES))}().m()"
            case _:
                return f"[({self.draw(name)} := i) for i in items(2)]"

    def suite(self, head: str, function: bool, loop: bool) -> None:
        self.block(head, function, loop)

    def statement(self, function: bool, loop: bool) -> None:
        simple = self.depth >= 3
        kind = self.draw(st.integers(0, 9 if simple else 23))
        e = self.expression
        match kind:
            case 0 | 1 | 2 | 3:
                self.line(f"{self.draw(target)} = {e()}")
            case 4:
                self.line(f"{self.draw(name)} ^= {e(1)}")
            case 5:
                self.line(f"del {self.draw(target)}")
            case 6 | 7:
                self.line(f"show({e()})")
            case 8 if function:
                self.line(f"return {e()}")
            case 8 if loop:
                self.line(self.draw(st.sampled_from(["break", "continue"])))
            case 9:
                self.line(f"raise {self.draw(st.sampled_from(ERRORS))}")
            case 10 | 11:
                self.suite(f"if {e()}:", function, loop)
                if self.draw(st.booleans()):
                    self.suite("else:", function, loop)
            case 12:
                self.suite(f"for {self.draw(name)} in items({e(1)}):", function, True)
                if self.draw(st.booleans()):
                    self.suite("else:", function, loop)
            case 13:
                self.suite(f"while step({e(1)}):", function, True)
            case 14 | 15:
                self.suite("try:", function, loop)
                error = self.draw(st.sampled_from(ERRORS))
                self.suite(f"except {error} as {self.draw(name)}:", function, loop)
                if self.draw(st.booleans()):
                    self.suite("finally:", function, loop)
            case 16:
                self.suite("try:", function, loop)
                self.suite("finally:", function, loop)
            case 17:
                context = self.draw(st.sampled_from(["suppress(NameError)", "nullcontext(1)"]))
                self.suite(f"with {context} as {self.draw(name)}:", function, loop)
            case 18 | 19 | 20:
                self.function(self.draw(st.sampled_from(FUNCTIONS)), "")
            case 21:
                self.line(f"class {self.draw(st.sampled_from(CLASSES))}:")
                self.depth += 1
                if self.draw(st.booleans()):
                    self.line(f"global {self.draw(name)}")
                for _ in range(self.draw(st.integers(0, 2))):
                    self.statement(False, False)
                self.function("m", "self=None")
                self.depth -= 1
            case 22:
                self.line(f"match {e(1)}:")
                self.depth += 1
                self.suite(f"case [{self.draw(name)}, *_]:", function, loop)
                self.suite(f"case {self.draw(name)}:", function, loop)
                self.depth -= 1
            case 23:
                self.line(f"{self.draw(name)}: {self.draw(target)} = {e(1)}")
            case _:
                self.line("pass")

    def function(self, called: str, arguments: str) -> None:
        if self.draw(st.integers(0, 4)) == 0:
            self.line("@keep")
        default = f"q={self.draw(name)}" if self.draw(st.booleans()) else ""
        self.line(f"def {called}({', '.join(filter(None, [arguments, default]))}):")
        self.depth += 1
        if self.draw(st.booleans()):
            self.line(f"global {self.draw(name)}")
        self.line("step()")
        for _ in range(self.draw(st.integers(1, 3))):
            self.statement(True, False)
        self.depth -= 1


@st.composite
def programs(draw: Any) -> str:
    """A program that compiles (what `global` clashes with is left out)."""
    program = Program(draw)
    for _ in range(draw(st.integers(1, 7))):
        statement = Program(draw)
        statement.statement(False, False)
        try:
            compile("\n".join(statement.lines), "<law>", "exec")
        except SyntaxError:
            continue
        program.lines += statement.lines
    return "\n".join(program.lines) or "pass"


EARLIER = """
def f(): return add(a, 1)
def g(): return f()
class K:
  def m(self): return show(b)
class L(K):
  def m(self): return g()
a, b, c, d, e = 11, 12, 13, [14, 15], 0
"""


def fresh(keep: Callable[[str], bool] = lambda _: True) -> dict[str, Any]:
    """A namespace as earlier cells may have left it, and the tools of the programs."""
    import contextlib

    shown: list[str] = []
    fuel = [FUEL]

    def step(go: object = True) -> object:
        fuel[0] -= 1
        if fuel[0] < 0:
            raise Exhausted
        return go

    def show(value: object) -> object:
        step()
        shown.append(stable(value))
        return value

    def items(value: object) -> list[object]:
        step()
        return list(value)[:3] if isinstance(value, list | str) else [1, 2]

    def keep_after_call(function: Any) -> Any:
        function()
        return function

    tools: dict[str, Any] = {
        "step": step,
        "show": show,
        "items": items,
        "add": lambda x, y: sum(map(ord, stable(x) + stable(y))) % 1009,
        "stable": stable,
        "keep": keep_after_call,
        "suppress": contextlib.suppress,
        "nullcontext": contextlib.nullcontext,
        "shown": shown,
        "__name__": "law",
    }
    namespace = dict(tools)
    exec(EARLIER, namespace)
    for key in [*NAMES, *FUNCTIONS, *CLASSES]:
        if not keep(key):
            del namespace[key]
    return namespace


def stable(value: object, deep: int = 3) -> str:
    """Text of a value, the same in every run; lists of lists grow fast, so only so `deep`."""
    if isinstance(value, list):
        return f"[{', '.join(stable(v, deep - 1) for v in value)}]" if deep else "[...]"
    if isinstance(value, str | int | None):
        return repr(value)[:50]  # the repr of a repr of a repr... doubles its backslashes
    return f"<{type(value).__name__} {getattr(value, '__name__', '')}>"


def execute(program: str, namespace: dict[str, Any]) -> str:
    """Run a program; the text of the exception it ends with."""
    try:
        exec(compile(program, "<law>", "exec"), namespace)
    except (Exception, Exhausted) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def closure(reads: set[str], namespace: dict[str, Any]) -> set[str]:
    """Names that the named values need in turn, as `capture` finds them."""
    found: set[str] = set()
    waiting = list(reads)
    while waiting:
        current = waiting.pop()
        if current in found or current not in namespace:
            continue
        found.add(current)
        value = namespace[current]
        values = [value] if isinstance(value, FunctionType) else []
        if isinstance(value, type):
            values = [v for c in value.__mro__ for v in vars(c).values()]
        for function in values:
            if isinstance(function, FunctionType) and function.__globals__ is namespace:
                names = global_names(function.__code__)
                waiting += names.reads
    return found


@LAW
@given(programs())
def test_cell_runs_alike_on_what_it_reads(program: str) -> None:
    """Without the names that it does not read, a cell shows, binds and raises the same."""
    result = analyse(program)
    whole = fresh()
    before = dict(whole)
    needed = closure(set(result.reads), whole)
    part = fresh(lambda key: key in needed)

    ended = execute(program, whole)
    assert execute(program, part) == ended
    assert part["shown"] == whole["shown"]
    for key in [*NAMES, *FUNCTIONS, *CLASSES]:
        if whole.get(key) is not before.get(key):
            assert (key in part) == (key in whole)
            assert stable(part.get(key)) == stable(whole.get(key))


@LAW
@given(programs())
def test_binds_and_deletes(program: str) -> None:
    """What a cell binds is in `binds`, what it deletes in `deletes`, `certain` is there after."""
    result = analyse(program)
    namespace = fresh()
    before = dict(namespace)
    ended = execute(program, namespace)

    known = {"__annotations__", "__builtins__", "__doc__"}
    # Earlier functions bind nothing here, so all that changed was the program's doing.
    bound = {k for k, v in namespace.items() if k not in before or before[k] is not v} - known
    assert bound <= result.binds
    assert before.keys() - namespace.keys() <= result.deletes
    if not ended:
        assert result.certain <= namespace.keys()
    assert not result.dynamic
    assert result.certain <= result.binds
    assert result.discarded <= result.reads.keys()


@LAW
@given(programs())
def test_function_runs_alike_on_what_it_reads(program: str) -> None:
    """The same for the body of a function and `global_names`."""
    lines = ["def main():", *("  " + line for line in program.splitlines())]
    source = "\n".join(lines)
    try:
        compile(source, "<law>", "exec")
    except SyntaxError:  # a name that is both assigned and global
        return
    names: dict[str, Any] = {}
    exec(source, names)
    found = global_names(names["main"].__code__)
    whole = fresh()
    needed = closure(set(found.reads), whole)
    part = fresh(lambda key: key in needed)
    before = dict(whole)
    call = f"{source}\nmain()"

    assert execute(call, part) == execute(call, whole)
    assert part["shown"] == whole["shown"]
    changed = {k for k in {*NAMES, *FUNCTIONS} if whole.get(k) is not before.get(k)}
    assert changed <= found.binds
