"""Arrivals: large inputs that a kernel left to a snapshot of itself are copied to the store.

A job may be made as soon as its inputs are coming; its claim waits for them. What is to be copied
is noted on disk until it has been, so that a server which is started again goes on with it: the
snapshot does not need the one that was killed. Nobody has read what is coming, so that it has no
name of its content's yet; it is given that where it is named, which is on record before the
snapshot ends.

    noted, coming -> each read in a thread, copied if it is not there, renamed -> snapshot ended
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Protocol

from dask_async_run.errors import ServerError
from dask_async_run.frames import FrameStore
from dask_async_run.job import Message
from dask_async_run.scheduler.holders import Holders
from dask_async_run.snapshots import Part, Snapshot, SnapshotReader

logger = logging.getLogger(__name__)

NOTES = "arrivals"
"""In the state folder: a file for each snapshot that is being copied."""

PATIENCE = 5.0
"""Seconds for which a server that is stopped goes on copying."""

SPARE = 64 * 1024 * 1024
"""Bytes that a disk must have beyond what is copied: who submits is told before if it is full."""

DELAY = 0.03
"""Seconds until copying begins: who submits is about to make the job, and is waited for."""

RECORD_AGAIN = 1.0
"""Seconds after which it is asked again whether what could not be written is on record."""

NAMED = 10_000
"""Frames whose first names are known, to jobs that are made when they have been read."""


class Names(Protocol):
    """Where frames are named; what an `Arrivals` needs of its registry."""

    def frame_came(self, name: str, names: Mapping[str, str]) -> None:
        """A frame has come: what it and others are called now, by the names that they had."""

    def frames_came(self) -> None:
        """Frames have come, or will not."""

    async def committed(self) -> None:
        """Return when all this is on record.

        Raises
        ------
        ServerError
            It cannot be written now.
        """


class Arrivals:
    """The snapshots that one registry copies; for the scheduler's event loop.

    Parameters
    ----------
    folder : Path
        Of notes.
    store : FrameStore
    holders : Holders
    names : Names
    """

    def __init__(self, folder: Path, store: FrameStore, holders: Holders, names: Names) -> None:
        self._folder = folder
        self._store = store
        self._holders = holders
        self._names = names
        self._copying: dict[asyncio.Task[None], frozenset[str]] = {}  # and names
        self._named: dict[str, str] = {}  # first name: the one of the content

    def __bool__(self) -> bool:
        """Whether anything is being copied."""
        return bool(self._copying)

    def start(self) -> None:
        """Go on with what another server was about."""
        with suppress(FileNotFoundError):
            for note in self._folder.iterdir():
                parts: list[Part] = []
                try:
                    snapshot = _from_text(note.read_text())
                    parts = snapshot.parts
                    self._begin(snapshot, SnapshotReader(snapshot), note)
                except (OSError, ValueError, KeyError, TypeError) as error:
                    logger.warning("inputs noted in %s cannot be copied any more: %s", note, error)
                    for part in parts:
                        why = "was gone with its snapshot before it was copied"
                        self._holders.failed(note.name, part.digest, why)
                    note.unlink(missing_ok=True)

    async def bring(self, snapshot: Snapshot) -> bool:
        """Begin to copy; whether that is possible. If not, the snapshot is as it was."""
        try:
            size = sum(part.size for part in snapshot.parts)
            if shutil.disk_usage(self._store.folder).free < size + SPARE:
                return False
            reader = await asyncio.to_thread(SnapshotReader, snapshot)
        except OSError:
            return False
        note = self._folder / f"{snapshot.word.hex()}.json"
        try:
            await asyncio.to_thread(_write, note, _to_text(snapshot))
        except OSError:
            note.unlink(missing_ok=True)
            reader.close()
            return False
        self._begin(snapshot, reader, note)
        return True

    def named(self, digests: Iterable[str]) -> dict[str, str]:
        """Answer the names that frames have got, by those that they had when they were coming.

        The kernel that left them to a snapshot may not know: it makes the job meanwhile.
        """
        return {digest: self._named[digest] for digest in digests if digest in self._named}

    async def wait(self, digests: Iterable[str]) -> None:
        """Wait until none of some frames is being copied."""
        if copying := self.among(digests):
            await asyncio.wait(copying)

    def among(self, digests: Iterable[str]) -> list[asyncio.Task[None]]:
        """Answer what copies some of these frames."""
        wanted = frozenset(digests)
        return [task for task, parts in self._copying.items() if not parts.isdisjoint(wanted)]

    async def close(self) -> None:
        """Let what is being copied come to its end; what takes too long, the next server copies."""
        if self._copying:
            _, late = await asyncio.wait(self._copying, timeout=PATIENCE)
            for task in late:
                task.cancel()

    def _begin(self, snapshot: Snapshot, reader: SnapshotReader, note: Path) -> None:
        digests = frozenset(part.digest for part in snapshot.parts)
        self._holders.bring(note.name, digests)
        copying = asyncio.create_task(self._copy(snapshot, reader, note))
        self._copying[copying] = digests
        copying.add_done_callback(self._copying.pop)

    async def _copy(self, snapshot: Snapshot, reader: SnapshotReader, note: Path) -> None:
        await asyncio.sleep(DELAY)
        for part in snapshot.parts:
            try:
                frame = await asyncio.to_thread(self._take, part, reader, snapshot.word)
                self._came(part.digest, frame)
            except OSError as error:
                why = error.strerror or error
                logger.warning("frame %s could not be copied: %s", part.digest, why)
                self._holders.failed(note.name, part.digest, f"could not be copied ({why})")
            self._names.frames_came()
        await self._on_record()
        # Not where this was cancelled: then the next server goes on.
        reader.end()
        await asyncio.to_thread(note.unlink, missing_ok=True)

    def _take(self, part: Part, reader: SnapshotReader, word: bytes) -> str:
        if part.file:
            so_far = partial(reader.written, part)
            if (frame := self._store.complete(part.file, part.size, word, so_far)) is not None:
                return frame.digest
            # There was no room where it was written to: there may be elsewhere.

        def fill(room: memoryview, start: int) -> None:
            reader.fill(room, part.address + start)

        return self._store.take(part.size, fill).digest

    def _came(self, name: str, digest: str) -> None:
        self._named[name] = digest
        for old in list(self._named)[:-NAMED]:
            del self._named[old]
        self._names.frame_came(name, self._named)
        self._holders.came(name)

    async def _on_record(self) -> None:
        """Wait until the names are on record, however long there is no room for them."""
        while True:
            try:
                return await self._names.committed()
            except ServerError:
                await asyncio.sleep(RECORD_AGAIN)


def _write(note: Path, text: str) -> None:
    note.parent.mkdir(mode=0o700, exist_ok=True)
    part = note.with_suffix(".part")
    part.touch(mode=0o600)
    part.write_text(text)
    part.replace(note)


def _to_text(snapshot: Snapshot) -> str:
    return json.dumps(snapshot.to_message() | {"word": snapshot.word.hex()})


def _from_text(text: str) -> Snapshot:
    message: Message = json.loads(text)
    return Snapshot.from_message(message | {"word": bytes.fromhex(message["word"])})
