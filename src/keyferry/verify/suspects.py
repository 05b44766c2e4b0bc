"""Whether a key that differed still differs, by what was seen of it at several looks. Pure.

While traffic runs and a sync follows, a difference at one look says little:

    1. The source's key changes.
    2. We read it on the source, then the old value on the target.
    3. The sync brings the change.

So a suspect is looked at again, with growing pauses, and is cleared by one look that finds both sides the same.
What is never cleared ends as one of three:

- Neither side changed over the last pause: a true difference. (A sync that lags longer than that pause looks the
  same; then the key does differ.)
- The source changes at every look. A burst of looks close together tries to catch it: it is cleared as well when the
  target holds what the source held at an earlier look of ours, for a target that follows is late. Only if the target
  has moved since the first look: one that stands still follows nothing, and what it once had in common with the
  source excuses nothing. And only while the source goes on changing in that burst: of a source that has come to
  rest, an earlier value is a stale one.
- Neither: it changes all the time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from keyferry.telemetry.comparing import Difference, Reason
from keyferry.verify.held import Held, is_of_module

PAUSES_S = (0.05, 0.2, 0.5, 1.0, 2.0, 4.0)
"""Before the second look, the third, ...; from the seventh on the last one again."""
STATES_MAX = 64
"""Of the source's earlier values, the newest; in a burst ``BURST_STATES_MAX``."""
BURST_STATES_MAX = 1024
STUCK_S = 2.0
"""A target that has not moved for so long, while the source changed all the time, follows nothing."""
LATE_S_MAX = 5.0
"""A target that holds what the source held longer ago does not follow."""
REST_S = 0.5
"""A source that has not changed for so long at the end of a burst has come to rest."""
EXPIRY_SLACK_MS = 20
"""Between two readings of an unchanged expiry, where a server only tells the time that is left (before 7.0)."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a key: the source first, then the target.

    Attributes:
        at_s: When, by a clock that only goes forward.
        clock_ms: The target's clock then, in Unix milliseconds; 0 is unknown.
        differs: What differs, as far as the look said so by itself (big values).
    """

    source: Held
    target: Held
    at_s: float
    clock_ms: int = 0
    differs: tuple[dict[str, Any], ...] = ()


class Next(Enum):
    """What is to be done about a suspect after the last of its rounds."""

    CLEARED = "cleared"
    DIFFERENT = "different"
    BURST = "burst"
    """The source changes at every look: look many times in short order."""
    PAUSE = "pause"
    """One side moved over the last pause: look once more after another one."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The end of a suspect.

    Attributes:
        difference: None when the two are the same, or the target follows.
        look: The last one.
    """

    database: int
    key: bytes
    difference: Difference | None
    look: Look | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known besides the two values.

    Attributes:
        evicted: Whether the target's server that has the key evicts keys.
        written_by_others: Whether somebody else than the sync is known to have written the key on the target; by
            source database and key. None: nobody knows.
    """

    evicted: Callable[[int, bytes], bool] = lambda database, key: False
    written_by_others: Callable[[int, bytes], bool] | None = None


@dataclass(slots=True)
class Suspect:
    """One key's looks.

    Attributes:
        seen: What the source held, each once in a row, the oldest first, with the last look that found it so.
        source_still, target_still: Whether that side was at the last look as at the one before.
        source_moved, target_moved: Whether it has changed at all since the first look.
        caught: It was the same at a look; ``followed``: the target had an earlier value of a changing source.
        proven: It differs beyond doubt.
    """

    database: int
    key: bytes
    tolerance_ms: int
    first: Look | None = None
    last: Look | None = None
    looks: int = 0
    seen: list[tuple[Held, float]] = field(default_factory=list)
    source_still: bool = False
    target_still: bool = False
    source_moved: bool = False
    target_moved: bool = False
    source_moved_s: float = 0.0
    burst_s: float | None = None
    caught: bool = False
    followed: bool = False
    proven: bool = False

    def take(self, look: Look, *, in_burst: bool = False) -> bool:
        """One more look. True: the two are the same, the suspect is cleared."""
        before = self.last
        if self.first is None:
            self.first = look
        if before is None:
            self.source_still = self.target_still = False
        else:
            self.source_still = _alike(before.source, look.source)
            self.target_still = _alike(before.target, look.target)
            if not self.source_still:
                self.source_moved, self.source_moved_s = True, look.at_s
            self.target_moved = self.target_moved or not _alike(self.first.target, look.target)
        self.looks += 1
        self.last = look
        if self._is_same(look):
            self.caught = True
            return True
        if not in_burst:
            self.burst_s = None
        elif self.burst_s is None:
            self.burst_s = before.at_s if before else look.at_s
        if self._follows(look):
            self.followed = True
            return True
        self._remember(look, BURST_STATES_MAX if in_burst else STATES_MAX)
        return False

    def next(self, *, after_burst: bool = False, quiet: bool = False, pauses_left: int = 0) -> Next:
        """What follows, when all rounds are over.

        Args:
            after_burst: The last looks were a burst.
            quiet: Nothing at all has been written on either server since before the last look, for long enough.
            pauses_left: How often one may still wait.
        """
        last = self.last
        if self.caught or self.followed:
            return Next.CLEARED
        if last is None or last.source.unreadable or last.target.unreadable:
            return Next.DIFFERENT
        if self.looks == 1 or quiet or (self.source_still and self.target_still and not after_burst):
            self.proven = True
            return Next.DIFFERENT
        if after_burst:
            # A source that has come to rest is waited for; one that goes on has had its chance.
            rests = last.at_s - self.source_moved_s > REST_S
            return Next.PAUSE if rests and pauses_left else Next.DIFFERENT
        if not self.source_still:
            return Next.BURST
        return Next.PAUSE if pauses_left else Next.DIFFERENT

    def can_burst(self, size_bytes_max: int) -> bool:
        """Whether its value is small enough to be read many times a second."""
        last = self.last
        return last is not None and max(last.source.size_bytes, last.target.size_bytes) <= size_bytes_max

    def judge(self, evidence: Evidence) -> Judgement:
        """The end, with the likely reason."""
        if self.caught or self.followed:
            return Judgement(self.database, self.key, None, self.last)
        if self.last is None:
            unread = Difference(self.key, self.database, "unreadable", "", "")
            return Judgement(self.database, self.key, unread, None)
        words = self.last.source.unreadable or self.last.target.unreadable
        return Judgement(
            self.database,
            self.key,
            Difference(
                self.key,
                self.database,
                self._reason(evidence),
                self.last.source.kind,
                self.last.target.kind,
                ({"what": "unreadable", "why": words},) if words else self.last.differs,
            ),
            self.last,
        )

    def _is_same(self, look: Look) -> bool:
        source, target = look.source, look.target
        if source.same(target, self.tolerance_ms):
            return True
        if not look.clock_ms or source.unreadable or target.unreadable:
            return False
        # One that is due within the tolerance may have gone from the other side for that reason alone.
        due_ms = look.clock_ms + self.tolerance_ms
        lonely = target if source.absent else source if target.absent else None
        return lonely is not None and lonely.expires_at_ms is not None and lonely.expires_at_ms <= due_ms

    def _follows(self, look: Look) -> bool:
        """In a burst, of a source that has changed since it began: whether the target is late, but not by much."""
        if self.burst_s is None or self.source_moved_s <= self.burst_s or not self.target_moved:
            return False
        since_s = look.at_s - LATE_S_MAX
        return any(
            look.target.same(earlier, self.tolerance_ms) for earlier, at_s in self.seen if at_s >= since_s
        )

    def _remember(self, look: Look, states_max: int) -> None:
        if self.seen and _alike(self.seen[-1][0], look.source):
            self.seen[-1] = (self.seen[-1][0], look.at_s)
            return
        self.seen.append((look.source, look.at_s))
        del self.seen[:-states_max]

    def _reason(self, evidence: Evidence) -> Reason:
        assert self.last is not None and self.first is not None
        source, target = self.last.source, self.last.target
        if source.unreadable or target.unreadable:
            return "unreadable"
        stuck = not self.target_moved and self.last.at_s - self.first.at_s >= STUCK_S
        if self.source_moved and not (self.proven or stuck):
            return "changes all the time"
        if source.absent:
            return "only on the target"
        if target.absent:
            return "evicted on the target" if evidence.evicted(self.database, self.key) else "never copied"
        if source.kind != target.kind:
            return "type clash"
        if source.same_value(target):
            return "expiry differs"
        if is_of_module(source):
            return "unreadable"
        return "changed on the target" if self._changed_by_others(evidence) else "stale"

    def _changed_by_others(self, evidence: Evidence) -> bool:
        if evidence.written_by_others is not None and evidence.written_by_others(self.database, self.key):
            return True
        # The target moved while the source stood still at every look: not ours to explain by a late sync.
        return self.target_moved and not self.source_moved


def _alike(one: Held, other: Held) -> bool:
    """Whether nothing has changed between two looks at the same side."""
    if one.unreadable or other.unreadable:
        return one.unreadable == other.unreadable
    return one.same(other, EXPIRY_SLACK_MS)


def pause_s(round_number: int) -> float:
    """Before the look of this round, from 1."""
    return PAUSES_S[min(round_number, len(PAUSES_S)) - 1]
