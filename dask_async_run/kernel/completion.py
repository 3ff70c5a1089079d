"""Completion: what can come next on the line of a magic. Pure."""

from __future__ import annotations

from argparse import Action
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dask_async_run.job import JobView
from dask_async_run.kernel.options import Parser, all_options

_JOBS = ("after", "jobs")
_VARIABLES = ("only", "also", "cluster")


def candidates(
    parser: Parser,
    line: str,
    symbol: str,
    jobs: Callable[[], Sequence[JobView]],
    namespace: Mapping[str, Any],
) -> list[str]:
    """Answer what may be meant by the word before the cursor.

    Parameters
    ----------
    parser : Parser
        Of the magic.
    line : str
        Up to the cursor.
    symbol : str
        The part of the last word that will be replaced: IPython cuts words at "," and "@".
    jobs : callable
        Asked only when it is about jobs.
    namespace : mapping
        The user's.
    """
    words = line.split(" ")
    word, before = words[-1], [part for part in words[1:-1] if part]
    if word.startswith("-") and "=" not in word:
        return sorted(all_options(parser))
    option, equals, _ = word.partition("=")
    said = option if equals else before[-1] if before else ""
    action = _action(parser, said)
    if action is None:
        action = next((a for a in parser._actions if not a.option_strings), None)
    if action is None:
        return []
    if action.choices is not None:
        return [str(choice) for choice in action.choices]
    if action.dest in _VARIABLES:
        named = [part for part in before if not part.startswith("-")]
        return _variables(jobs() if action.dest == "only" else (), named, namespace)
    if action.dest in _JOBS:
        lead = word[len(option) + 1 if equals else 0 : len(word) - len(symbol)]
        return [view.label[len(lead) :] for view in jobs() if view.label.startswith(lead)]
    return []


def _action(parser: Parser, option: str) -> Action | None:
    """Answer the option whose value comes next."""
    for action in parser._actions:
        if option in action.option_strings and action.nargs != 0:
            return action
    return None


def _variables(
    jobs: Sequence[JobView], named: Sequence[str], namespace: Mapping[str, Any]
) -> list[str]:
    """Answer variables: of the jobs that are named on the line, else the notebook's."""
    meant = [view for view in jobs if view.label in named]
    brought = {name for view in meant for name in (*view.binds, *view.deletes, *view.mutates)}
    return sorted(brought or (name for name in namespace if not name.startswith("_")))
