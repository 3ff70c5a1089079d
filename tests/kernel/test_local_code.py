"""Which modules beside the notebook go along, and what of them."""

from __future__ import annotations

import io
import os
import sys
import zipfile
from collections.abc import Callable, Iterator
from importlib.util import spec_from_file_location
from pathlib import Path

import pytest

from dask_async_run.kernel import local_code
from dask_async_run.kernel.local_code import LocalCode

Write = Callable[[dict[str, str]], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write files into a folder of ``sys.path``; what was imported of it is unloaded at the end."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def write(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def names(code: LocalCode) -> list[str]:
    """Of the files in the zip file."""
    return zipfile.ZipFile(io.BytesIO(code.packed())).namelist()


def test_what_is_loaded_or_imported_goes_and_what_that_imports(write: Write) -> None:
    """Installed modules, Python's own and those that nobody mentions stay."""
    write(
        {
            "darone.py": "import json, numpy\ndef f():\n    from dartwo import x\n",
            "dartwo.py": "x = 1",
            "darthree.py": "import dartwo",
            "darnobody.py": "1/0",
            "darwrong.py": "def (",
        }
    )
    __import__("darthree")
    mine = {"darone", "dartwo", "darthree", "darwrong"}
    code = LocalCode(["darone", "darwrong", "pandas", "no_such_module"])
    assert {m.name for m in code.modules if m.name.startswith("dar")} == mine
    assert {m.name for m in code.modules} & {"json", "numpy", "pandas", "__main__"} == set()
    assert "darone" not in sys.modules  # found, and not imported


def test_a_package_has_its_data_and_a_folder_of_code_has_none(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for what is hidden, compiled, an environment, or large."""
    monkeypatch.setattr(local_code, "LARGEST_DATA", 10)
    write(
        {
            "darpack/__init__.py": "",
            "darpack/words": "few",
            "darpack/deep/part.py": "# more than ten bytes of code",
            "darpack/table": "more than ten bytes",
            "darpack/env/lib.py": "",
            "darpack/env/pyvenv.cfg": "",
            "darpack/.git/x.py": "",
            "darpack/__pycache__/x.py": "",
            "darspace/part.py": "",
            "darspace/words": "few",
        }
    )
    found = [name for name in names(LocalCode(["darpack", "darspace"])) if "/dar" in name]
    assert [name.partition("/")[2] for name in found] == [
        "darpack/__init__.py",
        "darpack/deep/part.py",
        "darpack/words",
        "darspace/part.py",
    ]


def test_an_editable_install_need_not_be_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finder of its own may know it, and its folder may have another name."""
    source = tmp_path / "lib"
    source.mkdir()
    (source / "__init__.py").touch()

    class Finder:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> object:
            if name != "dareditable":
                return None
            return spec_from_file_location(
                name, source / "__init__.py", submodule_search_locations=[str(source)]
            )

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    code = LocalCode(["dareditable"])
    assert any(name.endswith("/dareditable/__init__.py") for name in names(code))
    assert str(tmp_path) in code.entries


def test_the_same_files_make_the_same_bytes_and_others_others(write: Write) -> None:
    """Whenever they were written; so nothing is sent again that did not change."""
    path = write({"darsame.py": "x = 1"}) / "darsame.py"
    first = LocalCode(["darsame"]).packed()
    os.utime(path, (1, 1))
    assert LocalCode(["darsame"]).packed() == first
    path.write_text("x = 2")
    assert LocalCode(["darsame"]).packed() != first


def test_what_is_too_large_is_named(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """And does not go along, nor keep others back."""
    write({"darlarge.py": "#" * 1000, "darsmall.py": ""})
    monkeypatch.setattr(local_code, "LARGEST", 999)
    code = LocalCode(["darlarge", "darsmall"])
    assert code.too_large["darlarge"] == 1000
    assert "darsmall" in {m.name for m in code.modules}
    assert not any("darlarge" in name for name in names(code))
