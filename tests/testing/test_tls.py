"""The terminator speaks TLS as a server would, and refuses whom it should."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from keyferry.model.address import TlsSettings, parse_endpoint
from keyferry.model.errors import ServerError
from keyferry.testing.binaries import ServerBinary
from keyferry.testing.servers import Server
from keyferry.testing.tls import Certificates, TlsTerminator, make_certificates
from keyferry.wire.session import ConnectionLost, Session


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def plain_server(binaries: dict[str, ServerBinary], flushed: Callable[[str], Server]) -> Server:
    return flushed(next(iter(binaries)))


def _open(terminator: TlsTerminator, settings: TlsSettings, url: str = "") -> Session:
    return Session(parse_endpoint(url or terminator.url, settings), "source", timeout_s=10)


def test_a_client_that_knows_the_ca_gets_through(plain_server: Server, certificates: Certificates) -> None:
    value = bytes(range(256)) * 20_000
    with (
        TlsTerminator(plain_server, certificates) as terminator,
        _open(terminator, TlsSettings(ca_file=str(certificates.ca))) as session,
    ):
        assert session.call("SET", "big", value) == b"OK"
        assert session.call("GET", "big") == value
        assert session.pipeline([("SET", "key", "value"), ("GET", "key")]) == [b"OK", b"value"]


def test_a_client_without_the_ca_refuses(plain_server: Server, certificates: Certificates) -> None:
    with TlsTerminator(plain_server, certificates) as terminator:
        with pytest.raises(ServerError, match="does not verify"):
            _open(terminator, TlsSettings())
        _open(terminator, TlsSettings(verify=False)).close()


def test_the_name_must_match(plain_server: Server, certificates: Certificates) -> None:
    with (
        TlsTerminator(plain_server, certificates) as terminator,
        pytest.raises(ServerError, match="does not verify"),
    ):
        _open(terminator, TlsSettings(ca_file=str(certificates.ca)), f"rediss://127.0.0.1:{terminator.port}")


def test_a_client_certificate_is_asked_for(plain_server: Server, certificates: Certificates) -> None:
    ca = str(certificates.ca)
    with TlsTerminator(plain_server, certificates, require_client_cert=True) as terminator:
        with pytest.raises(ServerError):
            _open(terminator, TlsSettings(ca_file=ca))
        settings = TlsSettings(ca, str(certificates.client_cert), str(certificates.client_key))
        with _open(terminator, settings) as session:
            assert session.call("PING") == b"PONG"


def test_plain_text_is_refused(plain_server: Server, certificates: Certificates) -> None:
    with TlsTerminator(plain_server, certificates) as terminator, pytest.raises(ServerError):
        Session(parse_endpoint(f"redis://localhost:{terminator.port}"), "source", connect_timeout_s=1.0)


def test_faults_hit_the_encrypted_side(plain_server: Server, certificates: Certificates) -> None:
    with (
        TlsTerminator(plain_server, certificates) as terminator,
        _open(terminator, TlsSettings(ca_file=str(certificates.ca))) as session,
    ):
        terminator.proxy.cut()
        with pytest.raises(ConnectionLost):
            session.call("PING")
