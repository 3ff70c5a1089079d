"""A glimpse of a job: how it stands, the end of its text, its latest picture; never all of it.

Pure. The scheduler makes glimpses out of the last few records of a journal, so that one
costs the same for a job that has printed a million lines as for one that has printed ten.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from dask_async_run.bars import collapsed
from dask_async_run.job import JobView, Message

TEXT = 8 * 1024
"""Characters of text in a glimpse at most."""

PICTURE = 4 * 2**20
"""Characters of a picture at most; one that is larger is not shown before the gather."""

HTML = 200_000
"""Characters of HTML at most; of a longer one its text is shown."""

_CODES = re.compile(r"\x1b\[[0-9;]*m")

KINDS = ("image/svg+xml", "image/png", "image/jpeg", "image/gif", "text/html")


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that a cell has shown, or a table or other HTML.

    Parameters
    ----------
    number : int
        Of the output that it is in.
    kind : str
        One of `KINDS`.
    data : str
        base64, or the text of SVG or HTML. Empty: who asked has it.
    """

    number: int
    kind: str
    data: str = ""


@dataclass(frozen=True, slots=True)
class Glimpse:
    """What `dask_async_run.registry.Registry.look` answers for a job.

    Parameters
    ----------
    job : str
        The job's id.
    mark : str
        To be passed to the next look, which waits until there is another one.
    view : JobView or None
        Without its source and its result's facts. None: there is no such job any more.
    text : str
        The end of its text, terminal codes included.
    picture : Picture or None
    """

    job: str
    mark: str
    view: JobView | None
    text: str = ""
    picture: Picture | None = None

    @classmethod
    def from_message(cls, message: Message) -> Glimpse:
        view, picture = message["view"], message["picture"]
        return cls(
            job=message["job"],
            mark=message["mark"],
            view=JobView.from_message(view) if view else None,
            text=message["text"],
            picture=Picture(**picture) if picture else None,
        )


@dataclass(slots=True)
class Ending:
    """The end of a job's outputs, put together from the last one backwards.

    Parameters
    ----------
    tail : str
        Text that comes after all outputs: the shown end of a flood.
    """

    tail: str = ""
    picture: Picture | None = None
    _pieces: list[str] = field(default_factory=list)
    _length: int = 0
    _updated: dict[str, str] = field(default_factory=dict)
    _begins: dict[str, str] = field(default_factory=dict)
    _overwritten: set[str] = field(default_factory=set)
    _next: str = ""
    _cleared: bool = False

    def __post_init__(self) -> None:
        self._put(self.tail)

    @property
    def full(self) -> bool:
        """Whether what comes before does not matter."""
        return self._cleared or (self._length >= TEXT and self.picture is not None)

    @property
    def text(self) -> str:
        # What an update belongs to is too far back to be found: it is above all else.
        above = "" if self._cleared else "".join(reversed(self._updated.values()))[-TEXT:]
        below = "".join(reversed(self._pieces))
        return above + below[max(0, len(below) + len(above) - TEXT) :]

    def add(self, number: int, output: Message) -> None:
        """Add the output that comes before those that were added."""
        follower, self._next = self._next, output.get("name", "")
        match output["output_type"]:
            case "stream":
                self._stream(output["name"], output["text"], follower)
            case "error":
                self._put("\n".join(_of_the_cell(output["traceback"])) + "\n")
            case "clear_output":
                # One that waits is carried out by what comes after it, if anything did.
                self._cleared = not output.get("wait") or bool(self._pieces or self.picture)
            case _:
                self._display(number, output)

    def _stream(self, name: str, text: str, follower: str) -> None:
        """Add text; what comes right after it is of the stream `follower`, or no text."""
        if self._begins.get(name) == "\r" and follower != name:
            # A progress bar on stderr: a line on stdout comes between, and not behind it.
            self._overwritten.add(name)
        self._begins[name] = text[:1]
        if name in self._overwritten:
            begun = text.rfind("\n") + 1
            text = text[:begun]
            if begun:  # else the line goes on in what comes before
                self._overwritten.discard(name)
        self._put(text)

    def _display(self, number: int, output: Message) -> None:
        place = output.get("transient", {}).get("display_id")
        is_update = output["output_type"] == "update_display_data"
        if place in self._updated:  # it shows something later by now, in the place of the first
            if not is_update:
                self._put(self._updated.pop(place))
            return
        text = self._shown(number, output["data"])
        if is_update and place is not None:
            self._updated[place] = text
        else:
            self._put(text)

    def _shown(self, number: int, data: Message) -> str:
        """Answer the text of a display, empty if it is a picture."""
        kind = next((kind for kind in KINDS if kind in data), None)
        shown = _joined(data[kind]) if kind is not None else ""
        if kind == "text/html" and not _is_seen(shown):
            kind = None
        if kind is None:
            text = _joined(data.get("text/plain", ""))
            return f"{text}\n" if text else ""
        if self.picture is None and len(shown) <= PICTURE:
            self.picture = Picture(number, kind, shown)
        return ""

    def _put(self, text: str) -> None:
        if text and self._length < TEXT:
            text = collapsed(text[-TEXT:])
            self._pieces.append(text)
            self._length += len(text)


def ending(latest_first: Iterable[tuple[int, Message]], tail: str = "") -> Ending:
    """Put the end of a job's outputs together; takes no more of them than it needs.

    Parameters
    ----------
    latest_first : iterable of (int, dict)
        Outputs and their numbers, the latest first.
    tail : str
        See `Ending`.
    """
    found = Ending(tail)
    for number, output in latest_first:
        found.add(number, output)
        if found.full:
            break
    return found


def _is_seen(html: str) -> bool:
    """Answer whether HTML shows what it is where no script runs, and more than its text does."""
    begin = html[:HTML].lstrip().lower()
    return len(html) <= HTML and not begin.startswith("<pre") and "<script" not in begin


def _of_the_cell(traceback: list[str]) -> list[str]:
    """Leave out of a traceback what is not in a notebook's cell, if anything of it is."""
    own = [part for part in traceback[:-1] if _CODES.sub("", part).startswith("Cell In[")]
    return [*own, traceback[-1]] if own else traceback


def _joined(value: str | list[str]) -> str:
    return value if isinstance(value, str) else "".join(value)
