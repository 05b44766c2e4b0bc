"""MONITOR's lines, as real servers write them, and what follows from them."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.capture.audit_sample import Sample
from keyferry.capture.monitor import Heard, read
from keyferry.capture.tap import Tap, TapLimits, listen
from keyferry.testing.proxy import FaultProxy
from keyferry.testing.servers import Server
from keyferry.wire.resp import Argument

EVERY_BYTE = bytes(range(256))
SCRIPT = "redis.call('SET', KEYS[1], '1'); return redis.call('GET', 'hidden')"


def heard(server: Server, *commands: tuple[Argument, ...], limits: TapLimits | None = None) -> list[Heard]:
    """What MONITOR says of these commands, sent while it listens."""
    tap = Tap(server.endpoint, "source", limits or TapLimits(seconds=5, rise_ms=0))
    with server.session(3) as session:
        sent = False

        def turn(_: float, lines: int) -> bool:
            nonlocal sent
            if lines and not sent:  # "+OK": it listens
                sent = True
                session.pipeline([*commands, ("ECHO", "the end")])
            return b'"the end"' not in tap.taken

        (tapped,) = listen([tap], turn)
    return [one for one in read(tapped.data) if tap.nonce not in one.args and one.args[0] != b"ECHO"]


def test_every_byte_comes_back(server: Server) -> None:
    commands: list[tuple[Argument, ...]] = [
        (b"SET", EVERY_BYTE, b'"] "\\x00'),
        (b"set", b"", b"\\"),
        (b"GET", b"\r\n\t\a\b"),
    ]
    found = heard(server, *commands)
    assert [one.args for one in found] == commands
    assert {one.database for one in found} == {3}
    assert not any(one.in_script for one in found)


def test_a_script_comes_before_what_it_calls(server: Server) -> None:
    found = heard(server, ("EVAL", SCRIPT, 1, "told"), ("MULTI",), ("GET", "a"), ("EXEC",))
    assert [(one.args[0].upper(), one.in_script) for one in found] == [
        (b"EVAL", False),
        (b"SET", True),
        (b"GET", True),
        (b"MULTI", False),
        (b"GET", False),
        (b"EXEC", False),
    ]


def test_a_sample_of_what_a_cluster_refuses(server: Server) -> None:
    found = heard(
        server,
        ("MSET", "{t}a", "1", "{t}b", "2"),
        ("MSET", "a", "1", "b", "2"),
        ("MULTI",),
        ("SET", "a", "1"),
        ("SET", "b", "1"),
        ("EXEC",),
        ("MULTI",),
        ("SET", "a", "1"),
        ("EXEC",),
        ("MULTI",),
        ("SET", "b", "1"),
        ("DISCARD",),
        ("EVAL", SCRIPT, 1, "told"),
        ("EVAL", "return redis.call('GET', KEYS[1])", 1, "told"),
        ("SET", "keyferry:x", "1"),
    )
    sample = Sample()
    sample.add_all(found, b"nobody")
    assert (sample.transactions, sample.crossing_transactions) == (2, 1)
    mset, script = sample.commands["MSET"], sample.commands["EVAL"]
    assert (mset.calls, mset.several_keys, mset.crossing) == (2, 2, 1)
    assert (script.calls, script.undeclared, script.crossing) == (2, 1, 1)
    assert "GET" not in sample.commands, "only the scripts called it"
    assert sample.commands["SET"].keys == [b"a", b"b"], (
        "ours are no content; a discarded one was never executed"
    )
    assert sample.databases == {3}


def test_transactions_of_several_clients_are_told_apart() -> None:
    lines = b"".join(
        b"1.0 [0 10.0.0.1:%d] %b\n" % (port, args)
        for port, args in (
            (1, b'"multi"'),
            (2, b'"multi"'),
            (1, b'"set" "a" "1"'),
            (1, b'"exec"'),
            (3, b'"set" "c" "1"'),
            (2, b'"set" "b" "1"'),
            (2, b'"exec"'),
        )
    )
    sample = Sample()
    sample.add_all(read(lines), b"nobody")
    assert (sample.transactions, sample.crossing_transactions) == (2, 0)


@pytest.mark.parametrize("client", [b"[::1]:50000", b"unix:/tmp/a b", b"lua", b"10.0.0.1:1"])
def test_clients_of_every_kind(client: bytes) -> None:
    (one,) = read(b'+1700000000.123456 [12 %b] "get" "k"\r\n' % client)
    assert one == Heard(12, client, (b"get", b"k"))


@given(st.binary())
def test_nothing_makes_it_fail(data: bytes) -> None:
    for one in read(data):
        assert one.args


def test_half_a_line_is_left_out() -> None:
    assert not list(read(b'+OK\r\n1.0 [0 1.1.1.1:1] "set" "k" "va'))


def test_it_ends_at_the_lines_and_at_the_bytes(server: Server) -> None:
    for limits, why in (
        (TapLimits(seconds=20, lines_max=50, rise_ms=0), "lines"),
        (TapLimits(seconds=20, bytes_max=10_000, rise_ms=0), "bytes"),
    ):
        tap = Tap(server.endpoint, "source", limits)
        with server.session() as session:
            (tapped,) = listen([tap], lambda *_: bool(session.call("SET", "k", "v" * 100)))
        assert tapped.why == why
        assert tapped.seconds < 20


def test_it_ends_when_the_server_gets_late(flushed: Callable[..., Server]) -> None:
    server = flushed("redis-7.0")
    with FaultProxy("127.0.0.1", server.port) as proxy:
        endpoint = server.endpoint.at("127.0.0.1", proxy.port)
        tap = Tap(endpoint, "source", TapLimits(seconds=20, rise_ms=50))
        late = False

        def turn(seconds: float, _: int) -> bool:
            nonlocal late
            if seconds > 0.5 and not late:
                late = True
                proxy.delay(0.2)
            return True

        began_s = time.monotonic()
        (tapped,) = listen([tap], turn)
    assert tapped.why == "latency"
    assert time.monotonic() - began_s < 5


def test_who_may_not_listen_is_told_why(start_server: Callable[..., Server]) -> None:
    server = start_server("redis-7.0", user="default on nopass ~* +@all -monitor")
    (tapped,) = listen([Tap(server.endpoint, "source", TapLimits(seconds=20))], lambda *_: True)
    assert "NOPERM" in tapped.why
    assert tapped.seconds < 5
