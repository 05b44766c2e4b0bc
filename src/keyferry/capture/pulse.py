"""Whether a server answers later than it did at rest. Pure; the caller sends PINGs and says when."""

from __future__ import annotations

EVERY_S = 0.05
"""Between an answer and the next PING."""
LATE_RUNNING = 2
"""So many late answers one after the other are no chance: a fork, a slow command of somebody's."""
OVERDUE_FACTOR = 10
"""Nobody waits for a second late answer when one is so many times later than is allowed."""


class Pulse:
    """One server's answers to PINGs.

    Args:
        rest_s: Its answer takes so long at rest.
        rise_s: How much later may be; 0 never counts as late.
    """

    def __init__(self, rest_s: float, rise_s: float) -> None:
        self._limit_s = rest_s + rise_s
        self._overdue_s = rest_s + OVERDUE_FACTOR * rise_s
        self._off = rise_s == 0
        self._sent_s: float | None = None
        self._answered_s = 0.0
        self._late = 0

    def due(self, now_s: float) -> bool:
        """Whether a PING is to be sent now."""
        return self._sent_s is None and now_s - self._answered_s >= EVERY_S

    def sent(self, now_s: float) -> None:
        self._sent_s = now_s

    def answered(self, now_s: float) -> None:
        if self._sent_s is not None:
            self._late = self._late + 1 if now_s - self._sent_s > self._limit_s else 0
            self._sent_s, self._answered_s = None, now_s

    def has_risen(self, now_s: float) -> bool:
        if self._off:
            return False
        overdue = self._sent_s is not None and now_s - self._sent_s > self._overdue_s
        return overdue or self._late >= LATE_RUNNING
