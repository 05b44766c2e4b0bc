"""From what was seen of switches to their section of the page, without I/O."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from bench.cutover_data import CUTOVER, DIRECTIONS, CutoverResult, CutoverRow, Switched
from bench.figures import Goal, percentile
from bench.markdown import NONE, table
from bench.page import Section

GATE_MEDIAN_MS_MAX, GATE_WORST_MS_MAX = 20.0, 50.0
STEPS_SHOWN = 8
WORDS = {CUTOVER: "cutovers", "rollback": "rollbacks"}


def cutover_section(result: CutoverResult) -> Section:
    size = result.size
    parts = [
        f"{size.processes} processes write {size.writes_per_s:,} times a second in all, and read; each keeps account of "
        f"its own writes and judges its reads. {size.pairs} cutovers, each taken back by a rollback, with Keyferry and "
        "with a script around native replication. Every process, both servers and the tool share the cores; Keyferry's guard "
        "against latency is off (`--max-latency 0`), for here every reply waits for the other processes.",
        _gates(result),
        _service(result),
        _steps(result),
        "\n".join(f"- {row.title}: {what}" for row in result.rows for what in _notes(row)),
    ]
    title = f"Switching a service of {size.processes} processes over {size.keys:,} keys"
    return Section("cutover", title, cutover_goals(result), "\n\n".join(filter(None, parts)))


def cutover_goals(result: CutoverResult) -> list[Goal]:
    """Of Keyferry, the first row; the script is there to be compared with."""
    row = result.rows[0]
    return [
        *(goal for direction in DIRECTIONS for goal in _gate_goals(row, direction)),
        *(_wait_goal(row, direction) for direction in DIRECTIONS),
        _error_goal(row),
        _count_goal(row),
    ]


def gates_ms(switches: Sequence[Switched]) -> list[float]:
    """From the first held write to the first that came back; sorted. A switch that held nobody counts as 0."""
    return sorted(one.gap.seconds * 1e3 if one.gap else 0.0 for one in switches)


def excess_ms(one: Switched, quiet_us: Sequence[int]) -> float:
    """By how much its longest wait exceeds the undisturbed p99.9 and the gate together; at most 0 is the goal."""
    gap_ms = one.gap.seconds * 1e3 if one.gap else 0.0
    return one.longest_s * 1e3 - percentile(quiet_us, 0.999) / 1e3 - gap_ms


def _of(row: CutoverRow, direction: str) -> list[Switched]:
    return [one for one in row.switches if one.direction == direction]


def _gate_goals(row: CutoverRow, direction: str) -> list[Goal]:
    words = WORDS[direction]
    texts = (
        f"{words}: gate's median under {GATE_MEDIAN_MS_MAX:g} ms",
        f"{words}: worst gate under {GATE_WORST_MS_MAX:g} ms",
    )
    found = gates_ms(_of(row, direction))
    if not found:
        return [Goal(text, "not measured", None) for text in texts]
    median, worst = statistics.median(found), found[-1]
    return [
        Goal(texts[0], f"{median:.1f} ms ({len(found)} {words})", median < GATE_MEDIAN_MS_MAX),
        Goal(texts[1], f"{worst:.1f} ms", worst < GATE_WORST_MS_MAX),
    ]


def _wait_goal(row: CutoverRow, direction: str) -> Goal:
    words = WORDS[direction]
    text = f"{words}: the longest wait exceeds the undisturbed p99.9 by at most the gate"
    switches = _of(row, direction)
    if not switches or not row.quiet_us:
        return Goal(text, "not measured", None)
    over = [excess_ms(one, row.quiet_us) for one in switches]
    good = sum(one <= 0 for one in over)
    longest_ms = max(one.longest_s for one in switches) * 1e3
    shown = (
        f"{good} of {len(over)}; longest wait {longest_ms:.1f} ms, undisturbed p99.9 "
        f"{percentile(row.quiet_us, 0.999) / 1e3:.1f} ms and longest {row.quiet_us[-1] / 1e3:.1f} ms"
    )
    return Goal(text, shown, good == len(over))


def _error_goal(row: CutoverRow) -> Goal:
    text = "the application sees 0 errors"
    if row.tally is None:
        return Goal(text, "not measured", None)
    errors = row.tally.failed + row.tally.unknown
    return Goal(text, f"{errors} in {row.tally.writes + row.tally.reads:,} commands", errors == 0)


def _count_goal(row: CutoverRow) -> Goal:
    text = "0 acknowledged writes lost, 0 doubled, 0 stale reads"
    counted, tally = row.counted, row.tally
    if counted is None or tally is None:
        return Goal(text, "not measured", None)
    shown = (
        f"{counted.missing:,} lost, {counted.doubled:,} doubled of {counted.writes:,}; "
        f"{tally.stale:,} stale of {tally.reads:,} reads"
    )
    return Goal(text, shown, not (counted.missing or counted.doubled or counted.findings or tally.stale))


def _gates(result: CutoverResult) -> str:
    lines: list[tuple[str, ...]] = []
    for row in result.rows:
        for direction in DIRECTIONS:
            switches = _of(row, direction)
            if not switches:
                continue
            seen, told = gates_ms(switches), sorted(one.gate_s * 1e3 for one in switches if one.gate_s)
            longest = sorted(one.longest_s * 1e3 for one in switches)
            lines.append(
                (
                    f"{row.title}, {WORDS[direction]}",
                    str(len(switches)),
                    *_three(seen),
                    *_three(told),
                    *_three(longest),
                    f"{statistics.median(one.gap.held if one.gap else 0 for one in switches):.0f}",
                    f"{statistics.median(one.seconds for one in switches):.2f}",
                )
            )
    head = (
        "gate, ms", "number", "seen by the application: median", "p90", "worst", "as the tool says: median", "p90",
        "worst", "longest wait of a call: median", "p90", "worst", "calls held, median", "whole command, s",
    )  # fmt: skip
    return table(head, lines) if lines else ""


def _service(result: CutoverResult) -> str:
    lines: list[tuple[str, ...]] = []
    for row in result.rows:
        tally, counted = row.tally, row.counted
        if tally is None or counted is None or not row.quiet_us:
            continue
        lines.append(
            (
                row.title,
                f"{tally.writes / row.seconds:,.0f}",
                f"{tally.writes:,}",
                f"{tally.reads:,}",
                f"{tally.failed + tally.unknown:,}",
                f"{counted.missing:,}",
                f"{counted.doubled:,}",
                f"{tally.stale:,}",
                *(f"{percentile(row.quiet_us, share) / 1e3:.2f}" for share in (0.5, 0.99, 0.999)),
                f"{row.quiet_us[-1] / 1e3:.1f}",
            )
        )
    head = (
        "the service", "writes/s", "writes", "reads", "errors", "lost", "doubled", "stale reads",
        "waits without a switch, ms: p50", "p99", "p99.9", "longest",
    )  # fmt: skip
    return table(head, lines) if lines else ""


def _steps(result: CutoverResult) -> str:
    """Where the time of the whole command goes: the longest steps of Keyferry's."""
    lines: list[tuple[str, ...]] = []
    row = result.rows[0]
    names = {name for one in row.switches for name in one.steps}
    found = {
        name: sorted(one.steps[name] * 1e3 for one in row.switches if name in one.steps) for name in names
    }
    longest = sorted(found, key=lambda name: -statistics.median(found[name]))[:STEPS_SHOWN]
    lines = [(name, *_three(found[name])) for name in longest]
    return table(("steps of all switches, ms", "median", "p90", "worst"), lines) if lines else ""


def _notes(row: CutoverRow) -> list[str]:
    return [*([row.problem] if row.problem else []), *row.undone, *_errors(row)]


def _errors(row: CutoverRow) -> list[str]:
    return list(dict.fromkeys((*row.counted.findings, *row.counted.errors))) if row.counted else []


def _three(ordered: Sequence[float]) -> tuple[str, str, str]:
    if not ordered:
        return NONE, NONE, NONE
    p90 = ordered[max(0, min(len(ordered) - 1, -int(-0.9 * len(ordered) // 1) - 1))]
    return f"{statistics.median(ordered):.1f}", f"{p90:.1f}", f"{ordered[-1]:.1f}"
