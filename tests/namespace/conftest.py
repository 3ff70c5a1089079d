"""A notebook for each test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from notebook import Notebook, notebook_in


@pytest.fixture
def notebook(folders: Any) -> Iterator[Notebook]:
    with notebook_in(folders.home / "frames") as made:
        yield made
