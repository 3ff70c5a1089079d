"""A registry on a real cluster, in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry_site import Site


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state folder."""
    return tmp_path / "state"


@pytest.fixture
def site(state: Path) -> Iterator[Site]:
    with Site(state) as site:
        yield site
