"""Ended at any moment, in any way, the same command goes on; and only one works on one copy at a time."""

from __future__ import annotations

import contextlib
import random
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from copying import (
    WAIT_S_MAX,
    Copying,
    Process,
    ask,
    assert_consistent,
    assert_equal,
    fill,
    fill_strings,
    keys_of,
    wait_until,
)
from keyferry.model.errors import ExitCode, InterruptedRun, RefusedError, UsageError
from keyferry.testing.cluster import Cluster
from keyferry.testing.proxy import FaultProxy
from keyferry.testing.servers import Server
from keyferry.wire.resp import Reply

Flushed = Callable[..., Server]


def interrupt_after(copying: Copying, keys: int) -> None:
    def look(progress: object) -> None:
        if getattr(progress, "keys_done") >= keys:  # noqa: B009
            copying.stop.request()

    copying.on_progress = look


def test_a_wish_to_stop_and_going_on(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 10_000)
    state = tmp_path / "state"
    for keys in (1_000, 3_000, 6_000):
        copying = Copying(state)
        interrupt_after(copying, keys)
        with pytest.raises(InterruptedRun) as interrupted:
            copying.run(source, target, max_rate=20_000, batch=100)
        assert interrupted.value.exit_code is ExitCode.INTERRUPTED
        assert "same command" in interrupted.value.hint
        assert copying.leftovers
    last = Copying(state)
    report = last.run(source, target)
    assert report.resumed
    assert any("Going on with an earlier run" in sentence for sentence in last.told)
    assert_consistent(report)
    assert report.total.scanned == report.total.copied == 10_000
    assert report.run.copied < 5_000
    assert last.leftovers == []
    assert_equal(source, target)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_command_in_3_s(number: signal.Signals, flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 20_000)
    with Process(source.url, target.url, tmp_path, "--max-rate", "2000") as running:
        wait_until(lambda: keys_of(target) > 500, "the copy's first keys")
        sent_s = time.monotonic()
        running.process.send_signal(number)
        status, said, err = running.end(timeout_s=10)
        assert time.monotonic() - sent_s < 3
    assert status == ExitCode.INTERRUPTED
    assert "same command" in err
    assert said
    with Process(source.url, target.url, tmp_path) as again:
        status, report, err = again.end()
    assert status == 0, err
    assert report["resumed"]
    assert report["total_copied"] == report["total_scanned"] == 20_000
    assert_equal(source, target)


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("moment", ["first", "copying"])
def test_a_signal_while_a_server_hangs(side: str, moment: str, flushed: Flushed, tmp_path: Path) -> None:
    servers = {"source": flushed("redis-7.0"), "target": flushed("valkey-9.1")}
    fill_strings(servers["source"], 20_000)
    with FaultProxy("127.0.0.1", servers[side].port) as proxy:
        urls = {name: server.url for name, server in servers.items()} | {side: proxy.url}
        if moment == "first":
            proxy.stall(True)
        with Process(urls["source"], urls["target"], tmp_path, "--max-rate", "2000") as running:
            if moment == "first":
                wait_until(lambda: proxy.connections > 0, "the first connection")
            else:
                wait_until(lambda: keys_of(servers["target"]) > 500, "the copy's first keys")
                proxy.stall(True)
                proxy.cut()
                connections = proxy.connections
                wait_until(lambda: proxy.connections > connections, "trying again")
            sent_s = time.monotonic()
            running.process.send_signal(signal.SIGTERM)
            status, _, err = running.end(timeout_s=10)
            assert time.monotonic() - sent_s < 3
    assert status == ExitCode.INTERRUPTED, err


def test_killed_many_times(flushed: Flushed, tmp_path: Path) -> None:
    """kill -9 at random moments: nothing is lost, nothing is counted twice."""
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 15_000)
    fill(source, [("HSET", f"h{i}", "f", "v") for i in range(3_000)])
    fill(source, [("PEXPIRE", f"h{i}", 10**7) for i in range(3_000)])
    chance = random.Random(7)
    kills = 0
    report: dict[str, Any] | None = None
    for _ in range(40):
        with Process(source.url, target.url, tmp_path, "--max-rate", "6000", "--batch", "200") as running:
            process, more = running.process, keys_of(target) + 300
            wait_until(
                lambda: keys_of(target) > more or process.poll() is not None,  # noqa: B023 (not kept)
                "some more keys",
            )
            time.sleep(chance.random() * 0.6)  # not a wait for anything: a random moment
            if running.process.poll() is not None:
                status, report, err = running.end()
                break
            running.process.kill()
            running.process.communicate()
            kills += 1
        if not checkpoints(tmp_path / ".keyferry"):
            report = None  # killed in the moment between its end and the process's
            break
    assert kills >= 3
    if report is not None:
        assert status == 0, err
        assert report["resumed"]
        assert report["total_scanned"] == report["total_copied"] == 18_000
    assert_equal(source, target)
    assert not checkpoints(tmp_path / ".keyferry")


def checkpoints(state_dir: Path) -> int:
    """Unfinished copies."""
    found = 0
    for path in state_dir.glob("*.sqlite") if state_dir.exists() else ():
        with contextlib.closing(sqlite3.connect(path)) as database, contextlib.suppress(sqlite3.Error):
            found += len(database.execute("SELECT 1 FROM checkpoint").fetchall())
    return found


def test_the_checkpoint_is_written_twice_a_second(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 20_000)
    with Process(source.url, target.url, tmp_path, "--max-rate", "4000", "--batch", "100") as running:
        wait_until(lambda: keys_of(target) > 8_000, "two seconds of work")
        running.process.kill()
        running.process.communicate()
        done = keys_of(target)
    with Process(source.url, target.url, tmp_path) as again:
        status, report, err = again.end()
    assert status == 0, err
    earlier = report["total_scanned"] - report["scanned"]
    assert earlier <= done
    assert done - earlier < 4_000  # half a second at 4,000 keys/s, and what a loaded machine adds


def test_a_second_run_of_a_copy_that_is_alive_is_refused(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 20_000)
    with Process(source.url, target.url, tmp_path, "--max-rate", "2000") as first:
        wait_until(lambda: keys_of(target) > 100, "the copy's first keys")
        for more in ([], ["--restart"]):
            with Process(source.url, target.url, tmp_path, *more) as second:
                status, _, err = second.end()
            assert status == ExitCode.REFUSED
            assert f"process {first.process.pid}" in err
        assert first.process.poll() is None
        # Another selection is another copy.
        with Process(
            source.url, target.url, tmp_path, "--match", "nothing*", "--on-conflict", "skip"
        ) as other:
            assert other.end()[0] == 0


def test_restart_discards(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 3_000)
    copying = Copying(tmp_path / "state")
    interrupt_after(copying, 500)
    with pytest.raises(InterruptedRun):
        copying.run(source, target, max_rate=2_000, batch=100)
    with pytest.raises(RefusedError, match="already holds"):
        Copying(tmp_path / "state").run(source, target, restart=True)
    report = Copying(tmp_path / "state").run(source, target, restart=True, on_conflict="replace")
    assert not report.resumed
    assert report.total.scanned == 3_000
    assert_equal(source, target)


@pytest.mark.parametrize("damage", ["garbage", "no json", "another version"])
def test_a_damaged_checkpoint_is_named(damage: str, flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 3_000)
    copying = Copying(tmp_path / "state")
    interrupt_after(copying, 500)
    with pytest.raises(InterruptedRun):
        copying.run(source, target, max_rate=2_000, batch=100)
    (path,) = (tmp_path / "state").glob("*.sqlite")
    if damage == "garbage":
        for left in (tmp_path / "state").glob("*.sqlite-*"):
            left.unlink()
        path.write_bytes(b"this is no checkpoint" * 1000)
    else:
        with sqlite3.connect(path) as database:
            change = "body = 'x'" if damage == "no json" else "format = 99"
            database.execute(f"UPDATE checkpoint SET {change}")
        database.close()
    with pytest.raises(UsageError) as named:
        Copying(tmp_path / "state").run(source, target)
    assert str(path) in named.value.message
    assert "--restart" in named.value.hint
    report = Copying(tmp_path / "state").run(source, target, restart=True, on_conflict="replace")
    assert report.run.copied == 3_000


def test_a_state_directory_that_cannot_be(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match="cannot be used") as refused:
        Copying(tmp_path / "file" / "state").run(source, target)
    assert "--state-dir" in refused.value.hint
    assert keys_of(target) == 0


def test_failures_are_not_listed_twice_after_a_kill(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("valkey-9.1"), flushed("redis-7.0")
    fill_strings(source, 4_000)
    for i in range(500):
        fill(source, [("HSET", f"h{i}", "f", "v"), ("HPEXPIRE", f"h{i}", 10**7, "FIELDS", 1, "f")])
    failures = tmp_path / "failures.jsonl"
    options = ["--max-rate", "2500", "--batch", "50", "--failures", str(failures)]
    with Process(source.url, target.url, tmp_path, *options) as running:
        wait_until(lambda: keys_of(target) > 1_500, "a good part of the keys")
        running.process.kill()
        running.process.communicate()
    with Process(source.url, target.url, tmp_path, "--failures", str(failures)) as again:
        status, report, err = again.end()
    assert status == ExitCode.KEYS_FAILED, err
    assert report["total_failed"] == 500
    assert len(failures.read_text().splitlines()) == 500


def test_nothing_of_ours_is_left_on_either_server(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-8.2"), flushed("redis-6.2")
    fill_strings(source, 1_000)
    Copying(tmp_path / "state").run(source, target)
    for server in (source, target):
        assert ask(server, "KEYS", "keyferry:*") == []


@pytest.mark.parametrize("target_shards", [0, 3])
def test_a_value_that_was_half_built_and_is_gone_from_the_source(
    target_shards: int,
    flushed: Flushed,
    cluster: Callable[..., Cluster],
    tmp_path: Path,
) -> None:
    """No later carry of the key removes it, because there is none."""
    source = flushed("redis-7.0")
    target = cluster("redis-7.0", target_shards) if target_shards else flushed("valkey-9.1")
    fill(source, [("RPUSH", "giant", *[f"item {j}:{i}" for i in range(1_000)]) for j in range(300)])
    fill_strings(source, 100)

    def half_built() -> list[Reply]:
        nodes = target.primaries if isinstance(target, Cluster) else [target]
        return [names for node in nodes if (names := ask(node, "KEYS", "keyferry:tmp:*"))]

    with Process(source.url, target.url, tmp_path, "--max-bandwidth", "1M") as running:
        wait_until(half_built, "the giant's first pieces")
        running.process.kill()
        running.process.wait()
    assert half_built() != []
    fill(source, [("UNLINK", "giant")])
    with Process(source.url, target.url, tmp_path) as again:
        assert again.process.wait(WAIT_S_MAX) == 0
    assert half_built() == []
    assert_equal(source, target)
