"""What is in the way of a switch, and which gate it needs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyferry.cutover.plan import Gate
from keyferry.cutover.ready import Around, Facts, choose_gate, not_ready
from keyferry.model.phases import Side

READY = Facts(
    losing=Side.SOURCE,
    stage="following",
    copied=True,
    paused=False,
    verified_s=10.0,
    verified_s_max=3600.0,
    touched_overflowed=False,
    lag_s=0.1,
    lag_max_s=1.0,
    cutover_s=0.01,
    gate_s=5.0,
    failed=0,
)
ALONE = Around(writers=2, plain=(), readers=(), pause_problem="", bar_problem="")


def test_nothing_is_in_the_way() -> None:
    assert not_ready(READY) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stage": "waiting for a server"}, "does not answer"),
        ({"paused": True}, "paused"),
        ({"copied": False}, "carried or compared"),
        ({"failed": 3}, "3 keys cannot be carried"),
        ({"verified_s": None}, "No clean verification"),
        ({"verified_s": 4000.0}, "4,000 s old"),
        ({"touched_overflowed": True}, "than is remembered"),
        ({"lag_s": 2.0}, "2.0 s behind"),
        ({"cutover_s": 4.0}, "would take 4.0 s"),
        ({"memory_share": 0.99}, "99% of its maxmemory"),
        ({"gate_problem": "No gate."}, "No gate."),
    ],
)
def test_each_reason_is_said(change: dict[str, object], words: str) -> None:
    (found,) = not_ready(replace(READY, **change))  # type: ignore[arg-type]
    assert words in found


@pytest.mark.parametrize(
    ("change", "gate"),
    [
        ({}, Gate.WRITERS),
        ({"writers": 0}, Gate.PAUSE),
        ({"plain": ("a",)}, Gate.BOTH),
        ({"readers": ("a",)}, Gate.BOTH),
        ({"readers": ("a",), "bar_problem": "One user for all."}, Gate.WRITERS),
        ({"readers": ("a",), "pause_problem": "No pause."}, Gate.WRITERS),
    ],
)
def test_the_gate_is_what_the_situation_needs(change: dict[str, object], gate: Gate) -> None:
    chosen, problem = choose_gate(None, replace(ALONE, **change))  # type: ignore[arg-type]
    assert (chosen, problem) == (gate, "")


@pytest.mark.parametrize(
    ("asked", "change", "gate", "words"),
    [
        (Gate.WRITERS, {"writers": 0}, Gate.WRITERS, "No writer is registered"),
        (Gate.PAUSE, {}, Gate.BOTH, ""),
        (Gate.PAUSE, {"writers": 0, "pause_problem": "No pause."}, Gate.PAUSE, "No pause. Stop whoever"),
        (None, {"plain": ("a:1 (user x)",), "bar_problem": "One user."}, Gate.BOTH, "a:1 (user x) writes"),
        (Gate.NONE, {"plain": ("a",), "bar_problem": "One user."}, Gate.NONE, ""),
        (Gate.WRITERS, {"plain": ("a",)}, Gate.WRITERS, ""),
    ],
)
def test_a_gate_that_cannot_be_closed_says_why(
    asked: Gate | None, change: dict[str, object], gate: Gate, words: str
) -> None:
    chosen, problem = choose_gate(asked, replace(ALONE, **change))  # type: ignore[arg-type]
    assert chosen is gate
    assert words in problem
    assert bool(words) is bool(problem)
