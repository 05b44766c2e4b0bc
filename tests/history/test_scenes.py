"""A few runs of the history checker; ``python -m tests.history`` makes as many as one likes."""

from __future__ import annotations

from typing import Any

import pytest

from keyferry.testing.binaries import ServerBinary

from .faults import FAULTS
from .scenes import Plan, run

PLANS: dict[str, dict[str, Any]] = {
    "to-and-fro": {},
    # After a switch the applications' user may not write on the old side: it must be able to go back all the same.
    "barred-by-rights": {"phase": "source", "own_user": True, "switches": ("cutover", "rollback")},
    "killed-in-the-gate": {"phase": "source", "stop_at": "compare", "switches": ("cutover", "rollback")},
    "killed-after-the-commit": {"stop_at": "commit+", "switches": ("cutover", "rollback")},
    "a-writer-stands-still": {
        "fault": "stand-still-writer",
        "settings": {"lease_ms": 1_500},
        "switches": ("cutover",),
    },
    # What is refused on the barred side is reported to a ledger, whose reading a pause would hold up.
    "both-kinds": {"forms": ("threads", "plain"), "gate": "both", "switches": ("cutover", "rollback")},
    "plain-clients": {"forms": ("plain", "plain"), "phase": "source", "switches": ("cutover", "rollback")},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANS)
def test_a_scene(name: str, binaries: dict[str, ServerBinary]) -> None:
    plan = Plan(**{"seed": 1 + list(PLANS).index(name), "calm_s": 0.5, **PLANS[name]})
    for program in (plan.source, plan.target):
        if program not in binaries:
            pytest.skip(f"{program} is not at hand")
    result = run(plan, FAULTS)
    assert result.passed, f"{result.problems}; more in {result.directory}"
    assert result.acknowledged > 100
    assert plan.fault or plan.stop_at or not any("undone" in text for text in result.switches), (
        result.switches
    )
    assert sum(text.endswith("made") or "made, killed" in text for text in result.switches) == len(
        plan.switches
    )
