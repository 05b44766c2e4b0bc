"""A warning that would come with every command is logged now and then, with how often it was held back."""

from __future__ import annotations

EVERY_SECONDS = 5.0
_KINDS_MAX = 100


class Seldom:
    """Of one place that logs.

    Args:
        every_seconds: between two records of the same kind.
    """

    def __init__(self, every_seconds: float = EVERY_SECONDS) -> None:
        self._every_seconds = every_seconds
        self._last: dict[str, tuple[float, int]] = {}

    def due(self, kind: str, now: float) -> int | None:
        """How many of this kind came since the last record, this one included; None: not now (monotonic seconds)."""
        last, held_back = self._last.get(kind, (float("-inf"), 0))
        if now - last < self._every_seconds:
            self._last[kind] = (last, held_back + 1)
            return None
        if len(self._last) >= _KINDS_MAX:
            self._last.clear()
        self._last[kind] = (now, 0)
        return held_back + 1
