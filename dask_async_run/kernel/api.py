"""The Python API: the same as the magics, for scripts and for people who prefer it."""

from __future__ import annotations

from typing import Any, Self

from dask_async_run.kernel import session as sessions
from dask_async_run.kernel.gathering import Gatherer
from dask_async_run.kernel.handle import Job
from dask_async_run.kernel.options import run_options
from dask_async_run.kernel.submission import submit
from dask_async_run.server.connection import find
from dask_async_run.server.launch import ensure_server


class Session:
    """A connection to a cluster, for one namespace.

    Made by `connect`. Use it as a context manager, or `close` it; jobs go on.
    """

    def __init__(self, inner: sessions.Session) -> None:
        self._inner = inner

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, code: str, name: str | None = None, **options: Any) -> Job:
        """Submit a cell; returns when it is registered.

        Parameters
        ----------
        code : str
            What to run, in IPython's syntax.
        name : str or None
            The job's name; None: ``cell-N``.
        **options
            As ``%%async_run`` takes them: ``after``, ``independent``, ``only``, ``also``
            (lists), ``timeout`` (seconds), ``memory`` (bytes), ``retries``, ``resources``
            (dict), ``workers``, ``priority``, ``upload``, ``download``, ``sweep`` (a dict of
            parameters and their values, or as the magic takes it), ``max_parallel``,
            ``max_members``, ``cache`` (bool).

        Raises
        ------
        SyntaxError, NotPickledError, ServerError
            Nothing was submitted.
        OptionError
            A name or an option that cannot be so; it is a `ValueError`.
        TypeError
            An option that does not exist.
        """
        arguments = run_options(name=name, **options)
        record, view = submit(self._inner, code, code, arguments)
        job = Job(self._inner, view)
        record.handle = job
        return job

    def jobs(self, *wanted: str) -> list[Job]:
        """Answer this notebook's jobs, or those that are named, in order of submission."""
        return [Job(self._inner, view) for view in self._inner.jobs(wanted)]

    def job(self, name: str) -> Job:
        """Answer one job by name or id.

        Raises
        ------
        NoSuchJobError
        """
        return Job(self._inner, self._inner.jobs([name])[-1])

    def gather(
        self,
        *wanted: str,
        only: tuple[str, ...] = (),
        overwrite: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Show output and merge results, as ``%async_gather`` does."""
        if wanted:
            views = self._inner.jobs(wanted)
        else:
            views = self._inner.registry.jobs(self._inner.notebook, gathered=False)
        Gatherer(self._inner).gather(views, only, overwrite, timeout)

    @property
    def client(self) -> Any:
        """The Dask client."""
        return self._inner.client

    @property
    def dashboard(self) -> str | None:
        """Web address of the dashboard."""
        return self._inner.dashboard

    def close(self) -> None:
        """Disconnect; jobs go on."""
        self._inner.close()


def connect(
    name: str = "default",
    namespace: dict[str, Any] | None = None,
    client: Any = None,
    start: bool = True,
    **options: Any,
) -> Session:
    """Connect to a server, started if need be, or wrap a client of some Dask cluster.

    Parameters
    ----------
    name : str
        The server's name.
    namespace : dict or None
        What cells read and what results are merged into; None: the notebook's, or the script's.
    client : distributed.Client or None
        Of a cluster that somebody else started.
    start : bool
        Start a server if none lives.
    **options
        As `dask_async_run.server.launch.ensure_server` takes them.

    Raises
    ------
    NoServerError
        None lives, and not `start`.
    ServerError
        It cannot be started or reached.
    """
    shell = _shell()
    if namespace is None:
        namespace = _namespace(shell)
    if client is not None:
        return Session(sessions.open_session(shell, namespace, client=client))
    connection = ensure_server(name, **options)[0] if start else find(name)
    return Session(sessions.open_session(shell, namespace, connection))


def _namespace(shell: Any) -> dict[str, Any]:
    """Answer the namespace of who connects: the notebook's, or the script's that ``%run`` runs."""
    import __main__

    scripts = getattr(shell, "_main_mod_cache", {}).values()
    if shell is None or any(__main__ is script for script in scripts):
        return vars(__main__)
    namespace: dict[str, Any] = shell.user_ns
    return namespace


def _shell() -> Any:
    import sys

    interactive = sys.modules.get("IPython.core.interactiveshell")
    if interactive is None or not interactive.InteractiveShell.initialized():
        return None
    return interactive.InteractiveShell.instance()
