"""Loading and unloading of the IPython extension."""

from __future__ import annotations

import atexit
import sqlite3
from typing import Any

from IPython.core.error import UsageError
from traitlets import TraitError

from dask_async_run.errors import AsyncRunError, LockedJournalError
from dask_async_run.folders import state_folder
from dask_async_run.kernel.cell_text import comments_below
from dask_async_run.kernel.handle import Job
from dask_async_run.kernel.magics import MAGICS, AsyncRun
from dask_async_run.kernel.notebook import notebook_id, was_here
from dask_async_run.kernel.tables import renamed_line, waiting_line
from dask_async_run.spelling import spelt_out

_ATTRIBUTE = "_dask_async_run"
_BRIEF = 2.0
"""Seconds that loading waits for another process that has the journal locked."""


def load(shell: Any) -> None:
    """Register magics, completion and events; tell which jobs wait."""
    if getattr(shell, _ATTRIBUTE, None) is not None:
        return
    try:
        magics = AsyncRun(shell)
    except TraitError as error:
        raise UsageError(
            f"dask_async_run cannot be loaded: {error}. It was set in IPython's configuration "
            "(%config shows where that lies: ipython_config.py)."
        ) from None
    setattr(shell, _ATTRIBUTE, magics)
    shell.register_magics(magics)
    shell.configurables.append(magics)
    shell.input_transformers_cleanup.insert(0, comments_below)
    shell.events.register("pre_run_cell", magics.before_cell)
    shell.events.register("post_run_cell", magics.after_cell)
    shell.display_formatter.ipython_display_formatter.for_type(Job, magics.show_job)
    atexit.register(magics.close)
    for name in MAGICS:
        for percent in ("%", "%%"):
            shell.set_hook("complete_command", magics_complete(magics), str_key=percent + name)
    told = _waiting(shell)
    if told:
        with spelt_out():
            print(told)


def magics_complete(magics: AsyncRun) -> Any:
    """Answer the completer that IPython calls with (shell, event)."""

    def complete(shell: Any, event: Any) -> list[str]:
        return magics.complete(event)

    return complete


def unload(shell: Any) -> None:
    """Undo `load`; jobs go on."""
    magics = getattr(shell, _ATTRIBUTE, None)
    if magics is None:
        return
    delattr(shell, _ATTRIBUTE)
    magics.close()
    atexit.unregister(magics.close)
    shell.display_formatter.ipython_display_formatter.type_printers.pop(Job, None)
    if comments_below in shell.input_transformers_cleanup:
        shell.input_transformers_cleanup.remove(comments_below)
    shell.events.unregister("pre_run_cell", magics.before_cell)
    shell.events.unregister("post_run_cell", magics.after_cell)
    shell.configurables.remove(magics)
    manager = shell.magics_manager
    manager.registry.pop(type(magics).__name__, None)
    for name in MAGICS:
        manager.magics["line"].pop(name, None)
        manager.magics["cell"].pop(name, None)
        for percent in ("%", "%%"):
            shell.strdispatchers["complete_command"].strs.pop(percent + name, None)


def _waiting(shell: Any) -> str | None:
    """Say which jobs of this notebook wait, from the journal: without connecting."""
    from dask_async_run.scheduler.reader import JournalReader

    notebook = notebook_id(shell.user_ns)
    try:
        with JournalReader.open_readonly(state_folder() / "journal.sqlite", _BRIEF) as journal:
            own = journal.views(notebook, gathered=False)
            before = [name for name in journal.notebooks() if was_here(name, notebook)]
            renamed = [view for name in before for view in journal.views(name, gathered=False)]
    except LockedJournalError as error:
        return f"Whether jobs of this notebook wait is not known: {error}"
    except (AsyncRunError, OSError, sqlite3.Error):
        return None
    lines = []
    for views, line in ((own, waiting_line), (renamed, renamed_line)):
        if views:
            lines.append(line(views))
    return "\n".join(lines) or None
