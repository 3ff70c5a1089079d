"""Recalling: frames that are gone from a scheduler's folder, or damaged, come back from a store."""

from __future__ import annotations

from collections.abc import Iterable

from dask_async_run.errors import FrameError, StoreError
from dask_async_run.frames import FrameStore, size_of
from dask_async_run.scheduler.reader import JournalReader
from dask_async_run.stores import UrlStore


def recall(journal: JournalReader, store: FrameStore, digests: Iterable[str]) -> None:
    """Make frames be in a frame store, and whole, that a store at a URL has; may take long.

    Those that nobody has are left to whoever needs them.

    Raises
    ------
    StoreError
        A store that should have one cannot be reached.
    FrameError
        What lies in the store is missing or damaged, too.
    """
    problem: StoreError | FrameError | None = None
    for digest in digests:
        try:
            store.verify(digest, size_of(digest))
            continue
        except FrameError:
            places = journal.stores_of(digest)
        for place in places:
            try:
                UrlStore(place).fetch_frame(digest, store)
                break
            except (StoreError, FrameError) as error:
                problem = problem or error
        else:
            if problem is not None:
                raise problem
