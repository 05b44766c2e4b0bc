"""Big keys are what they are called, a copy that is not whole is refused, and the pinger sees a server that waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from bench.arena import Arena, choose_binary
from bench.big import measure_big
from bench.big_data import BIG_KINDS, BigSize, fill_big, fill_old, look_at_big
from bench.clusters import fill_by_slot
from bench.latency import PINGER, Watcher
from bench.rows import REDISSHAKE_VARIABLE
from bench.samples import BenchError

from keyferry.testing.cluster import Cluster
from keyferry.testing.servers import Server

SIZE = BigSize(keys=3, members=1_200)
TYPES = {"list": b"list", "set": b"set", "zset": b"zset", "hash": b"hash", "stream": b"stream"}
PAUSE_S = 0.4


@pytest.fixture
def arena() -> Iterator[Arena]:
    binary, _ = choose_binary()
    with Arena(binary) as arena:
        arena.fresh_target()
        yield arena


@pytest.mark.parametrize("name", BIG_KINDS)
def test_every_key_is_of_its_kind_and_what_is_missing_is_seen(arena: Arena, name: str) -> None:
    kind = BIG_KINDS[name]
    fill_big(arena.source, kind, SIZE)
    with arena.session(arena.source) as session:
        assert session.pipeline([("TYPE", f"big:{number}") for number in range(3)]) == [TYPES[name]] * 3
        assert session.call(kind.length, "big:2") == SIZE.members
    fill_old(arena.target, kind, SIZE)
    with pytest.raises(BenchError, match="of the lengths \\['1199'\\]"):
        look_at_big(arena.source, arena.target, kind, SIZE)
    with arena.session(arena.target) as session:
        session.call("FLUSHALL")
    fill_big(arena.target, kind, SIZE)
    look_at_big(arena.source, arena.target, kind, SIZE)


def test_other_members_are_seen(arena: Arena) -> None:
    kind = BIG_KINDS["list"]
    fill_big(arena.source, kind, SIZE)
    fill_big(arena.target, kind, SIZE)
    with arena.session(arena.target) as session:
        session.call("LSET", "big:2", 600, "another")
    with pytest.raises(BenchError, match="big:2 differs"):
        look_at_big(arena.source, arena.target, kind, SIZE)


def test_every_way_carries_them_and_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REDISSHAKE_VARIABLE, "")
    binary, _ = choose_binary()
    said: list[str] = []
    # Above --big-key-members, so that keyferry carries them in pieces.
    size = BigSize(keys=2, members=21_000)
    result = measure_big(BIG_KINDS["set"], binary, size, 1, 0.2, said.append)
    measured = [row for row in result.rows if not row.problem]
    assert [(row.name, row.old) for row in measured] == [
        ("keyferry", False),
        ("one-by-one", False),
        ("pipeline", False),
        ("keyferry", True),
        ("one-by-one", True),
    ]
    assert not any(row.failed for row in result.rows)
    for waits in (result.idle, result.busy, *(row.waits[0] for row in measured)):
        assert len(waits.source_us) > 20
        assert len(waits.target_us) > 20
    assert len(said) == 1 + len(measured)


def test_the_pinger_waits_once_for_a_server_that_pauses(start_server: Callable[..., Server]) -> None:
    server = start_server("redis-6.2")
    with Watcher(server.port, PINGER) as watcher:
        time.sleep(0.2)
        server.pause()
        time.sleep(PAUSE_S)
        server.resume()
        time.sleep(0.2)
    waits = sorted(watcher.seen.latencies_us)
    assert PAUSE_S * 1e6 * 0.95 <= waits[-1] < PAUSE_S * 1e6 * 2
    assert waits[-2] < PAUSE_S * 1e6 / 2
    # One per millisecond outside of the pause, and none made up for afterwards.
    assert 100 < len(waits) < 440


def test_a_clusters_keys_are_those_of_one_server(start_cluster: Callable[..., Cluster]) -> None:
    binary, _ = choose_binary()
    cluster = start_cluster(binary.name, 3)
    with Server(binary) as server, server.session() as session, cluster.session() as client:
        for deployment in (server, cluster):
            fill_by_slot(deployment, 2_000)
        keys = session.call("KEYS", "*")
        others = client.call("KEYS", "*")
        assert isinstance(keys, list) and isinstance(others, list)
        assert sorted(map(str, keys)) == sorted(map(str, others))
        assert len(keys) == 2_000
        for key in (b"string:0", b"string:1999"):
            value = session.call("GET", key)
            assert isinstance(value, bytes) and len(value) == 64
            assert client.call("GET", key) == value
