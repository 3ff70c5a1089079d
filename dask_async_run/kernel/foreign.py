"""Clients of clusters that somebody else runs, as the line of ``%async_run_server`` names them."""

from __future__ import annotations

import argparse
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from distributed import Client, Security
from IPython.core.error import UsageError

from dask_async_run.clients import make_client
from dask_async_run.errors import ServerError


def foreign_client(arguments: argparse.Namespace, namespace: dict[str, Any]) -> Client:
    """Connect to a cluster that somebody else runs.

    Parameters
    ----------
    arguments : Namespace
        Of ``options.SERVER``: a variable, an address or a scheduler file, and certificates.
    namespace : dict
        The user's, which has the variable.

    Raises
    ------
    UsageError
        The variable is none, or no cluster.
    ServerError
        No scheduler answers there.
    """
    if arguments.cluster:
        if arguments.cluster not in namespace:
            raise UsageError(f"%async_run_server: there is no variable {arguments.cluster!r}.")
        cluster = namespace[arguments.cluster]
        if isinstance(cluster, Client):
            return cluster
        if not isinstance(getattr(cluster, "scheduler_address", None), str):
            raise UsageError(
                f"%async_run_server: {arguments.cluster} is a {type(cluster).__name__}, and no "
                "Dask cluster or Client."
            )
        return make_client(cluster, set_as_default=False)
    address = arguments.address
    file = arguments.scheduler_file
    if file is None and address and "://" not in address:
        with suppress(OSError, ValueError):  # no file can be called so
            file = address if Path(address).exists() else None
    security = None
    if arguments.tls_ca or arguments.tls_cert or arguments.tls_key:
        security = Security(
            require_encryption=True,
            tls_ca_file=arguments.tls_ca,
            tls_client_cert=arguments.tls_cert,
            tls_client_key=arguments.tls_key,
        )
    if file:
        address = _address_in(file)
    try:
        return make_client(address, security=security, set_as_default=False, timeout="20s")
    except (OSError, ValueError, TypeError) as error:  # the last one: a certificate is missing
        raise ServerError(f"no Dask scheduler answers at {address}: {error}.") from error


def _address_in(file: str) -> str:
    """Read a scheduler file; Dask's client would wait for it for ever."""
    try:
        return str(json.loads(Path(file).expanduser().read_bytes())["address"])
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
    except (ValueError, KeyError, TypeError):
        problem = "has no scheduler's address in it"
    raise ServerError(f"the scheduler file {file} {problem}. Is the scheduler running?")
