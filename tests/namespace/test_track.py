"""Which of the objects that went in a cell changed."""

from __future__ import annotations

from typing import Any

import pytest

from dask_async_run.content import digest_of
from dask_async_run.namespace.digests import KnownBuffers
from dask_async_run.namespace.track import Baseline


def changed(setup: str, tokens: str, change: str) -> list[Any]:
    """Answer the expressions, of those that have a token, whose objects changed."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(setup, namespace)
    expressions = tokens.split()
    by_id = {id(eval(e, namespace)): (0, n) for n, e in enumerate(expressions)}
    roots = [v for name, v in namespace.items() if not name.startswith("__")]
    baseline = Baseline(roots, by_id, namespace, KnownBuffers())
    exec(change, namespace)
    found = [tracked.token for tracked, _ in baseline.changed()]
    numbers = [token[1] for token in found if token is not None]
    return sorted(expressions[number] for number in numbers)


@pytest.mark.parametrize(
    ("setup", "tokens", "change", "expected"),
    [
        ("a = [[1]]", "a a[0]", "pass", []),
        ("a = [[1]]", "a a[0]", "a[0].append(2)", ["a[0]"]),
        ("a = [[1]]", "a", "a[0].append(2)", ["a"]),
        ("a = [1]; b = (a,)", "a b", "b[0].append(2)", ["a"]),
        ("a = {}; a['me'] = a", "a", "a['k'] = 1", ["a"]),
        ("def f(x=[]): x.append(1)", "f f.__defaults__[0]", "f()", ["f.__defaults__[0]"]),
        ("a = []; push = a.append", "a push", "push(1)", ["a"]),
        ("a = [1]", "a", "a = [2]", []),
        ("class P: pass\np = P(); p.l = []", "P p p.l", "p.l.append(1); P.n = 1", ["P", "p.l"]),
    ],
)
def test_the_changed_object_itself_is_found(
    setup: str, tokens: str, change: str, expected: list[str]
) -> None:
    """Not what holds it, unless it has no token of its own."""
    assert changed(setup, tokens, change) == expected


def test_known_digests_are_forgotten_once_the_cell_may_write() -> None:
    """A digest from the frame's name is good for the baseline and for nothing later."""
    known = KnownBuffers()
    buffer = memoryview(bytearray(b"abc" * 100))
    known.add(buffer, "told")
    assert known.digest(buffer) == "told"
    known.touch()
    assert known.digest(buffer) == digest_of(buffer)
