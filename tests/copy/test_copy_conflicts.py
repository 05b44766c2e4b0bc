"""Keys that the target holds already: refused, replaced, skipped, failed; and what is no conflict at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from copying import (
    Beside,
    Copying,
    ask,
    assert_consistent,
    assert_equal,
    fill,
    fill_strings,
    keys_of,
    wait_until,
)
from keyferry.copy.settings import ConflictPolicy
from keyferry.model.address import Endpoint
from keyferry.model.errors import ExitCode, InterruptedRun, RefusedError
from keyferry.model.selection import Selection
from keyferry.telemetry.progress import Progress
from keyferry.testing.servers import Server
from keyferry.transfer.config import RelayConfig
from keyferry.transfer.relay import Relay, make_relay

POLICIES: tuple[ConflictPolicy, ...] = get_args(ConflictPolicy)
Flushed = Callable[..., Server]


def stop_after(copying: Copying, keys: int) -> None:
    """The copy is interrupted when so many keys are settled."""

    def look(progress: Progress) -> None:
        if progress.keys_done >= keys:
            copying.stop.request()

    copying.on_progress = look


def test_a_target_with_foreign_keys_is_refused_untouched(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 100)
    fill(target, [("SET", f"theirs{i}", "x") for i in range(7)])
    with pytest.raises(RefusedError, match="7 keys") as refused:
        Copying(tmp_path / "state").run(source, target)
    assert refused.value.exit_code is ExitCode.REFUSED
    assert all(policy in refused.value.hint for policy in POLICIES)
    assert keys_of(target) == 7


def test_a_large_foreign_database_is_counted_by_its_size(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(target, 12_345, prefix=b"theirs:")
    with pytest.raises(RefusedError, match="12,345 keys"):
        Copying(tmp_path / "state").run(source, target)


def test_foreign_keys_in_another_database_do_not_matter(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 10)
    fill_strings(target, 10, db=5, prefix=b"theirs:")
    assert Copying(tmp_path / "state").run(source, target).run.copied == 10


def test_the_reserved_prefix_is_neither_copied_nor_counted(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 10)
    fill(source, [("SET", f"keyferry:{i}", "ours") for i in range(50)])
    fill(target, [("SET", f"keyferry:other{i}", "ours") for i in range(50)])
    report = Copying(tmp_path / "state").run(source, target)
    assert (report.run.scanned, report.run.copied) == (10, 10)
    assert keys_of(target) == 60
    assert_equal(source, target)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("pair", ["redis-7.0 valkey-9.1", "redis-8.2 redis-6.2", "redis-6.2 redis-8.2"])
def test_policies(pair: str, policy: ConflictPolicy, flushed: Flushed, tmp_path: Path) -> None:
    """Every way of carrying meets the conflict: as it is, transcoded (small sets to 6.2), re-signed."""
    source, target = (flushed(name) for name in pair.split())
    fill(source, [("SET", f"s{i}", "source") for i in range(200)])
    fill(source, [("SADD", f"t{i}", "source", "b") for i in range(200)])
    fill(target, [("SET", f"s{i}", "target") for i in range(0, 200, 2)])
    fill(target, [("SADD", f"t{i}", "target") for i in range(0, 200, 2)])
    fill(target, [("SET", "alone", "target")])
    failures = tmp_path / "failures.jsonl"
    report = Copying(tmp_path / "state").run(source, target, on_conflict=policy, failures_file=failures)

    assert_consistent(report)
    assert report.run.scanned == 400
    kept = 0 if policy == "replace" else 200
    assert report.run.copied == 400 - kept
    assert (report.run.skipped, report.run.failed) == {
        "replace": (0, 0),
        "skip": (200, 0),
        "fail": (0, 200),
    }[policy]
    for i in (0, 1, 100, 101):
        expected = b"source" if policy == "replace" or i % 2 else b"target"
        assert ask(target, "GET", f"s{i}") == expected
        assert ask(target, "SISMEMBER", f"t{i}", expected) == 1
    assert ask(target, "GET", "alone") == b"target"
    lines = [json.loads(line) for line in failures.read_text().splitlines()]
    assert len(lines) == report.run.failed
    assert all("--on-conflict fail" in line["reason"] for line in lines)


@pytest.mark.parametrize("policy", ["skip", "fail"])
def test_a_value_carried_by_commands_meets_the_conflict(
    policy: ConflictPolicy, flushed: Flushed, tmp_path: Path
) -> None:
    source, target = flushed("redis-8.2"), flushed("valkey-9.1")
    fill(source, [("HSET", "h", "f", "source"), ("HPEXPIRE", "h", 10**7, "FIELDS", 1, "f")])
    fill(source, [("HSET", "i", "f", "source"), ("HPEXPIRE", "i", 10**7, "FIELDS", 1, "f")])
    fill(target, [("HSET", "h", "f", "target")])
    report = Copying(tmp_path / "state").run(source, target, on_conflict=policy)
    assert report.run.copied == report.run.methods[3] == 1
    assert report.run.skipped + report.run.failed == 1
    assert ask(target, "HGET", "h", "f") == b"target"
    assert ask(target, "HGET", "i", "f") == b"source"


@pytest.mark.parametrize("policy", [None, *POLICIES])
def test_a_page_that_comes_twice_is_no_conflict(
    policy: ConflictPolicy | None, flushed: Flushed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SCAN may return a key twice. Here a page is queued again: the keys exist on the target by then."""
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 300)
    fill(target, [("SET", "keyferry:x", "ours")])
    if policy:
        ask(target, "SET", "theirs", "x")

    def make(config: RelayConfig) -> Relay:
        relay = make_relay(config)
        relay.add_keys([b"key:%d" % i for i in range(100)])
        return relay

    monkeypatch.setattr("keyferry.copy.passes.make_relay", make)
    report = Copying(tmp_path / "state").run(source, target, on_conflict=policy)
    assert_consistent(report)
    assert report.run.scanned == report.run.copied == 400
    assert (report.run.skipped, report.run.failed) == (0, 0)


def test_a_table_that_grows_and_shrinks_meanwhile_is_no_conflict(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("redis-6.2")
    fill_strings(source, 20_000)
    copying = Copying(tmp_path / "state")

    def resize() -> None:
        wait_until(lambda: keys_of(target) > 1_000, "the copy's first keys")
        fill_strings(source, 60_000, prefix=b"more:")
        fill(source, [("UNLINK", f"more:{i}") for i in range(60_000)])

    ask(target, "SET", "theirs", "x")
    with Beside(resize):
        report = copying.run(source, target, on_conflict="fail", max_rate=20_000)
    assert_consistent(report)
    assert report.run.failed == 0
    missing = [i for i in range(20_000) if i % 97 == 0 and ask(target, "EXISTS", f"key:{i}") != 1]
    assert missing == []


@pytest.mark.parametrize("policy", ["skip", "fail"])
def test_what_an_earlier_run_wrote_is_not_foreign(
    policy: ConflictPolicy, flushed: Flushed, tmp_path: Path
) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 5_000)
    fill(target, [("SET", f"key:{i}", "theirs") for i in range(0, 5_000, 50)])
    copying = Copying(tmp_path / "state")
    stop_after(copying, 1_000)
    with pytest.raises(InterruptedRun):
        copying.run(source, target, on_conflict=policy, max_rate=5_000, batch=100)
    again = Copying(tmp_path / "state")
    report = again.run(source, target, on_conflict=policy)
    assert report.resumed
    assert_consistent(report)
    kept = report.total.skipped if policy == "skip" else report.total.failed
    assert (report.total.scanned, kept) == (5_000, 100)
    assert ask(target, "GET", "key:50") == b"theirs"
    assert again.leftovers == []


def test_going_on_with_another_policy_is_refused(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 5_000)
    ask(target, "SET", "key:1", "theirs")
    copying = Copying(tmp_path / "state")
    stop_after(copying, 500)
    with pytest.raises(InterruptedRun):
        copying.run(source, target, on_conflict="skip", max_rate=2_000, batch=100)
    for other in (None, "replace", "fail"):
        with pytest.raises(RefusedError, match="--on-conflict skip"):
            Copying(tmp_path / "state").run(source, target, on_conflict=other)
    assert ask(target, "GET", "key:1") == b"theirs"
    report = Copying(tmp_path / "state").run(source, target, on_conflict="skip")
    assert (report.total.scanned, report.total.skipped) == (5_000, 1)


def test_an_interruption_while_the_target_is_looked_at_owns_nothing(flushed: Flushed, tmp_path: Path) -> None:
    """A checkpoint written then would call the target's keys ours."""
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 100)
    fill_strings(target, 2_000)
    copying = Copying(tmp_path / "state")
    copying.stop.request()
    with pytest.raises(InterruptedRun, match="before the copy began"):
        copying.run(source, target, on_conflict="skip")
    report = Copying(tmp_path / "state").run(source, target, on_conflict="skip")
    assert not report.resumed
    assert report.run.skipped == 100


@pytest.mark.parametrize("policy", [None, *POLICIES])
def test_a_key_that_vanished(
    policy: ConflictPolicy | None, flushed: Flushed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named by SCAN, gone when DUMP comes: deleted on the target with ``replace``, else only counted."""
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 10)
    if policy:
        ask(target, "SET", "gone", "theirs")

    def make(config: RelayConfig) -> Relay:
        relay = make_relay(config)
        relay.add_keys([b"gone", b"never was"])
        return relay

    monkeypatch.setattr("keyferry.copy.passes.make_relay", make)
    report = Copying(tmp_path / "state").run(source, target, on_conflict=policy)
    assert_consistent(report)
    assert (report.run.copied, report.run.vanished) == (10, 2)
    assert ask(target, "EXISTS", "gone") == (1 if policy in ("skip", "fail") else 0)


def test_a_key_that_vanished_takes_no_key_of_another_type_along(
    flushed: Flushed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 10)
    fill(target, [("SET", "gone string", "x"), ("RPUSH", "gone list", "x")])

    def make(config: RelayConfig) -> Relay:
        relay = make_relay(config)
        relay.add_keys([b"gone string", b"gone list"])
        return relay

    monkeypatch.setattr("keyferry.copy.passes.make_relay", make)
    selection = Selection(types=("string", "hash"))
    Copying(tmp_path / "state").run(source, target, on_conflict="replace", selection=selection)
    assert ask(target, "EXISTS", "gone string") == 0
    assert ask(target, "EXISTS", "gone list") == 1


def test_source_and_target_the_same_server(flushed: Flushed, tmp_path: Path) -> None:
    """By whichever way they are named."""
    server = flushed("redis-7.0")
    fill_strings(server, 10)
    other_way = Endpoint(unix_path=str(server.unix_path))
    for policy in (None, "replace"):
        with pytest.raises(RefusedError, match="same server"):
            Copying(tmp_path / "state").run(server, other_way, on_conflict=policy)
    assert keys_of(server) == 10


@pytest.mark.parametrize("policy", ["skip", "fail"])
def test_what_others_write_meanwhile_is_left_alone_and_said(
    policy: ConflictPolicy, flushed: Flushed, tmp_path: Path
) -> None:
    """An application that writes to both: its newer value stays, and nobody calls it copied."""
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 2_000)
    ask(target, "SET", "foreign", "x")

    def write() -> None:
        wait_until(lambda: keys_of(target) > 200, "the first keys")
        fill(target, [("SET", f"key:{i}", "newer", "NX") for i in range(2_000)])

    with Beside(write):
        report = Copying(tmp_path / "state").run(
            source, target, on_conflict=policy, max_rate=2_000, batch=100
        )
    assert_consistent(report)
    with target.session() as session:
        newer = session.pipeline([("GET", f"key:{i}") for i in range(2_000)]).count(b"newer")
    assert newer > 500
    assert report.run.failed == 0
    assert report.run.skipped == report.notes["changed_meanwhile"] == newer
