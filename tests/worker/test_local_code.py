"""A notebook's local code where its cell runs."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dask_async_run.frames import FrameStore
from dask_async_run.job import JobSpec
from dask_async_run.worker.local_code import enter
from scripted import job_spec


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FrameStore]:
    monkeypatch.setattr(sys, "path", ["", "/usr/nobody", *sys.path])
    yield FrameStore(tmp_path / "frames")
    for name in [name for name in sys.modules if name.startswith("darcell")]:
        del sys.modules[name]


def sent(store: FrameStore, entry: str, folder: str = "", **modules: str) -> JobSpec:
    """A job that came with modules of one folder, or from the working folder `folder`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in modules.items():
            archive.writestr(f"0/{name}.py", text)
    frame = store.put(buffer.getvalue())
    made = {"frame": [frame.digest, frame.size], "entries": [entry], "names": list(modules)}
    return job_spec(modules={**made, "folder": folder})


def test_it_takes_the_place_of_the_notebooks_folder(store: FrameStore, tmp_path: Path) -> None:
    """Also of the working folder, which is ``''`` there; else it comes first."""
    folder = tmp_path / "modules"
    enter([sent(store, "/nb", "/nb", darcell1="x = 1")], store, folder)
    assert sys.path[0].startswith(str(folder))
    assert sys.path[1] == "/usr/nobody"
    assert __import__("darcell1").x == 1
    enter([sent(store, "/usr/nobody", darcell2="x = 2")], store, folder)
    assert sys.path[1].startswith(str(folder))
    enter([sent(store, "/editable", darcell3="x = 3")], store, folder)
    assert sys.path[0].startswith(str(folder))
    assert "/usr/nobody" not in sys.path
    assert [__import__(name).x for name in ("darcell2", "darcell3")] == [2, 3]


def test_what_is_seen_with_the_same_files_is_used_as_it_is(
    store: FrameStore, tmp_path: Path
) -> None:
    """Data beside it is found there then. With other files it is not."""
    there = tmp_path / "nb"
    there.mkdir()
    (there / "darcell4.py").write_text("x = 4")
    sys.path[0] = str(there)
    enter([sent(store, str(there), darcell4="x = 4")], store, tmp_path / "modules")
    assert sys.path[0] == str(there)
    enter([sent(store, str(there), darcell4="x = 5")], store, tmp_path / "modules")
    assert sys.path[0] != str(there)
    assert __import__("darcell4").x == 5


def test_a_jobs_own_state_goes_before_those_that_it_builds_on(
    store: FrameStore, tmp_path: Path
) -> None:
    """What only an earlier job came with is found, too; what is loaded of another state is not."""
    parent = sent(store, "/nb", "/nb", darcell6="x = 'old'", darcell7="x = 7")
    enter([parent], store, tmp_path / "modules")
    assert __import__("darcell6").x == "old"
    own = sent(store, "/nb", "/nb", darcell6="x = 'new'")
    enter([parent, job_spec(), own], store, tmp_path / "modules")
    assert __import__("darcell6").x == "new"
    assert __import__("darcell7").x == 7


def test_cells_of_one_worker_share_it(store: FrameStore, tmp_path: Path) -> None:
    """It is unpacked once for each state of the files, and whole when it is there."""
    folder = tmp_path / "modules"
    for text in ("1", "1", "2"):
        enter([sent(store, "/nb", darcell8=text)], store, folder)
    assert len(list(folder.iterdir())) == 2
