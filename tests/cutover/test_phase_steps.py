"""Steps of the phase on real servers with real processes that follow them, and everything that gets in between."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from membering import (
    LEASE_MS,
    NAME,
    entries,
    member,
    processes,
    put,
    set_phase,
    store,
    until,
    urls,
)

from keyferry.cutover.phase_steps import Outcome, Performer, Plan
from keyferry.model.address import parse_endpoint
from keyferry.model.errors import RefusedError, ServerAway
from keyferry.model.phases import Phase, Side
from keyferry.model.record import (
    Kind,
    PhaseRecord,
    RecordVanished,
    Stamp,
    TwoAuthorities,
    Write,
    next_of_commit,
    record_key,
    writers_key,
)
from keyferry.model.writers import decode_entry
from keyferry.testing.cluster import Cluster
from keyferry.testing.servers import Server
from keyferry.wire.session import Session

THERE_AND_BACK = [
    (Phase.SOURCE, False),
    (Phase.DUAL, False),
    (Phase.SHADOW, False),
    (Phase.HOLD, False),
    (Phase.SHADOW, False),
    (Phase.HOLD, False),
    (Phase.TARGET_DUAL, True),
    (Phase.TARGET, False),
    (Phase.TARGET_DUAL, False),
    (Phase.HOLD, False),
    (Phase.TARGET_DUAL, False),
    (Phase.HOLD, False),
    (Phase.DUAL, True),
    (Phase.SOURCE, False),
]
HELD = PhaseRecord(Kind.HOLD, 3, Phase.HOLD, back=Phase.DUAL)
LOST = PhaseRecord(Kind.LOST, 4, Phase.TARGET_DUAL)
PENDING = PhaseRecord(Kind.PENDING, 3, Phase.TARGET_DUAL)


@pytest.fixture
def source(flushed: Callable[..., Server]) -> Server:
    return flushed("redis-6.2")


@pytest.fixture
def target(flushed: Callable[..., Server]) -> Server:
    return flushed("valkey-9.1")


@pytest.fixture
def places(source: Server, target: Server) -> dict[Side, str]:
    return urls(source, target)


def there_and_back(places: dict[Side, str]) -> None:
    set_phase(places, Phase.SOURCE)
    with processes(3, places, lease_ms=3000) as writers:
        for epoch, (phase, yes) in enumerate(THERE_AND_BACK, start=1):
            outcome = set_phase(places, phase, yes=yes)
            assert (outcome.record.phase, outcome.record.epoch) == (phase, epoch)
            assert not outcome.waiting
            for writer in writers:
                answer = writer.ask("valid")
                assert (answer["phase"], answer["epoch"], answer["authority"]) == (phase, epoch, outcome.side)
                assert answer["valid"]
        for writer in writers:
            assert writer.ask("valid")["seen"] == [phase for phase, _ in THERE_AND_BACK[1:]]
            assert writer.finish() == ""


def test_all_steps_there_and_back_with_three_processes(places: dict[Side, str]) -> None:
    there_and_back(places)


@pytest.mark.parametrize("clustered", list(Side))
def test_all_steps_with_a_cluster(clustered: Side, source: Server, cluster: Callable[..., Cluster]) -> None:
    nodes = cluster("redis-7.0", 3)
    url = nodes.url.replace("redis:", "redis+cluster:")
    there_and_back({clustered: url, clustered.other: source.url})


def test_a_killed_writer_is_named_and_waited_for_until_its_lease_is_over(
    source: Server, places: dict[Side, str]
) -> None:
    set_phase(places, Phase.SOURCE)
    with processes(2, places, lease_ms=2000) as (dead, alive):
        dead.kill()
        first = set_phase(places, Phase.DUAL, wait_s=0.5)
        assert [(entry.facts.host, entry.facts.pid) for entry in first.waiting.values()] == [
            ("testhost", dead.pid)
        ]
        assert first.record.phase is Phase.DUAL
        began = time.monotonic()
        second = set_phase(places, Phase.DUAL)
        assert 1.9 < time.monotonic() - began < 6
        assert not second.waiting and not second.changed and second.gone == 1
        with source.session() as session:
            assert [entry.facts.pid for entry in entries(session).values()] == [alive.pid]


def test_a_writer_that_is_stopped_is_waited_for_and_follows_when_it_wakes(places: dict[Side, str]) -> None:
    set_phase(places, Phase.DUAL)
    with processes(1, places) as (writer,):
        writer.send(signal.SIGSTOP)
        held = set_phase(places, Phase.HOLD)
        assert held.gone == 1 and not held.waiting
        set_phase(places, Phase.TARGET_DUAL, yes=True)
        writer.send(signal.SIGCONT)
        until(lambda: writer.ask("valid")["phase"] == "target-dual", "its coming over")
        assert writer.ask("valid")["valid"]
        assert not set_phase(places, Phase.TARGET).waiting


def test_a_writer_that_does_not_take_a_step_is_named(places: dict[Side, str]) -> None:
    set_phase(places, Phase.DUAL)
    over = threading.Event()
    with member("sync", places, slow=lambda _: over.wait(30) and None) as slow, member("async", places):
        outcome = set_phase(places, Phase.HOLD, wait_s=2.5 * LEASE_MS / 1000)
        assert list(outcome.waiting) == [slow.id]
        with pytest.raises(RefusedError, match="Not every writer has taken hold: tests"):
            set_phase(places, Phase.TARGET_DUAL, yes=True, wait_s=0.2)
        assert set_phase(places, Phase.HOLD, wait_s=0).record == outcome.record
        # Giving up waits for nobody.
        given_up = set_phase(places, Phase.DUAL, wait_s=0)
        assert given_up.record.phase is Phase.DUAL
        over.set()
        assert not set_phase(places, Phase.DUAL).waiting


def test_a_commit_wants_a_word_for_it(places: dict[Side, str], target: Server) -> None:
    set_phase(places, Phase.DUAL)
    set_phase(places, Phase.HOLD)
    with pytest.raises(RefusedError, match="gets authority") as told:
        set_phase(places, Phase.TARGET_DUAL)
    assert "--yes" in told.value.hint
    with target.session() as session:
        assert session.call("EXISTS", record_key(NAME)) == 0


@pytest.mark.parametrize(
    ("begin", "wanted"),
    [
        ([], Phase.SHADOW),
        ([], Phase.TARGET),
        ([Phase.HOLD], Phase.DUAL),
        ([Phase.DUAL], Phase.TARGET_DUAL),
        ([Phase.DUAL, Phase.HOLD], Phase.SHADOW),
        ([Phase.DUAL, Phase.SHADOW, Phase.HOLD], Phase.DUAL),
        ([Phase.DUAL, Phase.HOLD], Phase.SOURCE),
    ],
)
def test_only_neighbours_are_steps(begin: list[Phase], wanted: Phase, places: dict[Side, str]) -> None:
    set_phase(places, Phase.SOURCE)
    for phase in begin:
        set_phase(places, phase)
    before = set_phase(places, begin[-1] if begin else Phase.SOURCE).record
    with pytest.raises(RefusedError):
        set_phase(places, wanted, yes=True)
    after = set_phase(places, begin[-1] if begin else Phase.SOURCE)
    assert after.record == before and not after.changed


def test_of_operators_who_want_different_things_one_is_heard(places: dict[Side, str], source: Server) -> None:
    set_phase(places, Phase.DUAL)
    wishes = [Phase.HOLD, Phase.SHADOW, Phase.SOURCE] * 2
    barrier = threading.Barrier(len(wishes))

    def operate(number: int) -> Outcome | RefusedError:
        with store(places) as records:
            records.look(Side.SOURCE)
            records.look(Side.TARGET)
            performer = Performer(records, Plan(wishes[number], False, Stamp(1, f"operator {number}")))
            barrier.wait(30)
            try:
                return performer.run(5)
            except RefusedError as error:
                return error

    with ThreadPoolExecutor(len(wishes)) as threads:
        ends = list(threads.map(operate, range(len(wishes))))
    changed = [end for end in ends if isinstance(end, Outcome) and end.changed]
    with store(places) as records:
        now = records.look(Side.SOURCE).record
    assert now is not None
    # Each change is one epoch; a later one may follow from an earlier one as a step of its own.
    assert len(changed) == now.epoch - 2 >= 1
    assert all(isinstance(end, (Outcome, RefusedError)) for end in ends)


def test_a_half_made_commit_is_completed_by_whoever_comes(
    places: dict[Side, str], source: Server, target: Server
) -> None:
    with source.session() as session, target.session() as there:
        put(session, LOST)
        put(there, PENDING)
        outcome = set_phase(places, Phase.TARGET_DUAL)
        assert (outcome.side, outcome.record.epoch, outcome.changed) == (Side.TARGET, 4, True)
        assert not set_phase(places, Phase.TARGET).waiting


def test_a_leftover_of_a_commit_that_was_given_up_is_in_nobodys_way(
    places: dict[Side, str], target: Server
) -> None:
    set_phase(places, Phase.DUAL)
    held = set_phase(places, Phase.HOLD).record
    with store(places) as records:
        assert records.compare_and_set(next_of_commit(Side.SOURCE, held, None, Phase.TARGET_DUAL, Stamp()))
    set_phase(places, Phase.DUAL)
    set_phase(places, Phase.HOLD)
    assert set_phase(places, Phase.TARGET_DUAL, yes=True).side is Side.TARGET


@pytest.mark.parametrize(
    ("records", "error"),
    [
        ({Side.SOURCE: LOST, Side.TARGET: None}, RecordVanished),
        ({Side.SOURCE: None, Side.TARGET: PENDING}, RecordVanished),
        (
            {Side.SOURCE: HELD, Side.TARGET: PhaseRecord(Kind.AUTHORITY, 4, Phase.TARGET_DUAL)},
            TwoAuthorities,
        ),
    ],
)
def test_what_makes_no_sense_is_left_as_it_is(
    records: dict[Side, PhaseRecord | None], error: type[Exception], source: Server, target: Server
) -> None:
    places = urls(source, target)
    for side, server in ((Side.SOURCE, source), (Side.TARGET, target)):
        record = records[side]
        if record is not None:
            with server.session() as session:
                put(session, record)
    for phase in Phase:
        with pytest.raises(error):
            set_phase(places, phase, yes=True)
    with store(places) as found:
        assert {side: found.look(side).record for side in Side} == records


def test_a_dead_mirror_side_is_stepped_away_from(source: Server, start_server: Callable[..., Server]) -> None:
    doomed = start_server("redis-7.0")
    places = urls(source, doomed)
    set_phase(places, Phase.DUAL)
    with member("sync", places) as joined:
        doomed.kill()
        outcome = set_phase(places, Phase.SOURCE)
        assert joined.knows(Phase.SOURCE) and not outcome.waiting
        assert any("target could not be asked" in note for note in outcome.notes)
        set_phase(places, Phase.DUAL)
        set_phase(places, Phase.HOLD)
        with pytest.raises(RefusedError, match="cannot be asked now"):
            set_phase(places, Phase.TARGET_DUAL, yes=True)


def test_without_the_side_with_authority_nothing_is_done(
    target: Server, start_server: Callable[..., Server]
) -> None:
    doomed = start_server("redis-7.0")
    places = urls(doomed, target)
    set_phase(places, Phase.DUAL)
    doomed.kill()
    with pytest.raises(ServerAway):
        set_phase(places, Phase.SHADOW)
    with target.session() as there:
        assert there.call("DBSIZE") == 0


def test_a_commit_ends_the_connections_of_writers_that_are_gone(
    places: dict[Side, str], target: Server
) -> None:
    set_phase(places, Phase.DUAL)
    with target.session() as second_legs, member("sync", places) as alive, target.session() as its_own:
        alive.call("register_connection", Side.TARGET, its_own.call("CLIENT", "ID"))
        with processes(1, places) as (doomed,):
            doomed.kill()
        # As if it had registered this connection before it died.
        with Session(parse_endpoint(places[Side.SOURCE]), "source") as session:
            name, entry = next((name, one) for name, one in entries(session).items() if name != alive.id)
            raw = session.call("HGET", writers_key(NAME), name)
            assert isinstance(raw, bytes) and decode_entry(name, raw) == entry
            number = str(second_legs.call("CLIENT", "ID"))
            session.call(
                "HSET",
                writers_key(NAME),
                name,
                raw.replace(b'"connections":{}', b'"connections":{"target":["%b"]}' % number.encode()),
            )
        assert second_legs.call("PING") == b"PONG"
        outcome = set_phase(places, Phase.HOLD)
        assert outcome.gone == 1
        with pytest.raises(ServerAway):
            second_legs.call("PING")
        assert its_own.call("PING") == b"PONG"


@pytest.mark.parametrize("kill_after", range(4))
def test_a_coordinator_may_die_between_any_two_writes(kill_after: int, places: dict[Side, str]) -> None:
    """From hold on; the next one goes on with the same command, or gives up where that is still possible."""
    set_phase(places, Phase.DUAL)
    set_phase(places, Phase.HOLD)

    class Died(Exception):
        pass

    made: list[Write] = []
    with member("sync", places) as joined:
        with store(places) as records:
            honest = records.compare_and_set

            def dying(write: Write) -> bool:
                if len(made) == kill_after:
                    raise Died
                made.append(write)
                return honest(write)

            records.compare_and_set = dying  # type: ignore[method-assign]
            try:
                Performer(records, Plan(Phase.TARGET_DUAL, True, Stamp())).run(5)
                died = False
            except Died:
                died = True
        assert died or len(made) <= kill_after
        if made and made[-1].becomes.kind is Kind.LOST:
            until(lambda: joined.knows(Phase.TARGET_DUAL), "the mark that a writer completes")
        committed = any(write.becomes.kind is Kind.LOST for write in made)
        if committed:
            with pytest.raises(RefusedError):
                set_phase(places, Phase.DUAL)
        else:
            assert set_phase(places, Phase.DUAL).side is Side.SOURCE
            set_phase(places, Phase.HOLD)
        outcome = set_phase(places, Phase.TARGET_DUAL, yes=True)
        assert outcome.side is Side.TARGET and not outcome.waiting
        assert joined.knows(Phase.TARGET_DUAL) and joined.valid()
