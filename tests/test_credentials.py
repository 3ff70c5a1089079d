"""Keys that are texts are never in a file with a name."""

from __future__ import annotations

import os
import pickle
import ssl
import tempfile
from pathlib import Path

import pytest

from dask_async_run.credentials import made


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="files without names are Linux's")
def test_no_key_is_written_to_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process may be killed at any moment; also in another process, which gets them pickled."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))  # nothing can be written here
    descriptors = _open_files()
    security = pickle.loads(pickle.dumps(made()))
    for role in ("client", "scheduler", "worker"):
        context = security.get_connection_args(role)["ssl_context"]
        assert context.verify_mode is ssl.CERT_REQUIRED
    assert security.get_listen_args("scheduler")["ssl_context"].cert_store_stats()["x509"] == 1
    assert _open_files() == descriptors


def test_names_of_files_stay_what_they_are(tmp_path: Path) -> None:
    """Who has certificates in files names these."""
    security = made()
    names = {}
    for field in ("tls_ca_file", "tls_client_cert", "tls_client_key"):
        file = tmp_path / field
        file.write_text(getattr(security, field))
        names[field] = str(file)
    assert made(require_encryption=True, **names).get_connection_args("client")["ssl_context"]
