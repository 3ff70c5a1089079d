"""Pictures of PIL, and what draws on them."""

from __future__ import annotations

import pytest

from notebook import Notebook

pytestmark = pytest.mark.contract(3, 17)
pytest.importorskip("PIL.ImageDraw")

SETUP = """\
import numpy as np
from PIL import Image, ImageDraw
picture = Image.new('RGB', (6, 4), 'white'); pen = ImageDraw.Draw(picture); same = picture
"""
RED = (255, 0, 0)


def test_what_draws_goes_along_and_stays_on_its_picture(notebook: Notebook) -> None:
    """The cell draws on the picture that it has, and so does the notebook later."""
    notebook.here(SETUP)
    notebook.there("pen.point((1, 1), 'red'); there = picture.getpixel((1, 1))")
    assert notebook.here("there, picture.getpixel((1, 1)), same is picture") == (RED, RED, True)
    notebook.here("pen.point((2, 2), 'red')")
    assert notebook.here("picture.getpixel((2, 2)), picture.getpixel((1, 1))") == (RED, RED)


def test_a_picture_that_was_changed_keeps_its_pixels_place(notebook: Notebook) -> None:
    """What draws here, and did not go along, draws on it later."""
    notebook.here(SETUP)
    notebook.there("picture.putpixel((0, 0), (255, 0, 0)); picture.info['by'] = 'cell'")
    notebook.here("pen.point((2, 2), 'red')")
    assert notebook.here("[picture.getpixel((n, n)) for n in (0, 2)]") == [RED, RED]
    assert notebook.here("picture.info") == {"by": "cell"}


def test_what_draws_comes_back(notebook: Notebook) -> None:
    """With the picture that it was made for, and its settings."""
    notebook.there(SETUP + "pen.fontmode = '1'")
    notebook.here("pen.point((2, 2), 'red')")
    assert notebook.here("picture.getpixel((2, 2)), pen.fontmode, same is picture") == (
        RED,
        "1",
        True,
    )


def test_a_picture_of_another_size_is_given_its_own_pixels(notebook: Notebook) -> None:
    """Nothing that is here fits."""
    notebook.here(SETUP)
    notebook.there("picture.thumbnail((3, 2))")
    assert notebook.here("picture.size, picture.getpixel((2, 1))") == ((3, 2), (255, 255, 255))
