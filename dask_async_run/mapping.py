"""Mappings of files: private, writable, and without a descriptor of their own."""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from pickle import PickleBuffer

# The module `mmap` keeps a descriptor open for each mapping (until Python 3.13 lets it be
# told not to): a dict of 1,100 data frames would leave the user's process none to open a
# file with. So the two calls are made here.
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int64,
]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_MAP_FAILED = ctypes.c_void_p(-1).value


def mapped(
    descriptor: int, size: int, digest: str, mapped_here: dict[tuple[int, int], str]
) -> memoryview:
    """Map a file privately.

    Parameters
    ----------
    descriptor : int
        The caller's, who may close it afterwards.
    size : int
        Bytes, more than 0.
    digest : str
        What is noted of it.
    mapped_here : dict
        Notes address and size of the mapping, and `digest`, for as long as it is mapped.

    Returns
    -------
    memoryview
        Of bytes, writable; the mapping lives as long as what refers to it.

    Raises
    ------
    OSError
        There are too many mappings, or too little address space.
    """
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    address = _libc.mmap(None, size, protection, mmap.MAP_PRIVATE, descriptor, 0)
    if address == _MAP_FAILED:
        number = ctypes.get_errno()
        raise OSError(number, f"a frame of {size} bytes cannot be mapped: {os.strerror(number)}")
    view = (ctypes.c_ubyte * size).from_address(address)
    mapped_here[address, size] = digest
    unmap = weakref.finalize(view, _unmap, address, size, mapped_here)
    # At the interpreter's exit arrays may still be in use; the mapping ends with the process.
    unmap.atexit = False
    return PickleBuffer(view).raw()  # of plain bytes, which a cast would not make of it


def _unmap(address: int, size: int, mapped_here: dict[tuple[int, int], str]) -> None:
    # In this order: where it lay, something else may lie at once.
    mapped_here.pop((address, size), None)
    _libc.munmap(address, size)
