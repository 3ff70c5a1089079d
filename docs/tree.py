"""Write the tree of modules in CONTRIBUTING.md from the modules' docstrings.

    python docs/tree.py

A module's line is its docstring's first sentence; a test says when the tree is not
what this would write.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
TREE = re.compile(r"(?<=^```\n)dask_async_run/\n.*?(?=^```)", re.DOTALL | re.MULTILINE)
WIDTH = 26


def tree(root: Path = ROOT / "dask_async_run") -> str:
    """Answer the tree of the package's folders and modules, a line each."""
    lines = [f"{root.name}/"]

    def add(folder: Path, indent: str) -> None:
        for module in sorted(folder.glob("*.py")):
            # What a folder is about is said in its own line.
            if module.name != "__init__.py" or folder == root:
                lines.append(f"{indent}{module.name:<{WIDTH - len(indent)}} {_summary(module)}")
        for inner in sorted(folder.iterdir()):
            if (inner / "__init__.py").exists():
                summary = _summary(inner / "__init__.py")
                lines.append(f"{indent}{inner.name + '/':<{WIDTH - len(indent)}} {summary}")
                add(inner, indent + "  ")

    add(root, "  ")
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _summary(module: Path) -> str:
    """First sentence of a docstring, or what is before its first colon if that is long."""
    docstring = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    first = docstring.split("\n\n")[0].replace("\n", " ")
    sentence = re.split(r"(?<=[.;])\s", first)[0].rstrip(".;")
    return sentence if len(sentence) <= 92 else re.split(r"[:,]\s", sentence)[0]


if __name__ == "__main__":
    CONTRIBUTING.write_text(
        TREE.sub(lambda _: tree(), CONTRIBUTING.read_text(encoding="utf-8"), count=1),
        encoding="utf-8",
    )
