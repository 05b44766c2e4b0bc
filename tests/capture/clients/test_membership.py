"""Membership on real servers, of threads and of tasks: registering, leases, steps by push, and everything that breaks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from membering import (
    LEASE_MS,
    NAME,
    Member,
    entries,
    member,
    processes,
    put,
    set_phase,
    until,
    urls,
)

from keyferry.capture.clients.record_errors import (
    MigrationRecordError,
    RecordLostError,
    RecordUnreachableError,
    RecordWentBackError,
)
from keyferry.model.phases import Phase, Side, Standing
from keyferry.model.record import Kind, PhaseRecord, record_key, writers_key
from keyferry.payload.names import slot
from keyferry.testing.cluster import Cluster
from keyferry.testing.proxy import FaultProxy
from keyferry.testing.servers import Server
from keyferry.wire.session import Session

WITH_HELPERS = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
SOURCE = PhaseRecord(Kind.AUTHORITY, 1, Phase.SOURCE)
DUAL = PhaseRecord(Kind.AUTHORITY, 2, Phase.DUAL)
HELD = PhaseRecord(Kind.HOLD, 3, Phase.HOLD, back=Phase.DUAL)
LOST = PhaseRecord(Kind.LOST, 4, Phase.TARGET_DUAL)
PENDING = PhaseRecord(Kind.PENDING, 3, Phase.TARGET_DUAL)


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
    """A session with the source, where the migration is in `source`."""
    with source.session() as session:
        put(session, SOURCE)
        yield session


@pytest.fixture
def places(source: Server, target: Server) -> dict[Side, str]:
    return urls(source, target)


def proxied(proxy: FaultProxy, places: dict[Side, str]) -> dict[Side, str]:
    return places | {Side.SOURCE: proxy.url}


def acknowledged(at: Session, joined: Member, epoch: int, seconds: float = 10.0) -> None:
    """Waits until it has."""
    until(lambda: entries(at)[joined.id].epoch == epoch, f"the acknowledgement of {epoch}", seconds)


def test_reading_and_registering_are_one_transaction(
    kind: str, source: Server, at: Session, places: dict[Side, str]
) -> None:
    with source.session() as monitor:
        assert monitor.call("MONITOR") == b"OK"
        with member(kind, places) as joined:
            wrote = f'"{joined.id}"'.encode()
            lines: list[bytes] = []
            while wrote not in b"".join(lines):
                lines.append(monitor._read_some())
            time.sleep(0.1)
            lines.append(monitor._read_some())
    said = [line.partition(b"] ")[2].lower() for line in b"".join(lines).split(b"\r\n")]
    hset = next(i for i, line in enumerate(said) if wrote.lower() in line)
    assert said[hset - 1] == b'"multi"'
    assert said[hset + 1].startswith(b'"hgetall" "keyferry:{orders}:phase"')
    assert said[hset + 2] == b'"exec"'


def test_a_writer_is_known_by_what_it_says_of_itself(kind: str, at: Session, places: dict[Side, str]) -> None:
    with member(kind, places) as joined:
        assert joined.standing == Standing(Phase.SOURCE, 1, Side.SOURCE)
        assert joined.valid()
        entry = until(lambda: entries(at).get(joined.id))
        assert (entry.facts.host, entry.facts.pid, entry.facts.program) == ("testhost", os.getpid(), "tests")
        assert entry.lease_ms == LEASE_MS
        until(lambda: entries(at)[joined.id].epoch == 1, "the acknowledgement of the first phase")
    assert entries(at) == {}


def test_an_idle_process_hears_a_step_at_once_and_answers_for_it(
    kind: str, at: Session, places: dict[Side, str]
) -> None:
    with member(kind, places, lease_ms=60_000) as joined:
        time.sleep(0.5)
        for record in (DUAL, PhaseRecord(Kind.AUTHORITY, 3, Phase.SHADOW)):
            began = time.monotonic()
            put(at, record)
            acknowledged(at, joined, record.epoch, 1.0)
            assert joined.seen[-1][1].phase is record.phase
            assert joined.seen[-1][0] - began < 1.0


def test_a_step_that_was_not_pushed_is_found_by_the_next_renewal(
    kind: str, at: Session, places: dict[Side, str]
) -> None:
    with member(kind, places) as joined:
        put(at, DUAL, push=False)
        until(lambda: entries(at)[joined.id].epoch == 2, "the acknowledgement", 2 * LEASE_MS / 1000)


def test_a_step_is_acknowledged_only_when_older_operations_are_over(
    kind: str, at: Session, places: dict[Side, str]
) -> None:
    over = threading.Event()
    with member(kind, places, slow=lambda _: over.wait(30) and None) as joined:
        first = joined.standing
        put(at, DUAL)
        until(lambda: joined.knows(Phase.DUAL))
        before = entries(at)[joined.id].renewals
        # The lease goes on meanwhile, for both standings.
        time.sleep(2 * LEASE_MS / 1000)
        now = entries(at)[joined.id]
        assert (now.epoch, now.phase) == (1, Phase.SOURCE)
        assert now.renewals >= before + 3
        assert joined.valid() and joined.valid(first)
        over.set()
        until(lambda: entries(at)[joined.id].epoch == 2, "the acknowledgement", 1.0)


def test_a_newer_step_overtakes_one_that_waits(kind: str, at: Session, places: dict[Side, str]) -> None:
    dual_over = threading.Event()

    def slow(standing: Standing) -> None:
        if standing.phase is Phase.DUAL:
            dual_over.wait(30)

    with member(kind, places, slow=slow) as joined:
        put(at, DUAL)
        until(lambda: joined.knows(Phase.DUAL))
        put(at, HELD)
        until(lambda: entries(at)[joined.id].epoch == 3, "the acknowledgement of hold", 1.0)
        dual_over.set()
        time.sleep(0.2)
        assert entries(at)[joined.id].epoch == 3
        assert [standing.phase for _, standing in joined.seen] == [Phase.DUAL, Phase.HOLD]


def test_who_reads_lost_goes_over_completes_the_mark_and_is_registered_there(
    kind: str, target: Server, at: Session, places: dict[Side, str]
) -> None:
    with member(kind, places) as joined, target.session() as there:
        put(at, HELD)
        until(lambda: joined.knows(Phase.HOLD))
        put(there, PENDING)
        put(at, LOST)
        until(lambda: joined.knows(Phase.TARGET_DUAL), seconds=1.0)
        assert joined.standing == Standing(Phase.TARGET_DUAL, 4, Side.TARGET) and joined.valid()
        assert joined.id in entries(there)
        assert b"authority" in (there.call("HGET", record_key(NAME), "kind"),)
        until(lambda: entries(at) == {}, "being taken off the source")
        until(lambda: entries(there)[joined.id].epoch == 4, "the acknowledgement")
        # From now on it listens there.
        put(there, PhaseRecord(Kind.AUTHORITY, 5, Phase.TARGET))
        until(lambda: joined.knows(Phase.TARGET), seconds=1.0)


def test_without_a_record_nobody_starts(
    kind: str, source: Server, target: Server, places: dict[Side, str]
) -> None:
    joined = Member(kind, places)
    try:
        with pytest.raises(RecordLostError, match="keyferry phase set orders"):
            joined.start()
        with source.session() as session:
            assert session.call("EXISTS", writers_key(NAME)) == 0
            put(session, SOURCE)
        assert joined.start().phase is Phase.SOURCE
    finally:
        joined.stop()


def test_two_authorities_are_an_error_at_the_start(
    kind: str, target: Server, at: Session, places: dict[Side, str]
) -> None:
    with target.session() as there:
        put(there, PhaseRecord(Kind.AUTHORITY, 4, Phase.TARGET_DUAL))
    joined = Member(kind, places)
    try:
        with pytest.raises(RecordWentBackError, match="Both sides claim authority"):
            joined.start()
    finally:
        joined.stop()


GARBAGE: dict[str, tuple[Callable[[Session], object], type[Exception]]] = {
    "gone": (lambda at: at.call("DEL", record_key(NAME)), RecordLostError),
    "flushed": (lambda at: at.call("FLUSHALL"), RecordLostError),
    "older": (lambda at: put(at, SOURCE), RecordWentBackError),
    "another phase, same epoch": (
        lambda at: put(at, PhaseRecord(Kind.AUTHORITY, 2, Phase.SHADOW)),
        RecordWentBackError,
    ),
    "unknown kind": (lambda at: at.call("HSET", record_key(NAME), "kind", "king"), MigrationRecordError),
    "bytes": (lambda at: at.call("HSET", record_key(NAME), "epoch", b"\xff\x00"), MigrationRecordError),
    "another type": (
        lambda at: at.pipeline([("DEL", record_key(NAME)), ("SET", record_key(NAME), "x")]),
        MigrationRecordError,
    ),
    "writers of another type": (
        lambda at: at.pipeline([("DEL", writers_key(NAME)), ("SET", writers_key(NAME), "x")]),
        MigrationRecordError,
    ),
}


@pytest.mark.parametrize("what", GARBAGE)
def test_a_record_that_cannot_be_ends_the_lease_and_is_an_error(
    what: str, kind: str, at: Session, places: dict[Side, str]
) -> None:
    spoil, error = GARBAGE[what]
    put(at, DUAL)
    with member(kind, places) as joined:
        known = joined.standing
        spoil(at)
        until(lambda: not joined.valid(), "the end of the lease")
        with pytest.raises(error, match="orders"):
            joined.look_again()
        assert joined.standing == known
        # Put right again, it goes on.
        put(at, PhaseRecord(Kind.AUTHORITY, 3, Phase.SHADOW))
        at.call("DEL", writers_key(NAME))
        assert joined.look_again().phase is Phase.SHADOW
        assert joined.valid() and not joined.valid(known)


def test_cut_connections_are_made_again(
    kind: str, source: Server, at: Session, places: dict[Side, str]
) -> None:
    with FaultProxy("127.0.0.1", source.port) as proxy, member(kind, proxied(proxy, places)) as joined:
        for epoch, phase in ((2, Phase.DUAL), (3, Phase.SHADOW), (4, Phase.DUAL)):
            until(lambda: proxy.open_connections >= 2, "both connections")
            proxy.cut()
            put(at, PhaseRecord(Kind.AUTHORITY, epoch, phase))
            acknowledged(at, joined, epoch, 2.0)
        assert joined.valid()


def test_while_the_authority_is_away_what_is_known_counts_until_the_lease_is_over(
    kind: str, source: Server, at: Session, places: dict[Side, str]
) -> None:
    with FaultProxy("127.0.0.1", source.port) as proxy, member(kind, proxied(proxy, places)) as joined:
        until(lambda: proxy.open_connections >= 2)
        proxy.stall(True)
        gone_at = time.monotonic()
        assert joined.valid()
        until(lambda: not joined.valid(), "the end of the lease")
        assert time.monotonic() - gone_at <= LEASE_MS / 1000 + 0.1
        asked_at = time.monotonic()
        with pytest.raises(RecordUnreachableError, match="source, which has authority"):
            joined.look_again()
        assert time.monotonic() - asked_at < 5.0
        proxy.stall(False)
        until(joined.valid, "the lease", 3.0)


def test_callers_that_wait_for_a_server_that_is_away_share_one_wait(
    source: Server, at: Session, places: dict[Side, str]
) -> None:
    with FaultProxy("127.0.0.1", source.port) as proxy, member("sync", proxied(proxy, places)) as joined:
        until(lambda: proxy.open_connections >= 2)
        proxy.stall(True)
        until(lambda: not joined.valid())
        raised: list[BaseException] = []

        def look() -> None:
            try:
                joined.look_again()
            except RecordUnreachableError as error:
                raised.append(error)

        threads = [threading.Thread(target=look) for _ in range(40)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(raised) == 40
        assert time.monotonic() - began < 5.0
        proxy.stall(False)


def test_the_mirror_side_being_away_changes_nothing(
    kind: str, start_server: Callable[..., Server], at: Session, places: dict[Side, str]
) -> None:
    away = start_server("redis-7.0")
    dead = places | {Side.TARGET: away.url}
    away.kill()
    with member(kind, dead) as joined:
        put(at, DUAL)
        until(lambda: entries(at)[joined.id].epoch == 2, "the acknowledgement", 1.0)
        time.sleep(LEASE_MS / 1000)
        assert joined.valid()


def test_a_commit_is_found_when_the_old_side_is_gone_for_good(
    kind: str, start_server: Callable[..., Server], target: Server, places: dict[Side, str]
) -> None:
    old = start_server("redis-7.0")
    with old.session() as session:
        put(session, HELD)
    with member(kind, places | {Side.SOURCE: old.url}) as joined, target.session() as there:
        old.kill()
        put(there, PhaseRecord(Kind.AUTHORITY, 4, Phase.TARGET_DUAL))
        until(lambda: joined.knows(Phase.TARGET_DUAL))
        assert joined.valid() and joined.id in entries(there)


def test_an_older_claim_of_the_other_side_is_not_followed(
    kind: str, start_server: Callable[..., Server], target: Server, places: dict[Side, str]
) -> None:
    old = start_server("redis-7.0")
    with old.session() as session:
        put(session, HELD)
    with member(kind, places | {Side.SOURCE: old.url}) as joined, target.session() as there:
        put(there, PhaseRecord(Kind.AUTHORITY, 2, Phase.TARGET_DUAL))
        old.kill()
        until(lambda: not joined.valid(), "the end of the lease")
        with pytest.raises(RecordUnreachableError):
            joined.look_again()
        assert joined.knows(Phase.HOLD) and entries(there) == {}


def test_a_server_that_takes_no_writes_can_still_be_read(
    kind: str, start_server: Callable[..., Server], places: dict[Side, str]
) -> None:
    full = start_server("redis-7.0")
    with full.session() as session:
        put(session, SOURCE)
        with member(kind, places | {Side.SOURCE: full.url}) as joined:
            session.call("CONFIG", "SET", "maxmemory", 1)
            until(lambda: not joined.valid(), "the end of the lease")
            assert joined.look_again() == Standing(Phase.SOURCE, 1, Side.SOURCE)
            assert not joined.valid()
            # Nobody could end such a connection if we died.
            with pytest.raises(RecordUnreachableError, match="takes no writes now"):
                joined.call("register_connection", Side.TARGET, 17)
            session.call("CONFIG", "SET", "maxmemory", 0)
            until(joined.valid, "the lease")


def test_a_replica_is_not_believed(
    kind: str, start_server: Callable[..., Server], places: dict[Side, str]
) -> None:
    demoted, other = start_server("redis-7.0"), start_server("redis-7.0")
    with demoted.session() as session:
        put(session, SOURCE)
        with member(kind, places | {Side.SOURCE: demoted.url}) as joined:
            session.call("REPLICAOF", "127.0.0.1", other.port)
            until(lambda: not joined.valid(), "the end of the lease")
            with pytest.raises((RecordUnreachableError, RecordLostError)):
                joined.look_again()


def test_connections_for_second_legs_are_named_in_the_record(
    kind: str, at: Session, places: dict[Side, str]
) -> None:
    with member(kind, places) as joined:
        assert joined.call("register_connection", Side.TARGET, 17) == joined.standing
        assert entries(at)[joined.id].connections == {Side.TARGET: ("17",)}
        joined.call("register_connection", Side.TARGET, 18, "10.0.0.1:7000")
        assert entries(at)[joined.id].connections == {Side.TARGET: ("17", "18@10.0.0.1:7000")}
        joined.call("forget_connection", Side.TARGET, 17)
        until(lambda: entries(at)[joined.id].connections == {Side.TARGET: ("18@10.0.0.1:7000",)})


def test_nothing_is_left_after_the_end(
    kind: str, source: Server, at: Session, places: dict[Side, str]
) -> None:
    def clients() -> int:
        found = at.call("CLIENT", "LIST")
        assert isinstance(found, bytes)
        return found.count(b"\n")

    threads, before = threading.active_count(), clients()
    for _ in range(3):
        with member(kind, places):
            until(lambda: clients() == before + 2, "two connections")
        until(lambda: clients() == before, "the end of the connections", 2.0)
    until(lambda: threading.active_count() <= threads + 1, "the end of the threads", 2.0)
    assert entries(at) == {}


def test_a_stop_does_not_wait_for_a_server_that_stands_still(
    source: Server, at: Session, places: dict[Side, str], kind: str
) -> None:
    with FaultProxy("127.0.0.1", source.port) as proxy:
        joined = Member(kind, proxied(proxy, places))
        joined.start()
        proxy.stall(True)
        began = time.monotonic()
        joined.stop()
        assert time.monotonic() - began < 4.0


def test_a_stopped_membership_can_be_started_again(kind: str, at: Session, places: dict[Side, str]) -> None:
    joined = Member(kind, places)
    try:
        joined.start()
        joined.call("stop")
        assert entries(at) == {} and not joined.valid()
        joined.start()
        put(at, DUAL)
        until(lambda: entries(at)[joined.id].epoch == 2)
    finally:
        joined.stop()


ENDINGS = {
    "threads, without a goodbye": """
from membering import *
m = Member("sync", {Side.SOURCE: sys.argv[1], Side.TARGET: sys.argv[2]})
m.start()
""",
    "tasks, without a goodbye": """
from membering import *
async def main():
    m = Member.__new__(Member)
    m.seen, m._slow = [], lambda _: None
    it = await m._make_async({Side.SOURCE: sys.argv[1], Side.TARGET: sys.argv[2]}, WriterFacts("h", 1, "p"), 900)
    await it.start()
    await asyncio.sleep(0.1)
asyncio.run(main())
""",
}


@pytest.mark.parametrize("how", ENDINGS)
def test_the_end_of_the_interpreter_is_silent(how: str, at: Session, places: dict[Side, str]) -> None:
    ended = subprocess.run(
        [
            sys.executable,
            "-X",
            "dev",
            "-W",
            "error",
            "-c",
            ENDINGS[how],
            places[Side.SOURCE],
            places[Side.TARGET],
        ],
        env=WITH_HELPERS,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")
    if how.startswith("threads"):
        assert entries(at) == {}


def test_a_child_process_registers_for_itself(at: Session, places: dict[Side, str]) -> None:
    script = """
from membering import *
m = Member("sync", {Side.SOURCE: sys.argv[1], Side.TARGET: sys.argv[2]}, lease_ms=3000)
m.start()
parent = m.id
child = os.fork()
if not child:
    assert not m.valid() and m.id != parent
    m.look_again()
    assert m.valid()
    with parse_endpoint(sys.argv[1]) and Session(parse_endpoint(sys.argv[1]), "source") as session:
        found = entries(session)
        assert set(found) == {parent, m.id} and found[m.id].facts.pid == os.getpid()
        put(session, PhaseRecord("authority", 2, Phase.DUAL))
        until(lambda: entries(session)[m.id].epoch == 2, "the child's acknowledgement")
    m.it.stop()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
with Session(parse_endpoint(sys.argv[1]), "source") as session:
    assert set(entries(session)) == {parent}
    until(lambda: entries(session)[parent].epoch == 2, "the parent's acknowledgement")
assert m.valid() and m.id == parent
m.stop()
"""
    ended = subprocess.run(
        [sys.executable, "-c", script, places[Side.SOURCE], places[Side.TARGET]],
        env=WITH_HELPERS,
        capture_output=True,
        timeout=60,
        check=False,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr


def test_a_process_that_was_stopped_looks_before_it_goes_on(at: Session, places: dict[Side, str]) -> None:
    with processes(1, places) as (stopped,):
        writer = stopped.ask("valid")["id"]
        stopped.send(signal.SIGSTOP)
        time.sleep(1.5 * LEASE_MS / 1000)
        silent = entries(at)[writer].renewals
        put(at, DUAL)
        time.sleep(0.2)
        assert entries(at)[writer].renewals == silent
        stopped.send(signal.SIGCONT)
        assert stopped.ask("look")["phase"] == "dual"
        until(lambda: entries(at)[writer].epoch == 2, "the acknowledgement")
        assert stopped.ask("valid")["valid"]
        assert stopped.finish() == ""


@pytest.mark.parametrize("clustered", list(Side))
def test_a_cluster_on_either_side(
    clustered: Side, kind: str, source: Server, cluster: Callable[..., Cluster]
) -> None:
    nodes = cluster("redis-7.0", 3)
    url = {"cluster": nodes.url.replace("redis:", "redis+cluster:"), "server": source.url}
    places = {clustered: url["cluster"], clustered.other: url["server"]}
    set_phase(places, Phase.DUAL)
    with member(kind, places) as joined:
        set_phase(places, Phase.HOLD)
        set_phase(places, Phase.TARGET_DUAL, yes=True)
        assert joined.standing == Standing(Phase.TARGET_DUAL, 4, Side.TARGET)
        if clustered is Side.TARGET:
            # The record moves to another node, and a step is made there.
            owner = nodes.nodes.index(nodes.owner_of(slot(record_key(NAME))))
            nodes.move_slot(slot(record_key(NAME)), (owner + 1) % 3)
        set_phase(places, Phase.TARGET)
        assert joined.knows(Phase.TARGET)
        assert joined.valid()
