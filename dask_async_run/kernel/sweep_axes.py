"""What ``--sweep`` says: its words become axes, evaluated in the notebook's namespace."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain, islice
from keyword import iskeyword
from typing import Any

from dask_async_run.errors import OptionError
from dask_async_run.namespace.axes import Axis, count
from dask_async_run.namespace.inputs import is_hidden
from dask_async_run.sweeps import MOST

UNSAID = 1_000
"""Members that a sweep may have if ``--max-members`` does not allow more."""

_OPTION = "--sweep"
_EXAMPLES = "Say NAME=VALUES, as in 'lr=[0.1, 0.01] depth=range(2, 6)', or 'a, b in PAIRS'."


def sweep_axes(
    said: Sequence[str] | Mapping[Any, Any],
    namespace: dict[str, Any],
    pending: Mapping[str, str] = {},
    most: int | None = None,
) -> list[Axis]:
    """Answer the axes that a submission's ``--sweep`` options mean; none without one.

    Parameters
    ----------
    said : sequence of str, or mapping
        The options' values; or parameters (a name, or a tuple of names) and their values.
    namespace : dict
        The user's: where expressions are evaluated.
    pending : mapping of str to str
        Names whose values are still to come, and from which jobs.
    most : int or None
        How many members there may be; None: `UNSAID`.

    Raises
    ------
    OptionError
        Something of it is wrong, or there would be too many members.
    """
    if isinstance(said, Mapping):
        axes = [_axis(_names(key), repr(key), values) for key, values in said.items()]
    else:
        axes = [
            _axis(names, text, _evaluated(text, namespace, pending))
            for names, text in chain.from_iterable(map(parse, said))
        ]
    names = [name for axis in axes for name in axis.names]
    for name in names:
        if names.count(name) > 1:
            raise OptionError(_OPTION, f"{name} is there twice: once is enough.")
    members = count(axes)
    allowed = UNSAID if most is None else most
    if members > min(allowed, MOST):
        advice = f"--max-members {members} says that it is meant"
        if members > MOST:
            advice = f"no sweep may have more than {MOST:,}"
        raise OptionError(
            _OPTION, f"it would have {members:,} members, more than {allowed:,}: {advice}."
        )
    return axes


def parse(text: str) -> list[tuple[tuple[str, ...], str]]:
    """Split an option's value into parameters and the expressions of their values.

    Raises
    ------
    OptionError
        It is not of the form ``a=… b=…`` or ``a, b in …``.
    """
    line = " ".join(text.split("\n"))
    begins: list[tuple[int, int]] = []  # of each "NAME =": where it begins, and ends
    within: int | None = None  # where "in" stands
    depth, last = 0, None
    try:
        for token in tokenize.generate_tokens(io.StringIO(line).readline):
            depth += (token.string in "([{") - (token.string in ")]}") if token.string else 0
            if depth == 0 and token.string == "=" and last and last.type == tokenize.NAME:
                begins.append((last.start[1], token.end[1]))
            if depth == 0 and token.string == "in" and within is None:
                within = token.start[1]
            last = token
    except (tokenize.TokenError, SyntaxError):
        raise OptionError(
            _OPTION, f"{line!r} is not complete: a bracket or quote is open. {_EXAMPLES}"
        ) from None
    if begins and not line[: begins[0][0]].strip():
        ends = [begin for begin, _ in begins[1:]] + [len(line)]
        found = []
        for number, ((begin, after), end) in enumerate(zip(begins, ends, strict=True)):
            expression = line[after:end].strip()
            if number + 1 < len(begins):
                expression = expression.removesuffix(",")
            found.append((_names(line[begin:after].rstrip("= ")), expression))
        return found
    if within is None or (begins and begins[0][0] < within):
        raise OptionError(_OPTION, f"{line!r} names no parameters. {_EXAMPLES}")
    targets = line[:within].strip().removeprefix("(").removesuffix(")")
    parts = tuple(part.strip() for part in targets.split(",") if part.strip())
    return [(_names(parts or targets), line[within + 2 :].strip())]


def _names(key: Any) -> tuple[str, ...]:
    names = key if isinstance(key, tuple) else (key,)
    for name in names:
        if not isinstance(name, str) or not name.isidentifier() or iskeyword(name):
            raise OptionError(_OPTION, f"{name!r} is no variable's name. {_EXAMPLES}")
        if is_hidden(name):
            raise OptionError(_OPTION, f"{name} is IPython's own: choose another name.")
    return names


def _evaluated(text: str, namespace: dict[str, Any], pending: Mapping[str, str]) -> Any:
    try:
        tree = ast.parse(text, _OPTION, "eval")
    except (SyntaxError, ValueError) as error:
        said = error.msg if isinstance(error, SyntaxError) else error
        raise OptionError(_OPTION, f"{text!r} is no Python expression: {said}.") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in pending:
            job = pending[node.id]
            raise OptionError(
                _OPTION,
                f"{node.id} is still to come from {job}, and its values are needed now: "
                f"%async_gather {job} brings it.",
            )
    there = "__builtins__" in namespace
    try:
        # In the namespace itself: a function that the expression makes is the notebook's.
        return eval(compile(tree, _OPTION, "eval"), namespace)
    except Exception as error:
        raise OptionError(_OPTION, f"{text} raised {type(error).__name__}: {error}") from error
    finally:
        if not there:
            namespace.pop("__builtins__", None)


def _axis(names: tuple[str, ...], text: str, values: Any) -> Axis:
    shown = ", ".join(names)
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise OptionError(
            _OPTION, f"{shown} needs several values, and {text} is a {type(values).__name__}."
        )
    found = list(islice(values, MOST + 1))
    if not found:
        raise OptionError(_OPTION, f"{text} is empty: there is nothing to run for {shown}.")
    if len(found) > MOST:
        raise OptionError(_OPTION, f"{text} has more than {MOST:,} values.")
    if len(names) > 1:
        found = [_unpacked(names, number, value) for number, value in enumerate(found)]
    return Axis(names, found)


def _unpacked(names: Collection[str], number: int, value: Any) -> tuple[Any, ...]:
    try:
        parts = tuple(value)
    except TypeError:
        parts = (value,)
    if len(parts) != len(names):
        listed = ", ".join(names)
        raise OptionError(
            _OPTION,
            f"value {number} has {len(parts)} part{'' if len(parts) == 1 else 's'}, and {listed} "
            f"needs {len(names)}.",
        )
    return parts
