"""Which memory of this process is still as the file that it is mapped from.

Linux tells for each page of a private mapping whether it is the file's own or a copy, which
the first write makes. So what was changed of a gigabyte is known in milliseconds, and nobody
has to read it. Where the system does not tell, everything counts as written.
"""

from __future__ import annotations

import mmap
import os

_PAGEMAP = "/proc/self/pagemap"
_ENTRY = 8  # bytes; the highest holds the flags
_PRESENT, _SWAPPED, _FILES = 0x80, 0x40, 0x20
_IS_WRITTEN = bytes(
    bool(flags & (_PRESENT | _SWAPPED) and not flags & _FILES) for flags in range(256)
)
_AT_ONCE = 128 * 1024  # entries


def is_untouched(address: int, nbytes: int) -> bool:
    """Whether no page of a private mapping was written to since it was mapped.

    Parameters
    ----------
    address : int
        Where a mapping of a file begins that is private and is still there.
    nbytes : int
        Its length.

    Returns
    -------
    bool
        False also where the system does not tell.
    """
    marks = _marks(address, nbytes)
    return marks is not None and 1 not in marks


def written(address: int, nbytes: int) -> list[tuple[int, int]] | None:
    """Answer which parts of a private mapping were written to since it was mapped.

    Parameters
    ----------
    address, nbytes : int
        As of `is_untouched`.

    Returns
    -------
    list of (int, int) or None
        Whole pages as far as they are the mapping's: where they begin and end, in bytes
        from its beginning, in order and apart. None: the system does not tell.
    """
    marks = _marks(address, nbytes)
    if marks is None:
        return None
    offset = address % mmap.PAGESIZE
    found = []
    end = 0
    while (start := marks.find(1, end)) >= 0:
        end = marks.find(0, start)
        end = len(marks) if end < 0 else end
        low, high = (page * mmap.PAGESIZE - offset for page in (start, end))
        found.append((max(0, low), min(nbytes, high)))
    return found


def _marks(address: int, nbytes: int) -> bytes | None:
    """Answer a byte for each page, 1 if it was written to; None if nobody tells."""
    page = address // mmap.PAGESIZE
    end = -(-(address + nbytes) // mmap.PAGESIZE)
    try:
        descriptor = os.open(_PAGEMAP, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    marks = bytearray()
    try:
        while page < end:
            count = min(_AT_ONCE, end - page)
            entries = os.pread(descriptor, count * _ENTRY, page * _ENTRY)
            if len(entries) != count * _ENTRY:
                return None
            marks += entries[_ENTRY - 1 :: _ENTRY].translate(_IS_WRITTEN)
            page += count
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return bytes(marks)
