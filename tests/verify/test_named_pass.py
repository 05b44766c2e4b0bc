"""A comparison of keys that are named one after the other, on real servers: what differs comes out, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hypothesis import given
from hypothesis import strategies as st
from passing import Passing

from copying import fill_strings
from keyferry.capture.dirty import DirtyKeys
from keyferry.testing.cluster import Cluster
from keyferry.testing.deployment import Deployment
from keyferry.testing.servers import Server
from keyferry.transfer.comparing_config import Sieve
from keyferry.transfer.comparing_names import sifted_pure
from keyferry.verify.named_pass import scan_reply
from keyferry.verify.passes import KeyPass, open_named
from keyferry.wire.resp import Argument

LOOKS_WITHIN_S = 10.0


@given(st.lists(st.binary(max_size=20).filter(lambda key: not key.startswith(b"keyferry:")), min_size=1))
def test_names_go_through_the_sieve_like_those_of_scan(keys: list[bytes]) -> None:
    cursor, lanes = sifted_pure(scan_reply(keys), Sieve(lanes=1))
    assert cursor != b"0"
    assert sum(names.number for _, names in lanes) == len(keys)


@contextmanager
def looking(passing: Passing, names: DirtyKeys, shard: int = 0) -> Iterator[Callable[[], None]]:
    """Gives what lets the pass look at all that has been marked."""
    key_pass: KeyPass = open_named(passing.context, passing.sides.source.shards[shard].id, 0, names)

    def look() -> None:
        until_s = time.monotonic() + LOOKS_WITHIN_S
        while len(names):
            assert time.monotonic() < until_s, "the keys are not looked at"
            ready = passing.poller.wait(5)
            key_pass.turn(ready, time.monotonic())
            key_pass.check_silence(time.monotonic())

    key_pass.begin()
    try:
        yield look
    finally:
        key_pass.close()


def fill(server: Deployment, *commands: tuple[Argument, ...]) -> None:
    with server.session() as session:
        session.pipeline(list(commands))


def test_what_differs_comes_out_time_after_time(server_pair: tuple[Server, Server]) -> None:
    source, target = server_pair
    for server in server_pair:
        fill_strings(server, 2000)
    fill(target, ("SET", "key:1", "stale"), ("DEL", "key:2"), ("SET", "extra", "1"), ("EXPIRE", "key:3", 100))
    fill(source, ("LPUSH", "list", "a", "b"))
    fill(target, ("LPUSH", "list", "b", "a"))
    passing, names = Passing(source, target), DirtyKeys(100_000)
    with looking(passing, names) as look:
        differing = [b"extra", b"key:1", b"key:2", b"key:3", b"list"]
        some = [b"key:%d" % number for number in range(1500)]
        names.mark([*some, *differing, b"on neither side", b"keyferry:reserved"], time.monotonic())
        look()
        assert passing.found.names == differing
        assert not names.flying
        passing.found.suspects.clear()
        fill(target, ("SET", "key:1999", "stale"))
        names.mark([b"key:1999", b"key:1998"], time.monotonic())
        look()
        assert passing.found.names == [b"key:1999"]


def test_a_key_that_is_named_while_it_is_looked_at_is_looked_at_again(
    flushed: Callable[..., Server],
) -> None:
    source, target = flushed("redis-7.0"), flushed("redis-7.0", 1)
    for server in (source, target):
        fill_strings(server, 10)
    passing, names = Passing(source, target), DirtyKeys(100)
    with looking(passing, names) as look:
        names.mark([b"key:1"], time.monotonic())
        look()
        fill(target, ("SET", "key:1", "stale"))
        names.mark([b"key:1"], time.monotonic())  # it rests
        look()
        assert passing.found.names == [b"key:1"]


def test_big_keys_are_handed_out(flushed: Callable[..., Server]) -> None:
    source, target = flushed("redis-7.0"), flushed("redis-7.0", 1)
    for server in (source, target):
        fill(server, ("SADD", "big", *range(5000)), ("SET", "small", "1"))
    passing, names = Passing(source, target, big_key_bytes=10_000), DirtyKeys(100)
    with looking(passing, names) as look:
        names.mark([b"big", b"small"], time.monotonic())
        look()
    assert passing.found.big_names == [b"big"]
    assert not passing.found.suspects


def test_a_clusters_keys_are_looked_at_where_they_are(
    cluster: Callable[..., Cluster], flushed: Callable[..., Server]
) -> None:
    source, target = flushed("redis-7.0"), cluster("redis-7.0")
    for server in (source, target):
        fill_strings(server, 300)
    fill(target, ("SET", "key:7", "stale"), ("DEL", "key:8"))
    passing, names = Passing(source, target), DirtyKeys(1000)
    with looking(passing, names) as look:
        names.mark([b"key:%d" % number for number in range(300)], time.monotonic())
        look()
    assert passing.found.names == [b"key:7", b"key:8"]
