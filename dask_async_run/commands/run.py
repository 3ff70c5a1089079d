"""``run``: a script or a notebook as a job.

What ``python script.py`` would give it goes along: the working folder, ``sys.argv``,
``__file__``, the script's folder on ``sys.path``. Of the environment, what the server has.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from dask_async_run.commands import text
from dask_async_run.commands.exit_codes import OK
from dask_async_run.commands.jobs import ended_well, put_out
from dask_async_run.commands.journals import until_ended
from dask_async_run.commands.program import Program, read_program
from dask_async_run.errors import OptionError
from dask_async_run.job import JobView


def run(given: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    path = given.file.absolute()
    try:
        program = read_program(path)
    except SyntaxError as error:
        where = f"{error.filename}, line {error.lineno}"
        raise OptionError(str(given.file), f"{error.msg} ({where}).") from error
    view = _submitted(given, path, program)
    if given.follow and not given.json:
        print(f"{text.label(view)}: submitted", file=sys.stderr)
        put_out(given.server, view.id, wait=True, show=True)
    if given.follow or given.wait:
        (view,) = until_ended(given.server, [view]) or [view]
        if not given.json:
            print(f"{text.label(view)}: {view.state}{text.because(view)}", file=sys.stderr)
    if given.json:
        print(json.dumps(text.job_facts(view)))
    elif not (given.follow or given.wait):
        print(f"{text.label(view)}: submitted ({view.id})")
    return ended_well([view]) if given.follow or given.wait else OK


def _submitted(given: argparse.Namespace, path: Path, program: Program) -> JobView:
    from dask_async_run.kernel.notebook import notebook_at  # here: these import Dask and IPython
    from dask_async_run.kernel.options import run_options
    from dask_async_run.kernel.session import open_session
    from dask_async_run.kernel.submission import submit
    from dask_async_run.server.launch import ensure_server

    options = run_options(
        name=given.name or program.name,
        after=given.after,
        timeout=given.timeout,
        memory=given.memory,
        retries=given.retries,
        store=given.store,
    )
    connection = ensure_server(given.server)[0]
    sys.argv[:] = [str(given.file), *given.arguments]
    sys.path[0] = str(path.parent)  # ours was the command's own folder
    namespace = {"__name__": "__main__", "__file__": str(path)}
    session = open_session(None, namespace, connection)
    session.notebook = notebook_at(path)
    try:
        of_script = {} if program.rich else {"script": str(path)}
        facts: dict[str, Any] = {
            "filename": f"<{path.name}>" if program.rich else str(path),
            "shell": {"class": "", "kernel": program.rich, "colors": None, **of_script},
        }
        return submit(session, program.source, program.code, options, **facts)[1]
    finally:
        session.close()
