"""The ways of running a cell elsewhere that are compared, each in its best documented form."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from io import StringIO
from typing import Any, Protocol


class Peer(Protocol):
    """One way; holds its servers and processes while it is open."""

    name: str

    def submit(self, code: str) -> Any:
        """Have code run that reads `x` of this process; return when the call does."""

    def finish(self, job: Any) -> Any:
        """Wait for it, and answer the `y` that it bound."""

    def put(self, x: Any) -> None:
        """Make a new value of `x` known."""

    def ready(self, job: Any) -> None:
        """Wait until it has ended, and fetch nothing."""

    def forget(self, job: Any) -> None:
        """Let go of what it left behind."""


class Ours:
    """``%%async_run`` and ``%async_gather`` in a shell of this process."""

    name = "dask_async_run"

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        self._count = 0

    def put(self, x: Any) -> None:
        self.shell.user_ns["x"] = x
        self.shell.run_cell("pass")  # as a notebook does between two cells

    def submit(self, code: str) -> Any:
        self._count += 1
        name = f"job-{self._count}"
        self.shell.run_cell_magic("async_run", f"--name {name}", code)
        return name

    def finish(self, job: Any) -> Any:
        with redirect_stdout(StringIO()):
            self.shell.run_line_magic("async_gather", job)
        return self.shell.user_ns["y"]

    def ready(self, job: Any) -> None:
        """Wait until the job has ended, and gather nothing."""
        self.shell.run_line_magic("async_wait", job)

    def forget(self, job: Any) -> None:
        self.shell.user_ns.pop("y")
        with redirect_stdout(StringIO()):
            self.shell.run_line_magic("async_forget", job)

    def follow(self, job: Any) -> Any:
        """Wait for a job's first output; answer its text."""
        session = self.shell.magics_manager.registry["AsyncRun"].session
        [view] = session.jobs([job])
        return session.registry.outputs(view.id, wait=30).outputs[0].output["text"]

    def use(self, server: str) -> None:
        """Use another server, with one worker, which is started if need be."""
        with redirect_stdout(StringIO()):
            line = f"--name {server} --workers 1 --no-dashboard"
            self.shell.run_line_magic("async_run_server", line)


def _run(code: str, x: Any) -> Any:
    namespace = {"x": x}
    exec(code, namespace)
    return namespace["y"]


class Dask:
    """``Client.submit``, its input scattered as documented for large data, and published."""

    def __init__(self, client: Any, published: bool, direct: bool) -> None:
        self.name = "dask" + (", direct" if direct else "") + (", published" if published else "")
        self._client = client
        self._published = published
        self._direct = direct
        self._count = 0
        self._x: Any = None
        self._small: Any = None

    def put(self, x: Any) -> None:
        # Small values go with the task; large ones are scattered when they are needed, in a
        # list, since a bare dict would be taken for {key: data}.
        self._x, self._small = x, getattr(x, "nbytes", 0) < 1_000_000

    def submit(self, code: str) -> Any:
        x = self._x
        if not self._small:
            [x] = self._client.scatter([x], direct=self._direct, hash=not self._direct)
        future = self._client.submit(_run, code, x, pure=False)
        if self._published:
            self._count += 1
            self._client.publish_dataset(future, name=f"y-{self.name}-{self._count}")
        return future

    def finish(self, job: Any) -> Any:
        return self._client.gather([job], direct=True)[0] if self._direct else job.result()

    def ready(self, job: Any) -> None:
        job.exception()

    def forget(self, job: Any) -> None:
        if self._published:
            self._client.unpublish_dataset(f"y-{self.name}-{self._count}")


class IPyParallel:
    """A direct view's ``push``, ``execute`` and ``pull``: what ``%%px`` does."""

    name = "ipyparallel"

    def __init__(self, view: Any) -> None:
        self._view = view
        self._x: Any = None

    def put(self, x: Any) -> None:
        self._x = x

    def submit(self, code: str) -> Any:
        self._view.push({"x": self._x}, block=True)
        return self._view.execute(code, block=False)

    def finish(self, job: Any) -> Any:
        job.get()
        return self._view.pull("y", block=True)

    def ready(self, job: Any) -> None:
        job.wait()

    def forget(self, job: Any) -> None:
        self._view.execute("del y", block=True)


class Ray:
    """``ray.put`` and a task."""

    name = "ray"

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._task = ray.remote(_run)
        self._x: Any = None

    def put(self, x: Any) -> None:
        self._x = x

    def submit(self, code: str) -> Any:
        return self._task.remote(code, self._ray.put(self._x))

    def finish(self, job: Any) -> Any:
        return self._ray.get(job)

    def ready(self, job: Any) -> None:
        self._ray.wait([job], fetch_local=False)

    def forget(self, job: Any) -> None:
        pass  # with the last reference


class Afar:
    """``%%afar``, in the shell of this process."""

    name = "afar"

    def __init__(self, shell: Any, client: Any) -> None:
        self._shell = shell
        self._client = client

    def put(self, x: Any) -> None:
        self._shell.user_ns["x"] = x

    def submit(self, code: str) -> Any:
        with self._client.as_current():
            self._shell.run_cell_magic("afar", "y", code)
        return self._shell.user_ns.pop("y")

    def finish(self, job: Any) -> Any:
        return job.result()

    def ready(self, job: Any) -> None:
        job.exception()

    def forget(self, job: Any) -> None:
        pass  # with the last reference


@contextmanager
def opened() -> Iterator[list[Peer]]:
    """Start everything that is installed; stop it afterwards.

    All servers have two workers of one thread, on this machine.
    """
    with ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory(prefix="dar-"))
        os.environ["DASK_ASYNC_RUN_STATE"] = f"{home}/state"
        os.environ["DASK_ASYNC_RUN_RUNTIME"] = f"{home}/runtime"
        os.environ["IPYTHONDIR"] = f"{home}/ipython"
        ours = _open_ours(stack)
        client = _open_dask(stack, home)
        peers: list[Peer] = [
            ours,
            Dask(client, published=False, direct=False),
            Dask(client, published=True, direct=False),
            Dask(client, published=False, direct=True),
        ]
        others: dict[str, Callable[[], Peer]] = {
            "ipyparallel": lambda: _open_ipyparallel(stack, home),
            "ray": lambda: _open_ray(stack, home),
            "afar": lambda: _open_afar(ours.shell, client),
        }
        for module, start in others.items():
            if importlib.util.find_spec(module):
                try:
                    peers.append(start())
                except Exception as error:
                    print(f"{module} does not start here: {error}", file=sys.stderr)
        yield peers


def _open_ours(stack: ExitStack) -> Ours:
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    from dask_async_run.server.control import stop_server

    config = Config()
    config.HistoryManager.enabled = False
    shell: Any = InteractiveShell.instance(config=config)
    shell.run_line_magic("load_ext", "dask_async_run")
    stack.callback(stop_server, "default", force=True)
    with redirect_stdout(StringIO()):
        shell.run_line_magic("async_run_server", "--workers 2 --no-dashboard")
    stack.callback(shell.run_line_magic, "unload_ext", "dask_async_run")
    return Ours(shell)


def _open_dask(stack: ExitStack, home: str) -> Any:
    from distributed import Client, LocalCluster

    cluster = stack.enter_context(
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=home
        )
    )
    return stack.enter_context(Client(cluster, set_as_default=False))


def _open_afar(shell: Any, client: Any) -> Peer:
    shell.run_line_magic("load_ext", "afar")
    return Afar(shell, client)


def _open_ipyparallel(stack: ExitStack, home: str) -> Peer:
    import ipyparallel

    client = stack.enter_context(ipyparallel.Cluster(n=2, profile_dir=f"{home}/ipp", log_level=40))
    client.wait_for_engines(2, timeout=60)
    return IPyParallel(client[0])


def _open_ray(stack: ExitStack, home: str) -> Peer:
    import ray

    # Its workers do not find this module by its name.
    by_value: Any = ray.cloudpickle.register_pickle_by_value
    by_value(sys.modules[__name__])
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=40,
        _temp_dir=f"{home}/ray",
    )
    stack.callback(ray.shutdown)
    return Ray(ray)
