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


FILM = """\
import io
from PIL import Image
frames = [Image.new('RGB', (6, 4), (n * 80, 0, 0)) for n in range(3)]; frames[1].putpixel((0, 0), 9)
file = io.BytesIO(); frames[0].save(file, {format!r}, save_all=True, append_images=frames[1:])
film = Image.open(file); same = film
"""
SEEN = "film.tell(), film.n_frames, film.convert('RGB').getpixel((5, 3)), film.format, same is film"


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG"])
def test_a_file_with_several_frames_has_them_all(notebook: Notebook, kind: str) -> None:
    """The cell goes to another one, and so does the notebook later, also if a cell opened it."""
    setup = FILM.format(format=kind)
    plainly: dict[str, object] = {}
    exec(setup + "film.seek(1)", plainly)
    notebook.here(setup)
    notebook.there(f"n = film.n_frames; film.seek(1); there = {SEEN}")
    expected = eval(SEEN, plainly)
    assert notebook.here(f"n, there, ({SEEN})") == (3, expected, expected)
    notebook.here("film.seek(2)")
    exec("film.seek(2)", plainly)
    assert notebook.here(SEEN) == eval(SEEN, plainly)
    notebook.there(setup + "film.seek(2); film.seek(0); film.putpixel((1, 1), 3)")
    exec(setup + "film.seek(2); film.seek(0); film.putpixel((1, 1), 3)", plainly)
    for later in ("film.load()", "film.seek(2)", "film.seek(0)"):
        notebook.here(later)
        exec(later, plainly)
        assert notebook.here(f"{SEEN}, film.tobytes()") == eval(f"{SEEN}, film.tobytes()", plainly)
