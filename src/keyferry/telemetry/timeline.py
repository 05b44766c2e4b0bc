"""When a migration was in which stage, put together from what its processes noted.

A process that is killed notes no end: its last stage ended, as far as anybody knows, when something was heard of it
for the last time. Between two processes nothing is drawn.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Span:
    """One stage, from its beginning to its end, in milliseconds since 1970."""

    stage: str
    from_ms: int
    to_ms: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def timeline_of(
    entered: Iterable[tuple[int, str]], starts: Sequence[int], alive: Iterable[int], end_ms: int
) -> list[Span]:
    """The stages in the order in which they were entered.

    Args:
        entered: When (ms since 1970), and which.
        starts: When a process began.
        alive: Any times at which something was heard of a process.
        end_ms: The last one of them that counts for the last stage.
    """
    marks = sorted([*entered, *((at_ms, "") for at_ms in starts)])
    heard = sorted({*alive, *(at_ms for at_ms, _ in marks)})
    spans = []
    for number, (at_ms, stage) in enumerate(marks):
        if not stage:
            continue
        if number + 1 == len(marks):
            to_ms = max(at_ms, end_ms)
        else:
            to_ms, follower = marks[number + 1]
            if not follower:
                to_ms = heard[bisect_left(heard, to_ms) - 1]
        spans.append(Span(stage, at_ms, to_ms))
    return spans
