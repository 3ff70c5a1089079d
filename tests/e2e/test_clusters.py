"""The recipes of docs/clusters.md that need no cluster on another machine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, Security

from elsewhere import Elsewhere
from quickstart import check, execute, said
from realkernel import RealKernel
from waiting import wait_for

OpenKernel = Callable[..., RealKernel]

START = """\
%load_ext dask_async_run
from distributed import Client, LocalCluster
cluster = LocalCluster(n_workers=1, threads_per_worker=2, host='127.0.0.1', protocol='tcp://',
                       dashboard_address=None)
"""
MEET = """\
import pathlib, time
pathlib.Path('{0}').touch()
end = time.monotonic() + 60
while not pathlib.Path('{1}').exists() and time.monotonic() < end: time.sleep(0.01)
{0} = pathlib.Path('{1}').exists()
"""


@pytest.mark.timeout(300)
def test_a_cluster_in_a_variable(open_kernel: OpenKernel) -> None:
    """A cluster object, then a Client of it; a worker with two threads runs two cells at once."""
    kernel = open_kernel()
    kernel.do(START)
    assert "Connected to tcp://127.0.0.1" in kernel.do("%async_run_server --cluster cluster").stdout
    kernel.do("%%async_run --name a\n" + MEET.format("one", "two"))
    kernel.do("%%async_run --name b\n" + MEET.format("two", "one"))
    kernel.do("%async_gather")
    assert kernel.do("one, two").result == "(True, True)"
    address = str(kernel.do("print(cluster.scheduler_address)").stdout).strip()
    with Client(address, set_as_default=False) as plain:
        published = plain.list_datasets()
        name = next(name for name in published if name.endswith("story.ipynb/b"))
        assert plain.get_dataset(name).result(20)["state"] == "finished"
    kernel.do("%%async_run --name gpu --resources GPU=1\nimport os; pid = os.getpid()")

    def told() -> bool:
        return "offers GPU=1: none does" in kernel.do("%async_jobs").text

    wait_for(told, 30)
    kernel.do("%async_cancel gpu")
    kernel.do("%%async_run --gather --workers gpu-* --workers 'tcp://127.0.0.1:*'\nnear = True")
    assert kernel.do("near").result == "True"
    kernel.do("%async_run --name far --workers 'gpu-*' far = True")
    wait_for(lambda: "none is called gpu-*" in kernel.do("%async_jobs far").text, 30)
    kernel.do("%async_cancel far")
    kernel.do("client = Client(cluster)\n%async_run_server --cluster client")
    kernel.do("%async_run --gather total = one + two")
    assert kernel.do("total").result == "2"
    kernel.do("%unload_ext dask_async_run")
    assert kernel.do("client.submit(sum, [1, 2]).result()").result == "3"
    kernel.do("client.close(); cluster.close()")


def certificates(folder: Path) -> dict[str, str]:
    """Files for TLS: ``ca``, ``cert`` and ``key``."""
    made = Security.temporary()
    files = {"ca": made.tls_ca_file, "cert": made.tls_client_cert, "key": made.tls_client_key}
    for name, text in files.items():
        (folder / f"{name}.pem").write_text(str(text))
    return {name: str(folder / f"{name}.pem") for name in files}


@contextmanager
def from_the_command_line(folder: Path, tls: dict[str, str]) -> Iterator[str]:
    """``dask scheduler`` and ``dask worker`` with TLS: the scheduler's file."""
    file = folder / "scheduler.json"
    options = [f"--tls-{'ca-file' if name == 'ca' else name}={path}" for name, path in tls.items()]
    dask = [sys.executable, "-m", "dask"]
    common = ["--no-dashboard", "--scheduler-file", str(file), *options]
    with (folder / "dask.log").open("w") as log:
        commands = (
            [*dask, "scheduler", "--host", "tls://127.0.0.1", "--port", "0", *common],
            [*dask, "worker", "--no-nanny", "--nthreads", "2", *common],
        )
        processes = []
        try:
            for command in commands:
                process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
                processes.append(process)
                wait_for(file.exists, 120)
            yield str(file)
        finally:
            for process in reversed(processes):
                process.terminate()
                process.wait(30)


@pytest.fixture
def tls_cluster(folders: Any, tmp_path: Path) -> Iterator[dict[str, str]]:
    """``dask scheduler`` and ``dask worker`` with certificates: its file and theirs."""
    files = certificates(tmp_path)
    with from_the_command_line(tmp_path, files) as file:
        yield {**files, "file": file}


@pytest.mark.timeout(900)
def test_the_quick_start_on_a_cluster_from_the_command_line(
    bare_elsewhere: Elsewhere, tmp_path: Path
) -> None:
    """Unchanged but for the server's line, the scheduler's file: its folder is seen by nobody
    else, and its Python has nothing of this project."""
    server = f"%async_run_server --scheduler-file {bare_elsewhere.file}"
    executed = execute(tmp_path, server=server)
    check(executed)
    assert "had none: dask-async-run" in said(executed.cells[3])
    assert "which goes on with its jobs" in said(executed.cells[-1])


@pytest.mark.timeout(900)
def test_the_quick_start_where_the_environment_names_a_scheduler(
    tls_cluster: dict[str, str], tmp_path: Path
) -> None:
    """Unchanged but for the server's line, which says nothing; certificates are in Dask's too."""
    address = json.loads(Path(tls_cluster["file"]).read_text())["address"]
    environ = {"DASK_SCHEDULER_ADDRESS": address, **in_dasks_configuration(tls_cluster)}
    check(execute(tmp_path, server="%async_run_server", environ=environ))


def in_dasks_configuration(files: dict[str, str]) -> dict[str, str]:
    """Environment variables by which Dask finds certificates."""
    return {
        "DASK_DISTRIBUTED__COMM__TLS__CA_FILE": files["ca"],
        "DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT": files["cert"],
        "DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY": files["key"],
    }


@pytest.mark.timeout(300)
def test_a_cluster_with_certificates(tls_cluster: dict[str, str], open_kernel: OpenKernel) -> None:
    """With their files on the line; or address and certificates in Dask's configuration."""
    kernel = open_kernel()
    kernel.do("%load_ext dask_async_run")
    options = " ".join(f"--tls-{name} {tls_cluster[name]}" for name in ("ca", "cert", "key"))
    line = f"%async_run_server --scheduler-file {tls_cluster['file']}"
    assert "ServerError" in kernel.run(line).text
    assert "Connected to tls://" in kernel.do(f"{line} {options}").stdout
    kernel.do("%async_run --name here --gather x = 6 * 7")
    assert kernel.do("x").result == "42"
    files = in_dasks_configuration(tls_cluster)
    address = kernel.do("import json; print(json.load(open('scheduler.json'))['address'])").stdout
    other = open_kernel(DASK_SCHEDULER_ADDRESS=address.strip(), **files)
    other.do("%load_ext dask_async_run")
    assert f"Connected to {address.strip()}" in other.do("%async_run_server").stdout
    other.do("%async_gather here")
    assert other.do("x").result == "42"
