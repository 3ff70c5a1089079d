"""The IPython shell that a cell runs in.

It looks and behaves like the shell of the kernel that submitted the cell: same
class name, same rich displays, same tracebacks. Libraries ask for these
("zmq" in ``str(type(get_ipython()))``, ``"IPKernelApp" in get_ipython().config``)
before they show anything rich. Where ipykernel's shell overrides IPython's, this
one does so to the same effect; ipykernel itself is not needed.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import PurePath
from subprocess import CalledProcessError
from types import MappingProxyType, ModuleType
from typing import Any

from IPython.core import page
from IPython.core.compilerop import CachingCompiler, code_name
from IPython.core.error import StdinNotImplementedError, UsageError
from IPython.core.interactiveshell import InteractiveShell, InteractiveShellABC
from traitlets import Any as AnyTrait
from traitlets import Type
from traitlets.config import Config

from dask_async_run.job import NEXT_INPUT, PAGER
from dask_async_run.surroundings import hide_stand_in
from dask_async_run.worker import absent, script
from dask_async_run.worker.channel import Channel
from dask_async_run.worker.displays import CellDisplayHook, CellDisplayPublisher, error_output
from dask_async_run.worker.file_magics import FileMagics
from dask_async_run.worker.questions import (
    end_where_it_was_asked,
    refusal,
    refuse_notebooks_magics,
    refuse_questions,
)
from dask_async_run.worker.terminal import run_in_terminal
from dask_async_run.worker.widgets import Widgets

KERNEL_CLASS = "ZMQInteractiveShell"
KERNELS_MODULE = "ipykernel.zmqshell"
_MODULES = {
    KERNEL_CLASS: KERNELS_MODULE,
    "TerminalInteractiveShell": "IPython.terminal.interactiveshell",
}
_KERNEL_ENVIRONMENT = {
    # As ipykernel's shell sets them: colours, and no pager that waits for a key.
    "TERM": "xterm-color",
    "CLICOLOR": "1",
    "FORCE_COLOR": "1",
    "CLICOLOR_FORCE": "1",
    "PAGER": "cat",
    "GIT_PAGER": "cat",
}
INLINE = "module://matplotlib_inline.backend_inline"


class CellCompiler(CachingCompiler):
    """Names the code of the cell as the submitting kernel would.

    Attributes
    ----------
    code, filename : str
        The cell's code and what it is called in tracebacks. Other code (cells within
        the cell: ``%%capture``, ``run_cell``) gets a name of its own in the same folder.
    numbered : bool
        Whether the cell was typed at a prompt: tracebacks then say ``In[n]``, else its name.
    """

    code = ""
    filename = ""
    numbered = True

    def format_code_name(self, name: str) -> tuple[str, str] | None:
        if name == self.filename and not self.numbered:
            return None
        label: tuple[str, str] | None = super().format_code_name(name)
        return label

    def get_code_name(self, raw_code: str, transformed_code: str, number: int) -> str:
        if not self.filename or self.filename.startswith("<"):
            own = code_name(transformed_code, number)
        else:
            digest = int.from_bytes(blake2b(raw_code.encode(), digest_size=4).digest(), "big")
            own = str(PurePath(self.filename).with_name(f"{digest}.py"))
        return self.filename if self.filename and raw_code == self.code else str(own)

    def cache(self, transformed_code: str, number: int = 0, raw_code: str | None = None) -> str:
        name: str = super().cache(transformed_code, number, raw_code)
        hide_stand_in(name)
        return name


class CellShell(InteractiveShell):
    """The shell of a cell process; see `make_shell`.

    Attributes
    ----------
    channel : Channel
        Where displays and errors go.
    kernel : None
        There is none. The trait exists because libraries ask for it.
    asked_exit : bool
        Whether the cell called ``exit()``, which in a kernel ends the kernel after
        the cell.
    started : bool
        Whether the cell's code has begun to run.
    absent : mapping of str to str
        Names of the notebook that did not come along, and why.
    script : bool
        Whether the cell is a script, and exits as one does.
    """

    display_pub_class = Type(CellDisplayPublisher)
    displayhook_class = Type(CellDisplayHook)
    compiler_class = Type(CellCompiler)
    kernel = AnyTrait(None, allow_none=True)
    asked_exit = False
    started = False
    script = False
    absent: Mapping[str, str] = MappingProxyType({})
    keepkernel_on_exit: bool | None = None
    rich = True

    def load_extension_later(self, name: str) -> None:
        """Load an extension when a magic is asked for that is not known here."""
        self._extensions = [*getattr(self, "_extensions", ()), name]

    def find_line_magic(self, name: str) -> Any:
        return self._find("find_line_magic", name)

    def find_cell_magic(self, name: str) -> Any:
        return self._find("find_cell_magic", name)

    def _find_with_lazy_load(self, kind: str, name: str) -> Any:
        # What runs magics asks this one; newer versions of IPython no longer pass through those.
        return self._find("_find_with_lazy_load", kind, name)

    def _find(self, finder: str, *what: str) -> Any:
        find: Any = getattr(super(), finder)
        manager: Any = self.extension_manager
        while (found := find(*what)) is None and getattr(self, "_extensions", None):
            try:
                manager.load_extension(self._extensions.pop(0))
            except Exception as error:  # noqa: BLE001 - whatever an extension does when it is loaded
                print(f"An extension was not loaded: {error!r}", file=sys.stderr)
        return found

    def attach(self, channel: Channel) -> None:
        """Send displays and errors to `channel`; widgets' comms end here."""
        self.channel = channel
        self.widgets = Widgets(lambda output: channel.send("output", output))
        self.widgets.install()
        for part in (self.display_pub, self.displayhook):
            shows: Any = part
            shows.channel, shows.widgets = channel, self.widgets

    def init_environment(self) -> None:
        names = [*_KERNEL_ENVIRONMENT, "MPLBACKEND"]
        self._environment = {name: os.environ.get(name) for name in names}
        if self.rich:
            os.environ.update(_KERNEL_ENVIRONMENT)
        os.environ.setdefault("MPLBACKEND", INLINE if self.rich else "agg")

    def become(self, class_name: str, *, rich: bool) -> None:
        """Be of another kind, as if it had been made so; before anything has run in it.

        Making another shell would take longer than all else that a small cell does.

        Parameters
        ----------
        class_name : str
            Name of the submitting kernel's shell class.
        rich : bool
            Whether its front end shows more than text.
        """
        kind: Any = type(self)  # it has a class of its own
        untyped: Any = self
        if (kind.__name__, self.rich) == (class_name, rich):
            return
        self.restore_environment()
        kind.__name__ = kind.__qualname__ = class_name
        kind.__module__ = _MODULES.get(class_name, CellShell.__module__)
        kind.rich = rich
        self.init_environment()
        if rich:
            untyped.config.IPKernelApp.connection_file = ""
        else:
            untyped.config.pop("IPKernelApp", None)
        formatter = untyped.display_formatter
        formatter.active_types = formatter.format_types if rich else ["text/plain"]
        promise_kernel(rich and class_name == KERNEL_CLASS)

    def restore_environment(self) -> None:
        """Undo what making the shell did to ``os.environ``."""
        for name, value in self._environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    def init_virtualenv(self) -> None:
        """Do nothing: the process runs in the worker's environment already."""

    def init_magics(self) -> None:
        untyped: Any = super()
        untyped.init_magics()
        manager: Any = self.magics_manager
        manager.register(FileMagics)
        refuse_notebooks_magics(self)

    def init_hooks(self) -> None:
        base: Any = super()
        base.init_hooks()
        base.set_hook("show_in_pager", page.as_hook(self._show_page), 99)

    def _show_page(
        self,
        strng: str | dict[str, Any],
        start: int = 0,
        screen_lines: int = 0,
        pager_cmd: str | None = None,
    ) -> None:
        data = strng if isinstance(strng, dict) else {"text/plain": strng}
        untyped: Any = self.display_pub
        untyped.publish(data, transient={PAGER: start})

    def set_next_input(self, s: str, replace: bool = False) -> None:
        """Show what ``%load`` and ``%recall`` put into the next cell, and have it put there."""
        untyped: Any = self.display_pub
        untyped.publish({"text/plain": s}, transient={NEXT_INPUT: True})

    def enable_gui(self, gui: str | None = None) -> None:
        """Refuse graphical event loops: nobody sits in front of a cell process."""
        if gui not in (None, "inline", "agg"):
            raise UsageError(
                f"a cell run by %%async_run cannot open {gui} windows. Use %matplotlib inline."
            )

    def ask_exit(self) -> None:
        self.asked_exit = True

    def debugger(self, force: bool = False) -> None:
        """Refuse: nobody is there to answer a debugger.

        ``%debug`` calls it, and fails. So does IPython after it has shown an error, if
        ``%pdb`` is on: then the error is what counts, and this is only said.
        """
        if not force and not self.call_pdb:
            return
        refuse = refusal("a debugger")
        if sys.exc_info()[1] is None:
            refuse()
        try:
            refuse()
        except StdinNotImplementedError as error:
            print(error, file=sys.stderr)

    @contextmanager
    def _tee(self, channel: str) -> Iterator[None]:
        # IPython keeps a copy of all that is printed, for a history that ends with
        # this process, at the cost of a Python call and memory for each write.
        yield

    async def run_code(self, code_obj: Any, result: Any = None, *, async_: bool = False) -> bool:
        """Execute code; a script's exit is none of an IPython user's, who gets advice on it."""
        untyped: Any = super()
        if not self.script or async_:
            failed: bool = await untyped.run_code(code_obj, result, async_=async_)
            return failed
        error: BaseException
        try:
            exec(code_obj, self.user_global_ns, self.user_ns)
            return False
        except SystemExit as exited:
            script.tell(exited)
            error = exited
        except BaseException as raised:  # noqa: BLE001 - as IPython does with whatever code raises
            if raised.__traceback__ is not None:
                raised.__traceback__ = raised.__traceback__.tb_next  # it begins in the script
            shown = type(raised), raised, raised.__traceback__
            self.showtraceback(shown, tb_offset=0, running_compiled_code=True)
            error = raised
        if result is not None:
            result.error_in_exec = error
        return True

    def showtraceback(self, exc_tuple: Any = None, *args: Any, **options: Any) -> None:
        """Show an exception, without frames of ours; one about an absent name says why."""
        error = exc_tuple[1] if exc_tuple else sys.exc_info()[1]
        absent.tell(error, self.absent)
        end_where_it_was_asked(error)
        base: Any = super()
        base.showtraceback(exc_tuple, *args, **options)

    def _showtraceback(self, etype: type[BaseException], evalue: BaseException, stb: Any) -> None:
        if self.channel.in_child:
            # The socket is the parent's: an error in a fork comes as text.
            print("\n".join(stb), file=sys.stderr)
        else:
            self.channel.send("output", error_output(evalue, stb, etype.__name__))

    def system(self, cmd: str) -> None:
        """Run a command as the submitting kernel would: ``!cmd``.

        In a notebook through a pseudo-terminal, its text through ``sys.stdout`` (so that
        ``%%capture`` sees it); in a terminal directly.
        """
        untyped: Any = self
        if not self.rich:
            untyped.system_raw(cmd)
            return
        if cmd.rstrip().endswith("&"):
            raise OSError("Background processes not supported.")  # as IPython says
        code = run_in_terminal(untyped.var_expand(cmd, depth=1))
        self.user_ns["_exit_code"] = code
        if getattr(self, "system_raise_on_error", False) and code != 0:
            raise CalledProcessError(code, cmd)


InteractiveShellABC.register(CellShell)


def make_shell() -> CellShell:
    """Make the process's shell; there is none yet. No thread, no file is left open.

    It is of the usual kind, a notebook's; see `CellShell.become`.
    """
    config = Config()
    config.HistoryManager.enabled = False
    config.IPKernelApp.connection_file = ""
    attributes = {"__module__": KERNELS_MODULE}
    # traitlets' metaclass makes the class; `type` finds it from the base.
    metaclass: Any = type(CellShell)
    shell: CellShell = metaclass(KERNEL_CLASS, (CellShell,), attributes).instance(config=config)
    refuse_questions()
    promise_kernel(True)
    return shell


class _Promise(ModuleType):
    """Stands among the modules for one that is imported when somebody wants something of it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # who looks through all modules wants nothing
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def promise_kernel(there: bool) -> None:
    """Have ipykernel's shell among the modules, as in a notebook, or not, as in a terminal.

    tqdm looks whether it is. Importing it would cost each cell more than all else.
    """
    if type(sys.modules.get(KERNELS_MODULE)) is _Promise:
        del sys.modules[KERNELS_MODULE]
    if there and importlib.util.find_spec(KERNELS_MODULE.partition(".")[0]) is not None:
        sys.modules.setdefault(KERNELS_MODULE, _Promise(KERNELS_MODULE))
