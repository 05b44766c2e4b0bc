"""How long a run goes on when a server is away: with pauses that grow, until nothing has been done for too long."""

from __future__ import annotations

import time
from collections.abc import Callable

from keyferry.copy.replies import ServerBusy
from keyferry.model.errors import ServerAway, ServerError, Side
from keyferry.telemetry.progress import Alert, Teller

BACKOFF_S = 0.1
BACKOFF_S_MAX = 2.0
TROUBLES_MIN = 5
"""So many in a row, with nothing done, before a run gives up: one may be long after the other.

Two troubles with a giant in between, which settles nothing for long, are no reason yet.
"""


class Patience:
    """Of one run.

    Args:
        retry_s: Since when nothing may have been done.
        hint: What to do when it has come to an end.
        tell: Hears of each trouble, once.
        pause: Waits so many seconds, keeping the display alive; ends the run by raising.
    """

    def __init__(self, retry_s: float, hint: str, tell: Teller, pause: Callable[[float], None]) -> None:
        self._retry_s, self._hint, self._tell, self._pause = retry_s, hint, tell, pause
        self.renew()

    def renew(self) -> None:
        """Something was done: whatever breaks next is the first trouble again."""
        self._since_s: float | None = None
        self._troubles = 0
        self._backoff_s = BACKOFF_S

    def wait(self, trouble: ServerAway | ServerBusy, meet: Callable[[], None]) -> None:
        """Waits a moment, then meets both servers again, until that is possible.

        Args:
            meet: Raises ServerAway or ServerBusy when one is away still.

        Raises:
            ServerError: It did not come back in time, or refuses us now.
        """
        side: Side = trouble.side
        message = _text(trouble)
        self._troubles += 1
        away_s = time.monotonic()
        if self._since_s is None:
            self._since_s = away_s
        self._tell(Alert(f"{message} Trying again."))
        while True:
            now = time.monotonic()
            often = self._troubles >= TROUBLES_MIN and now - self._since_s > self._retry_s
            if often or now - away_s > self._retry_s:
                raise ServerError(
                    side, f"{message} It has not come back for {self._retry_s:g} s.", self._hint
                )
            self._pause(self._backoff_s)
            self._backoff_s = min(BACKOFF_S_MAX, self._backoff_s * 2)
            try:
                meet()
            except (ServerAway, ServerBusy) as error:
                side, message = error.side, _text(error)
            else:
                return


def _text(trouble: ServerAway | ServerBusy) -> str:
    """One sentence."""
    return trouble.sentence if isinstance(trouble, ServerBusy) else trouble.message
