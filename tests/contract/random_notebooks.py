"""Notebooks that nobody has thought up: random statements that run, one after another.

They bind, alias, change in place, hand on and delete lists, dicts, sets, arrays and instances, by
themselves and through functions and classes that earlier cells have defined.
"""

from __future__ import annotations

import random
import types
from collections import deque
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import numpy as np

BEGIN = "import collections, copy\nimport numpy as np"

_MAKING = (
    "{list} = [{atom}, {atom}, {digit}]",
    "{dict} = {{'a': {atom}, 'k{digit}': {atom}}}",
    "{set} = {{{digit}, {digit}, 3}}",
    "{int} = {digit}",
    "{array} = np.arange({digit} + 3) * {digit}",
    "{array} = np.zeros((3, 2))",
    "{deque} = collections.deque([{atom}], maxlen=5)",
    "if {digit} > 4: {list} = [{digit}]\nelse: {dict} = {{'a': {atom}}}",
    "for {int} in range({digit}): pass",
    "globals()['n{digit}'] = {digit}",
    "exec('n{digit} = {digit}')",
)
_DEFINING = (
    "def {function}(x, y=0):\n    x.append(y)\n    return x",
    "def {function}(x, y=1):\n    x['f'] = y\n    return x.get('a')",
    "def {function}(x):\n    return [x, x]",
    "def {function}(y, seen=[]):\n    seen.append(y)\n    return seen",
    "def {function}():\n    global {known}\n    {known} = [{digit}]\n    return {known}",
    "def {function}():\n    return repr({known})[:0]",
    """def maker():
    seen = []
    def count():
        seen.append(len(seen))
        return len(seen)
    return count, seen
{function}, {list} = maker()""",
    """class {cls}:
    shared = []
    count = 0
    def __init__(self, v=0):
        self.v, self.items = v, [v]
        type(self).count += 1
    def add(self, x):
        self.items.append(x)
        self.shared.append(x)
        return self
    @property
    def size(self): return len(self.items)""",
)
_USING: dict[type, tuple[str, ...]] = {
    list: (
        "{x}.append({atom})",
        "{x} += [{atom}]",
        "{x} = {x} + [{digit}]",
        "{x}[:] = {x}[::-1]",
        "{x}[0] = {atom}",
        "{x}.pop()",
        "del {x}[0]",
        "{list} = {x}[:]",
        "{list} = copy.deepcopy({x})",
        "{other} = {x}[0]",
        "first, *{list} = {x}",
        "for _ in range({digit} % 3): {x}.append(_)",
    ),
    dict: (
        "{x}['k{digit}'] = {atom}",
        "{x}.setdefault('r', []).append({digit})",
        "{x}.update(z={atom})",
        "{x} |= {{'u': {digit}}}",
        "{dict} = {{**{x}, 'n': {digit}}}",
        "{x}.pop('a', None)",
        "{list} = list({x}.values())",
        "del {x}['k1']",
    ),
    set: ("{x}.add({digit})", "{x} |= {{{digit}}}", "{x}.discard(3)", "print(sorted({x}))"),
    int: ("{x} += {digit}", "{x} = {x} * 2 % 1000", "print({x})"),
    deque: ("{x}.append({atom})", "{x}.rotate(1)", "{list} = list({x})"),
    np.ndarray: (
        "{x}[0] = {digit}",
        "{x} += 1",
        "{array} = {x}[1:]",
        "{array} = {x}.T",
        "{array} = {x}.reshape(-1)",
        "{array} = {x} * 2",
        "np.add({x}, 1, out={x})",
        "{x}.sort()",
        "{x}.flat[1] = {digit}",
        "print({x}.sum())",
    ),
    types.FunctionType: (
        "{x}()",
        "{x}({known})",
        "{x}({known}, {atom})",
        "{other} = {x}({known})",
        "{other} = {x}()",
    ),
    type: (
        "{instance} = {x}({atom})",
        "{x}.shared.append({digit})",
        "{x}.extra = lambda self: {digit}",
        "{list} = {x}.shared",
        "print({x}.count, len({x}.shared))",
        "class {cls}({x}): pass",
    ),
}
_OF_INSTANCES = (
    "{x}.items.append({atom})",
    "{x}.v = {atom}",
    "{x}.add({atom})",
    "{x}.me = {x}",
    "print({x}.size)",
    "{instance} = copy.copy({x})",
    "{list} = {x}.items",
)
_OF_ANY = (
    "del {x}",
    "try:\n    del {x}\nexcept NameError:\n    pass",
    "{other} = {x}",
    "{x} = {atom}",
    "{x}, {known} = {known}, {x}",
    "{list} = [{x}, {x}]",
    "print({x} is {known})",
)


class _Parts(dict[str, str]):
    """What a template's places are filled with: each time something else."""

    def __init__(self, notebook: RandomNotebook, x: str = "") -> None:
        self._notebook = notebook
        self._x = x

    def __missing__(self, place: str) -> str:
        notebook = self._notebook
        match place:
            case "x":
                return self._x
            case "known":
                return notebook.known()
            case "digit":
                return str(notebook.random.randrange(9))
            case "atom":
                words = (f"[{notebook.random.randrange(9)}]", "None", "'b'", notebook.known())
                return notebook.random.choice(words)
            case _:
                return notebook.new(place)


class RandomNotebook:
    """Writes cells, and runs them: what raises is not written.

    Parameters
    ----------
    seed : int
        The same one writes the same notebook.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        self._count = 0
        exec(BEGIN, self.namespace)

    def cells(self, number: int) -> list[str]:
        """Answer so many cells, the imports first."""
        return [BEGIN, *(self._cell() for _ in range(number))]

    def known(self) -> str:
        """Answer a name of the notebook's, or None."""
        names = list(self._names())
        return self.random.choice(names) if names else "None"

    def new(self, kind: str) -> str:
        """Answer a name to bind: one that is there already, now and then."""
        self._count += 1
        names = [name for name in self._names() if name.startswith(kind)]
        again = names and self.random.random() < 0.3
        return self.random.choice(names) if again else f"{kind}_{self._count}"

    def _names(self) -> Iterator[str]:
        return (name for name in self.namespace if name[-1].isdigit())

    def _cell(self) -> str:
        statements: list[str] = []
        for _ in range(self.random.choice((1, 1, 2, 2, 3, 4))):
            while not self._runs(statement := self._statement()):
                pass
            statements.append(statement)
        if self.random.random() < 0.25:
            statements.append(self.known())
        return "\n".join(statements)

    def _runs(self, statement: str) -> bool:
        try:
            with redirect_stdout(StringIO()):
                exec(compile(statement, "<cell>", "exec"), self.namespace)
        except Exception:
            return False
        return True

    def _statement(self) -> str:
        chance, x = self.random.random(), self.known()
        templates: tuple[str, ...] = _OF_ANY
        if chance < 0.25:
            templates = _MAKING if chance < 0.15 else _DEFINING
        elif chance > 0.35 and x != "None":
            value = self.namespace[x]
            own = type(value).__module__ == "__main__"
            templates = _OF_INSTANCES if own else _USING.get(type(value), _OF_ANY)
        if x == "None":
            templates = _MAKING
        return self.random.choice(templates).format_map(_Parts(self, x))
