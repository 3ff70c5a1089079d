"""What may help where the system refuses a file."""

from __future__ import annotations

import errno
import resource
from pathlib import Path

import pytest

from dask_async_run.advice import advice


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EMFILE, f"as it may ({resource.getrlimit(resource.RLIMIT_NOFILE)[0]}): close some"),
        (errno.EMFILE, "(ulimit -n, "),
        (errno.ENFILE, "The machine has as many files open as it may"),
        (errno.EFBIG, "(ulimit -f)"),
        (errno.ENOSPC, "Make room on its disk."),
        (errno.EDQUOT, "Make room on its disk."),
        (errno.EIO, "Is there space left on its disk, and can it be written to?"),
    ],
)
def test_the_limit_that_was_met_is_named(number: int, said: str, tmp_path: Path) -> None:
    """Not every error is a full disk."""
    assert said in advice(OSError(number, "no"), tmp_path)


def test_a_folder_that_was_moved_is_named(tmp_path: Path) -> None:
    """A file that is missing in one that is there is another matter."""
    error = FileNotFoundError(errno.ENOENT, "no")
    gone = tmp_path / "state"
    assert f"The folder {gone} was moved or removed meanwhile" in advice(error, gone)
    gone.mkdir()
    assert "moved" not in advice(error, gone)
