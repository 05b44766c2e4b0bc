"""A comparison in pieces while somebody writes, and while a server refuses."""

from __future__ import annotations

import contextlib
import functools
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from carrying import BUILDERS, KEY, Death, Ferry, done, ferry_between, names_of
from differing import on_both, settled, views

from keyferry.payload.differ import (
    Applied,
    Different,
    Refused,
    Same,
    TooDifferent,
    Torn,
    Vanished,
)
from keyferry.payload.exchange import Request
from keyferry.payload.write_commands import Command
from keyferry.testing.servers import Server
from keyferry.wire.session import Session

KINDS = ["string", "list", "set", "zset", "hash"]
LATER_MS = 4_102_444_800_123
CHANGE: dict[str, Command] = {
    "string": ("SETRANGE", KEY, 300_000, "xyz"),
    "list": ("LSET", KEY, 1500, "x"),
    "set": ("SADD", KEY, "x"),
    "zset": ("ZADD", KEY, "7.25", 7),
    "hash": ("HSET", KEY, 7, "x"),
}
"""What differs from ``BUILDERS`` on the source."""
PAGES = {b"GETRANGE", b"LRANGE", b"SSCAN", b"ZSCAN", b"HSCAN"}


@pytest.fixture
def ferry(server: Server, flushed: Callable[..., Server]) -> Iterator[Ferry]:
    """Between two servers of the same program."""
    made = ferry_between(server, flushed(server.binary.name, 1))
    yield made
    made.close()


@pytest.fixture
def writer(server: Server) -> Iterator[Session]:
    """A connection of somebody else to the source."""
    with server.session() as session:
        yield session


@contextlib.contextmanager
def meanwhile(work: Callable[[int], None]) -> Iterator[None]:
    """``work(0)``, ``work(1)``, ... on a thread of its own."""
    stop = threading.Event()

    def run() -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            work(number)

    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(run)
        try:
            yield
        finally:
            stop.set()
            running.result()


def on_page(number: int, happen: Callable[[], object]) -> Callable[[int, Request], None]:
    """Lets something happen before the source is asked for its nth page."""
    pages = [0]

    def before(index: int, request: Request) -> None:
        if PAGES & set(names_of(request.source)):
            pages[0] += 1
            if pages[0] == number:
                happen()

    return before


# --- Somebody writes


def test_a_reader_of_the_target_sees_what_the_source_held_at_one_moment(
    ferry: Ferry, writer: Session
) -> None:
    """The source's writer always sets two fields together, the target's reader always finds them equal."""
    on_both(ferry, *BUILDERS["hash"], ("HSET", KEY, "one", 0, "other", 0))
    seen = set()

    def read(number: int) -> None:
        one, middle, other = ferry.onlooker.call("HMGET", KEY, "one", 3, "other")  # type: ignore[misc]
        assert one == other
        assert middle in (one, b"value 3")
        seen.add(one)

    with meanwhile(read):
        for number in range(40):
            done(writer, ("HSET", KEY, "one", number, 3, number, "other", number))
            again: Command = ("HSET", KEY, "one", -number, 3, -number, "other", -number)
            outcome = settled(ferry, before=on_page(4, functools.partial(done, writer, again)))
            assert isinstance(outcome, Applied)
            assert outcome.exact
            time.sleep(0.005)
    assert len(seen) >= 10


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_during_the_reading_begins_it_again(ferry: Ferry, writer: Session, kind: str) -> None:
    on_both(ferry, *BUILDERS[kind])
    outcome = settled(ferry, before=on_page(3, lambda: done(writer, CHANGE[kind])))
    assert isinstance(outcome, Applied)
    assert outcome.exact
    here, there = views(ferry)
    assert here == there


@pytest.mark.parametrize("apply", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_key_that_changes_during_every_attempt(
    ferry: Ferry, writer: Session, kind: str, apply: bool
) -> None:
    on_both(ferry, *BUILDERS[kind])
    done(ferry.source, CHANGE[kind])
    old = ferry.on_target()

    def change(index: int, request: Request) -> None:
        done(writer, ("PEXPIREAT", KEY, LATER_MS + index))

    assert settled(ferry, apply=apply, before=change) == Torn()
    assert ferry.on_target() == old
    done(writer, ("PERSIST", KEY))
    assert isinstance(settled(ferry, apply=apply), Applied if apply else Different)


@pytest.mark.parametrize("kind", ["set", "zset", "hash", "string"])
def test_a_key_that_always_changes_is_settled_nearly(ferry: Ferry, writer: Session, kind: str) -> None:
    on_both(ferry, *BUILDERS[kind])
    done(ferry.source, CHANGE[kind])

    def change(index: int, request: Request) -> None:
        done(writer, ("PEXPIREAT", KEY, LATER_MS + index))

    assert isinstance(settled(ferry, apply=False, fuzzy=True, before=change), Different)
    outcome = settled(ferry, fuzzy=True, before=change)
    assert isinstance(outcome, Applied)
    assert not outcome.exact
    assert views(ferry)[0] == views(ferry)[1]
    assert isinstance(settled(ferry, fuzzy=True), Applied)  # the expiry has moved on
    assert settled(ferry, fuzzy=True) == Same()


WRITERS: dict[str, Callable[[int], list[Command]]] = {
    "set": lambda count: [("SADD", KEY, b"new %d" % count), ("SREM", KEY, count)],
    "zset": lambda count: [("ZINCRBY", KEY, 1, count % 50), ("ZREM", KEY, count)],
    "hash": lambda count: [
        ("HINCRBY", KEY, b"counter", 1),
        ("HSET", KEY, count, "x"),
        ("HDEL", KEY, count - 9),
    ],
    "string": lambda count: [("SETRANGE", KEY, count * 997 % 3_000_000, b"%d" % count)],
    "queue": lambda count: [("RPUSH", KEY, b"new %d" % count), ("LPOP", KEY)],
    "capped list": lambda count: [("LPUSH", KEY, b"new %d" % count), ("RPOP", KEY)],
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_busy_key_is_followed_and_equal_once_it_rests(ferry: Ferry, writer: Session, kind: str) -> None:
    on_both(ferry, *BUILDERS.get(kind, BUILDERS["list"]))

    def write(count: int) -> None:
        writer.pipeline(WRITERS[kind](count))
        time.sleep(0.002)

    nearly = 0
    with meanwhile(write):
        began_s = time.monotonic()
        while (lasted_s := time.monotonic() - began_s) < 2 or (nearly < 3 and lasted_s < 20):
            outcome = settled(ferry, fuzzy=True, attempts=1)
            assert isinstance(outcome, (Applied, Same, Torn)), outcome
            nearly += isinstance(outcome, Applied)
    assert nearly >= 3
    assert isinstance(settled(ferry, fuzzy=True), (Applied, Same))
    here, there = views(ferry)
    assert here == there
    assert settled(ferry, apply=False) == Same()


def test_what_goes_during_a_nearly_exact_pass_goes_on_the_target_too(ferry: Ferry, writer: Session) -> None:
    """The lengths, read before, say that the target has nothing more."""
    on_both(ferry, *BUILDERS["hash"])
    remove: Command = ("HDEL", KEY, *range(0, 1900, 2))
    outcome = settled(
        ferry, fuzzy=True, attempts=1, before=on_page(2, functools.partial(done, writer, remove))
    )
    assert isinstance(outcome, Applied)
    assert not outcome.exact
    here, there = views(ferry)
    assert here == there


def test_a_busy_queue_keeps_its_order_on_the_target(ferry: Ferry, writer: Session) -> None:
    """Also while it never stands still, the target's is the source's as it was a moment ago."""
    on_both(ferry, ("RPUSH", KEY, *range(3000)))

    def write(count: int) -> None:
        done(writer, ("MULTI",), ("RPUSH", KEY, 3000 + count), ("LPOP", KEY), ("EXEC",))

    heads = list[int]()
    with meanwhile(write):
        until_s = time.monotonic() + 2
        while time.monotonic() < until_s:
            settled(ferry, fuzzy=True, attempts=1)
            items = [int(item) for item in ferry.onlooker.call("LRANGE", KEY, 0, -1)]  # type: ignore
            assert items == list(range(items[0], items[0] + 3000))
            heads.append(items[0])
    assert len(set(heads)) >= 3


def test_the_source_goes_while_it_is_read(ferry: Ferry, writer: Session) -> None:
    on_both(ferry, *BUILDERS["hash"])
    done(ferry.source, CHANGE["hash"])
    assert settled(ferry, before=on_page(3, lambda: done(writer, ("DEL", KEY)))) == Vanished()
    assert ferry.on_target() is None


@pytest.mark.parametrize("kind", KINDS)
def test_the_source_becomes_another_value(ferry: Ferry, writer: Session, kind: str) -> None:
    on_both(ferry, *BUILDERS[kind])
    old = ferry.on_target()

    def replace() -> None:
        done(writer, ("DEL", KEY), ("XADD", KEY, "1-1", "a", "b"))

    assert settled(ferry, before=on_page(3, replace)) == TooDifferent()
    assert ferry.on_target() == old


# --- The target changes


@pytest.mark.parametrize("fuzzy", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_target_that_is_evicted_meanwhile_gets_no_part_of_the_value(
    ferry: Ferry, kind: str, fuzzy: bool
) -> None:
    on_both(ferry, *BUILDERS[kind])
    done(ferry.source, CHANGE[kind])

    def evict(index: int, request: Request) -> None:
        if b"MULTI" in names_of(request.target) and b"WATCH" not in names_of(request.target):
            done(ferry.onlooker, ("DEL", KEY))

    assert settled(ferry, fuzzy=fuzzy, attempts=1, before=evict) == Torn()
    assert ferry.on_target() is None
    assert settled(ferry) == TooDifferent()


@pytest.mark.parametrize("kind", KINDS)
def test_a_target_that_expires_meanwhile_gets_no_part_of_the_value(ferry: Ferry, kind: str) -> None:
    on_both(ferry, *BUILDERS[kind])
    done(ferry.source, CHANGE[kind])
    done(ferry.onlooker, ("DEBUG", "SET-ACTIVE-EXPIRE", 0))

    def expire(index: int, request: Request) -> None:
        if b"MULTI" in names_of(request.target) and b"WATCH" not in names_of(request.target):
            time.sleep(0.5)

    done(ferry.onlooker, ("PEXPIRE", KEY, 400))
    try:
        assert settled(ferry, attempts=1, before=expire) == Torn()
    finally:
        done(ferry.onlooker, ("DEBUG", "SET-ACTIVE-EXPIRE", 1))
    assert ferry.on_target() is None


def test_a_target_that_somebody_else_writes_to_is_read_again(ferry: Ferry) -> None:
    on_both(ferry, *BUILDERS["hash"])
    done(ferry.source, CHANGE["hash"])
    write = on_page(3, lambda: done(ferry.onlooker, ("HSET", KEY, "theirs", 1, 5, "theirs")))
    assert isinstance(settled(ferry, before=write), Applied)
    here, there = views(ferry)
    assert here == there


def test_both_sides_written_to_all_the_time(ferry: Ferry, writer: Session) -> None:
    on_both(ferry, *BUILDERS["hash"])
    done(ferry.source, CHANGE["hash"])

    def change(index: int, request: Request) -> None:
        if names_of(request.target)[:2] != [b"MULTI", b"HSET"]:
            done(writer, ("HSET", KEY, "count", index))
            done(ferry.onlooker, ("HSET", KEY, "count", index))

    assert settled(ferry, before=change) == Torn()
    outcome = settled(ferry, fuzzy=True, before=change)
    assert isinstance(outcome, Applied)
    assert not outcome.exact
    assert ferry.onlooker.call("HGET", KEY, 7) == b"x"


# --- Deaths and refusals


@pytest.mark.parametrize("kind", KINDS)
def test_dying_anywhere_leaves_the_old_or_the_new_value(ferry: Ferry, kind: str) -> None:
    on_both(ferry, *BUILDERS[kind])
    done(ferry.source, CHANGE[kind])
    old, new = ferry.on_target(), ferry.on_source()
    for last in itertools.count(0, 3):

        def die(index: int, request: Request, last: int = last) -> None:
            if index == last:
                raise Death

        if settled(ferry, before=die) is not None:
            break
        view = ferry.on_target()
        assert view in (old, new)
        if view == new:  # it died after its work was done
            break
    assert last > 6
    assert ferry.on_target() == new


def _writes(kind: str) -> list[str]:
    return {
        "string": ["-setrange"], "list": ["-lset"], "set": ["-sadd"], "zset": ["-zadd"], "hash": ["-hset"],
    }[kind]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_right_on_the_target_leaves_the_old_value(ferry: Ferry, kind: str) -> None:
    on_both(ferry, *BUILDERS[kind])
    done(ferry.source, CHANGE[kind], ("PEXPIREAT", KEY, LATER_MS))
    old = ferry.on_target()
    for right in [*_writes(kind), "-multi", "-exec", "-watch", "-pexpireat", "-type"]:
        user = "without" + right
        done(ferry.onlooker, ("ACL", "SETUSER", user, "on", ">word", "~*", "+@all", right))
        done(ferry.target, ("AUTH", user, "word"))
        outcome = settled(ferry)
        assert isinstance(outcome, Refused), right
        assert (outcome.code, outcome.side) == ("NOPERM", "target"), right
        assert ferry.on_target() == old


def test_a_missing_right_on_the_source_names_the_source(ferry: Ferry) -> None:
    on_both(ferry, *BUILDERS["hash"])
    done(ferry.source, CHANGE["hash"])
    done(ferry.source, ("ACL", "SETUSER", "mover", "on", ">word", "~*", "+@all", "-hscan"))
    done(ferry.source, ("AUTH", "mover", "word"))
    outcome = settled(ferry, apply=False)
    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.side) == ("NOPERM", "source")


@pytest.mark.parametrize("kind", KINDS)
def test_out_of_memory_leaves_the_old_value(start_server: Callable[..., Server], kind: str) -> None:
    source, target = start_server("redis-7.0"), start_server("redis-7.0")
    ferry = ferry_between(source, target)
    on_both(ferry, *BUILDERS[kind])
    done(ferry.source, CHANGE[kind], ("PEXPIREAT", KEY, LATER_MS))
    old = ferry.on_target()
    done(ferry.onlooker, ("CONFIG", "SET", "maxmemory", 1))
    outcome = settled(ferry)
    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.side) == ("OOM", "target")
    done(ferry.onlooker, ("CONFIG", "SET", "maxmemory", 0))
    assert ferry.on_target() == old
    ferry.close()
