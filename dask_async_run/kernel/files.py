"""Files that go along with a cell and come back from it, where it does not see the notebook's.

Their contents are frames of the job's inputs and of its result, the last ones.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

from dask_async_run import surroundings
from dask_async_run.errors import OptionError
from dask_async_run.filenames import matching
from dask_async_run.job import JobResult, JobSpec, Message, Payload
from dask_async_run.kernel.session import Session


class Outgoing:
    """The files of one submission.

    Parameters
    ----------
    session : Session
    options : argparse.Namespace
        With ``upload`` and ``download``.

    Attributes
    ----------
    message : dict
        As `JobSpec.files`; empty where the cell runs among the notebook's own files.

    Raises
    ------
    OptionError
        A pattern means nothing, or what is outside the working folder; or that was removed.
    """

    def __init__(self, session: Session, options: argparse.Namespace) -> None:
        self._store = session.store
        folder = surroundings.working_folder()
        if folder is None and (options.upload or options.download):
            raise OptionError(
                "--upload" if options.upload else "--download",
                "the notebook's working folder was removed. Change to another one (%cd)",
            )
        self._folder = folder or Path()
        self._uploads = sorted(set(self._found(options.upload)))
        downloads = [_inside("--download", each, self._folder) for each in options.download]
        self.message: Message = {}
        if session.cluster is not None and (self._uploads or downloads):
            self.message = {
                "folder": str(self._folder),
                "uploads": self._uploads,
                "downloads": downloads,
                "local": {
                    name: _stamp(self._folder / name)
                    for pattern in downloads
                    for name in matching(self._folder, pattern)
                },
            }

    @property
    def sizes(self) -> dict[str, int]:
        """Names of the files that go along, and their bytes."""
        sent = self._uploads if self.message else ()
        return {name: (self._folder / name).stat().st_size for name in sent}

    def put(self) -> list[list[object]]:
        """Store the contents; answer their frames, in the order of the names."""
        frames = []
        for name in self.sizes:
            frame = self._store.put((self._folder / name).read_bytes())
            frames.append([frame.digest, frame.size])
        return frames

    def _found(self, patterns: Iterable[str]) -> Iterator[str]:
        for pattern in patterns:
            found = list(matching(self._folder, _inside("--upload", pattern, self._folder)))
            if not found:
                raise OptionError("--upload", f"there is no file {pattern!r} in {self._folder}")
            yield from found


def bring_back(
    session: Session, spec: JobSpec, result: JobResult, overwrite: bool, label: str
) -> None:
    """Write the files that a cell has written, but those that were changed here meanwhile."""
    if not result.files:
        return
    folder, kept = Path(spec.files["folder"]), []
    frames = Payload.from_message(result.payload).frames[-len(result.files) :]
    for name, frame in zip(result.files, frames, strict=True):
        _, (content,) = session.store.open_payload(Payload(frames=[frame]))
        path = folder / _inside("--download", name, folder)
        if not path.parent.resolve().is_relative_to(folder.resolve()):
            raise OptionError("--download", f"{name!r} lies outside the working folder {folder}")
        if path.exists():
            if path.is_file() and path.read_bytes() == content:
                continue
            if _stamp(path) != spec.files["local"].get(name) and not overwrite:
                kept.append(name)
                continue
        _write(path, content)
    if kept:
        print(
            f"Changed here since {label} was submitted, and kept: {', '.join(kept)}. "
            f"%async_gather {label} --overwrite takes the job's.",
            file=sys.stderr,
        )


def _write(path: Path, content: memoryview) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        umask = os.umask(0)
        os.umask(umask)
        Path(aside).chmod(0o666 & ~umask)
        Path(aside).replace(path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


def _inside(option: str, pattern: str, folder: Path) -> str:
    """Answer a pattern relative to the working folder."""
    path = PurePath(pattern)
    if path.is_absolute() and path.is_relative_to(folder):
        path = path.relative_to(folder)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise OptionError(
            option, f"{pattern!r} lies outside the working folder {folder}. Copy it there first"
        )
    return str(path)


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]
