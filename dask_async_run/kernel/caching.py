"""``--cache``: what a cell's result depends on, as one digest.

If two submissions have the same one, the second would find what the first has found, as
far as a cell can be known: its source, its inputs with all that surrounds them (working
folder, random states, settings), its options, this Python and all packages that are
installed. What it reads elsewhere (files, the network, the clock) is for whoever says
``--cache`` to know. In doubt the digests differ, and the cell is run.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import xxhash

from dask_async_run.errors import OptionError
from dask_async_run.frames import content_digest
from dask_async_run.job import JobSpec

_OPTIONS = ("only", "also", "resources", "workers", "shell")


def cache_key(spec: JobSpec) -> str:
    """Answer the digest of all that a job's result depends on; empty if nobody can know.

    What comes from other jobs is not known before these have been gathered.

    Raises
    ------
    OptionError
        It is a sweep.
    """
    if spec.sweep:
        raise OptionError("--cache", "a sweep has no cache: %async_rerun --failed keeps the rest.")
    if spec.parents:
        return ""
    payload = spec.payload
    facts = [
        _cell(spec.code),
        [content_digest(digest) for digest in payload.digests],
        [getattr(spec, option) for option in _OPTIONS],
        sys.version,
        installed(),
    ]
    digest = xxhash.xxh3_128(payload.stream)
    digest.update(json.dumps(facts).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def installed() -> list[str]:
    """Answer which packages there are in which versions, by the names of their records."""
    found = set()
    for folder in sys.path:
        try:
            names = [path.name for path in Path(folder or ".").iterdir()]
        except OSError:  # a zip file, a folder that is gone
            continue
        found |= {name for name in names if name.endswith((".dist-info", ".egg-info"))}
    return sorted(found)


def _cell(code: str) -> str:
    """Answer a cell without the comment that stands for its magic, which names the job."""
    first, _, rest = code.partition("\n")
    return rest if first.startswith("# %%async_run") else code
