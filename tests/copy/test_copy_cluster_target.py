"""Slots of the target that move while keys are written: each is written at its place, once and whole."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from clustering import (
    Moments,
    Telling,
    assert_same,
    fill_slots,
    fill_types,
    finish_slots,
    forget_redirections,
    half_move,
    move_slots,
    names_in,
    own_names,
    redirections,
    some_slots,
    tag_of,
)

from copying import Copying, ask, assert_consistent, fill, keys_of
from keyferry.copy.stop import StopFlag
from keyferry.model.errors import ExitCode, ServerError
from keyferry.model.identity import Family
from keyferry.testing.cluster import Cluster
from keyferry.testing.deployment import Deployment
from keyferry.testing.servers import Server
from keyferry.wire.resp import Argument

Clusters = Callable[..., Cluster]
Flushed = Callable[..., Server]

SLOTS = some_slots(0, 16)
MOVED, ASKED = SLOTS[:4], SLOTS[4:8]
COUNTERS = ("entries-added", "entries-read", "max-deleted-id")

WAYS = [
    "redis-7.0 redis-7.0",
    "redis-6.2 valkey-9.1",
    "redis-8.2 redis-6.2",
    "redis-8.2 redis-7.0",
    "redis-8.2 valkey-9.1",
    "valkey-9.1 redis-8.2",
]
"""Restored, with PTTL, transcoded and by command, re-signed, and with expiries of fields, which another make reads
by command alone."""


def moving(target: Cluster, *, asked_s: float = 1.0, at: int = 150) -> Moments:
    """Some slots move; others are half moved for a while. What is to be written there is not there yet."""

    def begin() -> None:
        move_slots(target, MOVED, 1)
        half_move(target, ASKED, 2)

    return (
        Moments()
        .when(lambda progress: progress.keys_done >= at or progress.elapsed_s > 0.8, begin)
        .when(lambda progress: progress.elapsed_s > asked_s, lambda: None)
        .when(lambda progress: True, lambda: finish_slots(target, ASKED))
    )


def ignored(source: Deployment, target: Deployment) -> tuple[str, ...]:
    older = any(server.binary.version < (7, 0, 0) for server in (source, target))
    return COUNTERS if older else ()


def has_field_expiry(server: Deployment) -> bool:
    since = (7, 4, 0) if server.binary.family is Family.REDIS else (9, 0, 0)
    return server.binary.version >= since


def expiring_fields(name: bytes) -> list[tuple[Argument, ...]]:
    return [("HSET", name, "a", 1, "b", 2), ("HPEXPIREAT", name, 4_102_444_800_123, "FIELDS", 1, "a")]


def fill_source(source: Deployment, target: Deployment) -> int:
    fill_types(source, SLOTS[:10])
    fill_slots(source, SLOTS, 30)
    if has_field_expiry(source) and has_field_expiry(target):
        for name in names_in(SLOTS, 1, b"fields"):
            fill(source, expiring_fields(name))
    return keys_of(source)


@pytest.mark.parametrize("pair", WAYS)
def test_every_way_of_writing_follows(pair: str, cluster: Clusters, flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed(pair.split(maxsplit=1)[0], 1), cluster(pair.split()[1])
    count = fill_source(source, target)
    forget_redirections(target)
    moments = moving(target, asked_s=1.5)
    copying = Copying(tmp_path / "state", on_progress=moments)
    report = copying.run(source, target, max_rate=300, batch=50)
    assert moments.over
    said = redirections(target)
    assert said["MOVED"]
    assert said["ASK"]
    assert_consistent(report)
    assert (report.run.copied, report.run.failed) == (count, 0)
    assert assert_same(source, target, ignored(source, target)).keys_target == count
    assert copying.told == []


@pytest.mark.parametrize("pair", ["redis-7.0 valkey-9.1", "redis-6.2 redis-6.2", "valkey-9.1 redis-8.2"])
def test_pieces_follow(pair: str, cluster: Clusters, flushed: Flushed, tmp_path: Path) -> None:
    """A value is built under a name beside its key: both must be in one place when it takes the key's."""
    source, target = flushed(pair.split(maxsplit=1)[0], 1), cluster(pair.split()[1])
    count = fill_source(source, target)
    moments = moving(target, asked_s=1.5)
    report = Copying(tmp_path / "state", on_progress=moments).run(
        source, target, max_rate=300, batch=50, big_key_members=100, big_key_bytes=4_000
    )
    assert moments.over
    assert_consistent(report)
    assert report.run.methods[3] >= 40
    assert (report.run.copied, report.run.failed) == (count, 0)
    assert assert_same(source, target, ignored(source, target)).keys_target == count


@pytest.mark.parametrize("policy", [None, "replace"])
def test_half_a_value_moves_and_its_key_vanishes(
    policy: str | None, cluster: Clusters, flushed: Flushed, tmp_path: Path
) -> None:
    """What was built of it is at the slot's new node by then, under its temporary name: it must not stay."""
    source, target = flushed("redis-7.0", 1), cluster("valkey-9.1")
    fill_slots(source, SLOTS[1:], 4)
    noise = random.Random(1)
    key = b"big:{%b}" % tag_of(SLOTS[0])
    for _ in range(40):
        fill(source, [("RPUSH", key, *(noise.randbytes(1_000) for _ in range(100)))])

    def vanish() -> None:
        move_slots(target, SLOTS[:1], 1)
        assert own_names(target) != []
        fill(source, [("DEL", key)])

    moments = Moments().when(lambda progress: own_names(target) != [], vanish)
    copying = Copying(tmp_path / "state", on_progress=moments)
    report = copying.run(source, target, max_bandwidth=2_000_000, big_key_bytes=100_000, on_conflict=policy)
    assert moments.over
    assert_consistent(report)
    assert report.run.vanished == 1
    assert_same(source, target)


@pytest.mark.parametrize("name", ["redis-7.0", "valkey-9.1", "redis-6.2"])
def test_what_vanished_goes_on_the_target(
    name: str, cluster: Clusters, flushed: Flushed, tmp_path: Path
) -> None:
    """Keys that SCAN named and that are gone when they are asked for: their old copies go, wherever they are."""
    source, target = flushed("redis-7.0", 1), cluster(name)
    names = fill_slots(source, SLOTS, 30)
    fill_slots(target, SLOTS, 30)
    gone = names[::3]
    moments = moving(target)
    moments.steps.insert(1, (lambda progress: True, lambda: fill(source, [("DEL", key) for key in gone])))
    report = Copying(tmp_path / "state", on_progress=moments).run(
        source, target, max_rate=300, batch=5_000, on_conflict="replace"
    )
    assert moments.over
    assert_consistent(report)
    assert report.run.vanished > 20
    with target.session() as session:
        left = [key for key in gone if session.call("EXISTS", key)]
    # Those that had been copied before they went.
    assert len(left) == len(gone) - report.run.vanished
    fill(target, [("DEL", key) for key in left])
    assert_same(source, target)


@pytest.mark.parametrize("name", ["redis-7.0", "redis-8.2"])
def test_a_comparing_pass_follows(
    name: str, cluster: Clusters, start_server: Flushed, tmp_path: Path
) -> None:
    """The source is started anew, so everything is compared, in slots that are on their way."""
    source, target = start_server(name), cluster("valkey-9.1")
    count = fill_source(source, target)

    moments = moving(target, asked_s=2.0)
    moments.steps.insert(1, (lambda progress: True, lambda: source.restart(keep_data=True)))
    copying = Copying(tmp_path / "state", on_progress=moments)
    forget_redirections(target)
    report = copying.run(source, target, max_rate=300, batch=50)
    assert moments.over
    assert any("by comparison" in sentence for sentence in copying.told)
    assert redirections(target)["ASK"]
    assert_consistent(report)
    assert assert_same(source, target).keys_target == count


@pytest.mark.parametrize("policy", ["skip", "fail"])
def test_foreign_keys_stay_on_their_way(
    policy: str, cluster: Clusters, flushed: Flushed, tmp_path: Path
) -> None:
    source, target = flushed("redis-7.0", 1), cluster("valkey-9.1")
    count = fill_source(source, target)
    foreign = names_in(SLOTS, 15)
    fill(target, [("SET", key, "theirs") for key in foreign])
    moments = moving(target)
    report = Copying(tmp_path / "state", on_progress=moments).run(
        source, target, max_rate=300, batch=50, on_conflict=policy
    )
    assert moments.over
    assert_consistent(report)
    assert (report.run.skipped if policy == "skip" else report.run.failed) == len(foreign)
    assert report.run.copied == count - len(foreign)
    assert {ask(target, "GET", key) for key in foreign} == {b"theirs"}
    for side in (source, target):
        fill(side, [("DEL", key) for key in foreign])
    assert_same(source, target)


class ActingStop(StopFlag):
    """Never set. It is looked at once for each page of foreign keys that is noted: acts at one of these looks."""

    __slots__ = ("act", "looks_left")

    def __init__(self) -> None:
        super().__init__()
        self.looks_left = 0
        self.act: Callable[[], object] = lambda: None

    @property
    def requested(self) -> bool:
        self.looks_left -= 1
        if self.looks_left == 0:
            self.act()
        return False


def test_foreign_keys_that_move_while_they_are_noted(
    cluster: Clusters, flushed: Flushed, tmp_path: Path
) -> None:
    """From a node that is still to be looked at to one that was: they would be taken for our own."""
    source, target = flushed("redis-7.0", 1), cluster("redis-7.0")
    first, *_, last = sorted(range(3), key=lambda index: target.nodes[index].port)
    slots = some_slots(last, 4)
    foreign = fill_slots(target, slots, 5)
    fill(source, [("SET", key, "ours") for key in foreign])
    stop = ActingStop()
    stop.act = lambda: move_slots(target, slots, first)
    copying = Copying(tmp_path / "state", stop=stop)
    # One page for each node: at the second one's, the first has been looked at.
    copying.told = told = Telling("Noting", lambda: setattr(stop, "looks_left", 2))
    report = copying.run(source, target, on_conflict="skip")
    assert told.acted
    assert stop.looks_left < 0
    assert report.run.skipped == len(foreign)
    assert report.notes == {}


def test_a_node_that_joins_and_takes_slots(start_cluster: Clusters, flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0", 1), start_cluster("valkey-9.1")
    count = fill_source(source, target)

    def join() -> None:
        target.add_node()
        move_slots(target, SLOTS[:6], 3)

    moments = Moments().at(150, join)
    copying = Copying(tmp_path / "state", on_progress=moments)
    report = copying.run(source, target, max_rate=300, batch=50)
    assert moments.over
    assert_consistent(report)
    assert assert_same(source, target).keys_target == count
    assert keys_of(target.nodes[3]) > 6 * 30


def test_a_slot_that_is_half_moved_until_late(
    cluster: Clusters, flushed: Flushed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values that are built cannot be written there: they wait, and the pipelines are made anew meanwhile."""
    monkeypatch.setattr("keyferry.copy.redirects.HOPS_MAX", 6)
    source, target = flushed("redis-8.2", 1), cluster("valkey-9.1")
    count = fill_source(source, target)
    moments = moving(target, asked_s=5.0)
    copying = Copying(tmp_path / "state", on_progress=moments)
    report = copying.run(source, target, max_rate=1_000, batch=50)
    assert moments.over
    assert any("Trying again" in sentence for sentence in copying.told)
    assert_consistent(report)
    assert assert_same(source, target).keys_target == count


def test_a_slot_that_stays_half_moved(
    cluster: Clusters, flushed: Flushed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can be written there is; the run ends for what cannot, and goes on when the slot is whole."""
    monkeypatch.setattr("keyferry.copy.redirects.HOPS_MAX", 6)
    source, target = flushed("redis-8.2", 1), cluster("valkey-9.1")
    fill_slots(source, SLOTS, 30)
    half_move(target, ASKED, 2)
    Copying(tmp_path / "strings").run(source, target)
    for slot in SLOTS:
        fill(source, expiring_fields(b"fields{%b}" % tag_of(slot)))
    copying = Copying(tmp_path / "fields")
    with pytest.raises(ServerError) as ended:
        copying.run(source, target, on_conflict="replace", retry_s=2.0)
    assert ended.value.exit_code is ExitCode.SERVER
    finish_slots(target, ASKED)
    report = copying.run(source, target, on_conflict="replace")
    assert report.resumed
    assert_consistent(report)
    assert assert_same(source, target).keys_target == 30 * len(SLOTS) + len(SLOTS)
