"""The contract's cases: read from the table, a text so that cells look like cells.

== name-of-the-case 3 17        the lines of the contract that it is about
a = [1]; b = a                  the setup
-- cell
a.append(2)
-- later
print(b)
-- says
[1, 2]
-- remarks: b                   a field of one line
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path

TABLE = Path(__file__).parent / "table"


@dataclass(frozen=True)
class Case:
    """A cell, what is there before it, and what shows afterwards whether all is as it should be.

    `setup` and `later` run in the kernel; `cell` runs in the kernel in one notebook
    and through `%%async_run` and `%async_gather` in the other. The two must then be
    the same: namespace, outputs, error, and what `later` prints.

    Parameters
    ----------
    id : str
        Unique, readable.
    rules : tuple of int
        Lines of docs/namespace-contract.md that would be broken if the case failed.
    setup, cell, later : str
        Cells.
    says : str
        What `later` prints in a plain run, to the letter: the case has teeth.
    between : str
        A cell run in the kernel while the job is on its way; plainly, after the cell.
    raises : str
        Name of the exception that the cell ends with.
    refused : str
        Pattern of the error that submitting gives; there is nothing to compare then.
    remarks : str
        What gathering must tell the user besides the cell's own outputs: words.
    expected : str
        What `later` prints after gathering where that can't be what a plain run
        prints; namespaces are not compared then.
    options, gather : str
        Options of the two magics.
    python : str
        The only version of Python for which the contract promises it.
    """

    id: str
    rules: tuple[int, ...]
    setup: str
    cell: str
    later: str = ""
    says: str = ""
    between: str = ""
    raises: str = ""
    refused: str = ""
    remarks: str = ""
    expected: str = ""
    options: str = ""
    gather: str = ""
    python: str = ""


_CASE = re.compile(r"^== (\S+)((?: \d+)+)$", re.MULTILINE)
_FIELD = re.compile(r"^-- (\w+)(?:$|: (.*)$)", re.MULTILINE)
_FIELDS = {field.name for field in fields(Case)}


def read(text: str) -> list[Case]:
    """The cases of one file of the table."""
    found = []
    parts = _CASE.split(text)[1:]
    for name, rules, body in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        pieces = _FIELD.split(body)
        given = {"setup": pieces[0]}
        for field, line, block in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
            if field not in _FIELDS or field in given:
                raise ValueError(f"case {name}: field {field!r} is unknown or there twice")
            given[field] = line if line is not None else block
        texts = {field: value.strip("\n") for field, value in given.items()}
        found.append(Case(id=name, rules=tuple(map(int, rules.split())), **texts))
    return found


CASES: tuple[Case, ...] = tuple(
    case for file in sorted(TABLE.glob("*.txt")) for case in read(file.read_text())
)
