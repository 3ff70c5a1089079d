"""Mounting: the jobs' page among the pages of a scheduler's dashboard, and off it again."""

from __future__ import annotations

import secrets

import dask
from bokeh.application import Application
from bokeh.application.handlers.function import FunctionHandler
from bokeh.document import Document
from bokeh.server.tornado import BokehTornado
from bokeh.server.util import create_hosts_allowlist
from distributed.dashboard.components.scheduler import env
from distributed.dashboard.core import DaskBokehTornado
from distributed.dashboard.scheduler import template_variables
from distributed.scheduler import Scheduler
from tornado.ioloop import IOLoop

from dask_async_run.scheduler.client_ops import ClientOps
from dask_async_run.scheduler.page.board import Board
from dask_async_run.scheduler.page.page import Page
from dask_async_run.scheduler.page.style import TEMPLATE
from dask_async_run.scheduler.registry import JobRegistry

PATH = "async-run"
PLOT = "individual-async-run"
"""The same page, without a menu, under the name by which dask-labextension finds what to embed."""


class Mounted:
    """The jobs' page on one scheduler's dashboard.

    Parameters
    ----------
    scheduler : Scheduler
    registry : JobRegistry
    ops : ClientOps or None
        What the page's buttons do; None: it has none.
    theirs : BokehTornado
        The application that has Dask's own pages.
    """

    path = PATH

    def __init__(
        self,
        scheduler: Scheduler,
        registry: JobRegistry,
        ops: ClientOps | None,
        theirs: BokehTornado,
    ) -> None:
        self._scheduler = scheduler
        self._ops = ops
        self._pages: set[Page] = set()
        self._template = env.from_string(TEMPLATE)
        self._board = Board(registry, self._where)
        self._variables = template_variables(scheduler)
        self._plot = {"url": PLOT, "name": "Async Run"}
        # The lists that Dask's own pages make their menu of.
        self._variables["pages"].append(PATH)
        self._variables["plots"].append(self._plot)
        self._application = _Application(
            {
                f"/{PATH}": Application(FunctionHandler(self._open)),
                f"/{PLOT}": Application(FunctionHandler(self._open_embedded)),
            },
            theirs,
            scheduler.services["dashboard"].port,
        )
        self._application.initialize(IOLoop.current())
        self._application.start()
        scheduler.http_application.applications.insert(0, self._application)

    def remove(self) -> None:
        """Take the page off the dashboard; windows that show it are told."""
        self._scheduler.http_application.applications.remove(self._application)
        self._variables["pages"].remove(PATH)
        self._variables["plots"].remove(self._plot)
        for page in list(self._pages):
            page.end("The jobs of this cluster are not kept any more.")
        self._pages.clear()
        self._application.stop(wait=False)  # what waits cannot be called in the event loop

    def _open_embedded(self, document: Document) -> None:
        """Dask's single plots have no menu either: its links would lead on inside of the frame."""
        document.template_variables["embedded"] = True
        self._open(document)

    def _open(self, document: Document) -> None:
        arguments = document.session_context.request.arguments
        wanted = arguments.get("job", [b""])[0].decode(errors="replace")
        page = Page(self._board, self._ops, document, wanted)
        self._pages.add(page)
        document.on_session_destroyed(lambda _: self._pages.discard(page))
        document.title = "Dask: Async Run"
        document.template = self._template
        document.template_variables.update(self._variables)

    def _where(self, worker: str) -> str:
        known = self._scheduler.workers.get(worker)
        if known is None or known.name == worker:
            return ""
        name = f"worker {known.name}" if isinstance(known.name, int) else str(known.name)
        return f"{name} on {known.host}" if len(self._scheduler.host_info) > 1 else name


class _Application(DaskBokehTornado):  # type: ignore[misc]
    """The page's own Bokeh application, asked before Dask's.

    Dask lists as plots to be embedded those of the first one that it finds, so this one
    names its own and theirs. Its sessions are signed: nobody opens one who has not been
    shown the page, as other web sites that the browser shows meanwhile have not.
    """

    def __init__(self, pages: dict[str, Application], theirs: BokehTornado, port: int) -> None:
        settings = dict(dask.config.get("distributed.scheduler.dashboard.bokeh-application"))
        origins = create_hosts_allowlist(settings.pop("allow_websocket_origin"), port)
        settings |= {"sign_sessions": True, "secret_key": secrets.token_bytes(32)}
        self._theirs = theirs
        super().__init__(
            pages,
            prefix=theirs.prefix,
            use_index=False,
            extra_websocket_origins=origins,
            absolute_url="",
            **settings,
        )

    @property
    def app_paths(self) -> set[str]:
        return {*super().app_paths, *self._theirs.app_paths}


def mount(scheduler: Scheduler, registry: JobRegistry, ops: ClientOps | None) -> Mounted | None:
    """Put the page on a scheduler's dashboard; None: it has none."""
    applications = getattr(scheduler.http_application, "applications", [])
    theirs = next((each for each in applications if isinstance(each, BokehTornado)), None)
    return Mounted(scheduler, registry, ops, theirs) if theirs is not None else None
