"""What the exit code of ``dask-async-run`` means to a script."""

from __future__ import annotations

OK, ERROR, USAGE, NO_SERVER, REFUSED, NOT_FINISHED, NOT_YET, INTERRUPTED = 0, 1, 2, 3, 4, 5, 6, 130

MEANINGS = {
    OK: "done, or the answer is yes",
    ERROR: "an error, which the text on standard error explains",
    USAGE: "wrong usage",
    NO_SERVER: "no server of that name is running, and the command needs one",
    REFUSED: "refused: jobs are unfinished, or still needed (stop, cancel, forget)",
    NOT_FINISHED: "a job ended without finishing: failed, cancelled, timed-out or lost",
    NOT_YET: "a job has not ended: the time to wait is up, or nothing was waited for",
    INTERRUPTED: "interrupted; jobs go on",
}
"""In the words of ``dask-async-run --help``, which lists them."""
