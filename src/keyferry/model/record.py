"""The phase record: what each side says about who has authority, and the only ways in which that may change.

One hash per side, `keyferry:{NAME}:phase`. Every change is a compare-and-set of one of the two records, and each is
checked here against one table before it is sent, whoever sends it: two operators, a coordinator that was thought dead
and a writer that completes a mark can never make two authorities out of one. The order of a commit, from side A to
side B, is PROTOCOL.md's rule 14:

    1. A: hold(e), everyone has acknowledged      B: none, or a lower epoch
    2.                                            B: pending(e)
    3. A: lost(e+1)  <- the commit
    4.                                            B: authority(e+1), by whoever comes first (rules 15, 16)

A record that cannot be read is an error, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from keyferry.model.errors import KeyferryError, RefusedError, UsageError
from keyferry.model.keys import RESERVED_PREFIX
from keyferry.model.phases import RULES, STEPS, Phase, Side, Standing

EPOCH_MAX = 2**53
NAME_CHARS_MAX = 100
FIELD_BYTES_MAX = 1024
_NAME = re.compile(r"[!-z|~]+")
"""Printable ASCII without braces and blanks: the name stands in a hash tag and in messages."""


class Kind(StrEnum):
    """What a side's record means. A side without one has no say."""

    PENDING = "pending"
    AUTHORITY = "authority"
    HOLD = "hold"
    LOST = "lost"


_KINDS = {str(kind): kind for kind in Kind}


class RecordError(KeyferryError):
    """The records do not say who has authority, or say what cannot be. Nothing is written or guessed."""


class NoRecord(RecordError):
    """No side has a record of this migration."""


class RecordVanished(RecordError):
    """A record that must be there is not."""


class RecordWentBack(RecordError):
    """A record is older than what was known, or has changed without a new number."""


class RecordUnreadable(RecordError):
    """A record holds what no Keyferry that we know writes."""


class TwoAuthorities(RecordError):
    """Both sides claim authority."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Who changes a record, and when: for people, never judged by.

    Attributes:
        at_ms: Unix time in milliseconds by the clock of who writes.
        by: Such as ``keyferry phase, ops@host, pid 7``.
    """

    at_ms: int = 0
    by: str = ""


@dataclass(frozen=True, slots=True)
class PhaseRecord:
    """One side's record.

    Attributes:
        kind: What it means.
        epoch: Grows with every change on the side that has authority.
        phase: The phase now; of `pending` and `lost` the phase that begins on the side that gains authority.
        back: Of `hold`: the phase to which giving up returns.
        asked: A question to all writers, which they repeat in their entries; empty when there is none.
        stamp: Who wrote it, and when.
    """

    kind: Kind
    epoch: int
    phase: Phase
    back: Phase | None = None
    asked: str = ""
    stamp: Stamp = Stamp()

    @property
    def rules(self) -> bool:
        """Whether the side that has this record has authority."""
        return self.kind in (Kind.AUTHORITY, Kind.HOLD)

    def same_as(self, other: PhaseRecord | None) -> bool:
        """Whether it means the same, whoever wrote it and when."""
        return other is not None and replace(self, stamp=other.stamp) == other

    def __str__(self) -> str:
        back = f", back to {self.back}" if self.back else ""
        return f"{self.kind} (epoch {self.epoch}, phase {self.phase}{back})"


@dataclass(frozen=True, slots=True)
class Write:
    """One compare-and-set: if the side's record is still as expected, it becomes the new one.

    Attributes:
        expected: None: there is none.
    """

    side: Side
    expected: PhaseRecord | None
    becomes: PhaseRecord


# From the kind before (None: no record) to the kind after, on one side.
MOVES: Mapping[Kind | None, frozenset[Kind]] = {
    None: frozenset({Kind.AUTHORITY, Kind.PENDING}),
    Kind.PENDING: frozenset({Kind.PENDING, Kind.AUTHORITY}),
    Kind.AUTHORITY: frozenset({Kind.AUTHORITY, Kind.HOLD}),
    Kind.HOLD: frozenset({Kind.AUTHORITY, Kind.LOST, Kind.HOLD}),
    Kind.LOST: frozenset({Kind.PENDING}),
}


def check_name(name: str) -> str:
    """The name, when it may be a migration's.

    Raises:
        UsageError: It may not.
    """
    if not _NAME.fullmatch(name) or len(name) > NAME_CHARS_MAX:
        raise UsageError(
            f"{name!r} cannot be the name of a migration.",
            f"Use up to {NAME_CHARS_MAX} printable ASCII characters without blanks and braces, such as orders-2024.",
        )
    return name


def record_key(name: str) -> bytes:
    """The hash of the record; all keys of a migration are in one slot."""
    return b"%b{%b}:phase" % (RESERVED_PREFIX, name.encode("ascii"))


def leader_key(name: str) -> bytes:
    """The hash that says which process leads the migration: its id, and who that is for people."""
    return b"%b{%b}:leader" % (RESERVED_PREFIX, name.encode("ascii"))


def writers_key(name: str) -> bytes:
    """The hash of the live writers: id -> entry (model.writers)."""
    return b"%b{%b}:writers" % (RESERVED_PREFIX, name.encode("ascii"))


def channel(name: str) -> bytes:
    """Where a step is told (``telling``); the message says: look at the record."""
    return record_key(name)


@dataclass(frozen=True, slots=True)
class Told:
    """What a message says of a record; to be believed only as far as a look at the record bears it out.

    Attributes:
        epoch: Its number; 0 when the message does not say.
        kind: None when the message does not say.
    """

    epoch: int = 0
    kind: Kind | None = None


def telling(record: PhaseRecord) -> bytes:
    """The message that goes with a new record, in the same transaction: its epoch in decimal, and its kind."""
    return b"%d %b" % (record.epoch, record.kind.encode())


def told(message: object) -> Told:
    """Reads a message; whatever is not as ``telling`` writes it says no more than: look."""
    if isinstance(message, bytes) and len(message) <= FIELD_BYTES_MAX and message.isascii():
        epoch, _, kind = message.decode("ascii").partition(" ")
        if epoch.isdigit() and kind in _KINDS:
            return Told(int(epoch), _KINDS[kind])
    return Told()


def encode(record: PhaseRecord) -> dict[bytes, bytes]:
    """All fields of the hash, also those that are empty: what is written replaces what was there."""
    fields = {
        "kind": record.kind,
        "epoch": str(record.epoch),
        "phase": record.phase,
        "back": record.back or "",
        "asked": record.asked,
        "at": str(record.stamp.at_ms),
        "by": record.stamp.by,
    }
    return {name.encode(): value.encode("ascii", "backslashreplace") for name, value in fields.items()}


def decode(side: Side, fields: Mapping[bytes, bytes]) -> PhaseRecord | None:
    """Reads the hash of a side; None when there is none.

    Fields that we do not know are passed over: a newer Keyferry that means something new by its record gives it a
    new kind, and that is an error here.

    Raises:
        RecordUnreadable: It is not a record, or says what cannot be on this side.
    """
    if not fields:
        return None
    try:
        texts = {name: _text(fields, name) for name in ("kind", "epoch", "phase")}
        record = PhaseRecord(
            Kind(texts["kind"]),
            _number(texts["epoch"]),
            Phase(texts["phase"]),
            Phase(back) if (back := _text(fields, "back", "")) else None,
            _text(fields, "asked", ""),
            Stamp(_number(_text(fields, "at", "0")), _text(fields, "by", "")),
        )
        _check_sense(side, record)
    except (ValueError, KeyError) as error:
        raise RecordUnreadable(
            f"The phase record on the {side} cannot be read: {error}.",
            "Was it changed by hand, or by a newer Keyferry? Look with: keyferry phase show NAME SOURCE TARGET.",
        ) from None
    return record


def _text(fields: Mapping[bytes, bytes], name: str, otherwise: str | None = None) -> str:
    value = fields.get(name.encode())
    if value is None:
        if otherwise is None:
            raise ValueError(f"it has no {name}")
        return otherwise
    if len(value) > FIELD_BYTES_MAX or not value.isascii():
        raise ValueError(f"its {name} is not a short ASCII text")
    return value.decode("ascii")


def _number(text: str) -> int:
    if not text.isdigit() or int(text) > EPOCH_MAX:
        raise ValueError(f"{text!r} is not a number that could be there")
    return int(text)


def _check_sense(side: Side, record: PhaseRecord) -> None:
    """Raises ValueError when the kind, the phase and the side do not fit together."""
    if record.epoch < 1:
        raise ValueError("its epoch is not above 0")
    gains = side.other if record.kind is Kind.LOST else side
    if record.kind is Kind.HOLD:
        if record.phase is not Phase.HOLD or record.back is None or RULES[record.back].authority is not side:
            raise ValueError(f"a hold on the {side} says {record.phase}, back to {record.back or 'nothing'}")
    elif record.back is not None or RULES[record.phase].authority is not gains:
        raise ValueError(f"{record.kind} on the {side} does not fit the phase {record.phase}")


def check_write(write: Write) -> None:
    """Stands before every write of a record.

    Raises:
        RefusedError: No such change may ever be made.
    """
    before, after = write.expected, write.becomes
    try:
        if before is not None:
            _check_sense(write.side, before)
        _check_sense(write.side, after)
    except ValueError as error:
        raise RefusedError(f"This is no phase record: {error}.") from None
    epoch = before.epoch if before else 0
    fits = after.kind in MOVES[before.kind if before else None]
    if before is not None and before.kind is Kind.HOLD:
        # Only its own way back leads out of a hold on this side (rule 12).
        fits = fits and (after.kind is not Kind.AUTHORITY or after.phase is before.back)
        fits = fits and (after.kind is not Kind.HOLD or _asks(before, after))
    if before is not None and before.kind is Kind.AUTHORITY:
        fits = fits and (after.phase in STEPS[before.phase] or _asks(before, after))
        fits = fits and (after.kind is not Kind.HOLD or after.back is before.phase)
    if after.kind is Kind.PENDING:
        grows = after.epoch > epoch
    elif before is None:
        grows = after.epoch == 1 and after.phase is Phase.SOURCE
    else:
        grows = after.epoch == epoch + 1
    if not fits or not grows:
        raise RefusedError(f"The record on the {write.side} may not go from {before or 'none'} to {after}.")


def _asks(before: PhaseRecord, after: PhaseRecord) -> bool:
    """Whether nothing changes but the question to the writers."""
    return after.asked != before.asked and replace(after, asked=before.asked, epoch=before.epoch).same_as(
        before
    )


def begun(stamp: Stamp) -> Write:
    """The first record of a migration: the source has authority, alone."""
    return Write(Side.SOURCE, None, PhaseRecord(Kind.AUTHORITY, 1, Phase.SOURCE, stamp=stamp))


def stepped(side: Side, record: PhaseRecord, phase: Phase, stamp: Stamp) -> Write:
    """A step that leaves authority where it is; into `hold`, and out of it by its way back, included.

    Raises:
        RefusedError: There is no such step.
    """
    if phase is Phase.HOLD:
        after = PhaseRecord(Kind.HOLD, record.epoch + 1, phase, back=record.phase, stamp=stamp)
    else:
        after = PhaseRecord(Kind.AUTHORITY, record.epoch + 1, phase, stamp=stamp)
    write = Write(side, record, after)
    check_write(write)
    return write


def next_of_commit(
    losing: Side, held: PhaseRecord, other: PhaseRecord | None, phase: Phase, stamp: Stamp
) -> Write:
    """The next write of a commit out of a hold; asked again after each. ``completing`` gives the last one.

    Args:
        losing: The side on which the hold stands.
        held: Its record.
        other: The other side's record.
        phase: What begins there.

    Raises:
        RefusedError: The records do not allow it.
    """
    pending = PhaseRecord(Kind.PENDING, held.epoch, phase, stamp=stamp)
    if not pending.same_as(other):
        write = Write(losing.other, other, pending)
    else:
        write = Write(losing, held, PhaseRecord(Kind.LOST, held.epoch + 1, phase, stamp=stamp))
    check_write(write)
    return write


def completing(losing: Side, lost: PhaseRecord, other: PhaseRecord | None, stamp: Stamp) -> Write | None:
    """What completes the mark of a commit (rules 15 and 16); None when the other side does not wait for it."""
    if (
        lost.kind is not Kind.LOST
        or other is None
        or other.kind is not Kind.PENDING
        or other.epoch + 1 != lost.epoch
        or other.phase is not lost.phase
    ):
        return None
    return Write(losing.other, other, PhaseRecord(Kind.AUTHORITY, lost.epoch, lost.phase, stamp=stamp))


def standing_of(side: Side, record: PhaseRecord) -> Standing:
    """What a writer stands on while this side has authority.

    Raises:
        ValueError: It has none.
    """
    if not record.rules:
        raise ValueError(f"{record.kind} gives no standing")
    return Standing(record.phase, record.epoch, side)
