"""The reading side of a ledger on every server: what is taken, what is left alone, what a refusal does."""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Callable, Iterator

import pytest

from copying import ask, fill
from keyferry.capture.ledger_feed import BITE, LedgerFeed, Told
from keyferry.capture.ledger_format import EVERYTHING, Mode, ledger_keys, member, pack
from keyferry.model.phases import Phase, Side
from keyferry.model.record import writers_key
from keyferry.model.writers import WriterEntry, WriterFacts, encode_entry
from keyferry.testing.cluster import Cluster
from keyferry.testing.servers import Server

KEYS = ledger_keys("orders")
OpenFeed = Callable[..., LedgerFeed]


@pytest.fixture
def attach() -> Iterator[OpenFeed]:
    """``attach(server, databases=(0,))``: closed after the test."""
    with contextlib.ExitStack() as stack:

        def start(server: Server, databases: tuple[int, ...] = (0,)) -> LedgerFeed:
            feed = LedgerFeed(server.session(), "orders", databases)
            stack.callback(feed.close)
            return feed

        yield start


def read(feed: LedgerFeed, seconds: float = 5.0) -> Told:
    """All that is there when this is called."""
    request, until_s = feed.request(), time.monotonic() + seconds
    while not feed.answered(request) and not feed.moved and time.monotonic() < until_s:
        turn(feed)
    return feed.take()


def turn(feed: LedgerFeed) -> None:
    feed.turn(time.monotonic())
    poll = select.poll()
    poll.register(feed.fileno(), feed.events)
    if poll.poll(20):
        feed.read(time.monotonic())


def entry_of(renewals: int, lease_ms: int) -> bytes:
    facts = WriterFacts("host", 7, "a test's writer")
    connections: dict[Side, tuple[str, ...]] = {Side.TARGET: ("12",)}
    return encode_entry(WriterEntry(facts, lease_ms, renewals, Phase.DUAL, 3, connections))


def test_names_are_taken_off_with_their_database(server: Server, attach: OpenFeed) -> None:
    feed = attach(server, (0, 2))
    assert read(feed) == Told()
    ask(server, "SADD", KEYS.dirty, member(0, b"a"), member(5, b"elsewhere"))
    ask(server, "SADD", KEYS.dirty, member(2, b"a:b"), db=2)
    told = read(feed)
    assert {database: sorted(keys) for database, keys in told.keys.items()} == {
        0: [b"a"],
        5: [b"elsewhere"],
        2: [b"a:b"],
    }
    assert not told.everything
    assert ask(server, "DBSIZE") == ask(server, "DBSIZE", db=2) == 0


def test_many_names_come_in_bites(server: Server, attach: OpenFeed) -> None:
    feed = attach(server)
    names = [b"%d" % number for number in range(2 * BITE + 7)]
    fill(server, [("SADD", KEYS.dirty, *(member(0, name) for name in names))])
    assert sorted(read(feed).keys[0]) == sorted(names)


def test_without_room_the_server_keeps_them(server: Server, attach: OpenFeed) -> None:
    feed = attach(server)
    ask(server, "SADD", KEYS.dirty, member(0, b"a"))
    feed.has_room = False
    request = feed.request()
    assert read(feed, 0.5) == Told()
    assert not feed.answered(request)
    assert ask(server, "SCARD", KEYS.dirty) == 1
    feed.has_room = True
    assert read(feed).keys == {0: [b"a"]}


def test_everything_is_taken_off_before_it_is_told(server: Server, attach: OpenFeed) -> None:
    feed = attach(server)
    ask(server, "SET", KEYS.full, 1)
    assert read(feed).everything
    assert not ask(server, "EXISTS", KEYS.full)
    assert not read(feed).everything


def test_what_cannot_be_read_as_a_name_is_everything(server: Server, attach: OpenFeed) -> None:
    feed = attach(server)
    ask(server, "SADD", KEYS.dirty, "no member")
    assert read(feed).everything


def test_modes_and_writers_are_known_before_anything_else(server: Server, attach: OpenFeed) -> None:
    ask(server, "SADD", KEYS.modes, Mode.AHEAD)
    ask(server, "HSET", writers_key("orders"), "w1", entry_of(1, 10_000))
    ask(server, "HSET", writers_key("orders"), "broken", "{")
    feed = attach(server)
    assert feed.modes == {Mode.AHEAD}
    assert set(feed.writers) == {"w1"}
    assert feed.writers["w1"].connections == {Side.TARGET: ("12",)}


def test_an_entry_is_over_when_its_writers_lease_is(server: Server, attach: OpenFeed) -> None:
    ask(server, "HSET", writers_key("orders"), "w1", entry_of(1, 300), "w2", entry_of(1, 60_000))
    packed = pack([member(0, b"a"), member(3, b"b")])
    ask(server, "HSET", KEYS.open, "w1:1", packed, "w2:1", pack([member(0, b"c")]), "w1:2", EVERYTHING)
    feed = attach(server)
    assert read(feed).over == []
    time.sleep(0.35)
    ask(server, "HSET", writers_key("orders"), "w1", entry_of(2, 300))  # it lives
    assert read(feed).over == []
    time.sleep(0.35)
    told = read(feed)
    assert {(one.writer, one.field, one.members) for one in told.over} == {
        ("w1", b"w1:1", ((0, b"a"), (3, b"b"))),
        ("w1", b"w1:2", None),
    }
    feed.remove(told.over)
    assert read(feed).over == []
    assert ask(server, "HKEYS", KEYS.open) == [b"w2:1"]


def test_an_entry_of_a_writer_in_no_record_waits(
    server: Server, attach: OpenFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keyferry.capture.ledger_feed.UNREGISTERED_S", 0.3)
    ask(server, "HSET", KEYS.open, "w1:1", pack([member(0, b"a")]))
    feed = attach(server)
    assert read(feed).over == []
    time.sleep(0.35)
    assert [one.members for one in read(feed).over] == [((0, b"a"),)]


def test_a_refusal_is_told_and_ends_with_the_right(server: Server, attach: OpenFeed) -> None:
    feed = attach(server)
    ask(server, "ACL", "SETUSER", "default", "-spop")
    try:
        ask(server, "SADD", KEYS.dirty, member(0, b"a"))
        assert read(feed) == Told()
        assert "does not let us read" in feed.refusal
        assert feed.found
    finally:
        ask(server, "ACL", "SETUSER", "default", "+@all")
    until_s = time.monotonic() + 5
    while feed.refusal and time.monotonic() < until_s:
        feed.request()
        turn(feed)
    assert feed.take().keys == {0: [b"a"]}
    assert not ask(server, "EXISTS", KEYS.dirty)


def test_in_a_cluster_another_node_says_where_it_is(cluster: Callable[..., Cluster]) -> None:
    its = cluster("redis-7.0")
    ask(its, "SADD", KEYS.dirty, member(0, b"a"))
    moved = []
    for node in its.primaries:
        feed = LedgerFeed(node.session(), "orders", (0,))
        with contextlib.closing(feed):
            told = read(feed)
            moved.append(feed.moved)
            assert feed.moved or told.keys == {0: [b"a"]}
    assert sorted(moved) == [False, True, True]
