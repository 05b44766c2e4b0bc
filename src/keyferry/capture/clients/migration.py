"""`r.migration`: what a client knows of its migration and has done in it."""

from __future__ import annotations

from typing import Any, Protocol

from keyferry.capture.clients.breaker import Breaker
from keyferry.capture.clients.counts import Counts
from keyferry.capture.clients.options import ClientOptions
from keyferry.model.phases import Phase, Side, Standing


class _Crossing(Protocol):
    options: ClientOptions
    counts: Counts
    state: Any
    mirrors: Any

    @property
    def waiting(self) -> int: ...


class Migration:
    """A view; every look at it is fresh.

    Args:
        crossing: whose it is.
    """

    def __init__(self, crossing: _Crossing) -> None:
        self._crossing = crossing

    @property
    def name(self) -> str | None:
        """The migration's name; None where the phase is fixed in code."""
        return self._crossing.options.migration

    @property
    def standing(self) -> Standing:
        """Phase, epoch and authority as the next operation will see them."""
        standing: Standing = self._crossing.state.standing
        return standing

    @property
    def phase(self) -> Phase:
        return self.standing.phase

    @property
    def epoch(self) -> int:
        """The number of the phase record; 0 where the phase is fixed in code or no record has been read yet."""
        return self.standing.epoch

    @property
    def authority(self) -> Side:
        return self.standing.authority

    @property
    def counts(self) -> Counts:
        """What this process has done so far."""
        counts = self._crossing.counts
        counts.queued = self._crossing.waiting
        return counts

    @property
    def breaker(self) -> Breaker.State:
        """Whether second legs are tried: closed (they are), open (they are skipped and reported), trying."""
        standing = self.standing
        mirror = standing.mirror or standing.authority.other
        state: Breaker.State = self._crossing.mirrors[mirror].breaker.state
        return state

    def __repr__(self) -> str:
        return f"<Migration {self.name or 'fixed'}: {self.phase}, epoch {self.epoch}, second legs {self.breaker}>"
