"""A store at a URL: where jobs are kept apart from the scheduler's own folder (``--store``).

Whatever fsspec reaches: a shared folder, S3, Google's storage, SFTP. Below the URL each
state folder has a folder of its own, its *place*, which nobody else writes to::

    s3://bucket/runs/dask-async-run-3f0c91d2/frames/DIGEST-SIZE
    s3://bucket/runs/dask-async-run-3f0c91d2/jobs/ID

What has a name there is whole: an object store shows what was written when all of it has
come; elsewhere it is written aside and renamed. What is read is compared with its digest.

Credentials are none of our business: fsspec finds them where the scheduler runs, in its
environment or its files.
"""

from __future__ import annotations

import os
import posixpath
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import xxhash

from dask_async_run.errors import FrameError, StoreError
from dask_async_run.folders import check_private_folder
from dask_async_run.frames import Frame, FrameStore, size_of
from dask_async_run.incoming import PIECE, Incoming
from dask_async_run.job import Payload

if TYPE_CHECKING:
    from typing_extensions import Buffer


HOME = "dask-async-run-"
"""How the names of places begin."""

_OBJECT_STORES = frozenset("s3 s3a gs gcs az abfs abfss oss oci".split())
"""Protocols of stores that have no folders, and show nothing before it is complete."""

_JOB = re.compile(r"[0-9a-f]{32}")
_DIGEST_BYTES = 16
_PROBLEM = 300  # characters of what a library says


def place_at(url: str, home: str) -> str:
    """Answer the place that a state folder, whose own random word is `home`, has at a URL."""
    return f"{url}/{HOME}{home}"


class UrlStore:
    """One place of a store; every method may take long, and runs in any thread.

    Parameters
    ----------
    place : str
        As `place_at` answers it.

    Raises
    ------
    StoreError
        Every method: the store cannot be reached, or does not do what it should.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        with self._explained():
            from fsspec.core import url_to_fs  # here: it takes a while, and few use it

            # Credentials and buckets may be others than they were a while ago.
            self._fs, self._path = url_to_fs(place, skip_instance_cache=True)
        protocols = self._fs.protocol
        self._protocols = {protocols} if isinstance(protocols, str) else set(protocols)

    @property
    def _is_local(self) -> bool:
        return "file" in self._protocols

    def check(self) -> None:
        """Write something there and read it: so that what is wrong is known before a cell runs."""
        with self._explained():
            text = b"Jobs of dask_async_run; see its documentation on --store.\n"
            self._write("README", text)
            if self._read("README") != text:
                raise OSError("what was written cannot be read again")

    def has_frame(self, digest: str) -> bool:
        """Answer whether a frame is there, as long as it should be."""
        with self._explained():
            return self._size(f"frames/{digest}") == size_of(digest)

    def put_frame(self, digest: str, file: Path) -> None:
        """Write a frame, if it is not there."""
        with self._explained():
            if not self.has_frame(digest):
                self._write(f"frames/{digest}", file)
                if not self.has_frame(digest):
                    raise OSError(f"frames/{digest} did not arrive as it should")

    def fetch_frame(self, digest: str, store: FrameStore) -> None:
        """Bring a frame into a frame store.

        Raises
        ------
        FrameError
            It is not there, or holds something else than its name says.
        """
        incoming = Incoming(store)
        try:
            with self._explained():
                self._trust()
                try:
                    with self._fs.open(f"{self._path}/frames/{digest}", "rb") as file:
                        offset = 0
                        while piece := file.read(PIECE):
                            incoming.write(offset, piece)
                            offset += len(piece)
                        if not offset:
                            incoming.write(0, b"")
                except FileNotFoundError:
                    raise FrameError(digest, f"is missing from {self.place} too") from None
            incoming.complete(digest)
        except BaseException:
            incoming.abandon()
            raise

    def put_record(self, job: str, record: bytes) -> None:
        """Write what there is to know of a job; its frames are there."""
        with self._explained():
            self._write(f"jobs/{job}", xxhash.xxh3_128(record).digest() + record)

    def record(self, job: str) -> bytes:
        """Read what there is to know of a job."""
        with self._explained():
            self._trust()
            content = self._read(f"jobs/{job}")
        digest, record = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if xxhash.xxh3_128(record).digest() != digest:
            raise StoreError(self.place, f"the record of job {job[:8]} is damaged")
        return record

    def remove(self, names: Iterable[str]) -> None:
        """Remove what was written under these names: ``frames/DIGEST``, ``jobs/ID``."""
        with self._explained():
            for name in names:
                with suppress(FileNotFoundError):
                    self._fs.rm_file(f"{self._path}/{name}")

    def jobs(self) -> list[str]:
        """Ids of the jobs that have a record here."""
        return [name for name in self._names("jobs") if _JOB.fullmatch(name)]

    @classmethod
    def places(cls, url: str) -> list[str]:
        """Answer the places that there are at a URL."""
        above = cls(url)
        with above._explained():
            return [f"{url}/{name}" for name in above._names("") if name.startswith(HOME)]

    def _names(self, folder: str) -> list[str]:
        with self._explained():
            self._fs.invalidate_cache()
            try:
                found = self._fs.ls(f"{self._path}/{folder}".rstrip("/"), detail=False)
            except FileNotFoundError:
                return []
            return sorted(posixpath.basename(str(path).rstrip("/")) for path in found)

    def _read(self, name: str) -> bytes:
        content: bytes = self._fs.cat_file(f"{self._path}/{name}")
        return content

    def _size(self, name: str) -> int | None:
        self._fs.invalidate_cache()
        try:
            return int(self._fs.info(f"{self._path}/{name}")["size"])
        except FileNotFoundError:
            return None

    def _write(self, name: str, content: bytes | Path) -> None:
        path = f"{self._path}/{name}"
        if self._protocols & _OBJECT_STORES:
            self._put(path, content)
            return
        self._make_folder(posixpath.dirname(path))
        aside = f"{path}.{uuid.uuid4().hex}.part"
        try:
            self._put(aside, content)
            if self._is_local:
                _sync(Path(aside))
                Path(aside).replace(path)
                _sync(Path(path).parent)
            else:
                self._fs.mv(aside, path)
        except BaseException:
            with suppress(Exception):
                self._fs.rm_file(aside)
            raise

    def _put(self, path: str, content: bytes | Path) -> None:
        if isinstance(content, Path):
            self._fs.put_file(str(content), path)
        else:
            self._fs.pipe_file(path, content)

    def _make_folder(self, folder: str) -> None:
        if not self._is_local:
            self._fs.makedirs(folder, exist_ok=True)
            return
        own = Path(self._path)
        own.parent.mkdir(parents=True, exist_ok=True)
        own.mkdir(mode=0o700, exist_ok=True)
        self._trust()
        Path(folder).mkdir(mode=0o700, exist_ok=True)

    def _trust(self) -> None:
        """Check that nobody else has written the pickles here, where that can be found out."""
        if self._is_local and Path(self._path).exists():
            check_private_folder(Path(self._path))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Make one error of all that fsspec and what is behind it raise."""
        try:
            yield
        except (StoreError, FrameError):
            raise
        except ImportError as error:
            problem = f"{error}. That is needed where the scheduler runs"
            raise StoreError(self.place, problem) from error
        except Exception as error:
            text = " ".join(str(error).split()) or "no reason given"
            if len(text) > _PROBLEM:
                text = text[: _PROBLEM - 3] + "..."
            raise StoreError(self.place, f"{type(error).__name__}: {text}") from error


class Frames(Protocol):
    """What a kernel does with frames; each as `FrameStore` has it."""

    def put(self, buffer: Buffer) -> Frame: ...

    def put_payload(self, stream: bytes, buffers: Sequence[Buffer]) -> Payload: ...

    def open_payload(self, payload: Payload) -> tuple[bytes | memoryview, list[memoryview]]: ...


class RecalledFrames:
    """A registry's frames, fetched back from a store at a URL where its own are gone.

    As a `FrameStore`, for those who read.

    Parameters
    ----------
    frames : Frames
    recall : callable
        Gets digests; makes those frames be there, and whole, that some store has.
    """

    def __init__(self, frames: Frames, recall: Callable[[list[str]], object]) -> None:
        self._frames = frames
        self._recall = recall

    def put(self, buffer: Buffer) -> Frame:
        """As `FrameStore.put`."""
        return self._frames.put(buffer)

    def put_payload(self, stream: bytes, buffers: Sequence[Buffer]) -> Payload:
        """As `FrameStore.put_payload`."""
        return self._frames.put_payload(stream, buffers)

    def open_payload(self, payload: Payload) -> tuple[bytes | memoryview, list[memoryview]]:
        """As `FrameStore.open_payload`."""
        try:
            return self._frames.open_payload(payload)
        except FrameError:
            self._recall(payload.digests)
            return self._frames.open_payload(payload)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
