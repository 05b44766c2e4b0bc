"""Leases, without a clock of their own: times come from the caller, each side's from its own monotonic clock.

A writer may rely on what it read as long as its lease runs; a coordinator may go on without a writer when the lease
is surely over. No time is ever compared between machines:

    1. The writer sends renewal n at its time s and counts its lease from s.
    2. The server has it at some moment after that.
    3. The coordinator reads n for the first time: that reply is later than 2.
    4. It looks again, sending the question one lease later or more, and still reads n: the lease of 1 is over, and
       renewal n+1, if it comes, will read what the coordinator has written meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from keyferry.model.phases import Standing

DRIFT = 0.01
"""Two clocks of which each may be this much fast or slow still agree on which lease is over."""
RENEWALS_PER_LEASE = 3

Clock = Callable[[], float]
"""Seconds that never go back, and that go on while the machine sleeps, where it can tell."""


class Lease:
    """What a writer may rely on. One thread at a time may change it; any may ask while it does.

    Args:
        lease_ms: How long a renewal counts.

    Attributes:
        ends_s: When nothing counts any more.
        lowest_epoch: Standings of older epochs do not count, whatever the time.
    """

    def __init__(self, lease_ms: int) -> None:
        self.length_s = lease_ms / 1000
        self.ends_s = float("-inf")
        self._asked_s = float("-inf")
        self.lowest_epoch = 0

    def valid(self, standing: Standing, now_s: float) -> bool:
        """Whether what is known as this standing may be acted on without a look.

        An older standing stays valid beside a newer one as long as the lease has not lapsed in between: the
        coordinator then waits for us. After a lapse only what was read since then counts.
        """
        return now_s < self.ends_s and standing.epoch >= self.lowest_epoch

    def renewed(self, standing: Standing, sent_s: float, heard_s: float) -> None:
        """A renewal was acknowledged, and the record read with it.

        Args:
            sent_s: Before the request was sent.
            heard_s: When its reply was there.
        """
        if heard_s >= self.ends_s:
            # A coordinator may have gone on without us: of all that was known, only what was read now counts.
            # Before the new end, so that no thread sees the new end with the old epochs.
            self.lowest_epoch = standing.epoch
        self.ends_s = max(self.ends_s, sent_s + self.length_s * (1 - DRIFT))
        self._asked_s = max(self._asked_s, sent_s)

    def moved(self, standing: Standing) -> None:
        """Authority is on the other side: a lease counts only there, and nothing older does any more."""
        self.lowest_epoch = standing.epoch
        self.ends_s = float("-inf")

    def end(self) -> None:
        """Nothing counts any more until the next renewal."""
        self.ends_s = self._asked_s = float("-inf")

    def due_s(self) -> float:
        """When the next renewal is to be sent."""
        return self._asked_s + self.length_s / RENEWALS_PER_LEASE


@dataclass(slots=True)
class _Seen:
    renewals: int
    lease_s: float
    heard_s: float


class LeaseWatch:
    """The coordinator's judgement of other processes' leases. Feed it every look at the entries, in order."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}
        self._over: set[str] = set()

    def look(self, entries: Mapping[str, tuple[int, int]], sent_s: float, heard_s: float) -> None:
        """One look.

        Args:
            entries: Renewals and lease in ms by writer.
            sent_s: Before the question was sent.
            heard_s: When its reply was there.
        """
        for writer, (renewals, lease_ms) in entries.items():
            seen, lease_s = self._seen.get(writer), lease_ms / 1000
            if seen is None or seen.renewals != renewals:
                self._seen[writer] = _Seen(renewals, max(lease_s, seen.lease_s if seen else 0.0), heard_s)
                self._over.discard(writer)
            elif sent_s >= seen.heard_s + seen.lease_s * (1 + DRIFT):
                self._over.add(writer)
        for writer in self._seen.keys() - entries.keys():
            del self._seen[writer]
            self._over.discard(writer)

    def over(self, writer: str) -> bool:
        """Whether its lease is over for sure; also of one that has taken itself off."""
        return writer in self._over or writer not in self._seen

    def left_s(self, writer: str, now_s: float) -> float:
        """How long until its lease can be known to be over, when it stays silent; 0 when it is."""
        if self.over(writer):
            return 0.0
        seen = self._seen[writer]
        return max(0.0, seen.heard_s + seen.lease_s * (1 + DRIFT) - now_s)
