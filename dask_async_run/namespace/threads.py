"""What the modules for threads make, where no thread is at work with it.

Queues, events and semaphores that nobody waits for; what `threading.local` holds of the thread
that asks; futures that are done; threads, processes and pools that have ended. Their locks, which
nobody holds, are made anew.
"""

from __future__ import annotations

import gc
import queue
import subprocess
import threading
from collections.abc import Callable
from typing import Any

from dask_async_run.namespace.kinds import per_class

_HOOKS = ("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__")
_FUTURES = "concurrent.futures._base"
_POOLS = {
    "concurrent.futures.thread": "_shutdown",
    "concurrent.futures.process": "_shutdown_thread",
}
"""The modules of pools, and their attribute that says that one takes no more work."""


def _refusal(why: str) -> TypeError:
    return TypeError(f"cannot pickle {why}")


def _without(obj: Any, *names: str) -> dict[str, Any]:
    return {name: value for name, value in vars(obj).items() if name not in names}


def make_bare(cls: Any) -> Any:
    """Make an object that is still without all that its class would give it."""
    return cls.__new__(cls)


# -- queues, events, semaphores -------------------------------------------------------------------

_CONDITIONS = ("not_empty", "not_full", "all_tasks_done")


def _reduce_queue(obj: Any) -> Any:
    if any(getattr(obj, name)._waiters for name in _CONDITIONS):
        raise _refusal("a queue that a thread waits for")
    return make_bare, (type(obj),), _without(obj, "mutex", *_CONDITIONS), None, None, set_queue


def set_queue(obj: Any, attributes: dict[str, Any]) -> None:
    """Give a queue its attributes, and new locks."""
    vars(obj).update(attributes)
    obj.mutex = threading.Lock()
    for name in _CONDITIONS:
        setattr(obj, name, threading.Condition(obj.mutex))


def _reduce_flag(obj: Any) -> Any:
    if obj._cond._waiters:
        raise _refusal(f"a threading.{type(obj).__name__} that a thread waits for")
    return make_bare, (type(obj),), _without(obj, "_cond"), None, None, set_flag


def set_flag(obj: Any, attributes: dict[str, Any]) -> None:
    """Give an event or a semaphore its attributes, and a new lock."""
    vars(obj).update(attributes)
    obj._cond = threading.Condition(threading.Lock())


def _reduce_local(obj: Any) -> Any:
    # What it was made with is given to its class again in each thread.
    parts = gc.get_referents(obj)
    args = next((part for part in parts if type(part) is tuple), ())
    named = (part for part in parts if type(part) is dict and part is not vars(obj))
    keywords = next((part for part in named if all(type(key) is str for key in part)), {})
    made = type(obj), args, keywords
    return make_local, made, dict(vars(obj)), None, None, set_local


def make_local(cls: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """Make a `threading.local`, or an instance of a class that is one."""
    return cls(*args, **keywords)


def set_local(obj: Any, attributes: dict[str, Any]) -> None:
    """Give a `threading.local` what this thread has in it."""
    vars(obj).clear()
    vars(obj).update(attributes)


# -- what has ended -------------------------------------------------------------------------------

_OF_THREAD = (
    *("_tstate_lock", "_started", "_is_stopped", "_stderr", "_invoke_excepthook"),
    *("_handle", "_os_thread_handle", "_initialized", "_context"),
)
"""Attributes of threads that are the interpreter's, in one version of Python or another."""


def _reduce_thread(thread: threading.Thread) -> Any:
    if thread.is_alive():
        raise _refusal("a thread that runs")
    attributes = _without(thread, *_OF_THREAD)
    started = thread.ident is not None
    return make_thread, (type(thread), thread.name, started), attributes, None, None, set_thread


def make_thread(cls: Any, name: str, started: bool) -> Any:
    """Make a thread that was not started, or one that has ended."""
    thread = cls.__new__(cls)
    threading.Thread.__init__(thread, name=name)
    if started:
        thread.run = lambda: None
        threading.Thread.start(thread)
        threading.Thread.join(thread)
    return thread


def set_thread(thread: Any, attributes: dict[str, Any]) -> None:
    """Give a thread its attributes, but those that say what becomes of it."""
    for name in vars(thread).keys() - attributes.keys() - set(_OF_THREAD):
        delattr(thread, name)
    vars(thread).update(attributes)


def _reduce_future(future: Any) -> Any:
    if not future.done():
        raise _refusal("a future that is not done")
    attributes = _without(future, "_condition", "_waiters", "_done_callbacks")
    return make_future, (type(future),), attributes


def make_future(cls: type) -> Any:
    return cls()


def _reduce_pool(pool: Any) -> Any:
    if not getattr(pool, _POOLS[type(pool).__module__]):
        raise _refusal("a pool that was not shut down")
    attributes = _without(pool, "_shutdown_lock", "_work_queue", "_threads")
    return make_bare, (type(pool),), attributes, None, None, set_pool


def set_pool(pool: Any, attributes: dict[str, Any]) -> None:
    """Give a pool that was shut down its attributes."""
    vars(pool).update(attributes)
    pool._shutdown_lock = threading.Lock()
    if type(pool).__module__ == "concurrent.futures.thread":
        pool._work_queue, pool._threads = queue.SimpleQueue(), set()


def _reduce_process(process: Any) -> Any:
    if process.returncode is None:
        raise _refusal("a process that may still run")
    return make_bare, (type(process),), _without(process, "_waitpid_lock"), None, None, set_process


def set_process(process: Any, attributes: dict[str, Any]) -> None:
    """Give a process that has ended its attributes."""
    vars(process).update(attributes)
    process._waitpid_lock = threading.Lock()


# -- consoles -------------------------------------------------------------------------------------

_LOCKS: tuple[type, ...] = (type(threading.Lock()), type(threading.RLock()))


def _reduce_console(console: Any) -> Any:
    """Reduce what rich prints with."""
    locks = [name for name, value in vars(console).items() if isinstance(value, _LOCKS)]
    state = _without(console, *locks), locks
    return make_bare, (type(console),), state, None, None, set_console


def set_console(console: Any, state: tuple[dict[str, Any], list[str]]) -> None:
    """Give a console its attributes, and new locks."""
    attributes, locks = state
    vars(console).update(attributes)
    vars(console).update({name: threading.RLock() for name in locks})


_REDUCERS: dict[type, Callable[[Any], Any]] = {
    queue.Queue: _reduce_queue,
    threading.Event: _reduce_flag,
    threading.Semaphore: _reduce_flag,
    threading.Thread: _reduce_thread,
    threading.local: _reduce_local,
    subprocess.Popen: _reduce_process,
}


@per_class
def reducer(cls: type) -> Callable[[Any], Any] | None:
    """Answer what reduces objects of a class that holds locks, None for other classes."""
    if any(getattr(cls, hook, None) is not getattr(object, hook, None) for hook in _HOOKS):
        return None
    if cls.__module__ == _FUTURES and cls.__name__ == "Future":
        return _reduce_future
    if (cls.__module__, cls.__name__) == ("rich.console", "Console"):
        return _reduce_console
    if cls.__module__ in _POOLS and cls.__name__.endswith("PoolExecutor"):
        return _reduce_pool
    return next((how for base, how in _REDUCERS.items() if issubclass(cls, base)), None)
