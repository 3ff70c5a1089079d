"""What the reader of a notebook sees of a cell, in a form that two runs can be compared by.

Messages become outputs as a front end would make them (streams joined, displays
updated, outputs cleared); outputs become texts without addresses, timings and
the like.
"""

from __future__ import annotations

import base64
import re
import struct
import zlib
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_TIMING = re.compile(r"^.*(?:CPU times|Wall time|per loop|slowest run|s ± ).*$", re.MULTILINE)
_NUMBER = re.compile(r"[-+]?\d[\d.,]*(?:e[-+]?\d+)?\s*(?:ns|[µμ]s|ms|s|min|h)?\b")
_OF_ONE_RUN = (
    (re.compile(r"\r\n"), "\n"),  # a `!command` of ipykernel writes to a terminal
    (re.compile(r"\b0x[0-9a-fA-F]{6,}\b"), "0x…"),
    (re.compile(r"\bsk-(container|estimator)-id-\d+"), r"sk-\1-id"),
    (re.compile(r"\b(#?T_)[0-9a-f]{5}"), r"\1…"),
    (re.compile(r"\b[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}\b"), "UUID"),
    (re.compile(r"<dc:date>[^<]*"), "<dc:date>"),
    (re.compile(r"\bid=\"[A-Za-z]*[0-9a-f]{8,}\"|#[A-Za-z]*[0-9a-f]{10}\b"), "ID"),
)
_FILE_OF_A_CELL = re.compile(r"(?:\S*/ipykernel_\d+/\d+\.py|<ipython-input-[^>]*>):(\d+)")
_LINE_OF_A_CELL = re.compile(
    r'File "(?:\S*/ipykernel_\d+/\d+\.py|<ipython-input[^"]*)", line (\d+)'
)
_SYNTAX = re.compile(r"\((?:\d+\.py|<ipython-input-[^>]*>), line (\d+)\)")
_ON_LINE = re.compile(r"\bon line (\d+)\b")
_CELL_FRAME = re.compile(r"^\s*Cell In\[(\d+)\], line (\d+)(.*)$")
_FILE_FRAME = re.compile(r"^\s*File (\S+):(\d+)(.*)$")
_ARROW = re.compile(r"^-+> ?\d+ (.*)$")
_GUTTER = re.compile(r"^\s+\d+( .*)?$|^\(\.\.\.\)$|^\.\.\.$|^[-\s]*$")


@dataclass
class Step:
    """What running one cell sent to the front end.

    Parameters
    ----------
    messages : list of dict
        Jupyter messages in order; may grow until the next request is done.
    lines_added : int
        How many lines the cell had in front of the notebook's own.
    refused : str
        Why nothing was run, empty if it was.
    count : int
        Execution count, if known.
    """

    messages: list[dict[str, Any]]
    lines_added: int
    refused: str = ""
    count: int = 0


@dataclass
class Document:
    """A notebook's outputs so far; displays of earlier cells can still be updated.

    Parameters
    ----------
    root : str
        Folder read as ``ROOT``.
    numbers : dict of int to int
        From execution counts to the notebook's cells; shared with the kernel.
    """

    root: str
    numbers: dict[int, int]
    lines_added: dict[int, int] = field(default_factory=dict)
    _displays: dict[str, list[tuple[int, dict[str, Any]]]] = field(default_factory=dict)

    def read(self, number: int, step: Step) -> list[str]:
        """The outputs of cell `number`, each as a text; streams between displays as one each."""
        outputs: list[dict[str, Any]] = []
        clear = False
        for message in step.messages:
            kind, content = message["msg_type"], message["content"]
            if kind == "clear_output":
                clear = bool(content.get("wait"))
                if not clear:
                    outputs.clear()
                continue
            if kind == "update_display_data":
                outputs += self._update(number, content)
                continue
            if kind not in ("stream", "display_data", "execute_result", "error"):
                continue
            if clear:
                outputs.clear()
                clear = False
            output = {"kind": kind, **content}
            if name := content.get("transient", {}).get("display_id"):
                self._displays.setdefault(name, []).append((number, output))
            outputs.append(output)
        return list(self._texts(outputs, step.lines_added))

    def _update(self, number: int, content: dict[str, Any]) -> list[dict[str, Any]]:
        """Update displays; what happens to those of earlier cells is reported as an output."""
        beyond = []
        for where, output in self._displays.get(content["transient"]["display_id"], []):
            output.update(data=content["data"], metadata=content["metadata"])
            if where != number:
                beyond.append({"kind": f"update of a display of cell {where}", **content})
        return beyond

    def _texts(self, outputs: list[dict[str, Any]], added: int) -> list[str]:
        texts: list[str] = []
        streams: dict[str, str] = {}
        # Two streams between the same displays: their order is known to nobody in a plain kernel.
        for output in [*outputs, {"kind": "end"}]:
            if output["kind"] == "stream":
                streams[output["name"]] = streams.get(output["name"], "") + output["text"]
                continue
            for name in sorted(streams):
                if streams[name]:
                    texts.append(f"{name}: {self.normal(streams[name], added)}")
            streams.clear()
            if output["kind"] == "error":
                texts.append(self._error(output, added))
            elif output["kind"] != "end":
                texts.append(self._data(output, added))
        return texts

    def normal(self, text: str, added: int = 0) -> str:
        """`text` without what differs between any two runs of the same cell."""
        text = text.replace(self.root, "ROOT")
        for pattern, replacement in _OF_ONE_RUN:
            text = pattern.sub(replacement, text)
        text = _TIMING.sub(lambda m: _NUMBER.sub("T", m[0]), text)
        text = _FILE_OF_A_CELL.sub(lambda m: f"CELL:{int(m[1]) - added}", text)
        text = _ON_LINE.sub(lambda m: f"on line {int(m[1]) - added}", text)
        text = _LINE_OF_A_CELL.sub(lambda m: f"File CELL, line {int(m[1]) - added}", text)
        return _SYNTAX.sub(lambda m: f"(CELL, line {int(m[1]) - added})", text)

    def _data(self, output: dict[str, Any], added: int) -> str:
        parts = [output["kind"]]
        for mime, data in sorted(output["data"].items()):
            if mime == "image/png":
                parts.append(f"{mime}: {_png(data)}")
            else:
                text = data if isinstance(data, str) else "".join(map(str, data))
                parts.append(f"{mime}: {self.normal(text, added)}")
        return "\n".join(parts)

    def _error(self, output: dict[str, Any], added: int) -> str:
        evalue = self.normal(output["evalue"], added)
        parts = [f"error {output['ename']}: {evalue}"]
        for line in ANSI.sub("", "\n".join(output["traceback"])).splitlines():
            if match := _CELL_FRAME.match(line):
                count, at = int(match[1]), int(match[2])
                at -= self.lines_added.get(count, 0)
                parts.append(f"cell {self.numbers.get(count, '?')}, line {at}{match[3]}")
            elif match := _FILE_FRAME.match(line):
                parts.append(f"file {match[1].rsplit('/', 1)[-1]}:{match[2]}{match[3]}")
            elif match := _ARROW.match(line):
                parts.append(f"-> {match[1].strip()}")
            elif not _GUTTER.match(line):
                parts.append(re.sub(r"\s{2,}", " ", self.normal(line, added)))
        return "\n".join(parts)


def _png(data: str) -> str:
    """Size and a digest of the pixels, not of the file and its comments."""
    raw = base64.b64decode(data)
    width, height = struct.unpack(">II", raw[16:24])
    at, pixels = 8, b""
    while at < len(raw):
        (length,) = struct.unpack(">I", raw[at : at + 4])
        if raw[at + 4 : at + 8] == b"IDAT":
            pixels += raw[at + 8 : at + 8 + length]
        at += 12 + length
    return f"{width} x {height}, {blake2b(zlib.decompress(pixels), digest_size=6).hexdigest()}"
