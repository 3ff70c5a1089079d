"""``--store``: a notebook's results outlive the folder that the server keeps them in."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from quickstart import check, execute, said
from realkernel import RealKernel
from waiting import wait_for

OpenKernel = Callable[..., RealKernel]

SERVE = "%async_run_server --workers 1 --no-dashboard --store "
STORED = "import dask_async_run as d\nd.connect(start=False).job('made').saved"


def story(kernel: RealKernel, url: str, state: Path) -> None:
    """Run a cell, lose all that its server had, and gather it from the store."""
    kernel.do("%load_ext dask_async_run")
    assert f"kept at {url}/dask-async-run-" in kernel.do(SERVE + url, 120).stdout
    kernel.do("import numpy as np\na = np.arange(100_000.0); rows = [1]")
    kernel.do("%%async_run --name made\nb = a * 2; rows.append(2); print('made'); b.sum()")
    kernel.do("%async_wait made", 120)
    wait_for(lambda: kernel.do(STORED).result == "True", 60)
    kernel.do("%async_stop_server", 120)
    shutil.rmtree(state / "default")
    kernel.restart()
    kernel.do("%load_ext dask_async_run")
    assert "not known here: 1" in kernel.do(SERVE + url, 120).stdout
    assert "taken in from there: 1" in kernel.do(f"{SERVE}{url} --restore", 120).stdout
    gathered = kernel.do("%async_gather made", 120)
    assert gathered.stdout == "made\n"
    assert "np.float64(9999900000.0)" in gathered.text
    assert kernel.do("b[:3], rows").result == "(array([0., 2., 4.]), [1, 2])"
    assert "Forgotten" in kernel.do("%async_forget made").stdout


@pytest.mark.timeout(400)
def test_results_outlive_the_servers_folder(
    open_kernel: OpenKernel, folders: Any, tmp_path: Path
) -> None:
    """A folder as the store; a password in a URL goes nowhere; what fsspec lacks is named."""
    kernel = open_kernel()
    story(kernel, f"file://{tmp_path}/runs", folders.state)
    wait_for(lambda: not list(tmp_path.glob("runs/*/jobs/*")), 60)
    for line in (
        "%async_run --store s3://key:hush@bucket/x y = 1",
        "%config AsyncRun.store = 's3://key:hush@bucket/x'",
    ):
        told = kernel.run(line)
        assert "holds more than a place" in told.text + told.traceback
        assert "hush" not in told.text + told.traceback
    kernel.do("%async_run --store none --name plain z = 1")
    kernel.do("%async_gather plain")
    assert list(tmp_path.glob("runs/*/jobs/*")) == []
    if find_spec("s3fs") is None:
        told = kernel.run(SERVE + "s3://runs/mine", 120)
        assert "Install s3fs to access S3" in told.text + told.traceback
        assert "where the scheduler runs" in told.text + told.traceback


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[dict[str, str]]:
    """moto's S3, and the environment in which it is found; one bucket, ``runs``."""
    pytest.importorskip("s3fs", reason="s3fs is not installed: tox -e clusters has it")
    pytest.importorskip("moto.server", reason="moto is not installed: tox -e clusters has it")
    boto3 = pytest.importorskip("boto3")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "hush-hush",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (tmp_path / "moto.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:

        def answers() -> bool:
            with socket.socket() as there:
                return there.connect_ex(("127.0.0.1", port)) == 0

        wait_for(answers, 120)
        client = boto3.client(
            "s3",
            endpoint_url=environment["AWS_ENDPOINT_URL"],
            aws_access_key_id="someone",
            aws_secret_access_key="hush-hush",
            region_name="us-east-1",
        )
        client.create_bucket(Bucket="runs")
        client.close()
        yield environment
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.timeout(500)
def test_results_in_s3(open_kernel: OpenKernel, folders: Any, s3: dict[str, str]) -> None:
    """Bucket and credentials are tried when the server is connected to; no secret is recorded."""
    kernel = open_kernel(**s3)
    kernel.do("%load_ext dask_async_run")
    told = kernel.run(SERVE + "s3://no-such-bucket/x", 120)
    assert "the store s3://no-such-bucket/x cannot be used" in told.text + told.traceback
    assert "bucket does not exist" in told.text + told.traceback
    kernel.do("%async_stop_server", 120)
    story(kernel, "s3://runs/mine", folders.state)
    for path in folders.state.rglob("*"):
        if path.is_file():
            assert b"hush-hush" not in path.read_bytes(), path


@pytest.mark.timeout(500)
def test_the_quick_start_with_a_store_in_s3(s3: dict[str, str], tmp_path: Path) -> None:
    """Unchanged but for the server's line: all that it made is in the bucket afterwards."""
    server = "%async_run_server --workers 2 --store s3://runs/quick"
    executed = execute(tmp_path, server=server, environ=s3)
    check(executed)
    assert "kept at s3://runs/quick/dask-async-run-" in said(executed.cells[3])


@pytest.mark.timeout(200)
def test_no_credentials(open_kernel: OpenKernel, s3: dict[str, str], tmp_path: Path) -> None:
    """That is said, before anything runs."""
    without = {name: value for name, value in s3.items() if "KEY" not in name}
    nothing = str(tmp_path / "nothing")
    files = {"AWS_SHARED_CREDENTIALS_FILE": nothing, "AWS_CONFIG_FILE": nothing}
    assert not {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} & os.environ.keys()
    kernel = open_kernel(**without, **files, AWS_EC2_METADATA_DISABLED="true")
    kernel.do("%load_ext dask_async_run")
    told = kernel.run(SERVE + "s3://runs/mine", 120)
    assert "Unable to locate credentials" in told.text + told.traceback
