"""Addresses: every form, and no password in anything that can be shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.model.address import Endpoint, TlsSettings, names_database, parse_endpoint, parse_place
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
        "redis://u:sec@h,i",
        "redis://u:sec@h:1,i:2",
        "redis+cluster://",
        "redis+cluster://u:sec@",
        "redis+cluster://h:1,",
        "redis+cluster://,h:1",
        "redis+cluster://h:1,i:x",
        "redis+cluster://h:1,i:70000",
        "redis+cluster://::1,::2",
        "redis+cluster://[::1,h",
        "redis+cluster://u:sec@h/1",
        "redis+cluster://u:sec@h/a",
        "redis+cluster://h?x=1",
        "redis+cluster://u:sec#ret@h",
        "http+cluster://h",
        "unix+cluster:///s",
    ],
)
def test_bad_addresses_are_one_sentence(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_endpoint(url)
    assert caught.value.hint
    assert "sec" not in str(caught.value)


@given(
    st.sampled_from(["", "redis://", "redis+cluster://"]),
    st.one_of(st.text(max_size=40), st.text("a1:,[]@/?#%.", max_size=12)),
)
def test_any_text_is_an_address_or_a_usage_error(scheme: str, text: str) -> None:
    try:
        endpoint = parse_endpoint(scheme + text)
    except UsageError:
        return
    assert names_database(scheme + text) in (True, False)
    assert len(endpoint.seeds()) == 1 + len(endpoint.alternatives)


@pytest.mark.parametrize(
    ("url", "places", "tls"),
    [
        ("redis+cluster://a", [("a", 6379)], False),
        ("rediss+cluster://A:1,b", [("a", 1), ("b", 6379)], True),
        ("valkey+cluster://[::1]:1,[::2],a:3/", [("::1", 1), ("::2", 6379), ("a", 3)], False),
        ("VALKEYS+CLUSTER://a:1,a:2,a:1/0", [("a", 1), ("a", 2)], True),
    ],
)
def test_cluster_addresses_name_nodes_to_start_from(
    url: str, places: list[tuple[str, int]], tls: bool
) -> None:
    endpoint = parse_endpoint(url)
    assert (endpoint.cluster, endpoint.db, endpoint.tls is not None) == (True, 0, tls)
    seeds = endpoint.seeds()
    assert [(seed.host, seed.port) for seed in seeds] == places
    assert all((seed.cluster, seed.alternatives) == (False, ()) for seed in seeds)
    assert parse_endpoint(str(endpoint)) == endpoint


def test_cluster_credentials_go_to_every_node_and_are_never_shown() -> None:
    endpoint = parse_endpoint("rediss+cluster://us%40er:p%2Fs,s@h:1,i:2", TlsSettings(ca_file="ca"))
    assert str(endpoint) == "rediss+cluster://h:1,i:2"
    assert "p/s" not in repr(endpoint)
    for node in (*endpoint.seeds(), endpoint.at("j", 3)):
        assert (node.username, node.password, node.tls) == ("us@er", "p/s,s", TlsSettings(ca_file="ca"))


def test_another_place_has_the_same_credentials_and_database_0() -> None:
    plain = Endpoint(unix_path="/s", db=3, username="u", password="p")
    assert plain.seeds() == (plain,)
    assert plain.at("h", 1) == Endpoint(host="h", port=1, username="u", password="p")


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("redis://h", False),
        ("redis://h/", False),
        ("redis://h/0", True),
        ("unix:///s", False),
        ("unix:///s?db=0", True),
        ("redis+cluster://h,[::1]:2", False),
        ("redis+cluster://h,[::1]:2/", False),
        ("redis+cluster://h,[::1]:2/0", True),
    ],
)
def test_whether_the_database_is_named(url: str, named: bool) -> None:
    assert names_database(url) is named


@pytest.mark.parametrize(
    "text", ["", ":1", "h:", "h:x", "h:65536", "::1", "[::1]x", "[::1", "[h]:1", "u@h", "a b"]
)
def test_bad_places(text: str) -> None:
    with pytest.raises(UsageError):
        parse_place(text)
