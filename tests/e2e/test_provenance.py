"""Where results come from is told, and a job can be given away as a notebook."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
from nbclient import NotebookClient

from beside import command
from filesockets import AsyncFileKernelManager
from realkernel import RealKernel


def test_provenance_tells_all_that_a_result_depends_on(kernel: RealKernel) -> None:
    """The same inputs have the same digests, others have others."""
    kernel.do("import numpy as np\ndata = np.arange(50_000); k = 2")
    cell = "%%async_run --name add --timeout 1h\ntotal = int(data.sum()) * k"
    for change in ("", "", "k = 3"):
        kernel.do(f"{change}\npass")
        kernel.do(cell)
    kernel.do("import dask_async_run; session = dask_async_run.connect()")
    kernel.do("%async_wait add@1 add@2 add@3")
    first, second, third = (
        json.loads(kernel.value(f"__import__('json').dumps(session.job('add@{n}').provenance)"))
        for n in (1, 2, 3)
    )
    assert first["source"] == f"{cell}\n"
    assert first["inputs"]["data"]["type"] == "ndarray"
    assert first["inputs"]["data"]["bytes"] >= 400_000
    assert first["inputs"] == second["inputs"]
    assert first["inputs"]["data"] == third["inputs"]["data"]
    assert first["inputs"]["k"]["digest"] != third["inputs"]["k"]["digest"]
    assert first["python"] == platform.python_version()
    assert first["packages"]["numpy"] == np.__version__
    assert (first["bound"], first["options"]) == (["total"], {"timeout": 3600.0})
    assert first["submitted"] < first["started"] < first["ended"]
    assert first["host"] == platform.node()
    assert first["job"].endswith("test_provenance.ipynb/add@1")
    kernel.do("session.close()")


def test_an_exported_job_runs_elsewhere(
    kernel: RealKernel, shared_server: Any, tmp_path: Path
) -> None:
    """With what can be written down, in a kernel that has no server; the output is there."""
    kernel.do("import math as m\nscale = {'a': [1, 2.5]}\ntable = __import__('numpy').ones(3)")
    kernel.do("def double(x):\n    return 2 * x")
    kernel.do(
        "%%async_run --name give\nprint('sum', sum(scale['a']))\n"
        "later = lambda: table\nm.floor(double(scale['a'][1]))"
    )
    kernel.do("%async_wait give")
    file = tmp_path / "given.ipynb"
    done = command(shared_server, "export", "give", "-o", str(file))
    assert f"written to {file}" in done.stdout, done.stderr
    written: Any = nbformat.read(file, as_version=4)
    nbformat.validate(written)
    about, *code = written.cells
    assert "finished" in about.source
    assert "# table: bind it here (ndarray" in code[-2].source
    assert code[-1].source.startswith("print('sum'")
    shown = [output.get("text") or output["data"]["text/plain"] for output in code[-1].outputs]
    assert shown == ["sum 3.5\n", "5"]
    assert written.metadata.dask_async_run.packages.numpy == np.__version__
    client = NotebookClient(
        written,
        timeout=60,
        kernel_manager_class=AsyncFileKernelManager,
        resources={"metadata": {"path": tmp_path}},
    )
    client.execute(env={**os.environ})
    again = [output.get("text") or output["data"]["text/plain"] for output in code[-1].outputs]
    assert again == shown


def test_a_member_is_exported_with_its_parameters(
    kernel: RealKernel, shared_server: Any, tmp_path: Path
) -> None:
    """A sweep with those of the first one."""
    kernel.do("%%async_run --name pick --sweep \"n=[7, 8] s=['x']\"\nprint(s * n)")
    kernel.do("%async_wait pick")
    for job, expected in {"pick[1]": "n = 8\ns = 'x'", "pick": "n = 7\ns = 'x'"}.items():
        file = tmp_path / f"{job}.ipynb"
        done = command(shared_server, "export", job, "-o", str(file), "--json")
        assert json.loads(done.stdout)["file"] == str(file), done.stderr
        cells = [cell.source for cell in nbformat.read(file, as_version=4).cells]
        assert cells[-2:] == [expected, "print(s * n)"]
        assert "A sweep of 2 members: n (2) x s (1)" in cells[0]


def test_a_stored_result_is_brought_instead_of_a_run(
    kernel: RealKernel, shared_server: Any, tmp_path: Path
) -> None:
    """As if it had run: output, variables, changes in place; and it says so."""
    log = tmp_path / "log"
    kernel.do("import numpy as np")
    kernel.do(f"log = {str(log)!r}; rows = [1]; factor = np.full(100_000, 3); fail = False")

    def run(name: str, options: str = "--cache") -> str:
        ran = kernel.run(
            f"%%async_run --name {name} {options}\n"
            "with open(log, 'a') as file: file.write('ran ')\n"
            "print('rows', rows); product = int(factor[0]) * rows[0]\nassert not fail\nproduct"
        )
        assert ran.status == "ok", ran.text
        return kernel.run(f"%async_gather {name}").text

    def runs() -> int:
        return len(log.read_text().split())

    assert "rows [1]" in run("stored")
    kernel.do("del product")
    told = run("stored-again")
    assert runs() == 1
    assert "stored-again: not run: this is the stored result of stored, of 20" in told
    assert "rows [1]" in told
    assert kernel.value("product") == 3
    assert shared_server.observer.job("stored-again").state == "finished"
    run("without", "")
    assert runs() == 2
    for change in ("factor[0] = 4", "rows.append(2)"):
        kernel.do(change)
        run("changed")
    assert runs() == 4
    run("other", "--cache --only product")
    assert runs() == 5
    kernel.do("fail = True")
    run("failed")
    assert "AssertionError" in run("failed")
    assert runs() == 7
    kernel.do("fail, factor, rows = False, 3, [1]")
    kernel.do("%async_rerun stored-again\n%async_gather stored-again")
    assert runs() == 8
    kernel.do("%async_forget stored* without")
    run("stored")
    assert runs() == 9
    assert (
        "--cache: a sweep has no cache" in kernel.run("%%async_run --cache --sweep n=[1]\nn").text
    )
