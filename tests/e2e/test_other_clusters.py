"""The quick start on clusters of dask-jobqueue and dask-gateway: `tox -e clusters` has them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from quickstart import check, execute
from waiting import wait_for

JOBQUEUE = """\
from dask_jobqueue.local import LocalCluster
slurm = LocalCluster(cores=2, processes=1, memory="2 GB", interface="lo")
slurm.scale(jobs=1)
%async_run_server --cluster slurm
"""

GATEWAY = """\
from dask_gateway import BasicAuth, Gateway
gateway = Gateway("{address}", auth=BasicAuth("ada", password="secret"))
cluster = gateway.new_cluster()
cluster.scale(1)
%async_run_server --cluster cluster
"""

CONFIG = """\
from pathlib import Path
c.DaskGateway.backend_class = "dask_gateway_server.backends.local.UnsafeLocalBackend"
c.DaskGateway.authenticator_class = "dask_gateway_server.auth.SimpleAuthenticator"
c.SimpleAuthenticator.password = "secret"
c.DaskGateway.address = "127.0.0.1:{private}"
c.Proxy.address = "127.0.0.1:{public}"
c.UnsafeLocalBackend.clusters_directory = "{folder}"
c.ClusterConfig.scheduler_cmd = ["dask", "scheduler"]
c.ClusterConfig.worker_cmd = ["dask", "worker"]
c.ClusterConfig.environment = {{"TMPDIR": "{folder}"}}
c.ClusterConfig.worker_cores = 2
c.ClusterConfig.idle_timeout = 120
"""


@pytest.mark.timeout(900)
def test_dask_jobqueue(folders: Any, tmp_path: Path) -> None:
    """Workers that a queue starts, here the one without a queue."""
    pytest.importorskip("dask_jobqueue", reason="not installed: tox -e clusters has it")
    executed = execute(
        tmp_path, server=JOBQUEUE, environ={"DASK_TEMPORARY_DIRECTORY": str(tmp_path)}
    )
    check(executed)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def gateway(folders: Any, tmp_path: Path) -> Iterator[str]:
    """dask-gateway's server with its local backend; its address."""
    pytest.importorskip("dask_gateway", reason="not installed: tox -e clusters has it")
    pytest.importorskip("dask_gateway_server", reason="not installed: tox -e clusters has it")
    public = free_port()
    clusters = tmp_path / "clusters"
    clusters.mkdir()
    config = tmp_path / "dask_gateway_config.py"
    config.write_text(CONFIG.format(private=free_port(), public=public, folder=clusters))
    script = Path(sys.executable).parent / "dask-gateway-server"
    environ = {**os.environ, "PATH": f"{script.parent}:{os.environ['PATH']}"}
    with ExitStack() as stack:
        log = stack.enter_context((tmp_path / "gateway.log").open("w"))
        process = subprocess.Popen(
            [script, "-f", str(config)], stdout=log, stderr=log, env=environ, cwd=tmp_path
        )
        try:

            def answers() -> bool:
                assert process.poll() is None, (tmp_path / "gateway.log").read_text()[-2000:]
                with socket.socket() as there:
                    return there.connect_ex(("127.0.0.1", public)) == 0

            wait_for(answers, 120)
            yield f"http://127.0.0.1:{public}"
        finally:
            process.terminate()
            process.wait(60)
            print((tmp_path / "gateway.log").read_text()[-3000:])
            shutil.rmtree(clusters, ignore_errors=True)


@pytest.mark.timeout(900)
def test_dask_gateway(gateway: str, tmp_path: Path) -> None:
    """A cluster behind a proxy, whose scheduler has a protocol of its own."""
    executed = execute(tmp_path, server=GATEWAY.format(address=gateway))
    check(executed)
