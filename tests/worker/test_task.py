"""Jobs on a real cluster: registry, plugin, task, supervisor, cell process."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.config
import pytest
from distributed import Client, LocalCluster, Worker
from distributed.comm import CommClosedError

from cells import FILENAME, NO_INPUTS, runs
from dask_async_run import registry
from dask_async_run.errors import ServerError
from dask_async_run.frames import FrameStore
from dask_async_run.job import JobSpec, JobView, State
from dask_async_run.messages import CLAIM
from dask_async_run.registry import SyncRegistry
from dask_async_run.scheduler.cell_ops import RECENT
from dask_async_run.scheduler.plugin import NAME as PLUGIN
from dask_async_run.scheduler.plugin import RegistryPlugin
from dask_async_run.task import run_cell
from dask_async_run.worker.plugin import NAME, CellPlugin
from waiting import wait_for


@dataclass
class Jobs:
    """Submits cells and waits for them."""

    client: Client
    registry: SyncRegistry
    state: Path

    def submit(self, code: str, **spec: Any) -> JobSpec:
        job = JobSpec(
            **{
                "id": uuid.uuid4().hex,
                "notebook": "notebook",
                "name": "cell",
                "source": code,
                "code": code,
                "filename": FILENAME,
                "execution_count": 7,
                "inputs": NO_INPUTS,
                "shell": {"class": "ZMQInteractiveShell", "kernel": True},
                "submitted": time.time(),
                **spec,
            }
        )
        self.registry.create(job)
        return job

    def end(self, job: JobSpec, timeout: float = 90) -> JobView:
        [view] = self.registry.wait([job.id], timeout)
        assert State(view.state).terminal, view
        return view

    def text(self, job: JobSpec, name: str = "stdout") -> str:
        outputs = [output.output for output in self.registry.outputs(job.id).outputs]
        return "".join(o["text"] for o in outputs if o.get("name") == name)

    def returned(self, job: JobSpec) -> None:
        """Wait until a job's Dask task is done; where it does not end, say where it is."""
        future = self.client.get_dataset(f"{job.notebook}/{job.name}")
        try:
            future.result(90)
        except TimeoutError:
            key = future.key

            def known(dask_scheduler: Any) -> str:
                task = dask_scheduler.tasks.get(key)
                story = "\n".join(map(str, dask_scheduler.story(key)))
                return f"{task!r}, {task and (task.processing_on, task.who_wants)}\n{story}"

            where = self.client.run_on_scheduler(known), self.client.call_stack()
            raise AssertionError(f"{future!r} is not done:\n{where[0]}\n{where[1]}") from None

    def wait_for_text(self, job: JobSpec, text: str) -> JobView:
        wait_for(lambda: text in self.text(job), what=f"{text!r}")
        return self.registry.show(job.id)


@contextmanager
def cluster(state: Path, workers: int, memory_limit: str = "auto") -> Iterator[Jobs]:
    """Workers with a process each."""
    with (
        # As in a server of our own.
        dask.config.set(
            {"distributed.worker.daemon": False, "distributed.scheduler.worker-saturation": 1.0}
        ),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=memory_limit,
            host="127.0.0.1",
            dashboard_address=":0",
        ) as started,
        Client(started) as client,
    ):
        client.register_plugin(RegistryPlugin(str(state)))
        client.register_plugin(CellPlugin())
        yield Jobs(client, registry.sync(client), state)


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    with cluster(tmp_path_factory.mktemp("jobs") / "state", workers=2) as started:
        yield started


def test_a_job_runs_and_leaves_outputs_and_result(jobs: Jobs) -> None:
    """In the registry, in nbformat's terms."""
    job = jobs.submit("x = 41\nprint('hi')\nx + 1")
    view = jobs.end(job)
    assert (view.state, view.reason) == (State.FINISHED, "")
    assert jobs.text(job) == "hi\n"
    assert jobs.registry.outputs(job.id).outputs[-1].output == {
        "output_type": "execute_result",
        "execution_count": 7,
        "data": {"text/plain": "42"},
        "metadata": {},
    }
    result = jobs.registry.result(job.id)
    assert result is not None
    assert result.bound == ["x"]


def test_large_values_are_frames_in_the_state_folder(jobs: Jobs) -> None:
    """Written by the cell process, found by everybody."""
    job = jobs.submit("import numpy as np\na = np.arange(1_000_000)")
    assert jobs.end(job).nbytes > 8_000_000
    result = jobs.registry.result(job.id)
    assert result is not None
    frames = dict(result.payload["frames"])
    assert 8_000_000 in frames.values()
    store = FrameStore(jobs.state / "frames")
    for digest, size in frames.items():
        store.verify(digest, size)


def test_a_workers_memory_limit_is_its_cells(tmp_path: Path) -> None:
    """Unless they have one of their own; the worker is not what dies of it."""
    eats = "import time\na = bytearray(700_000_000)\ntime.sleep(1)\nprint('eaten')"
    with cluster(tmp_path / "state", workers=1, memory_limit="600MB") as jobs:
        stopped = jobs.end(jobs.submit(eats))
        assert stopped.state == State.FAILED
        assert "more than the 572.2 MiB allowed" in stopped.reason
        assert jobs.end(jobs.submit(eats, memory=2_000_000_000)).state == State.FINISHED


def test_a_failed_job_says_why(jobs: Jobs) -> None:
    """The exception, or how the process died."""
    assert jobs.end(jobs.submit("1/0")).ename == "ZeroDivisionError"
    view = jobs.end(jobs.submit("print('so far')\nimport os; os.kill(os.getpid(), 11)"))
    assert view.state == State.FAILED
    assert view.reason == "the cell's process died: killed by signal 11 (SIGSEGV)"


def test_a_process_that_died_is_made_again_as_often_as_was_asked(
    jobs: Jobs, tmp_path: Path
) -> None:
    """Not for what the cell raises, and not when its own limits ended it."""
    ran = tmp_path / "ran"
    dies = f"open({str(ran)!r}, 'a').write('x')\nimport os\n"
    once = dies + f"if len(open({str(ran)!r}).read()) < 2: os.kill(os.getpid(), 9)"
    assert jobs.end(jobs.submit(once, retries=2)).state == State.FINISHED
    assert ran.read_text() == "xx"
    job = jobs.submit(dies + "os._exit(3)", retries=1)
    view = jobs.end(job)
    died = "the cell's process died: exit code 3 (attempt 2)"
    assert (view.state, view.reason) == (State.FAILED, died)
    again = "The cell's process died; it runs again (attempt 2).\n"
    assert jobs.text(job, "stderr") == again
    assert ran.read_text() == "xxxx"
    assert jobs.end(jobs.submit(dies + "1/0", retries=1)).state == State.FAILED
    assert jobs.end(jobs.submit(dies + "while True: pass", retries=1, timeout=2.0)).state == (
        State.TIMED_OUT
    )
    assert ran.read_text() == "xxxxxx"


def test_a_running_job_is_cancelled(jobs: Jobs) -> None:
    """Its view has pid and last line; variables and output so far are kept. The slot is busy
    until its process is gone, which may be a moment after its end is known."""
    job = jobs.submit("x = 1\nprint('go')\nimport time; time.sleep(1000)")
    view = jobs.wait_for_text(job, "go")
    assert (view.state, view.last_line) == (State.RUNNING, "go")
    assert view.pid is not None
    jobs.registry.cancel([job.id])
    view = jobs.end(job)
    assert (view.state, view.reason) == (State.CANCELLED, "cancelled; stopped by SIGINT")
    assert view.pid is not None
    jobs.returned(job)
    assert not runs(view.pid)
    result = jobs.registry.result(job.id)
    assert result is not None
    assert "x" in result.bound


def test_a_job_has_its_limits(jobs: Jobs) -> None:
    view = jobs.end(jobs.submit("while True: pass", timeout=0.5))
    assert (view.state, view.reason) == (
        State.TIMED_OUT,
        "ran longer than 0.5 s; stopped by SIGINT",
    )


def test_a_killed_worker_loses_its_cell_and_only_that(tmp_path: Path) -> None:
    """The cell ran once, its process is gone, its output so far is there; others go on, also
    on the worker that Dask starts instead."""
    once = tmp_path / "ran"
    code = f"open({str(once)!r}, 'a').write('x')\nprint('go')\nimport time; time.sleep(1000)"
    with cluster(tmp_path / "state", workers=1) as jobs:
        job = jobs.submit(code)
        view = jobs.wait_for_text(job, "go")
        pid = view.pid
        assert pid is not None
        worker = jobs.client.run(os.getpid)[view.worker]
        os.kill(worker, signal.SIGKILL)
        view = jobs.end(job)
        assert view.state == State.LOST
        assert "worker" in view.reason
        wait_for(lambda: not runs(pid), what="the cell's end")
        assert jobs.text(job) == "go\n"
        assert jobs.end(jobs.submit("print(1)")).state == State.FINISHED
        assert once.read_text() == "x"


def registry_host(jobs: Jobs) -> Any:
    assert jobs.client.cluster is not None
    return jobs.client.cluster.scheduler.extensions[PLUGIN]


def claims(jobs: Jobs) -> list[str]:
    """The jobs whose tasks ask for a claim, from now on."""
    host = registry_host(jobs)
    claim, asked = host._operations["claim"], []

    async def counted(job: str, *args: Any, **kwargs: Any) -> Any:
        asked.append(job)
        return await claim(job, *args, **kwargs)

    host._operations["claim"] = counted
    return asked


def not_beginning(jobs: Jobs, code: str, seconds: float) -> JobSpec:
    """Submit a cell whose claim comes ahead of its task, to a worker whose thread is busy."""

    def keep_busy(dask_worker: Worker) -> None:
        dask_worker.executors["default"].submit(time.sleep, seconds)

    jobs.end(jobs.submit("1"))
    jobs.client.run(keep_busy)
    asked = claims(jobs)
    job = jobs.submit(code)
    wait_for(lambda: jobs.registry.show(job.id).state == State.RUNNING)
    assert not asked
    return job


def test_a_cell_that_follows_another_one_need_not_ask(tmp_path: Path) -> None:
    """Its claim comes with its task; each runs once, and what it comes from is there."""
    with cluster(tmp_path / "state", workers=1) as jobs:
        jobs.end(jobs.submit("1"))
        jobs.end(jobs.submit("1"))  # by now it is known that this worker takes claims
        asked = claims(jobs)
        ran = tmp_path / "ran"
        specs = [jobs.submit(f"print({n}); open({str(ran)!r}, 'a').write('{n}')") for n in range(8)]
        views = [jobs.end(spec) for spec in specs]
        assert {view.state for view in views} == {State.FINISHED}
        assert ran.read_text() == "01234567"
        assert [jobs.text(spec) for spec in specs] == [f"{n}\n" for n in range(8)]
        assert not asked
        with pytest.MonkeyPatch.context() as patch:
            [stream] = registry_host(jobs)._scheduler.stream_comms.values()
            send = stream.send

            def broken(*messages: Any) -> None:
                if messages[0].get("op") == CLAIM:
                    raise CommClosedError
                send(*messages)

            patch.setattr(stream, "send", broken)
            assert jobs.end(unsent := jobs.submit("1")).state == State.FINISHED
            assert asked == [unsent.id]
            asked.clear()
        time.sleep(RECENT)
        assert jobs.end(last := jobs.submit("1")).state == State.FINISHED
        assert asked == [last.id], "nobody knows whether a worker lives that has said nothing"


def test_a_claim_whose_task_does_not_begin_is_given_back(tmp_path: Path) -> None:
    """The job waits again as long as something keeps its worker, and then runs, once."""
    ran = tmp_path / "ran"
    code = f"open({str(ran)!r}, 'a').write('x')"
    with cluster(tmp_path / "state", workers=1) as jobs:
        jobs.end(jobs.submit("1"))
        job = not_beginning(jobs, code, 2)
        wait_for(lambda: jobs.registry.show(job.id).state == State.PENDING)
        assert jobs.registry.show(job.id).started is None
        assert jobs.end(job).state == State.FINISHED
        assert ran.read_text() == "x"
        # Cancelled before its task begins: nothing of it runs, and nobody waits for that.
        job = not_beginning(jobs, code, 2)
        jobs.registry.cancel([job.id])
        view = jobs.end(job, 3)
        assert (view.state, view.reason) == (State.CANCELLED, "cancelled before it ran")
        # Dask has given the task to another worker, so it says: that one gets the claim.
        job = not_beginning(jobs, code, 2)
        host = registry_host(jobs)
        task = host.registry.machine.records[job.id].ahead
        host.places = lambda worker: 1
        ask = {"job": job.id, "worker": "tcp://there", "host": "there", "token": "t", "task": task}
        claim = jobs.client.sync(host._operations["claim"], **ask)
        assert claim["granted"]
        view = jobs.registry.show(job.id)
        assert (view.state, view.worker) == (State.RUNNING, "tcp://there")
        assert jobs.end(jobs.submit("1")).state == State.FINISHED
        assert ran.read_text() == "x", "the first worker ran it nevertheless"


def test_registering_the_plugin_again_leaves_running_cells_alone(jobs: Jobs) -> None:
    """Every kernel that connects does it."""
    job = jobs.submit("print('go')\nimport time\ntime.sleep(0.5)\n5")
    jobs.wait_for_text(job, "go")
    jobs.client.register_plugin(CellPlugin())
    assert jobs.end(job).state == State.FINISHED


def test_threads_of_blas_are_the_cores_shared_by_the_slots(jobs: Jobs) -> None:
    """Dask's nanny would give each one."""
    job = jobs.submit("import os\nprint(os.environ['OMP_NUM_THREADS'])")
    jobs.end(job)
    assert int(jobs.text(job)) == max(1, (os.cpu_count() or 1) // 2)


def test_without_its_plugin_a_worker_runs_no_cells(tmp_path: Path) -> None:
    """Removing it ends cells, as closing the worker does: their jobs are lost, and say so."""
    with cluster(tmp_path / "state", workers=1) as jobs:
        job = jobs.submit("print('go')\nimport time; time.sleep(1000)")
        view = jobs.wait_for_text(job, "go")
        jobs.client.unregister_worker_plugin(NAME)
        assert view.pid is not None
        assert not runs(view.pid)
        assert jobs.end(job).state == State.LOST
        future = jobs.client.submit(run_cell, "0" * 32, pure=False, retries=0)
        with pytest.raises(ServerError, match="cannot run cells"):
            future.result(20)
