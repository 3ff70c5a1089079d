"""``export``: a job as a small notebook that runs where this package is not.

Source, output, the inputs that can be written down, and what it ran with. Like `gather`
it reads the journal and the frames beside it, loads the inputs (which are pickles, and
run their code) and so has the same care for whose files these are.
"""

from __future__ import annotations

import argparse
import ast
import json
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dask_async_run.commands import text
from dask_async_run.commands.exit_codes import OK
from dask_async_run.commands.gather import private_store
from dask_async_run.commands.jobs import put_out
from dask_async_run.commands.journals import chosen_one, journal_of
from dask_async_run.errors import ExportError, OptionError
from dask_async_run.job import JobSpec, JobView, Message

LITERAL = 2_000
"""Characters of a value at most that is written down as such."""


def run(given: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    from dask_async_run.namespace.axes import parameters  # here: for this command only
    from dask_async_run.provenance import provenance

    with journal_of(given.server) as journal:
        view = chosen_one(given.server, journal, given.job)
        spec, result = journal.spec(view.id), journal.result(view.id)
    store = private_store(given.server)
    stream, _ = store.open_payload(spec.payload)
    facts = provenance(view, spec, result, stream)
    values, texts, axes, problem = _inputs(spec, store)
    if axes:
        values |= parameters(axes, spec.member or 0)
    outputs = text.folded(put_out(given.server, view.id, wait=False, show=False))
    made = notebook(view, spec, facts, Inputs(values, texts, problem), outputs)
    path = given.output or Path(view.name.replace("/", "_") + ".ipynb")
    if path.exists() and given.output is None:
        raise OptionError("-o", f"{path} is there already: name a file with -o.")
    written = json.dumps(made, indent=1, ensure_ascii=False) + "\n"
    try:  # what UTF-8 does not know is written as JSON's escape, which is Python's
        path.write_text(written, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise ExportError(text.label(view), str(path), f"{error.strerror or error}.") from error
    if given.json:
        print(json.dumps({"file": str(path), **facts}))
    else:
        print(f"{text.label(view)} written to {path}")
    return OK


class _Elsewhere:
    """A value that another job has made."""


class Inputs:
    """A job's inputs, to be written down.

    Parameters
    ----------
    values : mapping
        By name.
    texts : mapping of str to str
        Of code that went along: the cells that it was compiled from, by file name.
    problem : str
        Why they cannot be loaded here; else empty.
    """

    def __init__(
        self, values: Mapping[str, Any], texts: Mapping[str, str], problem: str = ""
    ) -> None:
        self._values = values
        self._texts = texts
        self._problem = problem
        self.modules: set[str] = set()

    def code(self, facts: Message) -> str:
        """Answer code that makes them; what cannot be written down is told in comments."""
        lines: list[str] = []
        cells: dict[str, None] = {}
        told = {name: fact for name, fact in facts["inputs"].items() if name not in self._values}
        for name, value in self._values.items():
            if isinstance(value, types.ModuleType):
                self.modules.add(value.__name__.partition(".")[0])
                lines.append(_import(name, value.__name__))
            elif (literal := _literal(value)) is not None:
                lines.append(f"{name} = {literal}")
            elif cell := self._texts.get(_file(value)):
                cells[_without_magic(cell)] = None
            else:
                told[name] = facts["inputs"].get(name, {"type": type(value).__name__})
        if self._problem:
            lines.append(
                f"# The inputs could not be loaded where this was exported: {self._problem}"
            )
        for name, fact in told.items():
            size = f", {fact['bytes']:,} bytes" if "bytes" in fact else ""
            digest = f", digest {fact['digest']}" if "digest" in fact else ""
            lines.append(f"# {name}: bind it here ({fact['type']}{size}{digest})")
        return "\n".join([*lines, *cells])


def notebook(
    view: JobView, spec: JobSpec, facts: Message, inputs: Inputs, outputs: Iterable[Message]
) -> Message:
    """Answer a job as a notebook, in nbformat's terms (4.5).

    Parameters
    ----------
    view : JobView
    spec : JobSpec
    facts : dict
        Its provenance, which the notebook's metadata have.
    inputs : Inputs
    outputs : iterable of dict
        In nbformat's terms.
    """
    source = _without_magic(spec.source)
    made = inputs.code(facts)
    cells = [_cell("about", "markdown", _about(view, spec, facts))]
    if requirements := _requirements(facts, f"{made}\n{source}", inputs.modules):
        cells.append(_cell("environment", "code", f"# %pip install {' '.join(requirements)}"))
    if made:
        cells.append(_cell("inputs", "code", made))
    cells.append(_cell("cell", "code", source))
    cells[-1] |= {
        "execution_count": spec.execution_count,
        "outputs": [_saved(output, spec.execution_count) for output in outputs],
    }
    return {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "language_info": {"name": "python"},
            "dask_async_run": facts,
        },
        "cells": cells,
    }


def _inputs(spec: JobSpec, store: Any) -> tuple[dict[str, Any], dict[str, str], list[Any], str]:
    """Load the inputs: values, texts of cells, axes of a sweep; or say why that fails."""
    from dask_async_run.commands.gather import find_modules
    from dask_async_run.namespace.inputs import Stream, load_inputs

    data, buffers = store.open_payload(spec.payload)
    try:
        loaded = load_inputs(
            Stream(data, buffers),
            {"__name__": "__main__"},
            lambda early: find_modules(early, ()),
            resolve=lambda token: _Elsewhere(),
            keep_modules=True,
        )
    except Exception as error:  # noqa: BLE001 - a module that is not there, objects' own code
        return {}, {}, [], f"{type(error).__name__}: {error}"
    texts = {name: cell for name, (_, cell) in loaded.late.get("sources", {}).items()}
    return dict(loaded.names), texts, loaded.axes, ""


def _about(view: JobView, spec: JobSpec, facts: Message) -> str:
    from dask_async_run.sweeps import described

    where = f" on {view.host}" if view.host else ""
    python = facts["python"] or "of an unknown version"
    how = f"{view.state}{text.because(view)}. Run {facts['started'] or 'never'}{where}"
    said = f"{how}, with Python {python}. Exported by `dask-async-run export`; the notebook's"
    lines = [f"# {view.name}", "", f"{said} metadata say more."]
    if spec.sweep:
        which = "the first one" if spec.member is None else f"number {spec.member}"
        lines += ["", f"A sweep of {described(spec.sweep)}; the parameters here are of {which}."]
    if spec.parents:
        lines += ["", "What it reads of other jobs is not here: export these, too."]
    return "\n".join(lines)


def _requirements(facts: Message, code: str, modules: set[str]) -> list[str]:
    """Answer what `pip` has to install for some code, in the versions that it ran with."""
    from importlib.metadata import packages_distributions

    try:
        found = {
            (alias.name if isinstance(node, ast.Import) else node.module or "").partition(".")[0]
            for node in ast.walk(ast.parse(code))
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for alias in node.names
        }
    except SyntaxError:  # magics
        found = set()
    names = packages_distributions()
    versions = facts["packages"]
    return [
        f"{(names.get(name) or [name])[0]}=={versions[name]}"
        for name in sorted(found | modules)
        if name in versions
    ]


def _cell(name: str, kind: str, source: str) -> dict[str, Any]:
    cell: dict[str, Any] = {
        "id": name,
        "cell_type": kind,
        "metadata": {},
        "source": source.rstrip("\n").splitlines(keepends=True),
    }
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def _saved(output: Message, count: int | None) -> Message:
    """Answer an output as a notebook's file has it."""
    kind = output["output_type"]
    if kind == "stream":
        return {"output_type": kind, "name": output["name"], "text": output["text"]}
    if kind == "error":
        return {key: output[key] for key in ("output_type", "ename", "evalue", "traceback")}
    shown = {"output_type": "display_data", "data": output["data"], "metadata": {}}
    if kind == "execute_result":
        shown |= {"output_type": kind, "execution_count": count}
    return shown


def _without_magic(source: str) -> str:
    """Answer a cell without the line, or the word, that made a job of it."""
    first, _, rest = source.partition("\n")
    if first.startswith(("%%async_run", "# %%async_run")):
        return rest
    if first.startswith("%async_run"):
        from dask_async_run.kernel.options import split_statement

        return split_statement(first.removeprefix("%async_run"))[1]
    return source


def _literal(value: Any) -> str | None:
    """Answer Python's text for a value that is made of numbers and texts; else None."""
    try:
        written = repr(value)
        if len(written) <= LITERAL and ast.literal_eval(written) == value:
            return written
    except Exception:  # noqa: BLE001 - a user's __repr__ or __eq__; or it is no literal
        pass
    return None


def _file(value: Any) -> str:
    """Answer what a function, or a class, was compiled from; empty if that is not known."""
    code = getattr(value, "__code__", None)
    if code is None and isinstance(value, type):
        codes = (getattr(part, "__code__", None) for part in vars(value).values())
        code = next((found for found in codes if found is not None), None)
    return str(code.co_filename) if code is not None else ""


def _import(name: str, module: str) -> str:
    return f"import {module}" if name == module else f"import {module} as {name}"
