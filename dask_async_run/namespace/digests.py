"""Digests of buffers and fingerprints of values: did this change?

A fingerprint is the digest of a value's pickle plus the digests of its large
buffers, which are hashed where they lie. Equal fingerprints mean equal values;
different ones may still be equal ("changed" costs a transfer, a missed change
would cost a user's work).
"""

from __future__ import annotations

import builtins
import io
import pickle
import sys
from typing import Any

from dask_async_run.content import digest_of
from dask_async_run.namespace.conditions import deeply
from dask_async_run.namespace.kinds import ATOMS, same_items
from dask_async_run.namespace.pickling import NamespacePickler
from dask_async_run.namespace.views import address
from dask_async_run.pages import is_untouched

Fingerprint = tuple[Any, ...]


class KnownBuffers:
    """Digests of buffers that were just mapped, so that nobody needs to hash them.

    They are kept mapped as long as this lives: where one was, no other can come to lie.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[str, memoryview]] = {}
        self._fresh = True

    def add(self, buffer: memoryview, known: str) -> None:
        start = address(buffer)
        if start is not None:
            self._known[start, buffer.nbytes] = known, buffer

    def digest(self, buffer: memoryview) -> str:
        """Answer a buffer's digest, from what is known if it is."""
        start = address(buffer)
        known, _ = self._known.get((start or 0, buffer.nbytes), (None, None))
        if start is None or known is None:
            return digest_of(buffer)
        return known if self._fresh or is_untouched(start, buffer.nbytes) else digest_of(buffer)

    def is_mapped(self, start: int, nbytes: int) -> bool:
        """Whether a known buffer lies there."""
        return (start, nbytes) in self._known

    def touch(self) -> None:
        """From now on buffers may have been written to."""
        self._fresh = False


class _Objects:
    """Objects, in order; equal to others if they are the very same."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, objects: list[Any]) -> None:
        self._objects = objects

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Objects) and same_items(self._objects, other._objects)


class _IdentityPickler(NamespacePickler):
    """Puts arrays of atoms aside instead of writing what is in them."""

    def __init__(self, file: Any, namespace: dict[str, Any], **options: Any) -> None:
        super().__init__(file, namespace, **options)
        self.aside: list[_Objects] = []
        self._array = getattr(sys.modules.get("numpy"), "ndarray", None)

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is self._array and obj.dtype.kind == "O":
            items = obj.ravel().tolist()
            if ATOMS.issuperset(map(type, items)):
                self.aside.append(_Objects(items))
                return tuple, ((obj.shape, obj.flags.f_contiguous),)
        return super().reducer_override(obj)


def fingerprint(
    value: Any, namespace: dict[str, Any], known: KnownBuffers, by_identity: bool = False
) -> Fingerprint:
    """Answer a value's fingerprint.

    Parameters
    ----------
    value : object
    namespace : dict
        As for `NamespacePickler`.
    known : KnownBuffers
    by_identity : bool
        Whether it is only compared with others of the same value, taken in this process:
        of an array of texts or numbers the objects are kept then, instead of read.

    Raises
    ------
    Exception
        Whatever pickling the value raises.
    """

    def write() -> tuple[io.BytesIO, list[pickle.PickleBuffer], list[_Objects]]:
        found: list[pickle.PickleBuffer] = []
        file = io.BytesIO()
        kind = _IdentityPickler if by_identity else NamespacePickler
        pickler = kind(file, namespace, buffer_callback=found.append)
        # Everybody's, and nobody reads the stream: a reference is enough.
        pickler.memo = {id(vars(builtins)): (0, vars(builtins))}
        pickler.dump(value)
        return file, found, getattr(pickler, "aside", [])

    file, found, aside = deeply(write)
    digests = (known.digest(buffer.raw()) for buffer in found)
    return (digest_of(file.getbuffer()), *digests, *aside)
