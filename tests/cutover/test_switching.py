"""Whole migrations on real servers: cut over, take back, cut over again; and one that fails at every step."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conducting import NAME, Counting, migrating

from copying import ask, compared, fill_strings, keys_of, wait_until
from keyferry.cutover import perform
from keyferry.cutover.plan import ORDER, PAUSING, Gate, Step
from keyferry.journal.migration import MigrationJournal
from keyferry.model.errors import RefusedError, ServerAway
from keyferry.model.phases import Side
from keyferry.model.record import record_key
from keyferry.telemetry.migrating import EventKind, FactKey
from keyferry.testing.cluster import Cluster
from keyferry.testing.deployment import Deployment
from keyferry.testing.servers import Server

BEFORE_COMMIT = [step for step in ORDER if step not in PAUSING]

# The same code with the sides swapped: a few are enough.
BEFORE_COMMIT_OF_A_ROLLBACK = [Step.HOLD, Step.COMPARE, Step.PENDING, Step.COMMIT]


def record_of(deployment: Deployment) -> dict[bytes, bytes]:
    fields = ask(deployment, "HGETALL", record_key(NAME))
    assert isinstance(fields, list)
    return dict(zip(fields[::2], fields[1::2], strict=True))  # type: ignore[arg-type]


def rules(deployment: Deployment) -> bool:
    return record_of(deployment).get(b"kind") in (b"authority", b"hold")


def counted(deployment: Deployment, keys: dict[str, int]) -> dict[str, int]:
    return {key: int(str(ask(deployment, "GET", key), "ascii")) for key in keys}  # type: ignore[arg-type]


def keyferrys(deployment: Deployment) -> list[bytes]:
    nodes = deployment.nodes if isinstance(deployment, Cluster) else [deployment]
    return [key for node in nodes for key in ask(node, "KEYS", "keyferry:*")]  # type: ignore[union-attr, misc]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("redis-6.2", "redis-7.0"),
        ("redis-7.0", "valkey-9.1"),
        ("valkey-9.1", "redis-6.2"),
        ("redis-8.2", "valkey-9.1"),
    ],
)
def test_there_and_back_and_there_again(
    flushed: Callable[..., Server], tmp_path: Path, old: str, new: str
) -> None:
    source, target = flushed(old), flushed(new)
    fill_strings(source, 2000)
    with (
        migrating(source, target, tmp_path) as migration,
        Counting(source, target) as writers,
    ):
        for command, side in (("cutover", target), ("rollback", source), ("cutover", target)):
            migration.is_ready(writers=1)
            end = migration.switch(command)
            assert end.facts["gate"] == "writers"
            assert end.facts["gate_ms"] < 10_000
            assert rules(side)
            assert not rules(source if side is target else target)
            writers.goes_on()
        writers.stop()
        assert not writers.failures
        assert counted(target, writers.acknowledged) == writers.acknowledged
        end = migration.ask("finish", yes=True)
        assert end.exit_code == 0, end
        migration.end()
    with MigrationJournal(migration.settings.sync.copy.state_dir, migration.settings.name) as journal:
        entered = [event.facts["stage"] for event in journal.events([EventKind.STAGE])]
        assert entered[0] == "connecting" and "following back" in entered
        assert journal.get(FactKey.SAMPLES) == json.loads(json.dumps(migration.desk.history()))
    assert migration.report is not None
    assert migration.report.ended == "finished"
    assert [switch.outcome for switch in migration.report.switches] == ["done"] * 3
    assert keyferrys(source) == keyferrys(target) == []


@pytest.mark.parametrize("phase", ["dual", "shadow"])
def test_with_writers_that_write_to_both(flushed: Callable[..., Server], tmp_path: Path, phase: str) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 500)
    with migrating(source, target, tmp_path) as migration, Counting(source, target) as writers:
        migration.is_ready(writers=1)
        step_to(source, target, "dual")
        if phase == "shadow":
            step_to(source, target, "shadow")
        migration.is_ready(writers=1)
        assert migration.switch("cutover").facts["phase"] == "target-dual"
        writers.goes_on()
        migration.is_ready(writers=1)
        assert migration.switch("rollback").facts["phase"] == "dual"
        writers.goes_on()
        writers.stop()
        assert not writers.failures
        assert counted(source, writers.acknowledged) == writers.acknowledged


def step_to(source: Server, target: Server, phase: str) -> None:
    from keyferry.cutover.phase_steps import Performer, Plan
    from keyferry.cutover.record_store import RecordStore
    from keyferry.model.phases import Phase
    from keyferry.model.record import Stamp

    endpoints = {Side.SOURCE: source.endpoint, Side.TARGET: target.endpoint}
    with RecordStore(NAME, endpoints, {}) as store:
        outcome = Performer(store, Plan(Phase(phase), False, Stamp())).run(20)
        assert not outcome.waiting


@pytest.mark.parametrize("way", ["to a cluster", "from a cluster", "between clusters"])
def test_clusters(
    flushed: Callable[..., Server], cluster: Callable[..., Cluster], tmp_path: Path, way: str
) -> None:
    source: Deployment = flushed("redis-7.0") if way == "to a cluster" else cluster("redis-7.0")
    target: Deployment = flushed("valkey-9.1") if way == "from a cluster" else cluster("valkey-9.1")
    fill_strings(source, 500)
    with migrating(source, target, tmp_path) as migration, Counting(source, target, 2) as writers:
        migration.is_ready(writers=1)
        for command in ("cutover", "rollback", "cutover"):
            migration.switch(command)
            writers.goes_on()
            migration.is_ready(writers=1)
        writers.stop()
        assert not writers.failures
        assert counted(target, writers.acknowledged) == writers.acknowledged
        assert migration.ask("finish", yes=True).exit_code == 0
        migration.end()
    assert keyferrys(source) == keyferrys(target) == []


@contextmanager
def failing(
    monkeypatch: pytest.MonkeyPatch, step: Step, error: Exception, *, after: bool
) -> Iterator[list[Step]]:
    """The step ends with the error, before or after it has been done; once. Empty when that has come about."""
    original = perform.Switch._do
    left = [step]

    def do(self: perform.Switch, its: Step) -> bool:
        if its is not step or not left:
            return original(self, its)
        left.clear()
        action = self._does.get(step)

        def fails() -> None:
            if after and action is not None:
                action()
            raise error

        self._does = {**self._does, step: fails}
        return original(self, its)

    with monkeypatch.context() as patch:
        patch.setattr(perform.Switch, "_do", do)
        yield left


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("command", ["cutover", "rollback"])
def test_a_step_that_fails_leaves_the_old_state_or_the_new_one(
    flushed: Callable[..., Server],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    after: bool,
) -> None:
    source, target = flushed("redis-7.0"), flushed("redis-7.0", 1)
    fill_strings(source, 200)
    with migrating(source, target, tmp_path) as migration, Counting(source, target, 2) as writers:
        migration.is_ready(writers=1)
        if command == "rollback":
            migration.switch("cutover")
        old, new = (source, target) if command == "cutover" else (target, source)
        for step in BEFORE_COMMIT if command == "cutover" else BEFORE_COMMIT_OF_A_ROLLBACK:
            migration.is_ready(writers=1)
            error = (
                RefusedError("The test says no.")
                if step is not Step.SETTLE
                else ServerAway("source", "Away.")
            )
            with failing(monkeypatch, step, error, after=after) as left:
                end = migration.try_switch(command)
            assert not left, (step, end, migration.told[-5:])
            made = step is Step.COMMIT and after
            assert (end.exit_code == 0) is made, (step, end)
            assert rules(new) is made, step
            assert rules(old) is not made, step
            assert record_of(old)[b"kind"] == (b"lost" if made else b"authority"), step
            writers.goes_on()
        writers.stop()
        assert not writers.failures
        assert counted(new if after else old, writers.acknowledged) == writers.acknowledged


def test_a_gate_that_takes_too_long_is_opened_again(
    flushed: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = flushed("redis-7.0"), flushed("redis-7.0", 1)
    fill_strings(source, 200)
    settle = perform.Switch._settle

    def slowly(self: perform.Switch) -> None:
        time.sleep(3.2)
        settle(self)

    with migrating(source, target, tmp_path) as migration, Counting(source, target, 2) as writers:
        with monkeypatch.context() as patch:
            patch.setattr(perform.Switch, "_settle", slowly)
            end = migration.try_switch("cutover", timeout_s=3.0)
        assert end.exit_code == 4
        assert end.facts["outcome"] == "undone"
        assert end.facts["gate_ms"] > 3000
        assert record_of(source)[b"kind"] == b"authority"
        writers.goes_on()
        migration.switch("cutover")
        writers.goes_on()


def test_a_silent_writer_puts_it_off_before_anybody_waits(
    flushed: Callable[..., Server], tmp_path: Path
) -> None:
    from keyferry.model.record import writers_key
    from keyferry.model.writers import WriterEntry, WriterFacts, encode_entry

    source, target = flushed("redis-7.0"), flushed("redis-7.0", 1)
    fill_strings(source, 200)
    with migrating(source, target, tmp_path, prepare_timeout_s=0.3, gate=Gate.NONE) as migration:
        migration.is_ready(writers=0)
        silent = WriterEntry(WriterFacts("elsewhere", 7, "silent.py"), lease_ms=60_000)
        ask(source, "HSET", writers_key(NAME), "silent", encode_entry(silent))
        wait_until(lambda: migration.status["writers"], "it is seen")
        end = migration.try_switch("cutover")
        assert end.exit_code == 4
        assert end.facts["outcome"] == "put off"
        assert end.facts["gate_ms"] is None
        assert "silent.py" in end.sentence


def test_it_goes_on_after_an_end(flushed: Callable[..., Server], tmp_path: Path) -> None:
    """Stopped while it follows, and while it follows back."""
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 500)
    with migrating(source, target, tmp_path) as migration:
        migration.is_verified()
    with Counting(source, target, 2) as writers:
        writers.goes_on()
        with migrating(source, target, tmp_path) as migration:
            migration.is_ready(writers=1)
            migration.switch("cutover")
            writers.goes_on()
        writers.goes_on()
        with migrating(source, target, tmp_path) as migration:
            migration.is_ready(writers=1)
            assert migration.status["stage"] == "following back"
            migration.switch("rollback")
            writers.goes_on()
        with migrating(source, target, tmp_path) as migration:
            migration.is_ready(writers=1)
            migration.switch("cutover")
            writers.goes_on()
            writers.stop()
            assert not writers.failures
            assert counted(target, writers.acknowledged) == writers.acknowledged
            wait_until(lambda: compared(source, target, ignore=(b"keyferry:*",)).equal, "the source follows")


def test_cutover_when_ready_cuts_over_once(flushed: Callable[..., Server], tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("redis-7.0", 1)
    fill_strings(source, 200)
    with (
        migrating(source, target, tmp_path, cutover_when_ready=True) as migration,
        Counting(source, target, 1) as writers,
    ):
        wait_until(lambda: rules(target), "it is cut over", 60.0)
        migration.is_ready(writers=1)
        migration.switch("rollback")
        migration.is_ready(writers=1)
        writers.goes_on()
        assert rules(source)
        assert not writers.failures


def test_what_makes_no_sense_is_refused(flushed: Callable[..., Server], tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("redis-7.0", 1)
    fill_strings(source, 200)
    with migrating(source, target, tmp_path, gate=Gate.NONE) as migration:
        migration.is_ready(writers=0)
        for command, words in (
            ("rollback", "The source has authority"),
            ("finish", "nothing to finish"),
        ):
            end = migration.ask(command, yes=True)
            assert end.exit_code == 4
            assert words in end.sentence
        assert migration.ask("pause").exit_code == 0
        end = migration.ask("cutover", yes=True)
        assert end.exit_code == 4
        assert "paused" in end.sentence
        assert migration.ask("unpause").exit_code == 0
        assert migration.ask("throttle", max_rate=1000.0).exit_code == 0
        assert migration.status is not None
        assert migration.ask("abort", yes=True).exit_code == 0
        migration.end()
    assert migration.report is not None
    assert migration.report.ended == "aborted"
    assert keyferrys(source) == keyferrys(target) == []
    assert ask(target, "DBSIZE") == 200


def test_a_cutover_without_a_way_back(start_server: Callable[..., Server], tmp_path: Path) -> None:
    source, target = start_server("redis-7.0"), start_server("redis-7.0")
    fill_strings(source, 200)
    with (
        migrating(source, target, tmp_path, rollback=False) as migration,
        Counting(source, target, 1) as writers,
    ):
        migration.is_ready(writers=1)
        end = migration.switch("cutover")
        assert "read-only" in end.facts["barred"]
        writers.goes_on()
        refused = str(ask_error(source, "SET", "straggler", "1"))
        assert "READONLY" in refused
        assert keys_of(source) >= 200
        assert migration.ask("rollback", yes=True).exit_code == 4
        writers.stop()
        assert migration.ask("finish", yes=True).exit_code == 0
        migration.end()


def ask_error(server: Server, *command: str) -> object:
    with server.session() as session:
        return session.call(*command)


def test_hooks_are_told_the_facts(flushed: Callable[..., Server], tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("redis-7.0", 1)
    fill_strings(source, 100)
    noted = tmp_path / "noted"
    hook = f'echo "$KEYFERRY_NAME $KEYFERRY_EVENT $KEYFERRY_AUTHORITY" >> {noted}'
    with migrating(
        source, target, tmp_path, on_cutover=hook, on_rollback="exit 3", gate=Gate.NONE
    ) as migration:
        migration.is_ready(writers=0)
        assert migration.switch("cutover").facts["hook_failed"] is False
        assert noted.read_text() == "orders cutover target\n"
        migration.is_ready(writers=0)
        end = migration.try_switch("rollback")
        assert end.exit_code == 1
        assert "exit status is 3" in end.hint
        assert rules(source)
