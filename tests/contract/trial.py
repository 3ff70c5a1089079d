"""One case in a pair of kernels."""

from __future__ import annotations

import re
import sys

import pytest

from .cases import Case
from .compare import Judge, differing, differing_outputs
from .kernels import Kernel, RemoteKernel, side_by_side
from .outputs import Step

SETUP, CELL, BETWEEN, LATER = 1, 2, 3, 4


def stdout_of(step: Step) -> str:
    messages = [m["content"] for m in step.messages if m["msg_type"] == "stream"]
    return "".join(c["text"] for c in messages if c["name"] == "stdout")


def error_of(step: Step) -> str:
    errors = [m["content"] for m in step.messages if m["msg_type"] == "error"]
    return errors[-1]["ename"] if errors else ""


def text_of(step: Step) -> str:
    """Everything that the step shows as text."""
    found = []
    for message in step.messages:
        content = message["content"]
        found.append(content.get("text", ""))
        found += map(str, content.get("data", {}).values())
        found += content.get("traceback", [])
    return "\n".join(found)


def try_case(judge: Judge, case: Case) -> list[str]:
    """Run a case both ways, from a fresh start; what is wrong, one line each.

    With two plain kernels this says whether the case itself is sound: that
    `later` prints what the case says, that nothing but the cell raises, that two
    plain runs are the same.
    """
    if case.python not in ("", f"{sys.version_info[0]}.{sys.version_info[1]}"):
        pytest.skip(f"promised with Python {case.python} alone")
    side_by_side(lambda: judge.plain.reset(case.id), lambda: judge.other.reset(case.id))
    remote = isinstance(judge.other, RemoteKernel)
    if case.refused and remote:
        return _plainly(judge.plain, case) + _refusal(judge, case)
    wrong, other = side_by_side(
        lambda: _plainly(judge.plain, case), lambda: _steps(judge.other, case)
    )
    if isinstance(other, str):
        return [*wrong, f"refused: {other}"]
    plain = _last[id(judge.plain)]
    if case.remarks and remote:
        told = text_of(other[CELL])
        missing = [word for word in case.remarks.split() if word not in told]
        wrong += [f"gathering does not tell {word!r}: {told}" for word in missing]
    if case.expected and remote:
        said = stdout_of(other[LATER]).strip()
        return wrong + ([f"later says {said!r}"] if said != case.expected else [])
    for number in (CELL, BETWEEN, LATER):
        if case.remarks and number in (CELL, BETWEEN) and remote:
            continue
        read = (
            judge.plain.document.read(number, plain[number]),
            judge.other.document.read(number, other[number]),
        )
        name = {CELL: "the cell", BETWEEN: "between", LATER: "later"}[number]
        wrong += [f"{name}: {text}" for text in differing_outputs(*read)]
    for number, name in ((CELL, "after the cell"), (LATER, "after later")):
        found = differing(_looks[id(judge.plain)][number], _looks[id(judge.other)][number])
        wrong += [f"{name}: {text}" for text in found.values()]
    return wrong


_last: dict[int, dict[int, Step]] = {}
_looks: dict[int, dict[int, dict[str, str]]] = {}


def _plainly(kernel: Kernel, case: Case) -> list[str]:
    """Run the case in the plain kernel; what is wrong with the case."""
    steps = _steps(kernel, case)
    assert not isinstance(steps, str)
    wrong = []
    for number, expected in ((SETUP, ""), (CELL, case.raises), (BETWEEN, ""), (LATER, "")):
        if error_of(steps[number]) != expected:
            wrong.append(f"the case: step {number} plainly: {text_of(steps[number])}")
    said = stdout_of(steps[LATER]).strip()
    if said != case.says:
        wrong.append(f"the case: later says plainly {said!r}")
    return wrong


def _steps(kernel: Kernel, case: Case) -> dict[int, Step] | str:
    """Run all cells of the case in one kernel; the reason if the cell was refused."""
    none = Step([], 0)
    steps = {SETUP: kernel.plainly(SETUP, case.setup) if case.setup else none}
    steps[BETWEEN] = none
    if isinstance(kernel, RemoteKernel):
        kernel.prefix = f"{case.id}-"
        submitted = kernel.submit(CELL, case.cell, case.options)
        if submitted.refused:
            if not case.raises:
                return submitted.refused
            steps[CELL] = submitted
        if case.between:
            steps[BETWEEN] = kernel.plainly(BETWEEN, case.between)
        if not submitted.refused:
            steps[CELL] = kernel.gather(CELL, case.gather)
    else:
        steps[CELL] = kernel.cell(CELL, case.cell)
    looks = {CELL: kernel.look()} if not case.between else {CELL: {}}
    if case.between and not isinstance(kernel, RemoteKernel):
        steps[BETWEEN] = kernel.plainly(BETWEEN, case.between)
    steps[LATER] = kernel.plainly(LATER, case.later) if case.later else none
    looks[LATER] = kernel.look()
    _last[id(kernel)], _looks[id(kernel)] = steps, looks
    return steps


def _refusal(judge: Judge, case: Case) -> list[str]:
    """Submit a cell that must be refused; what is wrong with the refusal."""
    kernel = judge.other
    assert isinstance(kernel, RemoteKernel)
    kernel.prefix = f"{case.id}-"
    kernel.plainly(SETUP, case.setup)
    before = kernel.look()
    submitted = kernel.submit(CELL, case.cell, case.options)
    if not submitted.refused:
        kernel.gather(CELL)
        return ["was not refused"]
    told = f"{submitted.refused}\n{text_of(submitted)}"
    wrong = [] if re.search(case.refused, told, re.DOTALL) else [f"refused with: {told}"]
    return wrong + list(differing(before, kernel.look()).values())
