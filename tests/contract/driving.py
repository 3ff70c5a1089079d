"""Short words for driving the remote kernel in tests that have no plain counterpart."""

from __future__ import annotations

import ast
from typing import Any

from .kernels import Execution, RemoteKernel
from .outputs import ANSI, Step
from .trial import stdout_of, text_of

WAIT = "import os, time\nwhile not os.path.exists({!r}): time.sleep(0.01)\n"


def do(kernel: RemoteKernel, code: str) -> str:
    """Run a cell that must not raise in the kernel; everything that it shows."""
    execution = kernel.execute(code)
    assert execution.ok, shown(execution)
    return shown(execution)


def shown(execution: Execution) -> str:
    return ANSI.sub("", text_of(Step(execution.messages, 0)))


def value(kernel: RemoteKernel, expression: str) -> Any:
    """What an expression is in the kernel, by its ``repr``."""
    execution = kernel.execute(f"print(repr(({expression})))")
    assert execution.ok, shown(execution)
    return ast.literal_eval(stdout_of(Step(execution.messages, 0)).strip())


def submit(kernel: RemoteKernel, name: str, code: str, options: str = "") -> str:
    return do(kernel, f"%%async_run --name {name} {options}\n{code}")


def let_go(kernel: RemoteKernel, name: str) -> None:
    """Make the file for which a job waits."""
    do(kernel, f"open({name!r}, 'w').close()")


def until_printed(kernel: RemoteKernel, word: str) -> None:
    """Wait until the job that was just submitted has put `word` out; it is `job` then."""
    do(
        kernel,
        "job = _\nimport time\ndeadline = time.monotonic() + 30\n"
        f"while {word!r} not in str(job.outputs) and time.monotonic() < deadline:\n"
        "    time.sleep(0.02)",
    )
    assert value(kernel, f"{word!r} in str(job.outputs)") is True


def gather_elsewhere(kernel: RemoteKernel, jobs: str) -> None:
    """Gather jobs in another process that is the same notebook's, as a second kernel of it is."""
    words = [("load_ext", "dask_async_run"), ("async_gather", jobs)]
    code = "; ".join(f"get_ipython().run_line_magic(*{each!r})" for each in words)
    do(kernel, f'import sys\n!{{sys.executable}} -m IPython -c "{code}"\n')
