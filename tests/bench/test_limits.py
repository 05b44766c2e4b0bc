"""The recorded requests are a whole copy, on every server; a replay that is not right is refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bench.arena import Arena, key_count
from bench.datasets import DATA_SETS, load
from bench.prepare import record
from bench.replay import Segment, Stream, replay
from bench.samples import BenchError

from keyferry.payload.equal import payloads_equal
from keyferry.testing.binaries import ServerBinary, find_binaries
from keyferry.testing.servers import Server
from keyferry.wire.resp import encode_command

KEYS = 3_000


@pytest.fixture(scope="module", params=sorted(find_binaries()))
def arena(request: pytest.FixtureRequest, binaries: dict[str, ServerBinary]) -> Iterator[Arena]:
    with Arena(binaries[request.param]) as arena:
        load(arena.source, DATA_SETS["mix"], KEYS)
        arena.fresh_target()
        yield arena


def test_the_streams_carry_every_key_with_value_and_expiry(arena: Arena) -> None:
    streams = record(arena)
    arena.fresh_target()
    with arena.session(arena.source) as source:
        replay(source, streams.source)
    with arena.session(arena.target) as target:
        replay(target, streams.target)
    expected = _content(arena.source)
    assert len(expected) == key_count(arena.source) == streams.source.keys == streams.target.keys
    found = _content(arena.target)
    assert found.keys() == expected.keys()
    family = arena.binary.family
    for key, (payload, ttl_ms) in expected.items():
        assert payloads_equal(payload, family, found[key][0], family)
        assert found[key][1] == pytest.approx(ttl_ms, abs=20_000)


def test_a_reply_of_another_length_is_refused(arena: Arena) -> None:
    stream = Stream([Segment(encode_command("GET", "no such key"), len(b"$5\r\nvalue\r\n"))], 1, exact=True)
    with arena.session(arena.source) as source, pytest.raises(BenchError, match="reply bytes"):
        replay(source, stream)


def test_a_server_that_goes_away_is_refused(arena: Arena) -> None:
    arena.fresh_target()
    stream = Stream([Segment(encode_command("SHUTDOWN", "NOSAVE"), 5)], 1, exact=True)
    with arena.session(arena.target) as target, pytest.raises(BenchError, match=r"closed|broke"):
        replay(target, stream)


def _content(server: Server) -> dict[bytes, tuple[bytes, int]]:
    """Key -> payload and PTTL."""
    content: dict[bytes, tuple[bytes, int]] = {}
    with server.session() as session:
        keys = session.call("KEYS", "*")
        assert isinstance(keys, list)
        for key in keys:
            assert isinstance(key, bytes)
            payload, ttl_ms = session.pipeline([("DUMP", key), ("PTTL", key)])
            assert isinstance(payload, bytes) and isinstance(ttl_ms, int)
            content[key] = payload, ttl_ms
    return content
