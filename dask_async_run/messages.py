"""Messages as bytes: what the registry's calls and the journal hold.

Dask's own encoding of messages turns lists into tuples, gives some dict keys a meaning
of its own, and refuses text with lone surrogates, which file names and the texts of
exceptions do have. So a call's arguments and its answer travel as one bytes object.
"""

from __future__ import annotations

from typing import Any

import msgpack

CLAIM = "async-run-claim"
"""Name of the message from scheduler to worker that is a claim which comes ahead of its task."""


def pack(value: Any) -> bytes:
    """Encode a value made of None, bool, int, float, str, bytes, list, tuple and dict."""
    packed: bytes = msgpack.packb(value, use_bin_type=True, unicode_errors="surrogatepass")
    return packed


def dask_key(value: Any) -> Any:
    """Answer the Dask key that `unpack` has made lists of."""
    return tuple(map(dask_key, value)) if isinstance(value, list) else value


def plain(text: str) -> str:
    """Return `text` as UTF-8 can hold it: lone surrogates are spelt out."""
    return text.encode("utf-8", "backslashreplace").decode()


def unpack_output(packed: bytes) -> dict[str, Any]:
    """Decode an output; one that is damaged says so in its place, and hides no other."""
    try:
        output = unpack(packed)
        if isinstance(output, dict):
            return output
        problem = "it is none"
    except (ValueError, TypeError) as error:
        problem = str(error)
    text = f"[an output is damaged in the journal: {problem}]\n"
    return {"output_type": "stream", "name": "stderr", "text": text}


def unpack(packed: bytes) -> Any:
    """Decode what `pack` made; tuples have become lists."""
    return msgpack.unpackb(packed, raw=False, strict_map_key=False, unicode_errors="surrogatepass")
