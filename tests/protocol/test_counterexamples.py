"""Counterexamples of the exploration (PROTOCOL.md, 1, 7, 8 and 9), played on real servers with real memberships.

What an operation does, the clients do; here it is written out, so that it can be stopped anywhere. Faults stand in for
bad luck: a proxy that stands still is a process that was swapped out, or a network that was cut.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from membering import (
    LEASE_MS,
    Member,
    entries,
    member,
    set_phase,
    store,
    until,
    urls,
)

from keyferry.cutover.phase_steps import Await, Performer, Plan
from keyferry.model.address import parse_endpoint
from keyferry.model.phases import Phase, Side, Standing
from keyferry.model.record import Kind, Stamp, completing, next_of_commit, standing_of
from keyferry.model.writers import WriterEntry
from keyferry.testing.proxy import FaultProxy
from keyferry.testing.servers import Server
from keyferry.wire.resp import encode_command
from keyferry.wire.session import Session


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
def places(source: Server, target: Server) -> dict[Side, str]:
    return urls(source, target)


def may_be_passed_on(writer: Member, standing: Standing) -> bool:
    """Rule 9, as the clients keep it, when the first leg's reply is there."""
    return writer.valid(standing) or writer.look_again() == standing


def test_1_a_write_that_lands_after_the_commit_is_not_acknowledged(
    kind: str, source: Server, places: dict[Side, str]
) -> None:
    set_phase(places, Phase.DUAL)
    with (
        FaultProxy("127.0.0.1", source.port) as proxy,
        member(kind, places | {Side.SOURCE: proxy.url}) as writer,
        Session(parse_endpoint(proxy.url), "source") as data,
    ):
        until(lambda: entries_of(source)[writer.id].epoch == 2, "the acknowledgement")
        standing = writer.standing
        # 1. The writer looks at its lease, and sends; everything stands still.
        assert writer.valid(standing)
        proxy.stall(True)
        data._send(encode_command("SET", "key", "late"))
        # 2. Its lease ends; hold, fence (nothing of it is there), commit.
        set_phase(places, Phase.HOLD)
        with source.session() as fence:
            assert fence.call("GET", "key") is None
        set_phase(places, Phase.TARGET_DUAL, yes=True)
        # 3. The write lands on the old side, and is acknowledged there.
        proxy.stall(False)
        assert data._receive(1) == [b"OK"]
        # 4. It must not be told to the application.
        assert not may_be_passed_on(writer, standing)
        assert writer.standing.authority is Side.TARGET


def test_1_with_a_lease_that_held_it_is_acknowledged(
    kind: str, source: Server, places: dict[Side, str]
) -> None:
    """The other half: nothing is called unknown without need."""
    set_phase(places, Phase.DUAL)
    with member(kind, places) as writer, source.session() as data:
        standing = writer.standing
        assert data.call("SET", "key", "value") == b"OK"
        assert may_be_passed_on(writer, standing)


def test_7_a_dead_coordinators_writes_after_a_rollback(places: dict[Side, str]) -> None:
    set_phase(places, Phase.DUAL)
    held = set_phase(places, Phase.HOLD).record
    with store(places) as dead:
        # All that the first coordinator may have had in hand when it died, at each of its steps.
        first = next_of_commit(Side.SOURCE, held, None, Phase.TARGET_DUAL, Stamp())
        second = next_of_commit(Side.SOURCE, held, first.becomes, Phase.TARGET_DUAL, Stamp())
        third = completing(Side.SOURCE, second.becomes, first.becomes, Stamp())
        assert third is not None
        # Another one switches, and goes back.
        set_phase(places, Phase.TARGET_DUAL, yes=True)
        set_phase(places, Phase.HOLD)
        back = set_phase(places, Phase.DUAL, yes=True)
        assert back.side is Side.SOURCE
        # The dead one's writes arrive.
        assert [dead.compare_and_set(write) for write in (first, second, third)] == [False] * 3
        records = {side: dead.look(side).record for side in Side}
    assert records[Side.SOURCE] == back.record
    assert [record.rules for record in records.values() if record] == [True, False]


def test_7_a_commit_after_the_hold_was_given_up(places: dict[Side, str]) -> None:
    set_phase(places, Phase.DUAL)
    held = set_phase(places, Phase.HOLD).record
    with store(places) as dead:
        first = next_of_commit(Side.SOURCE, held, None, Phase.TARGET_DUAL, Stamp())
        assert dead.compare_and_set(first)
        set_phase(places, Phase.DUAL)
        set_phase(places, Phase.HOLD)
        # The same phase again, and yet another hold.
        assert not dead.compare_and_set(
            next_of_commit(Side.SOURCE, held, first.becomes, Phase.TARGET_DUAL, Stamp())
        )
        now = dead.look(Side.SOURCE).record
    assert now is not None and (now.kind, now.epoch) == (Kind.HOLD, 5)


def test_8_who_goes_over_is_on_the_list_of_the_way_back(
    kind: str, source: Server, target: Server, places: dict[Side, str]
) -> None:
    set_phase(places, Phase.DUAL)
    set_phase(places, Phase.HOLD)
    with member(kind, places) as writer, target.session() as there:
        before = writer.standing
        set_phase(places, Phase.TARGET_DUAL, yes=True)
        # As soon as it may write there, it is registered there; its lease of the source counts for nothing.
        until(lambda: writer.knows(Phase.TARGET_DUAL), "its coming over")
        assert writer.valid() and not writer.valid(before)
        assert writer.id in entries(there)
    # The same for one that wakes after all is done, whose operation is still under way when the way back begins.
    with member(kind, places, slow=lambda _: time.sleep(3 * LEASE_MS / 1000)) as writer:
        held = set_phase(places, Phase.HOLD, wait_s=LEASE_MS / 2000)
        assert list(held.waiting) == [writer.id]
        with store(places) as records:
            performer = Performer(records, Plan(Phase.DUAL, True, Stamp()))
            move = performer._plan.next(
                performer._look(), lambda side, name: performer._leases[side].over(name)
            )
        assert isinstance(move, Await) and list(move.writers) == [writer.id]


def test_9_a_reader_in_hold_looks_at_the_record_itself(
    kind: str, source: Server, target: Server, places: dict[Side, str]
) -> None:
    set_phase(places, Phase.DUAL)
    set_phase(places, Phase.HOLD)
    with (
        FaultProxy("127.0.0.1", source.port) as proxy,
        member(kind, places | {Side.SOURCE: proxy.url}, lease_ms=6000) as reader,
        source.session() as data,
    ):
        until(lambda: entries_of(source)[reader.id].epoch == 3, "the acknowledgement")
        standing = reader.standing
        # The commit is made and written after, and the reader hears nothing of it.
        proxy.stall(True)
        with store(places) as records:
            held = records.look(Side.SOURCE).record
            assert held is not None
            for _ in range(2):
                other = records.look(Side.TARGET).record
                assert records.compare_and_set(
                    next_of_commit(Side.SOURCE, held, other, Phase.TARGET_DUAL, Stamp())
                )
            lost, other = records.look(Side.SOURCE).record, records.look(Side.TARGET).record
            assert lost is not None
            mark = completing(Side.SOURCE, lost, other, Stamp())
            assert mark is not None and records.compare_and_set(mark)
        with target.session() as there:
            assert there.call("SET", "key", "new") == b"OK"
        # The reader's lease is valid, and it reads the old side.
        assert data.call("GET", "key") is None
        assert reader.valid(standing)
        # The look after the read is what tells.
        proxy.stall(False)
        assert reader.look_again() == standing_of(Side.TARGET, mark.becomes)
        assert not reader.valid(standing)


def entries_of(server: Server) -> dict[str, WriterEntry]:
    """The writers as they stand there."""
    with server.session() as session:
        return entries(session)
