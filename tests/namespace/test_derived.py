"""Objects of classes that a library makes at run time, as pint does for each of its registries."""

from __future__ import annotations

from typing import Any

import pytest

from notebook import Notebook

UNITS = """
class Unit:
    def __init__(self, names): self.names = names
class Quantity:
    def __new__(cls, value, unit):
        if unit not in cls.registry.names: raise LookupError(unit)
        made = object.__new__(cls)
        made.value, made.unit = value, unit
        return made
    def __add__(self, other):
        if self.registry is not other.registry: raise ValueError("quantities of two registries")
        return type(self)(self.value + other.value, self.unit)
    def __reduce__(self):
        return load, (Quantity, self.value, self.unit)
class Registry:
    def __init__(self, *names):
        self.names = {*names}
        self.Quantity = type("Quantity", (Quantity,), {"registry": self, "__module__": __name__})
everybodys = Registry("metre", "mile")
def load(cls, value, unit):
    return everybodys.Quantity(value, unit)
"""


@pytest.fixture
def units(notebook: Notebook, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Notebook:
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "some_units.py").write_text(UNITS)
    monkeypatch.syspath_prepend(str(folder))
    return notebook


@pytest.mark.contract(3)
def test_a_quantity_keeps_its_registry(units: Notebook) -> None:
    """Its own pickling gives it that of all: it would not add up with the others."""
    units.here(
        "import some_units; mine = some_units.Registry('mile', 'day'); q = mine.Quantity(1, 'mile')"
    )
    units.here("days = [mine.Quantity(2, 'day')]")
    units.there("r = q + mine.Quantity(2, 'mile'); more = days[0] + days[0]")
    assert units.here("(r + q).value, more.value, r.registry is mine") == (4, 4, True)
    assert units.here("type(r) is type(q) is mine.Quantity")


@pytest.mark.contract(3)
def test_a_quantity_of_everybodys_registry_is_one_there(units: Notebook) -> None:
    """What a library's own way keeps, is left to it."""
    units.here("import some_units; q = some_units.everybodys.Quantity(1, 'mile')")
    units.there("r = q + some_units.everybodys.Quantity(2, 'mile')")
    assert units.here("(r + q).value, r.registry is some_units.everybodys") == (4, True)
