"""TLS by the command line's options: verified, unless somebody says otherwise in so many words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commandline import keyferry

from keyferry.testing.servers import Server
from keyferry.testing.tls import Certificates, TlsTerminator, make_certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def plain(flushed: Callable[..., Server]) -> Server:
    server = flushed("redis-6.2")
    with server.session() as session:
        session.call("SET", "k", "v")
    return server


@pytest.fixture
def target(flushed: Callable[..., Server]) -> Server:
    return flushed("redis-6.2", 1)


@pytest.fixture
def guarded(plain: Server, certificates: Certificates) -> Iterator[str]:
    """The source behind TLS that asks for a certificate of ours."""
    with TlsTerminator(plain, certificates, require_client_cert=True) as terminator:
        yield terminator.url


@pytest.fixture
def open_to_all(plain: Server, certificates: Certificates) -> Iterator[str]:
    with TlsTerminator(plain, certificates) as terminator:
        yield terminator.url


def arrived(target: Server) -> bool:
    with target.session() as session:
        return session.call("GET", "k") == b"v"


def test_a_certificate_of_an_unknown_authority_is_refused(
    open_to_all: str, target: Server, tmp_path: Path
) -> None:
    ended = keyferry("copy", open_to_all, target.url, cwd=tmp_path)
    assert ended.status == 3
    assert "does not verify" in ended.err
    assert "--source-ca" in ended.err
    assert not arrived(target)


def test_the_authority_may_be_named(
    open_to_all: str, target: Server, certificates: Certificates, tmp_path: Path
) -> None:
    ended = keyferry("copy", open_to_all, target.url, "--source-ca", str(certificates.ca), cwd=tmp_path)
    assert ended.status == 0, ended.err
    assert arrived(target)


def test_verification_may_be_turned_off(open_to_all: str, target: Server, tmp_path: Path) -> None:
    ended = keyferry("copy", open_to_all, target.url, "--source-insecure", cwd=tmp_path)
    assert ended.status == 0, ended.err
    assert arrived(target)


def test_a_server_may_ask_for_our_certificate(
    guarded: str, target: Server, certificates: Certificates, tmp_path: Path
) -> None:
    ca = ["--source-ca", str(certificates.ca)]
    ours = ["--source-cert", str(certificates.client_cert), "--source-key", str(certificates.client_key)]
    refused = keyferry("copy", guarded, target.url, *ca, cwd=tmp_path)
    assert refused.status == 3
    assert refused.err.count("error: ") == 1
    ended = keyferry("copy", guarded, target.url, *ca, *ours, cwd=tmp_path)
    assert ended.status == 0, ended.err
    assert arrived(target)


def test_a_target_behind_tls(
    plain: Server, target: Server, certificates: Certificates, tmp_path: Path
) -> None:
    with TlsTerminator(target, certificates) as terminator:
        ended = keyferry("copy", plain.url, terminator.url, "--target-ca", str(certificates.ca), cwd=tmp_path)
    assert ended.status == 0, ended.err
    assert arrived(target)


def test_plain_redis_where_tls_is_spoken_ends_with_a_sentence(
    open_to_all: str, target: Server, tmp_path: Path
) -> None:
    ended = keyferry("copy", open_to_all.replace("rediss://", "redis://"), target.url, cwd=tmp_path)
    assert ended.status == 3
    assert ended.err.startswith("error: The")


def test_a_file_that_is_no_certificate_is_bad_usage(open_to_all: str, target: Server, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing of the kind")
    ended = keyferry("copy", open_to_all, target.url, "--source-ca", "ca.pem", cwd=tmp_path)
    assert ended.status == 2
    assert "--source-ca" in ended.err
