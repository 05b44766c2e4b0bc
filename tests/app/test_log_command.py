"""The log of commands as users run them: between real servers, on a file and on standard error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commandline import command, environment, keyferry
from migration_process import READY_S, running

from keyferry.testing.dataset import fill
from keyferry.testing.servers import Server

KEYS = 200
SECRET = "hunter2-secret"


@pytest.fixture
def source(flushed: Callable[..., Server]) -> Server:
    server = flushed("redis-7.0")
    with server.session() as session:
        fill(session, KEYS)
    return server


@pytest.fixture
def target(flushed: Callable[..., Server]) -> Server:
    return flushed("valkey-9.1")


def events_of(text: str) -> list[dict[str, Any]]:
    """Every line is one event."""
    found = [json.loads(line) for line in text.splitlines()]
    assert all({"ts", "level", "event"} <= one.keys() for one in found)
    return found


def test_a_migration_is_told_from_its_beginning_to_its_end(
    source: Server, target: Server, tmp_path: Path
) -> None:
    given = ["migrate", source.url, target.url, "--name", "shop", "--gate", "none"]
    with running(tmp_path, [*given, "--log-file", "run.log", "--log-json"]) as migration:
        migration.wait_until("ready", lambda status: bool(status.get("ready")))
        assert migration.ask("cutover", yes=True).exit_code == 0
        assert migration.ask("cutover", yes=True).exit_code == 4
        assert migration.ask("finish", yes=True).exit_code == 0
        code, _, err = migration.end()
    assert code == 0
    assert err.startswith("keyferry migrate redis://")  # What is shown without a log is shown with one.
    events = events_of((tmp_path / "run.log").read_text())
    assert {one["name"] for one in events} == {"shop"}
    assert (events[0]["event"], events[0]["pid"]) == ("run_started", migration.process.pid)
    assert (events[-1]["event"], events[-1]["exit_code"]) == ("run_ended", 0)
    by_kind = {one["event"]: one for one in events}
    assert by_kind["switch_ended"]["outcome"] == "done"
    assert by_kind["switch_ended"]["gate_ms"] > 0
    assert by_kind["verification"]["differences"] == 0
    answered = [(one["command"], one["exit_code"]) for one in events if one["event"] == "answered"]
    assert answered == [("cutover", 0), ("cutover", 4), ("finish", 0)]
    stages = [one["stage"] for one in events if one["event"] == "stage_changed"]
    assert stages[-1] == "finished"
    assert "following" in stages


def test_on_standard_error_nothing_but_events_is_said(source: Server, target: Server, tmp_path: Path) -> None:
    given = ("copy", source.url, target.url, "--log-json")
    done = keyferry(*given, cwd=tmp_path)
    assert (done.status, done.out.splitlines()[0].startswith(f"Copied {KEYS} keys")) == (0, True)
    events = events_of(done.err)
    assert [events[0]["event"], events[-2]["event"], events[-1]["event"]] == [
        "run_started",
        "result",
        "run_ended",
    ]
    assert events[-2]["copied"] == KEYS
    refused = keyferry(*given, cwd=tmp_path)
    assert refused.status == 4
    end = events_of(refused.err)[-1]
    assert (end["event"], end["level"], end["exit_code"]) == ("run_ended", "error", 4)
    assert "--on-conflict" in end["msg"] + end["hint"]


def test_credentials_are_in_no_line(source: Server, tmp_path: Path) -> None:
    url = source.url.replace("redis://", f"redis://ferry:{SECRET}@")
    ended = keyferry("copy", url, source.url, "--log-level", "debug", cwd=tmp_path)
    assert ended.status == 3
    assert "event=run_ended" in ended.err.splitlines()[-1]
    assert SECRET not in ended.out + ended.err


def test_a_log_that_cannot_be_written_is_said_before_anything_begins(
    source: Server, target: Server, tmp_path: Path
) -> None:
    ended = keyferry("copy", source.url, target.url, "--log-file", "missing/run.log", cwd=tmp_path)
    assert (ended.status, "--log-file missing/run.log cannot be written" in ended.err) == (2, True)
    with target.session() as session:
        assert session.call("DBSIZE") == 0


@pytest.mark.parametrize("log", [["--log-file", "/dev/full"], ["--log-json"]], ids=["full disk", "no reader"])
def test_a_log_that_cannot_get_out_changes_nothing(
    log: list[str], source: Server, target: Server, tmp_path: Path
) -> None:
    """With nobody to read it, standard error gives EPIPE at the first line."""
    out, into = os.pipe()
    os.close(out)
    try:
        ended = subprocess.run(
            command("copy", source.url, target.url, "--log-level", "debug", *log),
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=into,
            timeout=60,
            check=False,
        )
    finally:
        os.close(into)
    assert (ended.returncode, ended.stdout.startswith(f"Copied {KEYS} keys".encode())) == (0, True)


def test_a_stop_is_an_event(source: Server, target: Server, tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    given = ["sync", source.url, target.url, "--name", "two words", "--log-file", log.name]
    with running(tmp_path, given) as sync:
        deadline = time.monotonic() + READY_S
        while not (log.exists() and "stage=following" in log.read_text()):
            assert sync.process.poll() is None, sync.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        code, _, err = sync.end(signal.SIGINT)
    assert code == 130
    assert "Stopped while following" in err
    last = log.read_text().splitlines()[-1]
    assert 'level=info event=run_ended name="two words" exit_code=130' in last
    assert 'msg="Stopped while following' in last
