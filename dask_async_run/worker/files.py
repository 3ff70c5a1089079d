"""The working folder of a cell that was sent files, or is to send some back.

It is the cell's own: the notebook's is on another machine. Whoever supervises the cell
makes it, and removes it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from dask_async_run.filenames import matching
from dask_async_run.frames import FrameStore, name_of
from dask_async_run.job import JobSpec


class WorkingFolder:
    """The folder of one cell.

    Parameters
    ----------
    folder : Path
    spec : JobSpec
    store : FrameStore
    """

    def __init__(self, folder: Path, spec: JobSpec, store: FrameStore) -> None:
        self._folder = folder.resolve()
        self._files = spec.files
        self._store = store
        names = spec.files["uploads"]
        frames = spec.payload.frames[-len(names) :] if names else []
        self._sent = {
            name: (str(d), int(size)) for name, (d, size) in zip(names, frames, strict=True)
        }

    def enter(self) -> None:
        """Put the files there, and make it this process's working folder."""
        for name, frame in self._sent.items():
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._store.open(*frame))
        os.chdir(self._folder)

    def collect(self) -> tuple[list[str], list[list[object]]]:
        """Store what the cell wrote of what is to come back; answer names and frames."""
        names, frames = [], []
        for name in sorted(set(self._wanted())):
            content = (self._folder / name).read_bytes()
            sent, _ = self._sent.get(name, ("", 0))
            if name_of(content).digest != sent:
                frame = self._store.put(content)
                names.append(name)
                frames.append([frame.digest, frame.size])
        return names, frames

    def _wanted(self) -> Iterator[str]:
        for pattern in self._files["downloads"]:
            for name in matching(self._folder, pattern):
                if (self._folder / name).resolve().is_relative_to(self._folder):
                    yield name
                else:
                    why = "it leads out of the working folder"
                    print(f"{name} does not come back: {why}.", file=sys.stderr)
