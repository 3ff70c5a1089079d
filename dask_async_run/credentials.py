"""What one connects to a scheduler with."""

from __future__ import annotations

from typing import Any

from distributed.security import Security


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
    return Security(
        require_encryption=security.require_encryption,
        tls_ca_file=security.tls_ca_file,
        tls_client_cert=certificate,
        tls_client_key=getattr(security, f"tls_{role}_key"),
    )
