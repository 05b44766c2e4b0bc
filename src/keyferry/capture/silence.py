"""When a server that was asked and says nothing counts as gone; pure."""

from __future__ import annotations

SILENCE_S_MAX = 10.0
SILENT = f"it has been silent for {SILENCE_S_MAX:.0f} s"

_TURN_S_MAX = 1.0


class Silence:
    """How long a server that owes us an answer has sent nothing."""

    def __init__(self) -> None:
        self._silent_s = 0.0
        self._turned_s: float | None = None

    def end(self) -> None:
        """It has sent something."""
        self._silent_s = 0.0

    def too_long(self, now_s: float, owing: bool) -> bool:
        """To be asked at every turn of the loop.

        Time in which nobody looked (a busy loop, a computer asleep) is not the server's silence.
        """
        passed_s = 0.0 if self._turned_s is None else now_s - self._turned_s
        self._turned_s = now_s
        self._silent_s = self._silent_s + min(passed_s, _TURN_S_MAX) if owing else 0.0
        return self._silent_s >= SILENCE_S_MAX
