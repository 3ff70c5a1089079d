"""The connection file: written whole, read only if it can be trusted."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dask_async_run
from dask_async_run.errors import ServerError
from dask_async_run.server import connection as connections
from dask_async_run.server.connection import Connection, Files
from dask_async_run.server.locks import Lock, held, holder


def example(**changes: Any) -> Connection:
    facts: dict[str, Any] = {
        "name": "default",
        "address": "tls://127.0.0.1:1234",
        "dashboard": None,
        "pid": os.getpid(),
        "started": 1.5,
        "state_folder": "/state",
        "host": connections.host(),
        "tls": {"ca": "CA", "cert": "CERT", "key": "SECRET"},
        "version": dask_async_run.__version__,
        "python": "3.11.7",
        "prefix": "/usr",
        "workers": 2,
        "door": "OPEN",
    }
    return Connection(**{**facts, **changes})


@pytest.fixture
def files() -> Files:
    found = Files.of("default")
    found.make_folder()
    return found


def test_what_is_written_is_read(files: Files) -> None:
    assert connections.read(files) is None
    connections.write(files, example())
    assert connections.read(files) == example()
    assert connections.names() == ["default"]
    assert files.connection.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in files.folder.iterdir()] == ["default.json"]
    connections.remove(files)
    connections.remove(files)
    assert connections.read(files) is None


def test_no_folder_no_connection() -> None:
    assert connections.read(Files.of("default")) is None
    assert connections.find("default") is None


def test_the_key_is_not_shown() -> None:
    assert "SECRET" not in repr(example())
    assert "SECRET" not in str(dataclasses.replace(example(), pid=1))


def test_only_a_living_servers_connection_is_found(files: Files) -> None:
    connections.write(files, example())
    assert connections.find("default") is None
    lock = Lock(files.alive)
    assert lock.acquire()
    assert connections.find("default") == example()
    lock.release()
    assert connections.find("default") is None


def test_the_end_of_a_server_is_when_its_lock_is_let_go(files: Files) -> None:
    """Its process may look gone before: then the next one cannot start yet."""
    gone = 2**22 + 1  # larger than any pid
    connections.write(files, example(pid=gone))
    lock = Lock(files.alive)
    assert lock.acquire()
    files.alive.write_text(f"{gone}\n")
    assert holder(files.alive) is None
    seen = []

    def let_go() -> None:
        seen.append(held(files.alive))
        lock.release()

    timer = threading.Timer(0.2, let_go)
    timer.start()
    connections.wait_for_the_end(example(pid=gone))
    assert seen == [True]
    timer.join()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_file_that_others_can_read_is_refused(files: Files, mode: int) -> None:
    connections.write(files, example())
    files.connection.chmod(mode)
    with pytest.raises(ServerError, match=rf"open to other users \(mode {mode:04o}\)"):
        connections.read(files)


def test_a_folder_that_others_can_enter_is_refused(files: Files) -> None:
    connections.write(files, example())
    files.folder.chmod(0o755)
    with pytest.raises(ServerError, match=r"folder .* is open to other users"):
        connections.read(files)
    files.folder.chmod(0o700)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_refused(files: Files) -> None:
    connections.write(files, example())
    os.chown(files.connection, 12345, 12345)
    with pytest.raises(ServerError, match="belongs to user 12345"):
        connections.read(files)


def test_a_link_a_folder_and_a_pipe_are_refused(files: Files, tmp_path: Path) -> None:
    """None is followed, and none makes the reader wait."""
    connections.write(files, example())
    elsewhere = tmp_path / "real.json"
    files.connection.rename(elsewhere)
    files.connection.symlink_to(elsewhere)
    with pytest.raises(ServerError, match="cannot be read"):
        connections.read(files)
    files.connection.unlink()
    os.mkfifo(files.connection, 0o600)
    with pytest.raises(ServerError, match="not a file"):
        connections.read(files)
    files.connection.unlink()
    files.connection.mkdir()
    with pytest.raises(ServerError):
        connections.read(files)


def damaged() -> list[bytes]:
    good = dataclasses.asdict(example())
    texts = [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 5000, json.dumps(good).encode()[:-40]]
    for key in good:
        if key != "dashboard":
            texts.append(json.dumps({**good, key: None}).encode())
            texts.append(json.dumps({k: v for k, v in good.items() if k != key}).encode())
    texts.append(json.dumps({**good, "tls": {"ca": "x", "cert": "y"}}).encode())
    texts.append(json.dumps({**good, "pid": "12"}).encode())
    return texts


@pytest.mark.parametrize("text", damaged())
def test_a_damaged_file_is_a_clear_error(files: Files, text: bytes) -> None:
    files.connection.write_bytes(text)
    files.connection.chmod(0o600)
    with pytest.raises(ServerError, match=r"is damaged .* Remove it") as caught:
        connections.read(files)
    assert "SECRET" not in str(caught.value)


def test_an_older_servers_file_says_so(files: Files) -> None:
    """What it does not know is no damage."""
    facts = {**dataclasses.asdict(example()), "version": "0.0.1"}
    del facts["door"]
    files.connection.write_bytes(json.dumps(facts).encode())
    files.connection.chmod(0o600)
    with pytest.raises(ServerError, match=r"started by dask_async_run 0\.0\.1.* stop --force"):
        connections.read(files)


@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 255))
def test_whatever_happens_to_the_bytes(rubbish: bytes, place: int, byte: int) -> None:
    """Rubbish and flipped bytes: a connection or a clear error."""
    files = Files.of("default")
    files.make_folder()
    good = bytearray(json.dumps(dataclasses.asdict(example())).encode())
    good[place % len(good)] = byte
    for text in (rubbish, bytes(good)):
        files.connection.write_bytes(text)
        files.connection.chmod(0o600)
        with contextlib.suppress(ServerError):
            assert isinstance(connections.read(files), Connection)


def test_keys_of_another_version_are_ignored(files: Files) -> None:
    files.connection.write_text(json.dumps({**dataclasses.asdict(example()), "later": 1}))
    files.connection.chmod(0o600)
    assert connections.read(files) == example()
