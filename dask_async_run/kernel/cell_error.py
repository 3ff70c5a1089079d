"""A cell's exception, raised in the kernel as if the cell had run there.

It has the traceback that was recorded: the cell's lines, and none of this package's. IPython shows
it once, as it shows any other.
"""

from __future__ import annotations

import sys
from typing import Any

from IPython.core.error import UsageError

from dask_async_run.job import Message
from dask_async_run.kernel.replay import Replay


class CellError:
    """The exception that ended a cell, as it is shown and raised here.

    Parameters
    ----------
    error : BaseException or None
        None: the cell raised nothing.
    outputs : list of dict
        What the cell has shown, in nbformat's terms.
    shell : InteractiveShell or None
    """

    def __init__(self, error: BaseException | None, outputs: list[Message], shell: Any) -> None:
        self._error = error
        if isinstance(error, SystemExit):
            # IPython's advice on how to exit, which it gives here too.
            outputs = [o for o in outputs if "To exit: use 'exit'" not in str(o.get("text", ""))]
        self._outputs = outputs
        self._shell = shell

    def outputs_before(self) -> list[Message]:
        """Answer what is to be shown before the exception is raised, which shows the rest."""
        if self._is_shown_by_itself():
            return self._outputs
        later = len(self._outputs_after())
        return _without_the_last_error(self._outputs[: len(self._outputs) - later], self._error)

    def _outputs_after(self) -> list[Message]:
        """Answer what is to be shown below the exception, as the figures of a cell that failed."""
        if self._error is None or self._shell is None or self._is_shown_by_itself():
            return []
        last = max((i for i, o in enumerate(self._outputs) if _is_error(o)), default=-1)
        return self._outputs[last + 1 :] if last >= 0 else []

    def raise_it(self) -> None:
        """Raise it, if there is one."""
        error = self._error
        if error is None:
            return
        if after := self._outputs_after():
            _show_below(after, self._shell)
        if self._is_shown_by_itself() or not any(map(_is_error, self._outputs)):
            _shown_already(error, self._shell)
        # To a debugger: the cell ran elsewhere, and its frames ended with its process.
        # Run the cell here, without %%async_run, to look into them.
        raise _as_here(error, self._outputs, self._shell)

    def _is_shown_by_itself(self) -> bool:
        """Whether IPython shows it in a way of its own, and asks it for no traceback."""
        return self._shell is not None and isinstance(self._error, SyntaxError)


class CellSyntaxError(Exception):
    """A syntax error of a cell that was not submitted.

    Not a `SyntaxError`: IPython would show our frames with that, since it believes
    that running code raised it. What is raised is a subclass that has the name of
    the kind of error that the user knows.
    """

    def __init__(self, text: str, lines: list[str]) -> None:
        super().__init__(text, lines)
        self.text = text
        self.lines = lines

    def __str__(self) -> str:
        return self.text

    def _render_traceback_(self) -> list[str]:
        return self.lines


def _is_error(output: Message) -> bool:
    return bool(output["output_type"] == "error")


def _without_the_last_error(outputs: list[Message], error: BaseException | None) -> list[Message]:
    """Leave out what raising the exception here will show again."""
    if error is None:
        return outputs
    last = max((i for i, o in enumerate(outputs) if o["output_type"] == "error"), default=-1)
    return [output for i, output in enumerate(outputs) if i != last]


def _show_below(outputs: list[Message], shell: Any) -> None:
    """Show outputs when IPython has shown the exception: then it draws figures, there as here."""

    def show() -> None:
        shell.events.unregister("post_execute", show)
        Replay(shell).show(outputs)

    shell.events.register("post_execute", show)


def _as_here(error: BaseException, outputs: list[Any], shell: Any) -> BaseException:
    """Give an exception the traceback that was recorded: the cell's lines, none of ours.

    A notebook that has kept it may raise it again: then it is shown as where that is done.
    """
    before = error.__traceback__
    cleaned = _Cleaning(error, before, shell) if shell is not None else None
    lines = next((o["traceback"] for o in reversed(outputs) if o["output_type"] == "error"), None)
    if lines is None:
        return error

    def render() -> Any:
        if cleaned and not cleaned.is_due and error.__traceback__ is not before:
            how = type(error), error, error.__traceback__
            return shell.InteractiveTB.structured_traceback(*how, tb_offset=1)
        return lines

    try:
        error._render_traceback_ = render  # type: ignore[attr-defined]
    except AttributeError:
        pass  # an exception with slots: it is shown with the gather's own frames
    return error


class _Cleaning:
    """Takes our frames out of an exception's traceback once it has been shown.

    Attributes
    ----------
    is_due : bool
    """

    def __init__(self, error: BaseException, before: Any, shell: Any) -> None:
        self.is_due = True
        self._error, self._before, self._shell = error, before, shell
        shell.events.register("post_run_cell", self.clean)

    def clean(self, result: Any) -> None:
        self._shell.events.unregister("post_run_cell", self.clean)
        self._error.__traceback__ = self._before
        self.is_due = False
        if self._before is None:
            _refuse_to_debug(self._error, self._shell)


def _refuse_to_debug(error: BaseException, shell: Any) -> None:
    """Have ``%debug`` say why there is nothing to see, as long as this is the last exception."""

    def debugger(force: bool = False) -> None:
        if force and getattr(sys, "last_value", None) is error and error.__traceback__ is None:
            # Raised, this would be the last exception, to be debugged next.
            print(
                "There is nothing to debug: the cell ran elsewhere, and its frames ended with its "
                "process. Run it here, without %%async_run, to look into them.",
                file=sys.stderr,
            )
            return
        vars(shell).pop("debugger", None)
        shell.debugger(force=force)

    shell.debugger = debugger


def _shown_already(error: BaseException, shell: Any) -> None:
    """Have IPython not show an exception again, with our frames.

    It prints groups and errors in usage to stderr, there as here, and asks them, and errors
    in syntax, for no traceback of their own.
    """
    if shell is None or not (
        _contains_group(error) or isinstance(error, (SyntaxError, UsageError))
    ):
        return
    show = shell.showtraceback

    def show_others(*args: Any, **options: Any) -> None:
        del shell.showtraceback
        if sys.exc_info()[1] is error:
            shell._get_exc_info()  # `%tb` and others find it where they look
        else:
            show(*args, **options)

    shell.showtraceback = show_others


def _contains_group(error: BaseException | None) -> bool:
    return error is not None and (
        isinstance(error, BaseExceptionGroup) or _contains_group(error.__context__)
    )
