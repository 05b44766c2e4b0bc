"""Addresses: every form, and no password in anything that can be shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.model.address import parse_endpoint
from keyferry.model.errors import UsageError


@pytest.mark.parametrize(
    ("url", "host", "port", "db", "tls"),
    [
        ("redis://h", "h", 6379, 0, False),
        ("redis://h:1/3", "h", 1, 3, False),
        ("rediss://h:2/", "h", 2, 0, True),
        ("valkey://[::1]:7/4", "::1", 7, 4, False),
        ("valkeys://h", "h", 6379, 0, True),
    ],
)
def test_forms(url: str, host: str, port: int, db: int, tls: bool) -> None:
    endpoint = parse_endpoint(url)
    assert (endpoint.host, endpoint.port, endpoint.db, endpoint.tls is not None) == (host, port, db, tls)


def test_unix_socket() -> None:
    endpoint = parse_endpoint("unix:///run/redis.sock?db=2")
    assert (endpoint.unix_path, endpoint.db, endpoint.location) == ("/run/redis.sock", 2, "/run/redis.sock")


def test_credentials_are_decoded_and_never_shown() -> None:
    endpoint = parse_endpoint("redis://us%40er:p%2Fss%3Aw@h:1")
    assert (endpoint.username, endpoint.password) == ("us@er", "p/ss:w")
    assert "p/ss" not in f"{endpoint} {endpoint!r} {endpoint.location}"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "h:6379",
        "http://h",
        "redis://",
        "redis://h:x",
        "redis://h:70000",
        "redis://h/a",
        "redis://h?x=1",
        "unix://",
        "redis://u:sec#ret@h",
    ],
)
def test_bad_addresses_are_one_sentence(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_endpoint(url)
    assert caught.value.hint
    assert "sec" not in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_a_usage_error(text: str) -> None:
    try:
        parse_endpoint(text)
    except UsageError:
        pass
