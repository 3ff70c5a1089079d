"""What a cell leaves of itself in its process, besides its namespace.

Members of a sweep that follow one another on a worker run in one process, as long as none
leaves a trace there that the next could come across: making a process, and ending it, costs
the system several times what a small cell costs. Each finds the sweep's inputs, loaded anew
into an empty namespace, and the surroundings of the notebook.

A trace is what is different after a cell: a failure, a changed setting (`surroundings`), a
thread, a process, an open file, a module of the user's own, a signal handler, a patch of
``sys`` or ``builtins``, a class of the notebook that something still holds. The process then
ends with its member, as that of any other cell does. What is not looked at is what installed
packages keep to themselves (caches, counters): that goes on from member to member, as from one
iteration of a loop in a notebook to the next. Memory is given back, or the process ends.
"""

from __future__ import annotations

import asyncio
import atexit
import builtins
import contextvars
import gc
import os
import resource
import signal
import sys
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from operator import is_
from typing import Any

import cloudpickle

from dask_async_run import surroundings
from dask_async_run.namespace.kinds import forget_classes
from dask_async_run.namespace.loops import loop_of_this_process
from dask_async_run.namespace.modules import is_installed
from dask_async_run.surroundings.counters import COUNTERS
from dask_async_run.surroundings.figures import FIGURES
from dask_async_run.worker import processes
from dask_async_run.worker.shell import CellShell
from dask_async_run.worker.widgets import live_models

GROWTH = 64 * 2**20
"""Bytes by which the process may grow."""

_HANDLERS = "log handlers"
_DRAWN_ANEW = {"random", "numpy.random", COUNTERS.name}
"""Surroundings that each cell is given anew, whatever they were."""
_READ_ANEW = _DRAWN_ANEW | {_HANDLERS, FIGURES.name}
"""Those that are other objects for each cell."""

_OF_SYS = (
    "stdin",
    "stdout",
    "stderr",
    "excepthook",
    "displayhook",
    "unraisablehook",
    "breakpointhook",
    "meta_path",
    "path_hooks",
)
_LIMITS = (resource.RLIMIT_NOFILE, resource.RLIMIT_AS, resource.RLIMIT_DATA, resource.RLIMIT_CPU)


class Remains:
    """What this process is before its first cell, and what a cell has left in it.

    Parameters
    ----------
    shell : CellShell
        Nothing is in its namespace but what is its own.

    Attributes
    ----------
    surroundings : dict
        What they are when the next cell's inputs are there, as far as that is known: as they were
        for the second one, who found them as the first, if no cell has left a trace since.
    """

    def __init__(self, shell: CellShell) -> None:
        self._loop = loop_of_this_process()
        self._shell = shell
        untyped: Any = shell
        manager = untyped.history_manager
        parts = (shell, untyped.displayhook, manager)
        self._dicts = [
            (there, dict(there))
            for there in (
                shell.user_ns,
                untyped.user_ns_hidden,
                shell.user_ns["_oh"],
                *(part.__dict__ for part in parts),
                *(part._trait_values for part in parts),
            )
        ]
        self._lists = [
            (there, list(there))
            for there in (manager.input_hist_parsed, manager.input_hist_raw, shell.user_ns["_dh"])
        ]
        self._modules = dict(sys.modules)
        self._first: dict[str, Any] | None = None
        self.surroundings: dict[str, Any] = {}
        self._context: dict[Any, Any] = {}
        self._held = _held()
        self._things = dict(self._look())
        self._size = _own_memory()

    def begin(self, state: Mapping[str, Any]) -> bool:
        """Note how it is when a cell's inputs are there; False if it is not as for the first one.

        Parameters
        ----------
        state : mapping
            As `surroundings.state` answers.
        """
        self._context = _context()
        if self._first is None:
            self._first = dict(state)
            return True
        different = set(surroundings.compared(self._first, state)) - _DRAWN_ANEW
        # Handlers of logs are new objects each time, and have taken the place of those before.
        if repr(self._first.get(_HANDLERS)) == repr(state.get(_HANDLERS)):
            different.discard(_HANDLERS)
        if not different:
            self.surroundings = {k: v for k, v in state.items() if k not in _READ_ANEW}
        return not different

    def trace(self, changes: Iterable[str]) -> str:
        """Answer a trace of the cell that has run, in a word or two; empty if there is none.

        Parameters
        ----------
        changes : iterable of str
            Names of the surroundings that it changed.
        """
        if changed := sorted(set(changes) - _DRAWN_ANEW):
            return changed[0]
        now = dict(self._look())
        for name, value in self._things.items():
            if now[name] != value:
                return name
        if name := self._other_module():
            return f"module {name}"
        if (context := _context()).keys() != self._context.keys() or any(
            context[variable] is not value for variable, value in self._context.items()
        ):
            return "context variables"
        return "" if processes.is_childless() else "processes"

    def _other_module(self) -> str:
        """Answer a module that is gone, is another one, or is new and no library's."""
        if _are_same(sys.modules, self._modules):
            return ""
        there = map(sys.modules.get, self._modules)
        if not all(map(is_, there, self._modules.values())):
            return next(n for n, m in self._modules.items() if sys.modules.get(n) is not m)
        if len(sys.modules) == len(self._modules):
            return ""
        new = sys.modules.keys() - self._modules.keys()
        return next((name for name in new if not _is_librarys(sys.modules[name])), "")

    def wipe(self) -> str:
        """Empty the namespace; answer what remains of it nevertheless, as `trace` does."""
        for names, first in self._dicts:
            names.clear()
            names.update(first)
        for there, texts in self._lists:
            there[:] = texts
        if not _held() <= self._held:
            forget_classes()
        gc.collect()
        if not _held() <= self._held:
            return "objects"
        # Those that are there now are not looked through again.
        gc.freeze()
        return "" if _own_memory() < self._size + GROWTH else "memory"

    def _look(self) -> Iterator[tuple[str, Any]]:
        yield "threads", set(threading.enumerate())
        yield "open files", len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - for each cell: quickly
        yield "exit functions", atexit._ncallbacks()
        yield "signal handlers", [signal.getsignal(n) for n in _SIGNALS]
        yield "masked signals", signal.pthread_sigmask(signal.SIG_BLOCK, ())
        yield "timers", [signal.getitimer(t) for t in (signal.ITIMER_REAL, signal.ITIMER_PROF)]
        yield "limits", [resource.getrlimit(limit) for limit in _LIMITS]
        yield "umask", _umask()
        yield "priority", os.getpriority(os.PRIO_PROCESS, 0)
        yield "tracing", (sys.gettrace(), sys.getprofile(), sys.getswitchinterval())
        yield "sys", [_shown(getattr(sys, name)) for name in _OF_SYS]
        yield "builtins", dict(builtins.__dict__)
        yield "widgets", len(live_models())
        yield "event loop", (len(asyncio.all_tasks(self._loop)), _planned(self._loop))


_SIGNALS = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


def _are_same(modules: dict[str, Any], others: dict[str, Any]) -> bool:
    """Whether two tables of modules are the same: C compares them, and what is not, by itself."""
    try:
        return modules == others
    except Exception:  # noqa: BLE001 - what is no module, and does not compare
        return False


def _is_librarys(module: Any) -> bool:
    """Whether a module is Python's own or an installed package's."""
    if module is None or getattr(module, "__name__", None) in sys.builtin_module_names:
        return True
    file = getattr(module, "__file__", None)
    files = [file] if file else list(getattr(module, "__path__", ()))
    return bool(files) and all(is_installed(str(file)) for file in files)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _shown(value: Any) -> Any:
    return list(value) if isinstance(value, list) else value


def _planned(loop: Any) -> int:
    """How many callbacks an event loop is still going to call."""
    return len(getattr(loop, "_ready", ())) + len(getattr(loop, "_scheduled", ()))


def _context() -> dict[Any, Any]:
    return dict(contextvars.copy_context().items())


def _held() -> set[Any]:
    """Answer what of a notebook this process knows: classes, and finalisers to be called."""
    classes = set(cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID)
    return classes | set(getattr(weakref.finalize, "_registry", ()))


def _own_memory() -> int:
    """Bytes of memory that this process has for itself."""
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - for each cell: quickly
        _, resident, shared, *_ = map(int, file.read().split())
    return (resident - shared) * resource.getpagesize()
