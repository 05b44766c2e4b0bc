"""Rates over the last few seconds, from running totals. Pure."""

from __future__ import annotations

from collections import deque

WINDOW_S = 5.0
STEP_S = 0.2


class Meter:
    """Keeps at most ``WINDOW_S / STEP_S`` marks."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque(maxlen=int(WINDOW_S / STEP_S) + 1)

    def mark(self, now_s: float, total: int) -> None:
        """A total that has become smaller is another one, such as of a pass that has begun: rates begin anew."""
        if self._marks and total < self._marks[-1][1]:
            self._marks.clear()
        if not self._marks or now_s - self._marks[-1][0] >= STEP_S:
            self._marks.append((now_s, total))

    def rate(self, now_s: float, total: int) -> float:
        """Per second, since the oldest mark of the window; 0 while there is none."""
        for at, then in self._marks:
            if WINDOW_S >= now_s - at > 0:
                return max(0.0, (total - then) / (now_s - at))
        return 0.0
