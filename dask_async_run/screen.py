"""The end of a job's text as a terminal would show it: lines of styled text. Pure.

Carriage returns overwrite, as progress bars do; so do backspaces and the cursor's way
up, which several bars at once use. Colours stay, whatever else a terminal is told is
left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from html import escape

_TOKENS = re.compile(
    r"(?P<text>[^\x00-\x1f\x7f]+)"
    r"|(?P<control>[\n\r\b\t])"
    r"|\x1b\[(?P<arguments>[0-?]*)[ -/]*(?P<command>[@-~])"
    r"|\x1b\[[0-?]*[ -/]*$"  # the rest of it is still to come
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # window titles, links
    r"|\x1b[@-Z\\-_]?"
    r"|[\x00-\x1f\x7f]"
)

WIDTH = 400
"""Characters of a line that are shown; terminals wrap, a line this long is data."""

LEGIBLE = 3.0
"""The least contrast of a text with what is behind it."""

# As much on a card, light and dark: a saved page does not know which one it is on.
_COLOURS = ("#7a7a7a", "#d1453b", "#2a8c3d", "#967100", "#3b7fd0", "#a94fc0", "#17838f", "#858585")


@dataclass(frozen=True, slots=True)
class Style:
    """How text looks; colours are CSS, empty for the page's own."""

    colour: str = ""
    background: str = ""
    bold: bool = False
    italic: bool = False
    underlined: bool = False

    @property
    def css(self) -> str:
        parts = []
        if colour := self._ink:
            parts.append(f"color:{colour}")
        if self.background:
            parts.append(f"background:{self.background}")
        if self.bold:
            parts.append("font-weight:600")
        if self.italic:
            parts.append("font-style:italic")
        if self.underlined:
            parts.append("text-decoration:underline")
        return ";".join(parts)

    @property
    def _ink(self) -> str:
        """The text's colour; on a background of its own one that can be read.

        A terminal's own colours go together; these do not, and the page's is any.
        """
        if not self.background:
            return self.colour
        behind = _light(self.background)
        if self.colour and _contrast(_light(self.colour), behind) >= LEGIBLE:
            return self.colour
        return "#000" if _contrast(0.0, behind) >= _contrast(1.0, behind) else "#fff"


def _contrast(one: float, other: float) -> float:
    """The contrast of two relative luminances, as WCAG 2 has it: from 1 to 21."""
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


def _light(colour: str) -> float:
    """The relative luminance of a colour that is written ``#rrggbb`` or ``rgb(r,g,b)``."""
    if colour.startswith("#"):
        shares = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    else:
        shares = [int(number) for number in re.findall(r"[0-9]+", colour)]
    linear = (
        share / 12.92 if share <= 0.03928 else ((share + 0.055) / 1.055) ** 2.4
        for share in (number / 255 for number in shares)
    )
    return sum(part * share for part, share in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


PLAIN = Style()


@dataclass(slots=True)
class Line:
    """A line on the screen.

    Parameters
    ----------
    rewritten : bool
        It was written over, as progress is.
    """

    characters: list[str] = field(default_factory=list)
    styles: list[Style] = field(default_factory=list)
    rewritten: bool = False

    @property
    def text(self) -> str:
        return "".join(self.characters).rstrip()

    @property
    def html(self) -> str:
        """The line with its styles, escaped."""
        shown = self.text[:WIDTH]
        parts: list[str] = []
        begin = 0
        for at in range(1, len(shown) + 1):
            if at < len(shown) and self.styles[at] == self.styles[begin]:
                continue
            piece, css = escape(shown[begin:at]), self.styles[begin].css
            parts.append(f'<span style="{css}">{piece}</span>' if css else piece)
            begin = at
        return "".join(parts) + ("…" if len(self.text) > WIDTH else "")

    def write(self, column: int, text: str, style: Style) -> None:
        missing = column - len(self.characters)
        if missing > 0:
            self.characters += " " * missing
            self.styles += [PLAIN] * missing
        self.rewritten = self.rewritten or column < len(self.characters)
        end = column + len(text)
        self.characters[column:end] = text
        self.styles[column:end] = [style] * len(text)

    def erase(self, begin: int, end: int) -> None:
        count = len(self.characters[begin:end])
        self.characters[begin:end] = " " * count
        self.styles[begin:end] = [PLAIN] * count
        self.rewritten = True


def screen(text: str) -> list[Line]:
    """Answer the lines that a terminal shows after `text`; empty ones at the end left out."""
    lines = [Line()]
    row = column = 0
    style = PLAIN
    for token in _TOKENS.finditer(text):
        if (written := token["text"]) is not None:
            lines[row].write(column, written, style)
            column += len(written)
        elif (control := token["control"]) is not None:
            match control:
                case "\n":
                    row, column = row + 1, 0
                    if row == len(lines):
                        lines.append(Line())
                case "\r":
                    column = 0
                case "\b":
                    column = max(0, column - 1)
                case "\t":
                    column += 8 - column % 8
        elif (command := token["command"]) is not None:
            arguments = token["arguments"]
            match command:
                case "m":
                    style = restyled(style, arguments)
                case "A":
                    row = max(0, row - _count(arguments))
                case "B":
                    row = min(len(lines) - 1, row + _count(arguments))
                case "C":
                    column += _count(arguments)
                case "D":
                    column = max(0, column - _count(arguments))
                case "K" if arguments in ("", "0"):
                    lines[row].erase(column, len(lines[row].characters))
                case "K":
                    lines[row].erase(0, len(lines[row].characters) if arguments == "2" else column)
    while lines and not lines[-1].text:
        lines.pop()
    return lines


def _count(arguments: str) -> int:
    return min(int(arguments), 1000) if arguments.isdecimal() and int(arguments) else 1


def restyled(style: Style, arguments: str) -> Style:
    """Answer a style after a terminal's "select graphic rendition"."""
    codes = [int(code) if code.isdecimal() else 0 for code in arguments.split(";")]
    while codes:
        code = codes.pop(0)
        if code == 0:
            style = PLAIN
        elif code == 1:
            style = replace(style, bold=True)
        elif code == 3:
            style = replace(style, italic=True)
        elif code == 4:
            style = replace(style, underlined=True)
        elif code in (22, 23, 24):
            off = {22: "bold", 23: "italic", 24: "underlined"}[code]
            style = replace(style, **{off: False})  # type: ignore[arg-type]
        elif code == 38:
            style = replace(style, colour=_extended(codes))
        elif code == 48:
            style = replace(style, background=_extended(codes))
        elif 30 <= code <= 37 or 90 <= code <= 97:
            style = replace(style, colour=_COLOURS[code % 10])
        elif 40 <= code <= 47 or 100 <= code <= 107:
            style = replace(style, background=_COLOURS[code % 10])
        elif code == 39:
            style = replace(style, colour="")
        elif code == 49:
            style = replace(style, background="")
    return style


def _extended(codes: list[int]) -> str:
    """Take one of 256 colours, or red, green and blue, from the codes that follow."""
    kind = codes.pop(0) if codes else 0
    if kind == 5 and codes:
        number = codes.pop(0)
        if number < 16:
            return _COLOURS[number % 8]
        if number < 232:
            levels = (0, 95, 135, 175, 215, 255)
            number -= 16
            parts = (number // 36, number // 6 % 6, number % 6)
            return "rgb({},{},{})".format(*(levels[part] for part in parts))
        grey = min(255, 8 + 10 * (number - 232))
        return f"rgb({grey},{grey},{grey})"
    if kind == 2 and len(codes) >= 3:
        shares = [min(255, codes.pop(0)) for _ in range(3)]
        return "rgb({},{},{})".format(*shares)
    return ""
