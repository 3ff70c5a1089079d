"""The link to the dashboard of a cluster that somebody else started."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import pytest

from dask_async_run.kernel.session import Session
from registry_site import Site

HUB = "{JUPYTERHUB_SERVICE_PREFIX}proxy/{port}/status"


def test_the_link_is_the_one_that_dask_makes(
    folders: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through jupyter-server-proxy on a hub; direct where the template is of elsewhere."""
    with Site(tmp_path / "state") as site:
        session = Session(site.client, None, {}, owns=False)
        port = site.client.scheduler_info()["services"]["dashboard"]
        direct = f"http://127.0.0.1:{port}/status"
        assert session.dashboard == direct
        with dask.config.set({"distributed.dashboard.link": HUB}):
            monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/ada/")
            assert session.dashboard == f"/user/ada/proxy/{port}/status"
            monkeypatch.delenv("JUPYTERHUB_SERVICE_PREFIX")
            assert session.dashboard == direct
        session.close()


def test_the_link_where_the_scheduler_has_an_address_of_ipv6() -> None:
    """Dask's own says ``http://[:8787/status`` there."""
    session: Any = object.__new__(Session)
    session.address, session.connection = "tcp://[::1]:8786", None
    session.client = SimpleNamespace(dashboard_link="http://[:8787/status")
    assert session.dashboard == "http://[::1]:8787/status"
