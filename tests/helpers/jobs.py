"""Jobs on a real server, submitted without a kernel."""

from __future__ import annotations

import pickle
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from distributed import Client

from dask_async_run.job import JobSpec, Payload
from dask_async_run.registry import SyncRegistry
from dask_async_run.server.connection import Connection

NO_INPUTS = Payload(stream=pickle.dumps(("end",), protocol=5)).to_message()


def cell_spec(code: str, name: str = "cell", **spec: Any) -> JobSpec:
    """A job that runs `code` without inputs."""
    facts: dict[str, Any] = {
        "id": uuid.uuid4().hex,
        "notebook": "story.ipynb",
        "name": name,
        "source": code,
        "code": code,
        "filename": "<cell>",
        "execution_count": 1,
        "inputs": NO_INPUTS,
        "shell": {"class": "ZMQInteractiveShell", "kernel": True},
        "submitted": time.time(),
    }
    return JobSpec(**{**facts, **spec})


@contextmanager
def connected(connection: Connection) -> Iterator[tuple[Client, SyncRegistry]]:
    """A client of the server, and its registry."""
    with Client(connection.address, security=connection.security(), set_as_default=False) as client:
        yield client, SyncRegistry(client)


def said(registry: SyncRegistry, job: str) -> str:
    """What the job has printed so far."""
    return "".join(
        found.output["text"]
        for found in registry.outputs(job).outputs
        if found.output["output_type"] == "stream"
    )
