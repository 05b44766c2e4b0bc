"""How a run has gone over time, for charts: rows of equal spacing, of which there are never more than so many.

When it is full, neighbours become one row and the spacing doubles, so that a migration of an hour and one of a month
both fit, and nothing is ever cut off at the beginning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keyferry.model.phases import Side
from keyferry.telemetry.following import SyncProgress

COLUMNS = (
    "at_ms",
    "stage",
    "keys_done",
    "keys_total",
    "keys_per_second",
    "changes_per_second",
    "settled_per_second",
    "dirty_keys",
    "lag_s",
    "source_latency_ms",
    "target_latency_ms",
)
ROWS_MAX = 720
EVERY_S = 1.0

Row = tuple[Any, ...]
_NEWEST = frozenset({"at_ms", "stage", "keys_done", "keys_total"})
_MEAN = frozenset({"keys_per_second", "changes_per_second", "settled_per_second"})


class Samples:
    """Of one run, over all its processes. Knows no clock.

    Attributes:
        every_s: Between two rows, but for times in which no process ran.
    """

    def __init__(self, kept: Mapping[str, Any] | None = None) -> None:
        """``kept``: what ``as_dict`` of an earlier process said; of other columns than ours it is passed over."""
        self.every_s = EVERY_S
        self._rows: list[Row] = []
        if kept is not None and tuple(kept["columns"]) == COLUMNS:
            self.every_s = float(kept["every_s"])
            self._rows = [tuple(row) for row in kept["rows"]]

    def add(
        self, at_ms: int, stage: str, progress: SyncProgress | None, authority: Side = Side.SOURCE
    ) -> bool:
        """Takes a look, when one is due.

        Args:
            at_ms: Unix time by this machine's clock.
            progress: Of the direction that is followed; None while there is none.
            authority: Of the migration: on the way back the run that is followed calls our target its source.

        Returns:
            Whether it was due.
        """
        since_ms = at_ms - self._rows[-1][0] if self._rows else None
        # A clock that was set back must not silence us.
        if since_ms is not None and 0 <= since_ms < self.every_s * 1000:
            return False
        self._rows.append(_row(at_ms, stage, progress, authority))
        if len(self._rows) > ROWS_MAX:
            self._rows = _halved(self._rows)
            self.every_s *= 2
        return True

    def as_dict(self, after_ms: float = 0) -> dict[str, Any]:
        """``every_s``, ``columns`` and ``rows``, the oldest first; only rows after that time."""
        rows = rows_after(self._rows, after_ms) if after_ms else list(self._rows)
        return {"every_s": self.every_s, "columns": list(COLUMNS), "rows": rows}


def rows_after(rows: Sequence[Any], after_ms: float) -> list[Any]:
    """Those that came after the row of this time, in ms since 1970; without such a row those of a later time.

    Not by their times alone: where the clock was set back the newest rows have earlier ones.
    """
    # From the end: who asks again knows all but the newest.
    for index in range(len(rows) - 1, -1, -1):
        if rows[index][0] == after_ms:
            return list(rows[index + 1 :])
    return [row for row in rows if row[0] > after_ms]


def _row(at_ms: int, stage: str, progress: SyncProgress | None, authority: Side) -> Row:
    if progress is None:
        return (at_ms, stage, *(None,) * (len(COLUMNS) - 2))
    latencies = progress.source_latency_ms, progress.target_latency_ms
    return (
        at_ms,
        stage,
        progress.keys_done,
        progress.keys_total,
        round(progress.keys_per_second, 1),
        round(progress.changes_per_second, 1),
        round(progress.settled_per_second, 1),
        progress.dirty_keys,
        round(progress.lag_s, 3),
        *(latencies if authority is Side.SOURCE else latencies[::-1]),
    )


def _halved(rows: Sequence[Row]) -> list[Row]:
    halved = [_merged(one, other) for one, other in zip(rows[::2], rows[1::2], strict=False)]
    return halved + list(rows[len(rows) & ~1 :])


def _merged(one: Row, other: Row) -> Row:
    """Rates are averaged; what must not hide in a mean keeps its largest."""
    values: list[Any] = []
    for name, first, second in zip(COLUMNS, one, other, strict=True):
        if name in _NEWEST or first is None or second is None:
            values.append(first if second is None else second)
        elif name in _MEAN:
            values.append(round((first + second) / 2, 1))
        else:
            values.append(max(first, second))
    return tuple(values)
