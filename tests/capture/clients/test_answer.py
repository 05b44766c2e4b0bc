"""The question in a record: a writer repeats it when it could go to the other side; and the names that it goes by."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Iterator

import pytest
import redis
from membering import LEASE_MS, NAME, entries, member, put, set_phase, until, urls

import keyferry
import keyferry.asyncio
from keyferry.capture.clients._async.naming import OUR_NAME
from keyferry.model.phases import Phase, Side, after_switch
from keyferry.model.record import Kind, PhaseRecord
from keyferry.payload.names import slot
from keyferry.testing.cluster import Cluster
from keyferry.testing.proxy import FaultProxy
from keyferry.testing.servers import Server
from keyferry.wire.session import Session

SOURCE = PhaseRecord(Kind.AUTHORITY, 1, Phase.SOURCE)
ASKED = PhaseRecord(Kind.AUTHORITY, 2, Phase.SOURCE, asked="q1")
HELD = PhaseRecord(Kind.HOLD, 3, Phase.HOLD, back=Phase.SOURCE)


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def source(flushed: Callable[..., Server]) -> Server:
    return flushed("redis-7.0")


@pytest.fixture
def target(flushed: Callable[..., Server]) -> Server:
    return flushed("valkey-9.1")


@pytest.fixture
def at(source: Server) -> Iterator[Session]:
    with source.session() as session:
        put(session, SOURCE)
        yield session


@pytest.fixture
def places(source: Server, target: Server) -> dict[Side, str]:
    return urls(source, target)


def test_a_question_is_answered_at_once_and_leaves_nothing_on_the_other_side(
    kind: str, at: Session, places: dict[Side, str], target: Server
) -> None:
    with member(kind, places, lease_ms=60_000) as joined:
        put(at, ASKED)
        until(lambda: entries(at)[joined.id].answered == "q1", "the answer", 2.0)
        entry = entries(at)[joined.id]
        assert (entry.epoch, entry.note) == (2, "")
        with target.session() as other:
            assert other.call("DBSIZE") == 0


def test_a_writer_that_joins_later_answers_too(kind: str, at: Session, places: dict[Side, str]) -> None:
    put(at, ASKED)
    with member(kind, places, lease_ms=60_000) as joined:
        until(lambda: entries(at)[joined.id].answered == "q1", "the answer", 2.0)


def test_no_answer_before_what_was_under_way_is_over(kind: str, at: Session, places: dict[Side, str]) -> None:
    with member(kind, places, slow=lambda _: time.sleep(0.5)) as joined:
        put(at, ASKED)
        until(lambda: joined.standing.epoch == 2)
        time.sleep(0.1)
        assert entries(at)[joined.id].answered == ""
        until(lambda: entries(at)[joined.id].answered == "q1", "the answer")


def test_who_cannot_reach_the_other_side_says_why_and_tries_again(
    kind: str, at: Session, places: dict[Side, str], target: Server
) -> None:
    with (
        FaultProxy("127.0.0.1", target.port) as proxy,
        member(kind, places | {Side.TARGET: proxy.url}) as joined,
    ):
        proxy.refuse(True)
        proxy.cut()
        put(at, ASKED)
        entry = until(lambda: (one := entries(at)[joined.id]).note.startswith("the target") and one)
        assert entry.answered == ""
        proxy.refuse(False)
        until(lambda: entries(at)[joined.id].answered == "q1", "the answer", 3 * LEASE_MS / 1000)
        assert entries(at)[joined.id].note == ""


def test_a_side_that_hangs_keeps_no_renewal_waiting(
    kind: str, at: Session, places: dict[Side, str], target: Server
) -> None:
    with (
        FaultProxy("127.0.0.1", target.port) as proxy,
        member(kind, places | {Side.TARGET: proxy.url}) as joined,
    ):
        proxy.stall(True)
        put(at, ASKED)
        for _ in range(20):
            time.sleep(LEASE_MS / 10_000)
            assert joined.valid()
        assert entries(at)[joined.id].note
        put(at, PhaseRecord(Kind.AUTHORITY, 3, Phase.SOURCE))
        until(lambda: entries(at)[joined.id].epoch == 3, "a step")
        proxy.stall(False)


def test_who_may_not_write_there_does_not_answer(
    kind: str, at: Session, places: dict[Side, str], target: Server
) -> None:
    with target.session() as other:
        other.call(
            "ACL", "SETUSER", "reader", "on", "nopass", "allkeys", "allchannels", "+@read", "+@connection"
        )
    try:
        url = target.url.replace("redis://", "redis://reader:x@")
        with member(kind, places | {Side.TARGET: url}) as joined:
            put(at, ASKED)
            entry = until(
                lambda: (one := entries(at)[joined.id]).note.startswith("the target refuses") and one
            )
            assert entry.answered == ""
    finally:
        with target.session() as other:
            other.call("ACL", "DELUSER", "reader")


def test_a_side_that_an_earlier_switch_has_barred_keeps_no_answer_back(
    kind: str, at: Session, places: dict[Side, str], target: Server
) -> None:
    with target.session() as other:
        put(other, PhaseRecord(Kind.LOST, 1, Phase.SOURCE))
        other.call("ACL", "SETUSER", "barred", "on", "nopass", "allkeys", "allchannels", "+@all", "-@write")
    try:
        url = target.url.replace("redis://", "redis://barred:x@")
        with member(kind, places | {Side.TARGET: url}) as joined:
            put(at, ASKED)
            until(lambda: entries(at)[joined.id].answered == "q1", "the answer", 2.0)
    finally:
        with target.session() as other:
            other.call("ACL", "DELUSER", "barred")


def test_a_connection_that_the_server_closed_meanwhile_delays_nobody(
    kind: str, at: Session, places: dict[Side, str], target: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with member(kind, places, lease_ms=60_000) as joined, target.session() as other:
        put(at, ASKED)
        until(lambda: entries(at)[joined.id].answered == "q1", "the answer", 2.0)
        other.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        put(at, HELD)
        until(lambda: entries(at)[joined.id].epoch == 3, "the hold")
        put(other, PhaseRecord(Kind.PENDING, 3, Phase.TARGET))
        put(at, PhaseRecord(Kind.LOST, 4, Phase.TARGET))
        until(lambda: joined.standing.phase is Phase.TARGET)
        assert not caplog.records  # no look has failed
        assert joined.id in entries(other)


def _made(server: Server) -> int:
    with server.session() as session:
        said = session.call("INFO", "stats")
    assert isinstance(said, bytes)
    (line,) = (line for line in said.splitlines() if line.startswith(b"total_connections_received:"))
    return int(line.partition(b":")[2])


@pytest.mark.parametrize("phase", [Phase.SOURCE, Phase.DUAL])
def test_connections_are_ready_before_a_switch(
    phase: Phase, at: Session, source: Server, target: Server
) -> None:
    record = PhaseRecord(Kind.AUTHORITY, 2, phase)
    put(at, record)
    gained = after_switch(phase)
    with (
        keyferry.Redis.from_urls(source.url, target.url, migration=NAME) as client,
        target.session() as other,
    ):
        assert client.set("a", 1)
        put(at, dataclasses.replace(record, epoch=3, asked="q1"))
        (writer,) = entries(at)
        until(lambda: entries(at)[writer].answered == "q1", "the answer")
        assert set(entries(at)[writer].connections) == ({*Side} if phase is Phase.DUAL else set())
        put(at, PhaseRecord(Kind.HOLD, 4, Phase.HOLD, back=phase))
        until(lambda: entries(at)[writer].epoch == 4, "the hold")
        made = _made(source) + _made(target)
        put(other, PhaseRecord(Kind.AUTHORITY, 5, gained))
        put(at, PhaseRecord(Kind.LOST, 5, gained))
        assert client.set("b", 2)
        assert client.migration and client.migration.phase is gained
        # The two that ask here; and the ledger's own, which nobody waits for.
        assert _made(source) + _made(target) <= made + 2 + (phase is Phase.DUAL)
        assert other.call("GET", "b") == b"2"
        assert at.call("GET", "b") == (b"2" if phase is Phase.DUAL else None)
        assert _writers(target) == {OUR_NAME}
        assert _writers(source) == {OUR_NAME}


def _writers(server: Server) -> set[str]:
    """Names of the connections whose last command was a SET."""
    with server.session() as session:
        said = session.call("CLIENT", "LIST")
    assert isinstance(said, bytes)
    fields = [dict(part.partition("=")[::2] for part in line.split()) for line in said.decode().splitlines()]
    return {one["name"] for one in fields if one["cmd"] == "set"}


def test_connections_of_the_application_are_named(at: Session, source: Server, target: Server) -> None:
    with keyferry.Redis.from_urls(source.url, target.url, migration=NAME) as client:
        client.set("a", 1)
        (entry,) = entries(at).values()
        assert entry.names == (OUR_NAME,)
        assert _writers(source) == {OUR_NAME}


def test_the_applications_own_name_stays(at: Session, source: Server, target: Server) -> None:
    with redis.Redis.from_url(source.url, client_name="shop") as given:
        client = keyferry.Redis(source=given, target=target.url, migration=NAME)
        client.set("a", 1)
        assert client.client_getname() in (b"shop", "shop")
        (entry,) = entries(at).values()
        assert "shop" in entry.names
        client.close()


def test_a_refused_name_is_no_error(at: Session, source: Server, target: Server) -> None:
    at.call("ACL", "SETUSER", "shy", "on", "nopass", "allkeys", "allchannels", "+@all", "-client")
    try:
        url = source.url.replace("redis://", "redis://shy:x@")
        with keyferry.Redis.from_urls(url, target.url, migration=NAME) as client:
            assert client.set("a", 1)
            assert _writers(source) == {""}
    finally:
        at.call("ACL", "DELUSER", "shy")


def test_without_a_record_nothing_is_named(source: Server, target: Server) -> None:
    with keyferry.Redis.from_urls(source.url, target.url, phase="dual") as client:
        client.set("a", 1)
        assert _writers(source) == _writers(target) == {""}


@pytest.mark.parametrize("asynchronous", [False, True])
def test_connections_to_a_cluster_are_named(
    asynchronous: bool, cluster: Callable[..., Cluster], target: Server
) -> None:
    nodes = cluster("redis-7.0", 3)
    url = nodes.url.replace("redis:", "redis+cluster:")
    places = {Side.SOURCE: url, Side.TARGET: target.url}
    set_phase(places, Phase.SOURCE)

    async def write() -> None:
        async with keyferry.asyncio.Redis.from_urls(url, target.url, migration=NAME) as client:
            await client.set("a", 1)
            assert _writers(nodes.owner_of(slot(b"a"))) == {OUR_NAME}

    if asynchronous:
        asyncio.run(write())
        return
    with keyferry.Redis.from_urls(url, target.url, migration=NAME) as client:
        client.set("a", 1)
        assert _writers(nodes.owner_of(slot(b"a"))) == {OUR_NAME}
