"""The section about switches: what is judged, what is shown, and that it runs from one end to the other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from bench.cutover_data import CUTOVER, ROLLBACK, CutoverResult, CutoverRow, CutoverSize, Switched
from bench.cutover_report import cutover_goals, cutover_section, excess_ms, gates_ms
from bench.page import parse

from keyferry.testing.service_crowd import Counted, Tally
from keyferry.testing.service_waits import Gap

PROJECT = Path(__file__).parents[2]
SIZE = CutoverSize(1_000_000, 20, 10_000, 20, 2.0, 15.0)
QUIET_US = [300] * 998 + [4_000, 90_000]
MS = 1_000_000


def switched(gate_ms: float, longest_ms: float, direction: str = CUTOVER) -> Switched:
    gap = Gap(1_000 * MS, 1_000 * MS + int(gate_ms * MS), 20)
    return Switched(direction, gate_ms / 1e3, gap, longest_ms / 1e3, 1.0, 2.0, 0, {"settle": 0.004})


def a_row(*switches: Switched, tally: Tally | None = None, counted: Counted | None = None) -> CutoverRow:
    return CutoverRow("keyferry", "Keyferry", list(switches), [], QUIET_US, 60.0, tally, counted)


def goals(row: CutoverRow) -> dict[str, bool | None]:
    return {goal.text: goal.reached for goal in cutover_goals(CutoverResult(SIZE, [row]))}


def test_the_load_is_what_it_says() -> None:
    habits = SIZE.habits()
    in_tick = habits.pipeline + habits.singles
    assert in_tick * habits.ticks_per_s * SIZE.processes == SIZE.writes_per_s


def test_a_gate_is_judged_by_median_and_worst() -> None:
    row = a_row(switched(10, 12), switched(19, 20), switched(49, 50), switched(51, 52, ROLLBACK))
    found = goals(row)
    assert gates_ms(row.switches) == [10, 19, 49, 51]
    assert found["cutovers: gate's median under 20 ms"]
    assert found["cutovers: worst gate under 50 ms"]
    assert found["rollbacks: gate's median under 20 ms"] is False
    assert found["rollbacks: worst gate under 50 ms"] is False


def test_a_wait_may_be_the_gate_and_the_usual() -> None:
    assert excess_ms(switched(10, 13.9), QUIET_US) == pytest.approx(-0.1)
    assert excess_ms(switched(10, 14.1), QUIET_US) == pytest.approx(0.1)
    text = "cutovers: the longest wait exceeds the undisturbed p99.9 by at most the gate"
    assert goals(a_row(switched(10, 13)))[text]
    assert goals(a_row(switched(10, 13), switched(10, 15)))[text] is False


@pytest.mark.parametrize(
    ("tally", "counted", "errors", "exact"),
    [
        (Tally(9, 9, 0, 0, 0), Counted(9, 0, 0, 0, (), ()), True, True),
        (Tally(9, 9, 0, 1, 0), Counted(9, 0, 0, 0, (), ("an error",)), False, True),
        (Tally(9, 9, 0, 0, 1), Counted(9, 0, 0, 1, (), ()), False, True),
        (Tally(9, 9, 1, 0, 0), Counted(9, 0, 0, 0, (), ()), True, False),
        (Tally(9, 9, 0, 0, 0), Counted(9, 1, 0, 0, ("a key",), ()), True, False),
        (Tally(9, 9, 0, 0, 0), Counted(9, 0, 1, 0, ("a key",), ()), True, False),
    ],
)
def test_what_the_service_saw_is_judged(tally: Tally, counted: Counted, errors: bool, exact: bool) -> None:
    found = goals(a_row(switched(10, 12), tally=tally, counted=counted))
    assert found["the application sees 0 errors"] is errors
    assert found["0 acknowledged writes lost, 0 doubled, 0 stale reads"] is exact


def test_what_was_not_measured_is_not_reached() -> None:
    row = CutoverRow("keyferry", "Keyferry", problem="failed: the server is gone", failed=True)
    section = cutover_section(CutoverResult(SIZE, [row]))
    assert {goal.reached for goal in section.goals} == {None}
    assert "- Keyferry: failed: the server is gone" in section.body


def test_it_switches_there_and_back(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    result = subprocess.run(
        [sys.executable, "-m", "bench", "--keys", "2000", "--only", "cutover", "--output", str(page)],
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stderr.decode("utf-8", "replace")
    section = parse(page.read_text(encoding="utf-8"))["cutover"]
    rows = [line.split(" | ")[0] for line in section.text.splitlines() if line.startswith("| ")]
    script = "| script: PAUSE, REPLICAOF NO ONE"
    for title in ("| Keyferry", script):
        assert {f"{title}, cutovers", f"{title}, rollbacks", title} <= set(rows)
    assert any("0 errors" in goal and "| reached |" in goal for goal in section.goals)
    assert any("0 acknowledged writes lost" in goal and "| reached |" in goal for goal in section.goals)
