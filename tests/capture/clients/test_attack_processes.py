"""Several processes with many threads write the same keys while `keyferry sync` settles: at the end nothing differs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attack_processes import FAULTS, Plan, run
from attack_settling import client_of
from attack_steps import Steps

from keyferry.model.phases import Phase
from keyferry.testing.servers import Server

DURABLE = {"appendonly": "yes", "appendfsync": "always"}
OF_TARGET = [
    "stop-target", "slow-target", "cut-target", "lose-replies-of-target", "full-target", "read-only-target",
    "restart-target",
]  # fmt: skip
MIRRORS = ["inline", "background"]
# For every day each fault of the target has its turn in one run of all; alone, and the other way of mirroring, if asked.
ALL = "KEYFERRY_ATTACK_ALL" in os.environ
SEED = int(os.environ.get("KEYFERRY_ATTACK_SEED", "1"))
NO_FEED = "-@all +@read +@write +@keyspace +@transaction +@connection +select +info +time +config|get -client|tracking"


@pytest.fixture
def pair(start_server: Callable[..., Server]) -> tuple[Server, Server]:
    return start_server("redis-7.0"), start_server("redis-7.0", **DURABLE)


def attack(pair: tuple[Server, Server], tmp_path: Path, faults: list[str], **settings: Any) -> None:
    more = {
        name: settings.pop(name)
        for name in ("outages", "longest_call_s", "options", "users")
        if name in settings
    }
    given = {"target_timeout_ms": 300, "socket_timeout": 2.0, **settings}
    if "migration" not in given:
        given = {"phase": "dual", **given}
    seconds = 3.0 + 2.3 * len(faults)
    run(Plan(given, faults, seconds=seconds, seed=SEED, **more), *pair, tmp_path)


@pytest.mark.parametrize("mirror", MIRRORS)
def test_writers_on_many_threads_and_nothing_else(
    mirror: str, pair: tuple[Server, Server], tmp_path: Path
) -> None:
    attack(pair, tmp_path, [], mirror=mirror)


@pytest.mark.parametrize("mirror", MIRRORS)
def test_writers_that_are_killed_between_the_legs(
    mirror: str, pair: tuple[Server, Server], tmp_path: Path
) -> None:
    attack(pair, tmp_path, ["kill-writers"], mirror=mirror)


@pytest.mark.slow
@pytest.mark.skipif(not ALL, reason="KEYFERRY_ATTACK_ALL is not set")
@pytest.mark.parametrize("mirror", MIRRORS)
@pytest.mark.parametrize("fault", OF_TARGET)
def test_whatever_befalls_the_target_the_application_sees_nothing_of_it(
    fault: str, mirror: str, pair: tuple[Server, Server], tmp_path: Path
) -> None:
    attack(pair, tmp_path, [fault], mirror=mirror)


@pytest.mark.slow
@pytest.mark.parametrize("mirror", MIRRORS)
def test_one_fault_of_the_target_after_the_other(
    mirror: str, pair: tuple[Server, Server], tmp_path: Path
) -> None:
    attack(pair, tmp_path, OF_TARGET, mirror=mirror)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "mirror"), [("stall-source", "inline"), ("lose-replies-of-source", "background")]
)
def test_a_source_that_does_not_answer_is_what_redis_py_says_it_is(
    fault: str, mirror: str, pair: tuple[Server, Server], tmp_path: Path
) -> None:
    attack(pair, tmp_path, [fault], mirror=mirror, socket_timeout=0.5, outages=True)


@pytest.mark.slow
@pytest.mark.parametrize("mirror", MIRRORS if ALL else ["background"])
def test_writers_that_follow_the_shared_record(
    mirror: str, pair: tuple[Server, Server], tmp_path: Path
) -> None:
    steps = Steps("attacked", *pair)
    steps.step(Phase.DUAL)
    steps.close()
    attack(
        pair, tmp_path, ["kill-writers", "stop-target"], mirror=mirror, migration="attacked", lease_ms=3_000
    )


@pytest.mark.parametrize("mirror", MIRRORS)
def test_without_any_feed_entries_ahead_of_each_write_make_it_exact(
    mirror: str, pair: tuple[Server, Server], tmp_path: Path
) -> None:
    steps = Steps("attacked", *pair)
    steps.step(Phase.DUAL)
    steps.close()
    for server in pair:
        with client_of(server) as client:
            client.execute_command(
                "ACL", "SETUSER", "sync", "on", "nopass", "~*", "resetchannels", *NO_FEED.split()
            )
    attack(
        pair,
        tmp_path,
        ["kill-writers"],
        mirror=mirror,
        ledger="ahead",
        migration="attacked",
        lease_ms=3_000,
        options=["--feed", "writers"],
        users=("sync", "sync"),
    )


def test_every_fault_has_its_test() -> None:
    assert set(FAULTS) == {*OF_TARGET, "kill-writers", "stall-source", "lose-replies-of-source"}
