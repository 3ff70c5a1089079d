"""Every exception of this package that a user can meet.

Each says what cannot be done, why, and what to do instead, keeps its facts as
attributes, pickles, and shows in IPython as its text alone: a traceback through
this package's frames helps nobody who wrote a cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches


def shown_as(error: BaseException, text: str) -> None:
    """Have IPython show an exception that is not ours as one line, if it is not shown so yet."""
    if not hasattr(error, "_render_traceback_"):
        line = f"{type(error).__name__}: {text}"
        error._render_traceback_ = lambda: [line]  # type: ignore[attr-defined]


class AsyncRunError(Exception):
    """Base of all errors of this package.

    Subclasses take their facts as positional arguments and pass every one of
    them to ``super().__init__`` (so that they pickle), and build their text in
    ``__str__``.
    """

    def _render_traceback_(self) -> list[str]:
        """IPython's hook: the lines to show instead of a traceback."""
        return [f"{type(self).__name__}: {self}"]


class NoServerError(AsyncRunError):
    """A magic was used before a server was started or connected to."""

    def __str__(self) -> str:
        return "no server is connected. Run %async_run_server first."


class ServerError(AsyncRunError):
    """The server could not be started, reached or stopped.

    Parameters
    ----------
    problem : str
        What went wrong and what to do.
    log : str or None
        Path of the server's log file, if there is one.
    """

    def __init__(self, problem: str, log: str | None = None) -> None:
        super().__init__(problem, log)
        self.problem = problem
        self.log = log

    def __str__(self) -> str:
        return self.problem + (f" Its log: {self.log}" if self.log else "")


class ServerGoneError(ServerError):
    """The server died or was stopped; `ServerError`'s parameters."""


class LockedJournalError(ServerError):
    """Another process has the journal locked; `ServerError`'s parameters."""


class UnfinishedJobsError(ServerError):
    """The server was not stopped, because jobs run or wait.

    Parameters
    ----------
    name : str
        The server's name.
    jobs : sequence of str
        ``name (state)`` of each.
    """

    def __init__(self, name: str, jobs: Sequence[str]) -> None:
        many = "1 job is" if len(jobs) == 1 else f"{len(jobs)} jobs are"
        more = f" and {len(jobs) - 5} more" if len(jobs) > 5 else ""
        super().__init__(
            f"the server {name!r} was not stopped: {many} unfinished: {', '.join(jobs[:5])}{more}. "
            "Wait for them or cancel them; with --force, running ones are cancelled, with what "
            "waits for them, and the others run when the server is started again."
        )
        self.args = (name, tuple(jobs))
        self.name = name
        self.jobs = tuple(jobs)


class ProfileError(AsyncRunError):
    """An IPython profile's configuration cannot be read or changed.

    Parameters
    ----------
    path : str
        The file.
    problem : str
        What is wrong with it.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.path} cannot be changed: {self.problem}. Nothing was changed."


class OptionError(AsyncRunError, ValueError):
    """An option has a value that it cannot have.

    Parameters
    ----------
    option : str
        Its name.
    problem : str
        What is wrong with the value, and what it may be.
    """

    def __init__(self, option: str, problem: str) -> None:
        super().__init__(option, problem)
        self.option = option
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.option}: {self.problem}"


class NotPickledError(AsyncRunError):
    """A value that the cell needs cannot travel.

    Parameters
    ----------
    name : str
        The variable whose value, or part of whose value, cannot be pickled.
    type_name : str
        Qualified name of the type that refused.
    path : tuple of str
        How the cell comes to need it, from a name the cell reads to the culprit.
    line : int or None
        Line of the cell (1-based) that reads the first name of `path`.
    reason : str
        What the pickler said.
    advice : str
        What to do about it.
    """

    def __init__(
        self,
        name: str,
        type_name: str,
        path: tuple[str, ...],
        line: int | None,
        reason: str,
        advice: str,
    ) -> None:
        super().__init__(name, type_name, path, line, reason, advice)
        self.name = name
        self.type_name = type_name
        self.path = path
        self.line = line
        self.reason = reason
        self.advice = advice

    def __str__(self) -> str:
        way = " -> ".join(self.path)
        where = f" (line {self.line} of the cell reads {self.path[0]!r})" if self.line else ""
        via = f", needed through {way}" if len(self.path) > 1 else ""
        return (
            f"{self.name!r} cannot be sent: a {self.type_name} cannot be pickled{via}{where}: "
            f"{self.reason}. {self.advice} Nothing was submitted."
        )


class NoSuchJobError(AsyncRunError):
    """No job answers to the given name.

    Parameters
    ----------
    name : str
        What was asked for.
    known : sequence of str
        The names that exist; the nearest one is offered.
    """

    def __init__(self, name: str, known: Sequence[str] = ()) -> None:
        super().__init__(name, tuple(known))
        self.name = name
        self.known = tuple(known)

    def __str__(self) -> str:
        shown = self.name if len(self.name) <= 100 else self.name[:97] + "..."
        near = get_close_matches(shown, self.known, n=1)
        parts = [part.strip() for part in self.name.split(",")]
        if len(parts) > 1 and {*parts} <= {*self.known}:
            hint = f" Blanks separate names: {' '.join(parts)}."
        elif shown.endswith("]") and (sweep := shown.rpartition("[")[0]) in self.known:
            hint = f" {sweep!r} has no such member."
        elif near:
            hint = f" Did you mean {near[0]!r}?"
        elif self.known:
            hint = " %async_jobs lists them."
        else:
            hint = " There are no jobs yet."
        return f"there is no job {shown!r}.{hint}"


class ForgottenJobError(NoSuchJobError):
    """A job was forgotten while somebody waited for it; `NoSuchJobError`'s parameters."""

    def __str__(self) -> str:
        return (
            f"there is no job {self.name!r} any more: it was forgotten meanwhile, and its result "
            "with it."
        )


class ForgottenParentError(NoSuchJobError):
    """What a job builds on was forgotten; `NoSuchJobError`'s parameters."""

    def __str__(self) -> str:
        return "it has objects of a job that it builds on, and that was forgotten"


class LetGoError(AsyncRunError):
    """A result has an object that this notebook has changed since it came, and let go of.

    Parameters
    ----------
    job : str
        The name of the job that it came with.
    """

    def __init__(self, job: str) -> None:
        super().__init__(job)
        self.job = job

    def __str__(self) -> str:
        return (
            f"it has an object of {self.job} that later jobs changed, and that is gone here: "
            f"gather {self.job} and those together with this one, with --overwrite"
        )


class JobStateError(AsyncRunError):
    """A job's state does not allow what was asked.

    Parameters
    ----------
    job : str
        The job's name.
    state : str
        Its state.
    problem : str
        What cannot be done, why, what to do instead.
    """

    def __init__(self, job: str, state: str, problem: str) -> None:
        super().__init__(job, state, problem)
        self.job = job
        self.state = state
        self.problem = problem

    def __str__(self) -> str:
        return f"job {self.job!r} is {self.state}: {self.problem}"


def explained(state: str, reason: str, consequence: str) -> str:
    """Join why a job is in its state with what follows: a `JobStateError.problem`."""
    if not reason:
        return consequence
    end = "" if reason.endswith(("?", ".")) else "."
    return f"{reason.removeprefix(f'{state}; ')}{end} {consequence[0].upper()}{consequence[1:]}"


class JobTimeoutError(AsyncRunError, TimeoutError):
    """Jobs had not ended when the time to wait for them was over; they go on.

    Parameters
    ----------
    seconds : float
        How long was waited.
    jobs : sequence of str
        ``name (state)`` of each.
    """

    def __init__(self, seconds: float, jobs: Sequence[str]) -> None:
        super().__init__(seconds, tuple(jobs))
        self.seconds = seconds
        self.jobs = tuple(jobs)

    def __str__(self) -> str:
        more = f" and {len(self.jobs) - 5} more" if len(self.jobs) > 5 else ""
        return (
            f"after {self.seconds:g} s, not ended: {', '.join(self.jobs[:5])}{more}. The jobs go "
            "on; nothing was gathered."
        )


def not_again(job: str, error: Exception) -> JobStateError:
    """Say that a job is not run again, since a frame of its inputs is gone."""
    gone = f"a value that it was sent is gone ({str(error).rstrip('.')}). Submit its cell again."
    return JobStateError(job, "not run again", gone)


class MergeError(AsyncRunError):
    """A result could not be merged; the namespace is untouched.

    Parameters
    ----------
    job : str
        The job's name.
    reason : str
        What failed.
    """

    def __init__(self, job: str, reason: str) -> None:
        super().__init__(job, reason)
        self.job = job
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"the result of {self.job!r} cannot be merged: {self.reason}. Your variables are "
            "unchanged, and the job keeps its result."
        )


class ExportError(AsyncRunError):
    """A value cannot be written to a file.

    Parameters
    ----------
    what : str
        The variable, or what was to be written.
    path : str
        The file.
    problem : str
        Why not, and what to do instead.
    """

    def __init__(self, what: str, path: str, problem: str) -> None:
        super().__init__(what, path, problem)
        self.what = what
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.what} cannot be written to {self.path}: {self.problem}"


class ResultError(AsyncRunError):
    """A job's result cannot be read in this process.

    Parameters
    ----------
    job : str
        The job's name.
    reason : str
        What failed, and what to do.
    """

    def __init__(self, job: str, reason: str) -> None:
        super().__init__(job, reason)
        self.job = job
        self.reason = reason

    def __str__(self) -> str:
        return f"the result of {self.job!r} cannot be read here: {self.reason}"


class FrameError(AsyncRunError):
    """A frame is missing or damaged.

    Parameters
    ----------
    digest : str
        Name of the frame.
    problem : str
        What is wrong with it.
    """

    def __init__(self, digest: str, problem: str) -> None:
        super().__init__(digest, problem)
        self.digest = digest
        self.problem = problem

    def __str__(self) -> str:
        return f"frame {self.digest[:12]} {self.problem}."


class StoreError(AsyncRunError):
    """A store at a URL cannot be used; what jobs have left behind is where it was.

    Parameters
    ----------
    place : str
        The URL, without credentials.
    problem : str
        What is wrong.
    """

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(place, problem)
        self.place = place
        self.problem = problem

    def __str__(self) -> str:
        return f"the store {self.place} cannot be used: {self.problem}."


class RemoteError(AsyncRunError):
    """Stands for an exception of a cell that could not be pickled.

    Parameters
    ----------
    type_name : str
        Name of the exception's type.
    text : str
        ``str()`` of the exception.
    """

    def __init__(self, type_name: str, text: str) -> None:
        super().__init__(type_name, text)
        self.type_name = type_name
        self.text = text

    def __str__(self) -> str:
        return f"{self.type_name}: {self.text}"
