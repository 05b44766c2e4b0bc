"""TLS in front of a plain server, with certificates made on the spot: most server builds have no TLS of their own."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from keyferry.testing.proxy import FaultProxy
from keyferry.testing.servers import HOST, Server

NAME = "localhost"


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files in PEM form: a CA, and what it signed for ``localhost`` and for a client."""

    ca: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path


def make_certificates(directory: Path) -> Certificates:
    """Makes a CA of its own and writes all files into ``directory``. Needs trustme, a test-only dependency."""
    import trustme

    authority = trustme.CA()
    made = Certificates(
        *(directory / f"{name}.pem" for name in ("ca", "server", "server-key", "client", "client-key"))
    )
    authority.cert_pem.write_to_path(str(made.ca))
    for issued, cert, key in (
        (authority.issue_cert(NAME), made.server_cert, made.server_key),
        (authority.issue_cert("client@example.org"), made.client_cert, made.client_key),
    ):
        issued.cert_chain_pems[0].write_to_path(str(cert))
        issued.private_key_pem.write_to_path(str(key))
    return made


class TlsTerminator:
    """Ends TLS for a server that speaks plain TCP.

    Args:
        server: Where the plain text goes.
        certificates: The server's are shown to clients.
        require_client_cert: Refuses clients without a certificate of the same CA.
    """

    def __init__(self, server: Server, certificates: Certificates, require_client_cert: bool = False) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.server_cert, certificates.server_key)
        if require_client_cert:
            context.load_verify_locations(certificates.ca)
            context.verify_mode = ssl.CERT_REQUIRED
        self.proxy = FaultProxy(HOST, server.port, tls=context)
        """For faults on the encrypted side."""

    def __enter__(self) -> TlsTerminator:
        self.proxy.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.proxy.__exit__(kind, error, trace)

    @property
    def port(self) -> int:
        return self.proxy.port

    @property
    def url(self) -> str:
        return f"rediss://{NAME}:{self.port}"
