"""Counterexamples 3, 4 and 5 of the protocol: two writers with mirrored writes, of which one feed alone tells too little.

Each test makes one interleaving, leg by leg, and fails when the rule that it is named after is taken out: when the
target's names are not looked at, when our own writes are subtracted from them, when a ledger names keys too early.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from legs import Writer

from copying import ask, wait_until
from following import Sync, becomes_equal, syncing
from keyferry.capture.kinds import FeedKind
from keyferry.capture.ledger_format import ledger_keys, member
from keyferry.testing.servers import Server
from keyferry.wire.resp import encode_command

KEYS = ledger_keys("orders")
MakeWriter = Callable[..., Writer]


@pytest.fixture
def writer() -> Iterator[MakeWriter]:
    with ExitStack() as stack:

        def make(source: Server, target: Server, *, ahead: bool) -> Writer:
            made = Writer(source, target, ahead=ahead)
            stack.callback(made.close)
            return made

        yield make


def follows_mirror(sync: Sync, writer: Writer) -> None:
    """Until the target's feed is heard, and everything was compared after that."""
    writer.announce()
    wait_until(lambda: sync.last.generation == 2, "the target is followed, and everything is compared")
    sync.follows()


def settled(sync: Sync, server: Server, key: str, value: bytes) -> None:
    """The target has it, and nothing is dirty any more."""
    wait_until(lambda: ask(server, "GET", key) == value, f"{key} is {value!r}")
    time.sleep(0.5)
    sync.follows()


def test_a_second_leg_that_comes_after_the_key_was_settled(
    server_pair: tuple[Server, Server], tmp_path: Path, writer: MakeWriter
) -> None:
    """Counterexample 3, rule 2. Only the target's feed names the last write."""
    source, target = server_pair
    w0, w1 = writer(source, target, ahead=False), writer(source, target, ahead=False)
    with syncing(source, target, tmp_path, name="orders", feed=FeedKind.TRACKING) as sync:
        follows_mirror(sync, w0)
        first, second = w0.write("SET", "k", "a"), w1.write("SET", "k", "b")
        first.first_leg()
        second.first_leg()
        second.second_leg()
        settled(sync, target, "k", b"b")
        first.second_leg()
        becomes_equal(source, target)
        assert sync.last.foreign_keys == 0
        assert not [told for told in sync.told if "Somebody else" in told]


@pytest.mark.parametrize("ours_first", [False, True])
@pytest.mark.parametrize("make", ["redis-7.0", "valkey-9.1"])
def test_a_second_leg_in_one_loop_turn_with_our_own_write(
    flushed: Callable[..., Server],
    start_server: Callable[..., Server],
    tmp_path: Path,
    writer: MakeWriter,
    make: str,
    ours_first: bool,
) -> None:
    """Counterexample 4, rule 3. The target stands still until both have arrived, so it names the key once."""
    source, target = flushed("redis-7.0"), start_server(make)
    w0 = writer(source, target, ahead=False)
    with (
        target.session(side="target") as leg,
        syncing(source, target, tmp_path, name="orders", feed=FeedKind.TRACKING) as sync,
    ):
        follows_mirror(sync, w0)
        target.pause()
        try:
            if not ours_first:
                leg.detach().sendall(encode_command("SET", "k", "stale"))
            ask(source, "SET", "k", "new")
            time.sleep(0.3)
            if ours_first:
                leg.detach().sendall(encode_command("SET", "k", "stale"))
        finally:
            target.resume()
        becomes_equal(source, target)
        assert ask(target, "GET", "k") == b"new"


def test_two_writers_that_reach_the_servers_in_opposite_order(
    server_pair: tuple[Server, Server], tmp_path: Path, writer: MakeWriter
) -> None:
    """Counterexample 5, rule 6. No feed at all; both succeed, and the key is settled between their second legs."""
    source, target = server_pair
    w0, w1 = writer(source, target, ahead=True), writer(source, target, ahead=True)
    w0.announce()
    for one in (w0, w1):
        one.register(lease_ms=60_000)
    with syncing(source, target, tmp_path, name="orders", feed=FeedKind.WRITERS) as sync:
        sync.follows()
        first, second = w0.write("SET", "k", "a"), w1.write("SET", "k", "b")
        first.first_leg()
        second.run()
        settled(sync, target, "k", b"b")
        first.second_leg()
        assert ask(target, "GET", "k") == b"a"
        first.done()
        becomes_equal(source, target)


def test_what_a_weaker_ledger_leaves(
    flushed: Callable[..., Server], tmp_path: Path, writer: MakeWriter
) -> None:
    """Why an entry is done only after the last leg: a report together with the write comes too early."""
    source, target = flushed("redis-7.0"), flushed("redis-7.0", 1)
    w0, w1 = writer(source, target, ahead=False), writer(source, target, ahead=False)
    w0.announce()
    with syncing(source, target, tmp_path, name="orders", feed=FeedKind.WRITERS) as sync:
        sync.follows()
        for one, value in ((w0, "a"), (w1, "b")):
            report = ("SADD", KEYS.dirty, member(0, b"k"))
            one.source.pipeline([("MULTI",), ("SET", "k", value), report, ("EXEC",)])
        ask(target, "SET", "k", "b")
        settled(sync, target, "k", b"b")
        ask(target, "SET", "k", "a")
        time.sleep(1)
        assert ask(source, "GET", "k") == b"b"
        assert ask(target, "GET", "k") == b"a"
        assert any("do not report ahead" in told for told in sync.told)
