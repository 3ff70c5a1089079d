"""Names inside strings: words, and what IPython expands in magic lines."""

from __future__ import annotations

import re
from collections.abc import Iterable
from string import Formatter

_WORD = re.compile(r"[^\W\d]\w*")
_BUDGET = 1 << 20
"""Characters of string text read for words in one go: 20 ms. A cell with more
text than that carries data in its source, not expressions."""

# `$name` of IPython's DollarFormatter, which leaves single quotes alone:
# in `awk '$x'` nothing is expanded.
_DOLLAR = re.compile(r"\$(\$?[\w.]+)(?=(?:[^']*'[^']*')*[^']*$)")


def words(texts: Iterable[str]) -> set[str]:
    """Every identifier that stands in `texts`, wherever: ``"a > @limit"`` has ``a``, ``limit``."""
    found: set[str] = set()
    budget = _BUDGET
    for text in texts:
        if budget <= 0:
            break
        found.update(_WORD.findall(text[:budget]))
        budget -= len(text)
    return found


def strings(constant: object) -> list[str]:
    """The strings in a constant of compiled code, those inside tuples and frozensets included."""
    if isinstance(constant, str):
        return [constant]
    if isinstance(constant, tuple | frozenset):
        return [text for item in constant for text in strings(item)]
    return []


def expansions(text: str) -> list[str]:
    """Expressions that IPython evaluates in a ``!`` or magic line.

    The rules are those of `IPython.utils.text.DollarFormatter`: ``{expression}``
    and ``$name.attribute``, ``{{`` and ``$$`` for the characters themselves.
    IPython expands nothing at all if one expression of a line fails, so that an
    expression found here is not always evaluated, but none is missing.
    """
    found: list[str] = []
    try:
        for literal, field, spec, _ in Formatter().parse(text):
            names = (match[1] for match in _DOLLAR.finditer(literal))
            found += [name for name in names if not name.startswith("$")]
            if field:
                found.append(f"{field}:{spec}" if spec else field)
    except ValueError:  # unbalanced braces: IPython leaves such a line as it is
        pass
    return found
