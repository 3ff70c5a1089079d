"""Provenance: where a job's results come from.

What was run, when and where, with which inputs and which packages: as one dict that
JSON can hold, made of what the registry and the journal keep anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from dask_async_run.frames import content_digest, name_of
from dask_async_run.job import JobResult, JobSpec, JobView, Message

OPTIONS = (
    "only also timeout memory retries resources workers priority sweep dynamic after parents"
).split()
"""Fields of a `JobSpec` that are told where they are not as by default."""


def provenance(view: JobView, spec: JobSpec, result: JobResult | None, stream: Any) -> Message:
    """Tell where a job's results come from.

    Parameters
    ----------
    view : JobView
    spec : JobSpec
    result : JobResult or None
    stream : bytes-like
        That of the inputs.

    Returns
    -------
    dict
        ``job``, ``id``, ``state``, ``reason``; ``submitted``, ``started``, ``ended``
        (ISO 8601, or None); ``source``; ``inputs`` (by name: ``type``, ``bytes``,
        ``digest`` of its pickle and its buffers) and ``digest`` (of all of them and what
        surrounded them); ``options``; ``python``, ``platform``, ``packages`` (those that
        were loaded where it ran); ``host``, ``worker``, ``process``; ``bound``,
        ``changed``, ``deleted`` (names).
    """
    left = result or JobResult()
    digests = [content_digest(digest) for digest in spec.payload.digests]
    ran = left.environment or {"python": None, "platform": None, "packages": {}}
    return {
        "job": f"{view.notebook}/{view.name}@{view.version}",
        "id": view.id,
        "state": str(view.state),
        "reason": f"{view.ename}: {view.evalue}" if view.ename else view.reason,
        "submitted": _time(view.submitted),
        "started": _time(view.started),
        "ended": _time(view.ended),
        "source": spec.source,
        "inputs": _inputs(spec, stream, digests),
        "digest": _digest(stream, digests),
        "options": _options(spec),
        **ran,
        "host": view.host,
        "worker": view.worker,
        "process": view.pid,
        "bound": left.bound,
        "changed": left.mutated,
        "deleted": left.deleted,
    }


def _inputs(spec: JobSpec, stream: Any, digests: Sequence[str]) -> dict[str, Message]:
    found: dict[str, Message] = {}
    for name, kind, nbytes in spec.input_names:
        found[name] = {"type": kind, "bytes": nbytes}
    # A job that an older version submitted has no parts.
    for (name, *_), part in zip(spec.input_names, spec.input_parts, strict=False):
        begin, end, first, last = part
        found[name]["digest"] = _digest(memoryview(stream)[begin:end], digests[first:last])
    return found


def _digest(stream: Any, digests: Sequence[str]) -> str:
    """Answer one digest of a part of a stream and of the frames that belong to it."""
    return content_digest(name_of(bytes(stream) + "\n".join(digests).encode()).digest)


def _options(spec: JobSpec) -> Message:
    defaults = {field.name: field for field in fields(JobSpec)}
    found = {}
    for name in OPTIONS:
        value = getattr(spec, name)
        if value and value != defaults[name].default:
            found[name] = value
    return found


def _time(moment: float | None) -> str | None:
    return datetime.fromtimestamp(moment).astimezone().isoformat() if moment else None
