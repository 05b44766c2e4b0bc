"""``keyferry copy`` as a user runs it, between real servers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import Ended, command, environment, keyferry, started

from keyferry.testing.compare import compare_databases
from keyferry.testing.dataset import fill
from keyferry.testing.servers import Server

KEYS = 2_000
COUNTS = ("copied", "skipped", "vanished", "failed")


@pytest.fixture
def source(flushed: Callable[..., Server]) -> Server:
    server = flushed("redis-6.2")
    with server.session() as session:
        fill(session, KEYS)
    return server


@pytest.fixture
def target(flushed: Callable[..., Server]) -> Server:
    return flushed("valkey-9.1")


def size(server: Server, db: int = 0) -> int:
    with server.session(db) as session:
        reply = session.call("DBSIZE")
    assert isinstance(reply, int)
    return reply


def assert_equal(source: Server, target: Server) -> None:
    with source.session() as left, target.session() as right:
        found = compare_databases(left, right, expiry_tolerance_ms=1_000)
    assert found.equal, found.differences


def test_everything_arrives_and_is_summed_up(source: Server, target: Server, tmp_path: Path) -> None:
    ended = keyferry("copy", source.url, target.url, cwd=tmp_path)
    assert ended.status == 0, ended.err
    assert ended.out.startswith("Copied 2,000 keys in ")
    assert "2,000 as they are" in ended.out
    assert ended.err.startswith(f"keyferry copy {source.url} to {target.url}\n")
    assert_equal(source, target)


def test_json_is_one_object_and_the_report_is_the_same(
    source: Server, target: Server, tmp_path: Path
) -> None:
    ended = keyferry("copy", source.url, target.url, "--json", "--report", "r.json", cwd=tmp_path)
    assert ended.status == 0
    (said,) = (json.loads(line) for line in ended.out.splitlines())
    assert json.loads((tmp_path / "r.json").read_text()) == said
    assert said["scanned"] == said["copied"] == said["total_scanned"] == KEYS
    assert sum(said[name] for name in COUNTS) == said["scanned"]
    assert sum(said["methods"].values()) == said["copied"]
    assert said["resumed"] is False
    assert {"bytes", "seconds", "keys_per_second", "throttled_seconds"} <= said.keys()
    assert "Copied" in ended.err or "keyferry copy" in ended.err


def test_a_target_with_keys_is_refused(source: Server, target: Server, tmp_path: Path) -> None:
    with target.session() as session:
        session.call("SET", "mine", "1")
    for options in ([], ["--dry-run"]):
        ended = keyferry("copy", source.url, target.url, *options, cwd=tmp_path)
        assert ended.status == 4
        assert "--on-conflict" in ended.err
        assert size(target) == 1


def test_the_same_server_is_refused(source: Server, tmp_path: Path) -> None:
    ended = keyferry("copy", source.url, source.unix_url, "--on-conflict", "replace", cwd=tmp_path)
    assert ended.status == 4
    assert size(source) == KEYS


def test_failed_keys_are_exit_1_and_written_down(source: Server, target: Server, tmp_path: Path) -> None:
    keys = [b"\xff\\ \r\n", b"plain"]
    with source.session() as left, target.session() as right:
        for key in keys:
            left.call("SET", key, "s")
            right.call("SET", key, "t")
    options = ["--on-conflict", "fail", "--failures", "failed.jsonl"]
    ended = keyferry("copy", source.url, target.url, *options, cwd=tmp_path)
    assert ended.status == 1
    assert "failed.jsonl" in ended.out
    lines = [json.loads(line) for line in (tmp_path / "failed.jsonl").read_text().splitlines()]
    assert sorted(line["key"] for line in lines) == ["\\xff\\x5c \\x0d\\x0a", "plain"]
    assert sorted(line["key_base64"] for line in lines) == ["/1wgDQo=", "cGxhaW4="]
    assert all(line["reason"] for line in lines)


def test_globs_are_bytes(flushed: Callable[..., Server], target: Server, tmp_path: Path) -> None:
    source = flushed("redis-6.2")
    with source.session() as session:
        for key in (b"\xff1", b"\xff2", b"\xc3\xbf"):
            session.call("SET", key, key)
    ended = keyferry("copy", source.url, target.url, "--match", b"\xff*", "--exclude", b"*2", cwd=tmp_path)
    assert ended.status == 0, ended.err
    with target.session() as session:
        assert session.call("KEYS", "*") == [b"\xff1"]


def test_databases_named_in_the_addresses(
    flushed: Callable[..., Server], target: Server, tmp_path: Path
) -> None:
    source = flushed("redis-6.2")
    with source.session(3) as session:
        session.call("SET", "k", "v")
    assert keyferry("copy", f"{source.url}/3", f"{target.url}/5", cwd=tmp_path).status == 0
    assert (size(target), size(target, 3), size(target, 5)) == (0, 0, 1)


def test_a_dry_run_writes_nothing(source: Server, target: Server, tmp_path: Path) -> None:
    ended = keyferry("copy", source.url, target.url, "--dry-run", cwd=tmp_path)
    assert ended.status == 0, ended.err
    assert "Would copy about 2,000 keys. Nothing was written." in ended.out
    assert "stream       as they are" in ended.out
    said = json.loads(keyferry("copy", source.url, target.url, "--dry-run", "--json", cwd=tmp_path).out)
    assert said["keys"] == KEYS
    assert size(target) == 0


def test_a_dry_run_names_each_way_once(flushed: Callable[..., Server], tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("redis-6.2")
    with source.session() as session:
        fill(session, KEYS)
    ended = keyferry("copy", source.url, target.url, "--dry-run", cwd=tmp_path)
    assert "\n  hash         re-signed, transcoded\n" in ended.out
    assert "\n  string       re-signed\n" in ended.out


def wait_for_keys(server: Server, keys: int) -> None:
    deadline = time.monotonic() + 30
    while size(server) < keys:
        assert time.monotonic() < deadline, "the copy does not get on"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_ends_soon_and_goes_on(
    source: Server, target: Server, tmp_path: Path, number: signal.Signals
) -> None:
    arguments = ["copy", source.url, target.url, "--json"]
    with started([*arguments, "--max-rate", "500", "--batch", "50"], tmp_path) as process:
        wait_for_keys(target, 300)
        began = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert time.monotonic() - began < 3
    assert b"Interrupted after " in err
    assert b"same command" in err
    stopped = json.loads(out)
    assert (stopped["exit_code"], stopped["scanned"] > 0) == (130, True)
    ended = keyferry(*arguments, cwd=tmp_path)
    assert ended.status == 0, ended.err
    said = json.loads(ended.out)
    assert said["resumed"] is True
    assert said["scanned"] < KEYS
    assert said["total_scanned"] >= KEYS
    assert_equal(source, target)


def test_an_impatient_user_does_not_spoil_it(source: Server, target: Server, tmp_path: Path) -> None:
    arguments = ["copy", source.url, target.url, "--max-rate", "200", "--batch", "20"]
    with started(arguments, tmp_path) as process:
        wait_for_keys(target, 50)
        for _ in range(5):
            process.send_signal(signal.SIGINT)
            time.sleep(0.03)
        _, err = process.communicate(timeout=3)
    assert process.returncode == 130
    assert b"same command" in err
    assert b"Traceback" not in err
    assert keyferry("copy", source.url, target.url, cwd=tmp_path).status == 0
    assert_equal(source, target)


STUCK = """
import time
from keyferry.app.signals import stopping
from keyferry.copy.stop import StopFlag
with stopping(StopFlag()):
    print("ready", flush=True)
    while True:
        time.sleep(60)
"""


def test_the_second_signal_ends_what_does_not_stop() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STUCK], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "same command" in err


def test_a_state_directory_that_cannot_be_made_is_bad_usage(
    source: Server, target: Server, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    ended = keyferry("copy", source.url, target.url, "--state-dir", "file/state", cwd=tmp_path)
    assert ended.status == 2
    assert "file/state" in ended.err


def test_standard_output_may_be_closed(source: Server, target: Server, tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with subprocess.Popen(
        command("copy", source.url, target.url),
        cwd=tmp_path,
        env=environment(),
        stdout=write_end,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(write_end)
        _, err = process.communicate(timeout=60)
    ended = Ended(process.returncode, "", err.decode())
    assert (ended.status, "error" in ended.err) == (0, False)
    assert_equal(source, target)
