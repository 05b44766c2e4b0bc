"""What the runs of the suite came to, as a table for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dev.redis_py_suite.compare import MISSING, Difference, Sorted, counts
from dev.redis_py_suite.launch import Plan, Ran


@dataclass(frozen=True, slots=True)
class Result:
    """One phase with one protocol, beside redis-py itself.

    Attributes:
        plan: of our run.
        redis_py: the run of redis-py itself with the same protocol.
        ours: the run of our class.
        sorted: the differences, tried a second time.
        complaint: why the run proves nothing, in one sentence; empty when it does.
    """

    plan: Plan
    redis_py: Ran
    ours: Ran
    sorted: Sorted
    complaint: str

    @property
    def good(self) -> bool:
        """Nothing tells our class from redis-py's."""
        return not self.sorted.real and not self.complaint


def complaint(plan: Plan, ran: Ran) -> str:
    """Why a whole run proves nothing: its second server did not do what the phase is about."""
    if plan.only is not None or plan.pytest_arguments:
        return ""
    asked, other = ran.sets
    if not asked:
        return "the server that the suite asks for ran no SET"
    if plan.phase == "dual" and not other:
        return "the target ran no SET: nothing was mirrored"
    if plan.phase in ("source", "target") and other:
        return f"the other server ran SET {other} times: it should not have been written to"
    return ""


def as_text(results: Sequence[Result], server: str, version: str) -> str:
    """The table, what was left out, and every test that differed."""
    lines = [f"redis-py {version}'s own test suite on {server}: redis-py itself | our class in its place", ""]
    head = ("phase", "protocol", "passed", "failed", "skipped", "other", "differ", "flaky")
    rows = [head, *(_row(result) for result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines += [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    left_out = results[0].redis_py.left_out if results else {}
    lines += ["", f"left out of both: {sum(left_out.values())} tests"]
    lines += [f"  {count:5}  {why}" for why, count in left_out.items()]
    for result in results:
        if result.complaint:
            lines += ["", f"{result.plan.name}: {result.complaint}"]
        lines += _named(f"{result.plan.name}: ended otherwise", result.sorted.real)
        lines += _named(
            f"{result.plan.name}: ended otherwise once, alike when tried again", result.sorted.flaky
        )
    return "\n".join(lines)


def as_json(results: Sequence[Result], server: str, version: str) -> dict[str, Any]:
    """The same as plain values."""
    return {
        "redis_py": version,
        "server": server,
        "left_out": dict(results[0].redis_py.left_out) if results else {},
        "runs": [
            {
                "phase": result.plan.phase,
                "protocol": result.plan.protocol or "default",
                "good": result.good,
                "complaint": result.complaint,
                "redis_py": counts(result.redis_py.outcomes),
                "ours": counts(result.ours.outcomes),
                "sets": list(result.ours.sets),
                "differ": [asdict(difference) for difference in result.sorted.real],
                "flaky": [asdict(difference) for difference in result.sorted.flaky],
            }
            for result in results
        ],
    }


def _row(result: Result) -> tuple[str, ...]:
    redis_py, ours = counts(result.redis_py.outcomes), counts(result.ours.outcomes)
    return (
        result.plan.phase or "",
        f"RESP{result.plan.protocol}" if result.plan.protocol else "default",
        *(f"{redis_py[word]} | {ours[word]}" for word in ("passed", "failed", "skipped")),
        f"{_other(redis_py)} | {_other(ours)}",
        str(len(result.sorted.real)),
        str(len(result.sorted.flaky)),
    )


def _other(counted: Mapping[str, int]) -> int:
    return counted["xfailed"] + counted["xpassed"] + counted[MISSING]


def _named(title: str, found: Iterable[Difference]) -> list[str]:
    lines = []
    for difference in found:
        why = difference.ours.why or difference.redis_py.why
        lines.append(f"  {difference.test}: {difference.redis_py.word} | {difference.ours.word}")
        lines += [f"      {why}"] if why else []
    return ["", title, *lines] if lines else []
