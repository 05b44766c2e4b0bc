"""A switch of plain clients that fails at a step, or whose coordinator dies there: the old state or the new one.

Rights that were taken away have no dead-man's switch, so what matters most is that they come back.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conducting import migrating
from plain_application import (
    OURS,
    PASSWORD,
    acknowledged,
    all_refused,
    all_write,
    apart,
    counted,
    users_of,
    writing,
)
from test_switching import failing, rules

from copying import fill_strings, wait_until
from keyferry.cutover.failpoints import DIE, DIED
from keyferry.cutover.plan import Gate, Step
from keyferry.model.errors import RefusedError
from keyferry.model.record import record_key
from keyferry.testing.servers import Server

StartServer = Callable[..., Server]
STEPS = [Step.PAUSE, Step.BAR, Step.CHECK_PAUSE, Step.UNPAUSE, Step.PENDING, Step.COMMIT]


def rules_of(server: Server) -> list[object]:
    with server.session() as session:
        return list(users_of(session))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_step_that_fails_gives_the_rights_back(
    start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    source, target = start_server("redis-6.2"), start_server("valkey-9.1")
    fill_strings(source, 200)
    with (
        apart(source) as (from_ours, from_app),
        apart(target) as (to_ours, _),
        writing(from_app) as writers,
        migrating(from_ours, to_ours, tmp_path, gate=Gate.PAUSE) as migration,  # type: ignore[arg-type]
    ):
        before = rules_of(source)
        for step in STEPS:
            migration.is_ready()
            with failing(monkeypatch, step, RefusedError("The test says no."), after=after) as left:
                end = migration.try_switch("cutover")
            assert not left, (step, end, migration.told[-5:])
            made = step is Step.COMMIT and after
            assert (end.exit_code == 0) is made, (step, end)
            assert rules(target) is made, step
            if made:
                all_refused(writers)
                assert acknowledged(writers) == counted(target, writers)
            else:
                assert rules_of(source) == before, step
                all_write(writers, acknowledged(writers))


@contextmanager
def keyferry_migrate(
    source: Server, target: Server, state_dir: Path, die_at: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    """The command, which cuts over as soon as it can."""
    urls = [f"redis://{OURS}:{PASSWORD}@127.0.0.1:{server.port}" for server in (source, target)]
    command = [
        sys.executable,
        "-m",
        "keyferry",
        "migrate",
        *urls,
        "--name",
        "shop",
        "--state-dir",
        str(state_dir),
    ]
    process = subprocess.Popen(
        [
            *command,
            "--cutover-when-ready",
            "--gate",
            "pause",
            "--cutover-timeout",
            "10",
            "--verify-every",
            "1",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, DIE: die_at},
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("place", ["bar+", "unpause+", "commit+"])
def test_a_coordinator_that_dies_is_started_again(
    start_server: StartServer, tmp_path: Path, place: str
) -> None:
    source, target = start_server("redis-7.0"), start_server("redis-8.2")
    fill_strings(source, 200)
    with apart(source) as (_, from_app), apart(target), writing(from_app, every_s=0.1) as writers:
        with keyferry_migrate(source, target, tmp_path, place) as process:
            assert process.wait(120) == DIED
        # The mark is on its way with the commit, and may have arrived or not.
        assert place == "commit+" or not authority(target)
        with keyferry_migrate(source, target, tmp_path):
            wait_until(lambda: authority(target), "it cuts over", 120.0)
            all_refused(writers)
            assert acknowledged(writers) == counted(target, writers)
            assert {writer.surprise for writer in writers} == {None}


def authority(server: Server) -> bool:
    with server.session() as session:
        return bool(session.call("HGET", record_key("shop"), "kind") == b"authority")
