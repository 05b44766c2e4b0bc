"""Short attacks on ``keyferry sync``, by seed; see torture.py, which does the same for as long as one likes."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torture import Outcome, Plan, run

from keyferry.testing.binaries import ServerBinary

FAKE = Path(__file__).with_name("fake_sync.py")
SHORT = Plan(
    seconds=9.0,
    quiet_s=4.5,
    fill_keys=2_000,
    keys=1_000,
    rate=1_000.0,
    arrives_within_s=8.0,
)
"""Beside other tests everything takes longer; torture.py by itself asks for two seconds."""
NO_CLUSTER_RESTARTS = (
    "cut-source",
    "cut-target",
    "cut-feed",
    "kill-clients",
    "kill-tool",
    "end-tool",
    "cut-replies",
    "pause-source",
)
"""A cluster's node that was killed takes seconds to serve again: for longer runs."""

PLANS: list[tuple[str, str, dict[str, Any]]] = [
    ("redis-6.2", "valkey-9.1", {}),
    ("redis-7.0", "redis-7.0", {}),
    ("redis-7.0", "valkey-9.1", {"options": ("--feed", "notifications", "--enable-notifications")}),
    ("redis-7.0", "redis-6.2", {}),
    ("redis-8.2", "valkey-9.1", {}),
    ("valkey-9.1", "redis-8.2", {}),
    ("redis-7.0x3", "valkey-9.1x3", {"faults": NO_CLUSTER_RESTARTS}),
    ("redis-7.0", "redis-7.0x3", {"faults": NO_CLUSTER_RESTARTS}),
]

REGRESSION_SEEDS: list[tuple[str, str, int, dict[str, Any]]] = [
    # Groups of a stream that was deleted and came back were watched no more.
    ("redis-7.0", "valkey-9.1", 3, {}),
    # A carry that a cut connection had ended was waited for, and the pipeline stood still.
    ("valkey-9.1", "redis-8.2", 31, {"options": ("--feed", "notifications", "--enable-notifications")}),
    # A restarted node that says CLUSTERDOWN for a moment ended the run.
    (
        "redis-7.0x3",
        "valkey-9.1x3",
        31,
        {"faults": ("restart-target", "stall"), "seconds": 14.0, "quiet_s": 7.0},
    ),
]
"""Runs that once failed: source, target, seed, and what else differs from ``SHORT``. What they found has tests of its
own in test_found_by_attack.py."""


def attack(binaries: dict[str, ServerBinary], plan: Plan) -> Outcome:
    for name in (plan.source, plan.target):
        if name.partition("x")[0] not in binaries:
            pytest.skip(f"{name} is not at hand")
    return run(plan)


def assert_passed(outcome: Outcome) -> None:
    assert outcome.passed, f"{outcome.problems}; faults: {outcome.faults}; more in {outcome.directory}"
    assert outcome.acknowledged > 0
    assert outcome.counted > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "target", "more"), PLANS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_short_attack(
    source: str, target: str, more: dict[str, Any], binaries: dict[str, ServerBinary]
) -> None:
    plan = replace(SHORT, source=source, target=target, seed=20 + len(source) + len(target), **more)
    assert_passed(attack(binaries, plan))


@pytest.mark.slow
@pytest.mark.parametrize(("source", "target", "seed", "more"), REGRESSION_SEEDS)
def test_what_once_failed(
    source: str, target: str, seed: int, more: dict[str, Any], binaries: dict[str, ServerBinary]
) -> None:
    assert_passed(attack(binaries, replace(SHORT, source=source, target=target, seed=seed, **more)))


@pytest.mark.parametrize("loses", [False, True])
def test_the_attack_judges_right(loses: bool, binaries: dict[str, ServerBinary]) -> None:
    """A stand-in that copies everything again and again passes; one that loses a key's writes does not."""
    plan = Plan(
        source="redis-7.0",
        target="redis-7.0",
        seconds=4.0,
        quiet_s=2.0,
        fill_keys=500,
        keys=300,
        faults=(),
        never_after_s=5.0 if loses else 20.0,
        arrives_within_s=15.0,
        tool=(sys.executable, str(FAKE), *(["--lose"] if loses else [])),
    )
    outcome = attack(binaries, plan)
    if loses:
        assert any("never arrived" in problem for problem in outcome.problems)
        assert any("Ledgers" in problem and "own:0:count:1:" in problem for problem in outcome.problems)
        assert outcome.missing > 0
    else:
        assert_passed(outcome)
