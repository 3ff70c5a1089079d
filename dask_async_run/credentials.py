"""What one connects to a scheduler with."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from distributed.security import Security


class Credentials(Security):
    """Dask's, whose certificates and keys are texts, and which leaves none behind.

    OpenSSL reads them from files only. Dask's own way writes them to a temporary folder for a
    moment, where a process that is killed in this moment leaves its user's key. Here the files
    have no names (``memfd_create``), where the system has such.
    """

    def _get_tls_context(self, tls: Mapping[str, Any], purpose: ssl.Purpose) -> Any:
        with _as_file(tls.get("cert")) as certificate, _as_file(tls.get("key")) as key:
            untyped: Any = super()
            return untyped._get_tls_context({**tls, "cert": certificate, "key": key}, purpose)


@contextmanager
def _as_file(text: str | None) -> Iterator[str | None]:
    """Yield the name of a file that has a text and goes; a text that is such a name as it is."""
    if text is None or "\n" not in text or not hasattr(os, "memfd_create"):
        yield text
        return
    descriptor = os.memfd_create("dask_async_run")
    try:
        os.write(descriptor, text.encode())
        name = f"/proc/self/fd/{descriptor}"
        yield name if os.access(name, os.R_OK) else text
    finally:
        os.close(descriptor)


def made(**fields: Any) -> Any:
    """Make `Credentials` of some fields of `distributed.Security`; new ones, if there are none."""
    untyped: Any = Credentials
    return untyped(**fields) if fields else untyped.temporary()


def for_clients(security: Any, role: str) -> Any:
    """Answer what a client inside a scheduler or a worker connects with.

    One that somebody else started may only have been given its own certificate.

    Parameters
    ----------
    security : Security
        Of the process.
    role : str
        What the process is: ``scheduler`` or ``worker``.
    """
    certificate = getattr(security, f"tls_{role}_cert")
    if not certificate or security.tls_client_cert:
        return security
    return made(
        require_encryption=security.require_encryption,
        tls_ca_file=security.tls_ca_file,
        tls_client_cert=certificate,
        tls_client_key=getattr(security, f"tls_{role}_key"),
    )
