"""``keyferry sync`` as a user runs it, between real servers."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import keyferry, started

from keyferry.testing.cluster import Cluster
from keyferry.testing.compare import compare_databases
from keyferry.testing.dataset import fill
from keyferry.testing.servers import Server

KEYS = 2_000
ARRIVES_S = 2.0
SHOWN_S = 0.5
"""After so long the numbers know of what has arrived."""
UNTIL = ("--until-synced", "--max-latency", "0")


@pytest.fixture
def source(flushed: Callable[..., Server]) -> Server:
    server = flushed("redis-6.2")
    with server.session() as session:
        fill(session, KEYS)
    return server


@pytest.fixture
def target(flushed: Callable[..., Server]) -> Server:
    return flushed("valkey-9.1")


def call(server: Server, *command: str | bytes | int) -> object:
    with server.session() as session:
        return session.call(*command)


def assert_equal(source: Server, target: Server) -> None:
    with source.session() as left, target.session() as right:
        found = compare_databases(left, right, expiry_tolerance_ms=1_000)
    assert found.equal, found.differences


def wait_for(what: str, seen: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < deadline, f"{what} took more than {seconds:g} s"
        time.sleep(0.02)


def follow(target: Server, process: subprocess.Popen[bytes], keys: int = KEYS) -> None:
    """Waits until the first pass is done."""
    wait_for("the copy", lambda: process.poll() is not None or call(target, "DBSIZE") == keys)
    assert process.poll() is None, process.communicate()


def stop(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGINT) -> tuple[bytes, bytes]:
    began = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert time.monotonic() - began < 3
    return out, err


def test_until_synced_ends_by_itself(source: Server, target: Server, tmp_path: Path) -> None:
    ended = keyferry("sync", source.url, target.url, *UNTIL, "--report", "r.json", cwd=tmp_path)
    assert ended.status == 0, ended.out + ended.err
    assert ended.out.startswith("Synced after ")
    assert "  copied       2,000 keys" in ended.out
    assert ended.err.startswith(f"keyferry sync {source.url} to {target.url}\n")
    said = json.loads((tmp_path / "r.json").read_text())
    assert (said["synced"], said["feed"], said["failed"]) == (True, "tracking", 0)
    assert said["verified"] >= KEYS
    assert_equal(source, target)


def test_json_is_one_object(source: Server, target: Server, tmp_path: Path) -> None:
    ended = keyferry("sync", source.url, target.url, *UNTIL, "--json", cwd=tmp_path)
    assert ended.status == 0, ended.err
    said = json.loads(ended.out)
    assert said["copied"]["copied"] == KEYS


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_changes_arrive_until_it_is_stopped_and_the_same_command_goes_on(
    source: Server, target: Server, tmp_path: Path, number: signal.Signals
) -> None:
    call(source, "SET", "gone", "v")
    arguments = ["sync", source.url, target.url, "--json"]
    with started(arguments, tmp_path) as process:
        follow(target, process, KEYS + 1)
        call(source, "SET", "new", "1")
        call(source, "INCR", "new")
        call(source, "PEXPIRE", "new", 500_000)
        call(source, "DEL", "gone")
        call(source, "SET", "last", "v")
        wait_for("a change", lambda: call(target, "GET", "last") == b"v", ARRIVES_S)
        wait_for("a deletion", lambda: call(target, "EXISTS", "gone") == 0, ARRIVES_S)
        wait_for("an expiry", lambda: call(target, "TTL", "new") not in (-1, -2), ARRIVES_S)
        time.sleep(SHOWN_S)
        out, err = stop(process, number)
    assert b"same command" in err
    stopped = json.loads(out)
    assert (stopped["exit_code"], stopped["feed"], stopped["failed"]) == (130, "tracking", 0)
    assert stopped["settled"] >= 3
    assert_equal(source, target)
    call(source, "DEL", "last")
    call(source, "SET", "later", "v")
    ended = keyferry(*arguments, "--until-synced", cwd=tmp_path)
    assert ended.status == 0, ended.err
    assert json.loads(ended.out)["resumed"] is True
    assert_equal(source, target)


def test_killed_it_goes_on(source: Server, target: Server, tmp_path: Path) -> None:
    arguments = ["sync", source.url, target.url]
    with started(arguments, tmp_path) as process:
        follow(target, process)
    with source.session() as session:
        key = session.call("RANDOMKEY")
        assert isinstance(key, bytes)
        session.call("DEL", key)
        session.call("SET", "later", "v")
    ended = keyferry(*arguments, *UNTIL, cwd=tmp_path)
    assert ended.status == 0, ended.err
    assert call(target, "EXISTS", key) == 0
    assert_equal(source, target)


def test_a_target_with_keys(source: Server, target: Server, tmp_path: Path) -> None:
    call(target, "SET", "mine", "1")
    arguments = ["sync", source.url, target.url, *UNTIL]
    refused = keyferry(*arguments, cwd=tmp_path)
    assert (refused.status, call(target, "DBSIZE")) == (4, 1)
    assert "--on-conflict" in refused.err
    kept = keyferry(*arguments, "--on-conflict", "replace", "--keep-extra", cwd=tmp_path)
    assert (kept.status, call(target, "EXISTS", "mine")) == (0, 1), kept.err
    other = keyferry(*arguments, "--on-conflict", "replace", cwd=tmp_path)
    assert (other.status, call(target, "EXISTS", "mine")) == (4, 1), other.err
    deleted = keyferry(*arguments, "--on-conflict", "replace", "--restart", cwd=tmp_path)
    assert (deleted.status, call(target, "EXISTS", "mine")) == (0, 0), deleted.err
    assert "note: " in deleted.err
    assert_equal(source, target)


@pytest.fixture
def quiet_source(start_server: Callable[..., Server]) -> Server:
    server = start_server("redis-7.0")
    with server.session() as session:
        fill(session, KEYS)
    return server


def test_notifications_are_switched_on_and_put_back(
    quiet_source: Server, target: Server, tmp_path: Path
) -> None:
    call(quiet_source, "CONFIG", "SET", "notify-keyspace-events", "Ex")
    arguments = ["sync", quiet_source.url, target.url, "--feed", "notifications", "--json"]
    refused = keyferry(*arguments, cwd=tmp_path)
    assert refused.status == 4
    assert "notify-keyspace-events" in refused.err
    with started([*arguments, "--enable-notifications"], tmp_path) as process:
        follow(target, process)
        call(quiet_source, "SET", "new", "1")
        wait_for("a change", lambda: call(target, "GET", "new") == b"1", ARRIVES_S)
        out, _ = stop(process)
    assert json.loads(out)["feed"] == "notifications"
    reply = call(quiet_source, "CONFIG", "GET", "notify-keyspace-events")
    assert isinstance(reply, list)
    assert set(reply[1]) == set(b"Ex")
    assert_equal(quiet_source, target)


def test_sweeps_say_what_they_cannot_promise(source: Server, target: Server, tmp_path: Path) -> None:
    ended = keyferry("sync", source.url, target.url, "--feed", "sweeps", *UNTIL, cwd=tmp_path)
    assert ended.status == 0, ended.err
    assert "note: " in ended.err
    assert "sweep" in ended.err.lower()
    assert_equal(source, target)


def test_a_dry_run_writes_nothing(source: Server, target: Server, tmp_path: Path) -> None:
    ended = keyferry("sync", source.url, target.url, "--dry-run", cwd=tmp_path)
    assert ended.status == 0, ended.err
    assert "Would copy about 2,000 keys. Nothing was written." in ended.out
    assert call(target, "DBSIZE") == 0
    call(target, "SET", "mine", "1")
    assert keyferry("sync", source.url, target.url, "--dry-run", cwd=tmp_path).status == 4
    replacing = ("--on-conflict", "replace")
    assert keyferry("sync", source.url, target.url, *UNTIL, *replacing, cwd=tmp_path).status == 0
    # What the target holds now is our own.
    ended = keyferry("sync", source.url, target.url, "--dry-run", cwd=tmp_path)
    assert ended.status == 0, ended.err


def test_keys_that_cannot_be_carried_are_exit_1(flushed: Callable[..., Server], tmp_path: Path) -> None:
    source, target = flushed("valkey-9.1"), flushed("redis-6.2")
    call(source, "HSET", "h", "f", "v")
    call(source, "HPEXPIRE", "h", 600_000, "FIELDS", 1, "f")
    call(source, "SET", "s", "v")
    ended = keyferry("sync", source.url, target.url, *UNTIL, "--failures", "failed.jsonl", cwd=tmp_path)
    assert ended.status == 1, ended.out + ended.err
    assert "Not synced" in ended.out
    assert "1 key could not be carried" in ended.out
    assert call(target, "GET", "s") == b"v"
    lines = [json.loads(line) for line in (tmp_path / "failed.jsonl").read_text().splitlines()]
    assert [line["key"] for line in lines] == ["h"]


def test_clusters(cluster: Callable[..., Cluster], tmp_path: Path) -> None:
    source, target = cluster("redis-7.0", 3), cluster("valkey-9.1", 2)
    with source.session() as session:
        fill(session, KEYS)
    ended = keyferry("sync", source.url, target.url, *UNTIL, cwd=tmp_path)
    assert ended.status == 0, ended.err
    with source.session() as left, target.session() as right:
        found = compare_databases(left, right, expiry_tolerance_ms=1_000)
    assert found.equal, found.differences


def test_the_same_server_is_refused(source: Server, tmp_path: Path) -> None:
    ended = keyferry("sync", source.url, source.unix_url, "--on-conflict", "replace", cwd=tmp_path)
    assert (ended.status, call(source, "DBSIZE")) == (4, KEYS)
