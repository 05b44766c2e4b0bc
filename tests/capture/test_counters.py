"""Counters of INFO commandstats: what they say, and that scripts and transactions count on every server."""

from __future__ import annotations

import pytest

from keyferry.capture.counters import ALL, NOTHING, Counters, Movement, movement
from keyferry.testing.servers import Server
from keyferry.wire.session import Session


def info(**calls: int) -> bytes:
    lines = [f"cmdstat_{name}:calls={count},usec=9,usec_per_call=1.00" for name, count in calls.items()]
    return "\r\n".join(["# Commandstats", *lines, ""]).encode()


BEFORE = Counters.of(info(ping=4, get=10, xack=2))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("swapdb", Movement(swapped=True)),
        ("flushall", Movement(flushed=True)),
        ("flushdb", Movement(flushed=True)),
        ("xreadgroup", Movement(claims=True)),
        ("xclaim", Movement(claims=True)),
        ("xautoclaim", Movement(claims=True)),
        ("xackdel", Movement(claims=True)),
        ("xgroup", Movement(shapes=True)),
        ("xgroup|create", Movement(shapes=True)),
        ("xgroup|destroy", Movement(shapes=True)),
        ("xsetid", Movement(shapes=True)),
        ("function|load", Movement(functions=True)),
        ("function|restore", Movement(functions=True)),
        ("function|list", NOTHING),
        ("function|dump", NOTHING),
        ("xgroup|help", NOTHING),
        ("xinfo|groups", NOTHING),
        ("xpending", NOTHING),
        ("get", NOTHING),
    ],
)
def test_what_moved(name: str, expected: Movement) -> None:
    calls = {"ping": 4, "get": 10, "xack": 2}
    calls[name] = calls.get(name, 0) + 1
    found = movement(BEFORE, Counters.of(info(**calls)))
    assert found == expected
    assert found.stream_groups == (found.claims or found.shapes)


def test_counters_that_shrank_mean_everything() -> None:
    assert movement(BEFORE, Counters.of(info(ping=1, get=10, xack=2))) == ALL
    assert movement(BEFORE, Counters.of(info(ping=4, xack=2))) == ALL
    assert movement(BEFORE, BEFORE) == NOTHING


def test_hidden_counters_are_unknown_and_move_nothing() -> None:
    hidden = Counters.of(b"# Server\r\nredis_version:7.0.0\r\n")
    assert not hidden.known
    assert BEFORE.known
    assert movement(BEFORE, hidden) == movement(hidden, BEFORE) == NOTHING


def counted(session: Session) -> Counters:
    reply = session.call("INFO", "commandstats")
    assert isinstance(reply, bytes)
    return Counters.of(reply)


def test_scripts_and_transactions_count(server: Server) -> None:
    with server.session() as session:
        session.pipeline([("XADD", "s", "1-0", "f", "v"), ("XGROUP", "CREATE", "s", "g", "0")])
        before = counted(session)
        session.pipeline([("MULTI",), ("SWAPDB", 0, 1), ("SWAPDB", 0, 1), ("EXEC",)])
        after = counted(session)
        assert movement(before, after) == Movement(swapped=True)
        session.call("EVAL", "redis.call('XACK', 's', 'g', '1-0')", "0")
        before, after = after, counted(session)
        assert movement(before, after) == Movement(claims=True)
        session.call("EVAL", "redis.call('XGROUP', 'CREATE', 's', 'h', '0')", "0")
        before, after = after, counted(session)
        assert movement(before, after) == Movement(shapes=True)
        session.pipeline([("MULTI",), ("FLUSHALL",), ("DISCARD",)])
        before, after = after, counted(session)
        assert movement(before, after) == NOTHING
        session.call("CONFIG", "RESETSTAT")
        assert movement(after, counted(session)) == ALL
