"""Pictures of PIL, and what draws on them.

A picture's pixels are in an object in C that `PIL.ImageDraw` holds, too: a picture that a cell
changed keeps that, or what is drawn here later went to pixels that nobody sees.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from dask_async_run.namespace.kinds import Kind, Undo

_OWN = ("ink", "fill", "fontmode", "font")
"""Attributes of what draws that somebody may set."""


def is_picture(cls: type) -> bool:
    """Whether a class is that of pictures in memory."""
    return cls is getattr(sys.modules.get("PIL.Image"), "Image", None)


def is_drawing(cls: type) -> bool:
    """Whether a class is that of what draws on pictures."""
    return cls is getattr(sys.modules.get("PIL.ImageDraw"), "ImageDraw", None)


def picture_kind(opaque: Kind) -> Kind:
    """Make the kind of pictures of what changes objects by their own ways."""

    def apply(picture: Any, state: Any) -> Undo:
        pixels = picture.im
        before = pixels.copy()
        undo = opaque.apply(picture, state)
        new = picture.im
        if (new.mode, new.size) != (pixels.mode, pixels.size) or new.mode in ("P", "PA"):
            return undo
        whole = (0, 0, *new.size)
        pixels.paste(new, whole)
        picture.im = pixels

        def back() -> None:
            pixels.paste(before, whole)
            undo()

        return back

    return replace(opaque, name="picture", apply=apply)


# -- what draws ----------------------------------------------------------------------------


def reduce_drawing(drawing: Any) -> Any:
    """Reduce what draws on a picture to that."""
    made = (drawing._image, drawing.mode)
    return make_drawing, made, _attributes(drawing), None, None, set_drawing


def make_drawing(picture: Any, mode: str) -> Any:
    """Make what draws on a picture."""
    from PIL import ImageDraw

    return ImageDraw.Draw(picture, mode)


def _attributes(drawing: Any, snapshot: Any = None) -> dict[str, Any]:
    return {name: vars(drawing)[name] for name in _OWN if name in vars(drawing)}


def set_drawing(drawing: Any, attributes: dict[str, Any]) -> None:
    """Give what draws its attributes; without one it has its class's."""
    for name in _OWN:
        vars(drawing).pop(name, None)
    vars(drawing).update(attributes)


def _apply(drawing: Any, state: dict[str, Any]) -> Undo:
    before = _attributes(drawing)
    set_drawing(drawing, state)
    return lambda: set_drawing(drawing, before)


DRAWING = Kind(
    "drawing",
    lambda drawing: [drawing._image, *_attributes(drawing).values()],
    _attributes,
    lambda drawing, snapshot: _attributes(drawing) == snapshot,
    _attributes,
    _apply,
)
