"""What the journal and the connection file say, seen from outside every kernel."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dask_async_run.errors import ServerError
from dask_async_run.job import JobView
from dask_async_run.messages import unpack
from dask_async_run.scheduler.journal import Journal
from dask_async_run.server import connection as connections
from waiting import wait_for

TERMINAL = ("finished", "failed", "cancelled", "timed-out", "lost")


def stop_server() -> None:
    """Stop the server of this process's environment, if there is one, as a user would."""
    command = [sys.executable, "-m", "dask_async_run", "stop", "--force"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    # 3: no server is running.
    assert done.returncode in (0, 3), done.stdout + done.stderr


@dataclass(frozen=True)
class Observer:
    """Reads what a server wrote; needs neither a kernel nor the server.

    Parameters
    ----------
    state : Path
        The folder in which servers' state folders lie.
    server : str
        The server's name.
    """

    state: Path
    server: str = "default"

    def jobs(self) -> list[JobView]:
        """All jobs of all notebooks, in order of submission."""
        path = self.state / self.server / "journal.sqlite"
        if not path.exists():
            return []
        with Journal.open_readonly(path) as journal:
            return journal.views()

    def job(self, name: str) -> JobView | None:
        """The latest job of that name, of whatever notebook; None if there is none."""
        named = [view for view in self.jobs() if view.name == name]
        return named[-1] if named else None

    def members(self, name: str) -> list[JobView]:
        """The members of the latest sweep of that name, in their order."""
        job = self.job(name)
        return self.members_of(job.id) if job is not None else []

    def members_of(self, sweep: str) -> list[JobView]:
        """The members of the sweep with this id."""
        with Journal.open_readonly(self.state / self.server / "journal.sqlite") as journal:
            return journal.views(sweep=sweep)

    def outputs(self, name: str) -> list[dict[str, Any]]:
        """What the journal has of a job's outputs."""
        job = self.job(name)
        assert job is not None, f"there is no job {name!r}"
        with Journal.open_readonly(self.state / self.server / "journal.sqlite") as journal:
            return [unpack(packed) for _, _, packed in journal.outputs(job.id)]

    def printed(self, name: str) -> str:
        """Text of stdout and stderr that the journal has of a job."""
        streams = [o for o in self.outputs(name) if o["output_type"] == "stream"]
        return "".join(o["text"] for o in streams)

    def wait(self, name: str, states: Iterable[str] = TERMINAL, timeout: float = 120) -> JobView:
        """Wait until a job is in one of the states."""
        wanted = [states] if isinstance(states, str) else list(states)

        def reached() -> JobView | None:
            job = self.job(name)
            return job if job is not None and job.state in wanted else None

        try:
            return wait_for(reached, timeout)
        except TimeoutError:
            raise TimeoutError(
                f"not within {timeout} s: {name!r} is {' or '.join(wanted)}; it is {self.job(name)}"
            ) from None

    def wait_for_text(self, name: str, text: str, timeout: float = 120) -> None:
        """Wait until the journal has the text among what the job printed."""
        wait_for(
            lambda: self.job(name) is not None and text in self.printed(name),
            timeout,
            f"{name!r} has printed {text!r}",
        )

    def server_pid(self) -> int | None:
        """Process of the living server, None if there is none."""
        try:
            found = connections.find(self.server)
        except ServerError:
            return None
        return found.pid if found else None
