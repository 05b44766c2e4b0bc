"""What a reader of the phase records concludes: where authority is, where to look next, what is wrong.

Only the side that has authority has to be there. `lost` leads to the other side, where the mark may still have to be
completed (PROTOCOL.md, rule 15):

    1. The coordinator writes lost on the source and dies.
    2. A writer reads lost, goes to the target, finds pending, completes it, and has registered there before.

A record that is gone or older than what was known is an error: an old copy of a server, a flushed one, a replica
that had not yet heard of the commit. To guess would be to write where nobody looks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from keyferry.model.phases import Side, Standing
from keyferry.model.record import (
    Kind,
    NoRecord,
    PhaseRecord,
    RecordError,
    RecordVanished,
    RecordWentBack,
    Stamp,
    TwoAuthorities,
    Write,
    completing,
    standing_of,
)

LOOKS_MAX = 8
"""Records read in one search; more would mean that authority goes to and fro faster than we can follow."""


@dataclass(frozen=True, slots=True)
class Found:
    """Authority is there.

    Attributes:
        record: As it stands on the side that has authority.
    """

    standing: Standing
    record: PhaseRecord


@dataclass(frozen=True, slots=True)
class GoOn:
    """Read this side next."""

    side: Side


@dataclass(frozen=True, slots=True)
class Complete:
    """Make this write, then read the side again, whether or not it was in time."""

    write: Write


Conclusion = Found | GoOn | Complete


class Trail:
    """One search for authority, from what was known before. Ask ``start``, then tell what was read.

    Args:
        known: The last standing that was read; None at the very first.
        stamp: Of a mark that is completed on the way.
    """

    def __init__(self, known: Standing | None, stamp: Stamp) -> None:
        self.start = known.authority if known else Side.SOURCE
        self._known = known
        self._stamp = stamp
        self._left = LOOKS_MAX
        self._lost: dict[Side, PhaseRecord] = {}
        """What the side that was left says, and proves: the other one has an epoch of at least that."""
        self._seen: set[Side] = set()
        """Sides that have no say, or cannot be asked."""

    def read(self, side: Side, record: PhaseRecord | None) -> Conclusion:
        """Judges what a side says.

        Raises:
            RecordError: It cannot be.
        """
        self._left -= 1
        if self._left < 0:
            raise RecordError("Authority changes faster than it can be followed.", "Try again.")
        known, lost = self._known, self._lost.get(side.other)
        floor = max(known.epoch if known else 0, lost.epoch if lost else 0)
        must_be = lost is not None or (known is not None and known.authority is side)
        if record is None:
            return self._nothing(side, must_be)
        if record.kind is Kind.PENDING:
            return self._pending(side, record, lost, known, must_be)
        if must_be and record.epoch < floor:
            raise RecordWentBack(
                f"The phase record on the {side} went back: it says {record}, after epoch {floor}.",
                "Was the server restored from an older copy? See what both sides say: keyferry phase show.",
            )
        if record.kind is Kind.LOST:
            return self._moved_on(side, record, known)
        if not must_be and known is not None and record.epoch <= known.epoch:
            # Left behind by an older commit, or restored from a copy; the side that was known is away.
            return self._no_say(side)
        standing = standing_of(side, record)
        if known is not None and standing.epoch == known.epoch and standing != known:
            raise RecordWentBack(
                f"The phase record on the {side} changed from {known.phase} to {record.phase} without a new epoch.",
                "Only Keyferry may change it. See what both sides say: keyferry phase show.",
            )
        return Found(standing, record)

    def away(self, side: Side) -> GoOn | None:
        """The side cannot be asked; where to look instead. None: nowhere, and its absence is the answer.

        The other side may have gained authority meanwhile, and then a higher epoch proves it.
        """
        if self._lost.get(side.other) is not None or self._left <= 0:
            return None
        self._left -= 1
        self._seen.add(side)
        return None if side.other in self._seen else GoOn(side.other)

    def _nothing(self, side: Side, must_be: bool) -> Conclusion:
        if must_be:
            raise RecordVanished(
                f"The phase record on the {side} is gone.",
                "Was the server flushed or replaced? See what both sides say: keyferry phase show.",
            )
        return self._no_say(side)

    def _pending(
        self,
        side: Side,
        record: PhaseRecord,
        lost: PhaseRecord | None,
        known: Standing | None,
        must_be: bool,
    ) -> Conclusion:
        if lost is not None and (write := completing(side.other, lost, record, self._stamp)) is not None:
            return Complete(write)
        if not must_be:
            return self._no_say(side)
        floor = max(lost.epoch if lost else 0, known.epoch if known and known.authority is side else 0)
        if record.epoch < floor:
            raise RecordWentBack(
                f"The phase record on the {side} says {record}, which cannot follow epoch {floor}.",
                "See what both sides say: keyferry phase show.",
            )
        # It had lost authority since, and is about to get it back: the other side has it, or has just given it.
        self._lost = {side: record}
        return GoOn(side.other)

    def _moved_on(self, side: Side, record: PhaseRecord, known: Standing | None) -> Conclusion:
        if known is not None and known.authority is side and record.epoch <= known.epoch:
            raise RecordWentBack(
                f"The phase record on the {side} says {record}, where epoch {known.epoch} had authority.",
                "See what both sides say: keyferry phase show.",
            )
        earlier = self._lost.get(side.other)
        if earlier is not None and record.epoch <= earlier.epoch:
            raise RecordWentBack(
                f"Both sides say that they have lost authority, the {side} not later than the {side.other}.",
                "See what both sides say: keyferry phase show.",
            )
        self._lost = {side: record}
        return GoOn(side.other)

    def _no_say(self, side: Side) -> Conclusion:
        self._seen.add(side)
        if side.other not in self._seen:
            return GoOn(side.other)
        raise NoRecord(
            "Neither side has a phase record of this migration that gives it authority.",
            "Create it: keyferry phase set NAME SOURCE TARGET source.",
        )


def check_single(records: Mapping[Side, PhaseRecord | None]) -> None:
    """Looks at both sides at once.

    Raises:
        TwoAuthorities: Both claim authority.
    """
    source, target = records.get(Side.SOURCE), records.get(Side.TARGET)
    if source is not None and target is not None and source.rules and target.rules:
        older = Side.SOURCE if source.epoch < target.epoch else Side.TARGET
        raise TwoAuthorities(
            f"Both sides claim authority: the source says {source}, the target {target}.",
            f"The {older}'s is the older one; was that server restored from an older copy? "
            "Stop the writers, find out, and delete the record that is wrong.",
        )
