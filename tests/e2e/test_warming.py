"""What a notebook has imported, its cells need not import."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from realkernel import RealKernel
from waiting import wait_for

OpenKernel = Callable[..., RealKernel]


@pytest.mark.timeout(300)
def test_a_cell_finds_imported_what_the_notebook_imports(
    open_kernel: OpenKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what it imported after it had connected; a nanny's hash seed is nobody's."""
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    kernel = open_kernel()
    kernel.do("%load_ext dask_async_run\n%async_run_server --workers 1 --no-dashboard")
    kernel.do("import sympy.plotting")

    def there() -> Any:
        kernel.do(
            "%%async_run --gather\nimport os, sys\n"
            "found = 'sympy.plotting' in sys.modules, os.environ.get('PYTHONHASHSEED')"
        )
        return kernel.value("found")[0]

    wait_for(there, 60)
    assert kernel.value("found") == (True, None)
