"""Pictures of PIL, also those of several frames, and what draws on them.

A picture's pixels are in an object in C that `PIL.ImageDraw` holds, too: a picture that a cell
changed keeps that, or what is drawn here later went to pixels that nobody sees. Of a file with
several frames PIL's own way of pickling has the pixels of one.
"""

from __future__ import annotations

import io
import pickle
import sys
from contextlib import suppress
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


# -- files with several frames --------------------------------------------------------------

_WITH_FRAMES = ("GifImageFile", "TiffImageFile", "PngImageFile", "MpoImageFile")


def is_film(obj: Any) -> bool:
    """Whether an object is a picture of a file that has several frames, and is still open."""
    kind = type(obj)
    if kind.__name__ not in _WITH_FRAMES or not kind.__module__.startswith("PIL."):
        return False
    with suppress(Exception):  # PIL's, of a file that was closed
        return bool(obj.is_animated) and not obj._fp.closed
    return False


def reduce_film(film: Any) -> Any:
    """Reduce a picture of a file with several frames to that file's contents."""
    file = film._fp
    place = file.tell()
    file.seek(0)
    contents = file.read()
    file.seek(place)
    return make_film, (pickle.PickleBuffer(contents),), _state_of_film(film), None, None, set_film


def make_film(contents: Any) -> Any:
    """Open a file with several frames."""
    from PIL import Image

    film: Any = Image.open(io.BytesIO(contents))
    film.n_frames  # noqa: B018 - to count them loads pixels anew
    return film


def _state_of_film(film: Any, snapshot: Any = None) -> tuple[Any, ...]:
    return film.tell(), film.filename, film.info.copy(), film.getpalette(), film.tobytes()


def set_film(film: Any, state: tuple[Any, ...]) -> Undo:
    """Give a picture its frame, and the pixels that this has now."""

    def put(frame: int, name: Any, info: Any, palette: Any, pixels: bytes) -> None:
        film.seek(frame)
        film.load()
        film.filename, film.info = name, info
        if palette != film.getpalette():
            film.putpalette(palette)
        if pixels != film.tobytes():
            film.frombytes(pixels)

    before = _state_of_film(film)
    put(*state)
    return lambda: put(*before)


FILM = Kind(
    "film",
    lambda film: [],
    _state_of_film,
    lambda film, snapshot: bool(_state_of_film(film) == snapshot),
    _state_of_film,
    set_film,
)


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
