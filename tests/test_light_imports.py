"""What importing the package's parts leaves out: they run in every worker and every cell."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"numpy", "pandas", "matplotlib", "IPython", "bokeh", "ipywidgets", "sklearn", "pyarrow"}
DASK = {"dask", "distributed"}


def imported(module: str) -> set[str]:
    """Answer the top-level modules that are there after importing one in a new process."""
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["dask_async_run", "dask_async_run.namespace"])
def test_shared_modules_import_neither_dask_nor_anything_heavy(module: str) -> None:
    """The package itself and the namespace's code are light: no Dask, no IPython, no numpy."""
    assert not imported(module) & (HEAVY | DASK)


def test_the_package_alone_imports_none_of_its_parts() -> None:
    """`import dask_async_run` on a worker costs nothing."""
    code = (
        "import sys, dask_async_run as p; print(*[n for n in sys.modules if p.__name__ + '.' in n])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.split()


@pytest.mark.parametrize("module", ["dask_async_run.task", "dask_async_run.frames"])
def test_what_the_scheduler_unpickles_is_light(module: str) -> None:
    """The task's function imports nothing of the worker."""
    assert not imported(module) & HEAVY


def test_the_workers_task_does_not_import_a_shell() -> None:
    """IPython is for the template process; the worker itself does without."""
    assert not imported("dask_async_run.worker.task") & (HEAVY - {"numpy"})
