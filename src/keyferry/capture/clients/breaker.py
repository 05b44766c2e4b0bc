"""The circuit breaker of second legs: a mirror side that is away costs the application nothing.

Pure: the caller gives the time. Closed: legs run. After so many failures in a row it opens: legs are skipped and
their keys reported. After a rest one leg is let through; its end decides. Rests grow up to a bound.
"""

from __future__ import annotations

from enum import StrEnum


class Breaker:
    """Decides whether a second leg is worth trying.

    Args:
        failures_max: failures in a row that open it.
        rest_seconds: how long it stays open at first; doubled by every failed try.
        rest_seconds_max: the longest rest.
    """

    class State(StrEnum):
        CLOSED = "closed"
        OPEN = "open"
        TRYING = "trying"

    __slots__ = ("_failures", "_failures_max", "_first_rest", "_rest", "_rest_max", "_until", "state")

    def __init__(
        self, failures_max: int = 3, rest_seconds: float = 0.5, rest_seconds_max: float = 10.0
    ) -> None:
        self._failures_max = failures_max
        self._first_rest = rest_seconds
        self._rest = rest_seconds
        self._rest_max = rest_seconds_max
        self._failures = 0
        self._until = 0.0
        self.state = Breaker.State.CLOSED

    def allows(self, now: float) -> bool:
        """Whether a leg may run now (monotonic seconds); while it is open, one per rest."""
        if self.state is Breaker.State.CLOSED:
            return True
        if now < self._until:
            return False
        # The one that tries may be cancelled and never say how it went: another may try after the same rest.
        self.state = Breaker.State.TRYING
        self._until = now + self._rest
        return True

    def succeeded(self) -> None:
        """A leg got its reply, whatever it said."""
        if self._failures or self.state is not Breaker.State.CLOSED:
            self._failures = 0
            self._rest = self._first_rest
            self.state = Breaker.State.CLOSED

    def failed(self, now: float) -> None:
        """A leg got no reply in time."""
        self._failures += 1
        if self.state is Breaker.State.CLOSED:
            if self._failures < self._failures_max:
                return
        else:
            self._rest = min(self._rest * 2, self._rest_max)
        self.state = Breaker.State.OPEN
        self._until = now + self._rest
