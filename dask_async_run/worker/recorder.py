"""What of a cell's output is recorded: all of it, until it is a flood.

Text goes to the record as it comes until `HEAD` bytes are reached. Of what follows
the latest `TAIL` bytes are kept, shown in part while the cell runs and recorded when
something else is shown or the cell ends, with the number of bytes dropped between.
Displays are recorded until, with such tails, they add up to `RICH` bytes; from then on
they wait with the text, and only what a notebook would still show at the end is kept.

Pure: takes outputs, gives batches; no clock, no I/O.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from dask_async_run.looks import without_escapes

HEAD = 4 * 2**20
TAIL = 2**20
RICH = 64 * 2**20
GLIMPSE = 8 * 1024
"""Characters of the tail that are shown while the cell runs."""
LAST_LINE = 200
PIECE = 4096
"""Characters up to which pieces of text are joined at once: each takes some memory by itself."""


Output = dict[str, Any]


class Recorder:
    """The outputs of one cell on their way to the journal.

    Parameters
    ----------
    head, tail, rich : int
        Limits in bytes, see the module.
    """

    def __init__(self, head: int = HEAD, tail: int = TAIL, rich: int = RICH) -> None:
        self._head = head
        self._rich = rich
        self._batch: list[Output] = []
        self._tail = _Tail(tail, rich // 4)
        self._tail_changed = False
        self._recent = ""

    def text(self, name: str, text: str) -> None:
        """Add text of the stream `name`."""
        if not text:
            return
        self._recent = (self._recent[-4 * LAST_LINE :] + text)[-8 * LAST_LINE :]
        if self._head > 0:
            kept, text = _cut(text, self._head)
            self._head -= _size(kept)
            _append(self._batch, stream(name, kept))
            if not text:
                return
            self._head = 0
        self._tail.add(stream(name, text))
        self._tail_changed = True

    def output(self, output: Output) -> None:
        """Add an output other than text."""
        if self._rich > 0:
            self._rich -= self._tail.size + output_size(output)
            self._record_tail()
            _append(self._batch, output)
        else:
            self._tail.add(output)

    def take(self) -> tuple[list[Output], str | None]:
        """Return outputs to record now and, if it changed, what to show of the tail."""
        batch, self._batch = self._batch, []
        glimpse = None
        if self._tail_changed:
            self._tail_changed = False
            glimpse = self._tail.glimpse()
        return [_joined(output) for output in batch], glimpse

    def close(self) -> None:
        """Put what was held back into the last batch."""
        self._record_tail()

    @property
    def waiting(self) -> bool:
        """Whether `take` has something to give."""
        return bool(self._batch) or self._tail_changed

    @property
    def last_line(self) -> str:
        """The last line with something on it, as a terminal would show it."""
        for line in reversed(self._recent.split("\n")):
            shown = without_escapes(line.rstrip("\r").rpartition("\r")[2]).strip()
            if shown:
                return shown[:LAST_LINE]
        return ""

    def _record_tail(self) -> None:
        for output in self._tail.drain():
            _append(self._batch, output)
            self._tail_changed = True


class _Tail:
    """The latest outputs, within limits.

    Parameters
    ----------
    text, rich : int
        Bytes of text and of other outputs to keep.
    """

    def __init__(self, text: int, rich: int) -> None:
        self._limits = {True: text, False: rich}
        self._sizes = {True: 0, False: 0}
        self._dropped = {True: 0, False: 0}
        self._outputs: deque[Output] = deque()

    @property
    def size(self) -> int:
        return sum(self._sizes.values())

    def add(self, output: Output) -> None:
        is_text = output["output_type"] == "stream"
        if output["output_type"] == "clear_output" and not output["wait"]:
            self._outputs.clear()
            self._sizes = {True: 0, False: 0}
        last = self._outputs[-1] if self._outputs else None
        if last is not None and _continues(last, output) and len(last["text"]) < PIECE:
            self._outputs[-1] = stream(last["name"], last["text"] + output["text"])
        else:
            self._outputs.append(output)
        self._sizes[is_text] += output_size(output)
        while self._sizes[is_text] > self._limits[is_text]:
            self._drop_oldest(is_text)

    def drain(self) -> list[Output]:
        """Give everything away, preceded by what is missing before it."""
        outputs = list(self._outputs)
        text, displays = self._dropped[True], self._dropped[False]
        if text or displays:
            parts = [f"{text:,} bytes of text"] if text else []
            parts += [f"{displays:,} bytes of displays"] if displays else []
            said = f"\n[... {' and '.join(parts)} were dropped here: too much output ...]\n"
            outputs.insert(0, stream("stderr", said))
        self._outputs.clear()
        self._sizes = {True: 0, False: 0}
        self._dropped = {True: 0, False: 0}
        return outputs

    def glimpse(self) -> str:
        """Return the end of the text."""
        parts: list[str] = []
        length = 0
        for output in reversed(self._outputs):
            if output["output_type"] == "stream":
                part = output["text"][-(GLIMPSE - length) :]
                parts.append(part)
                length += len(part)
                if length >= GLIMPSE:
                    break
        return "".join(reversed(parts))

    def _drop_oldest(self, is_text: bool) -> None:
        place, output = next(
            (place, output)
            for place, output in enumerate(self._outputs)
            if (output["output_type"] == "stream") is is_text
        )
        size = output_size(output)
        excess = self._sizes[is_text] - self._limits[is_text]
        if is_text and size > excess:
            lost, kept = _cut(output["text"], excess)
            self._outputs[place] = stream(output["name"], kept)
            size = _size(lost)
        else:
            del self._outputs[place]
        self._sizes[is_text] -= size
        self._dropped[is_text] += size


def stream(name: str, text: str) -> Output:
    """Return nbformat's ``stream`` output."""
    return {"output_type": "stream", "name": name, "text": text}


def output_size(output: Output) -> int:
    """Return about how many bytes an output takes."""
    if output["output_type"] == "stream":
        return _size(output["text"])
    data = output.get("data", {})
    return 200 + sum(
        _size(value if isinstance(value, str) else str(value)) for value in data.values()
    )


def _append(batch: list[Output], output: Output) -> None:
    """Append to a batch; what the output makes invisible leaves it.

    Text joins text of the same stream (as a list of pieces, so that much text costs no
    copying). A cleared output is not shown any more; an updated display only as last
    updated. At 20 batches a second nobody misses what came between.
    """
    kind = output["output_type"]
    last = batch[-1] if batch else None
    if last is not None and last["output_type"] == "clear_output" and last["wait"]:
        del batch[:-1]
    if kind == "stream":
        if last is not None and _continues(last, output):
            pieces = last["pieces"]
            if len(pieces[-1]) < PIECE:
                pieces[-1] += output["text"]
            else:
                pieces.append(output["text"])
        else:
            batch.append({**output, "pieces": [output["text"]]})
        return
    if kind == "clear_output" and not output["wait"]:
        batch.clear()
    elif kind == "update_display_data":
        place = output["transient"].get("display_id")
        batch[:] = [
            other
            for other in batch
            if other["output_type"] != kind or other["transient"].get("display_id") != place
        ]
    batch.append(output)


def _continues(last: Output, output: Output) -> bool:
    """Whether an output is more text of the stream that the last one was of."""
    if last["output_type"] != "stream" or output["output_type"] != "stream":
        return False
    return bool(last["name"] == output["name"])


def _joined(output: Output) -> Output:
    pieces = output.pop("pieces", None)
    if pieces is not None:
        output["text"] = "".join(pieces)
    return output


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _cut(text: str, size: int) -> tuple[str, str]:
    """Split text so that the first part has at most `size` bytes, or a character more."""
    if _size(text) <= size:
        return text, ""
    if text.isascii():
        return text[:size], text[size:]
    head = text.encode("utf-8", "surrogatepass")[:size].decode("utf-8", "ignore")
    head = text[: max(1, len(head))]
    return head, text[len(head) :]
