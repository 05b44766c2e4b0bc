"""The proof that both sides are equal: a verification of everything, and the memory of what has changed since.

A switch needs no more than that: what was touched since the last clean verification is compared again under its gate.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from keyferry.cutover.desk import Ticket
from keyferry.cutover.directions import Direction
from keyferry.cutover.voice import Voice
from keyferry.follow.follower import Follower
from keyferry.journal.migration import MigrationJournal
from keyferry.model.errors import ExitCode
from keyferry.telemetry.migrating import EventKind, Verified
from keyferry.telemetry.progress import Alert

AGAIN_S, AGAIN_S_MAX = 2.0, 60.0


@dataclass(frozen=True, slots=True)
class _Proof:
    """A verification without differences. Attributes: at_s: When it ended, monotonic. generation: Of the run's feed.

    What has changed since it began is touched, so it does not matter how long it took.
    """

    at_s: float
    generation: int


class Proving:
    """Of one process.

    Attributes:
        last: The last verification, whatever it found; None before the first.
        running: One is under way.
    """

    def __init__(self, journal: MigrationJournal, voice: Voice) -> None:
        self._journal, self._voice = journal, voice
        self.last: Verified | None = None
        self.running = False
        self._proof: _Proof | None = None
        self._again_s, self._pause_s = 0.0, AGAIN_S

    def age_s(self, follower: Follower) -> float | None:
        """Of the last clean verification; None when there is none that still counts."""
        proof = self._proof
        if proof is None or proof.generation != follower.watch.generation:
            return None
        return time.monotonic() - proof.at_s

    def is_due(self, follower: Follower, every_s: float) -> bool:
        """Whether it is time for the next one."""
        age_s = self.age_s(follower)
        old = age_s is None or age_s > every_s or follower.touched_overflowed
        return old and time.monotonic() >= self._again_s

    def forget(self) -> None:
        """Another side has authority, and nothing follows it."""
        self._proof = None

    def inherit(self, follower: Follower) -> None:
        """Both sides were proved equal under a gate; what changes from now on is touched in this run."""
        follower.note_touched(True)
        self._proof = _Proof(time.monotonic(), follower.watch.generation)

    def verify(self, direction: Direction, ticket: Ticket | None) -> None:
        """Compares all keys while everything goes on. Raises as ``Verification.run``.

        Args:
            ticket: Of whoever asked for it.
        """
        follower, verification = direction.run.follower, direction.run.verification
        began_s, generation = time.monotonic(), follower.watch.generation
        follower.forget_touched()
        follower.note_touched(True)
        self._proof = None
        self.running = True
        try:
            left = verification.run()
        finally:
            self.running = False
        way = f"{direction.authority} to {direction.authority.other}"
        seconds = time.monotonic() - began_s
        self.last = Verified(round(time.time() * 1000), verification.compared, left, seconds, way)
        self._journal.event(EventKind.VERIFICATION, **self.last.as_dict())
        if not left and follower.watch.generation == generation:
            self._proof = _Proof(time.monotonic(), generation)
            self._pause_s = AGAIN_S
        else:
            self._again_s = time.monotonic() + self._pause_s
            self._pause_s = min(AGAIN_S_MAX, 2 * self._pause_s)
        said = f"Verified: {verification.compared:,} keys compared, {left:,} differ."
        if ticket is not None:
            # First: whoever asked hears it once.
            ticket.end(ExitCode.KEYS_FAILED if left else ExitCode.DONE, said)
        self._voice.tell(Alert(said) if left else said)
