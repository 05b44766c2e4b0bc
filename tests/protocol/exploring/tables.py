"""The product's tables, by small numbers: a record is its number here, and each question is asked once.

Nothing is decided here. A write of a record is made by model.record alone and checked by its table; the way to
authority is model.record_trail's; the next step of a switch is cutover.plan's.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import NamedTuple

from keyferry.cutover.plan import (
    UNDOING,
    Found,
    Over,
    Situation,
    Step,
    Wish,
    found_at_start,
    leftovers,
    next_step,
)
from keyferry.model import record as model_record
from keyferry.model.errors import RefusedError
from keyferry.model.phases import Phase, Side, Standing
from keyferry.model.record import (
    Kind,
    PhaseRecord,
    RecordError,
    Stamp,
    Write,
    check_write,
    completing,
    next_of_commit,
    stepped,
)
from keyferry.model.record_trail import Complete, GoOn, Trail

SIDES = (Side.SOURCE, Side.TARGET)
NONE = 0
"""The number of no record."""
Pair = tuple[int, int]
"""Records by side."""

_records: list[PhaseRecord | None] = [None]
_numbers: dict[PhaseRecord, int] = {}
_standings: list[Standing] = []
STEPS = tuple(Step)
_bits = {step: 1 << place for place, step in enumerate(STEPS)}


class Cas(NamedTuple):
    """One compare-and-set."""

    side: int
    expected: int
    becomes: int


def number_of(record: PhaseRecord | None) -> int:
    """The number of a record."""
    if record is None:
        return NONE
    number = _numbers.get(record)
    if number is None:
        number = _numbers[record] = len(_records)
        _records.append(record)
    return number


def record_of(number: int) -> PhaseRecord | None:
    """The record of a number."""
    return _records[number]


def kind_of(number: int) -> Kind | None:
    """What a record means."""
    record = _records[number]
    return record.kind if record else None


def _cas(write: Write) -> Cas:
    check_write(write)
    return Cas(SIDES.index(write.side), number_of(write.expected), number_of(write.becomes))


@cache
def beginning(phase: Phase) -> int:
    """The record of a service that is in this phase, on the source."""
    record = PhaseRecord(Kind.AUTHORITY, 1, Phase.SOURCE)
    if phase is not Phase.SOURCE:
        record = stepped(Side.SOURCE, record, phase, Stamp()).becomes
    return number_of(record)


@cache
def stepping(side: int, record: int, phase: Phase) -> Cas | None:
    """A step on one side; None when the table has none."""
    before = record_of(record)
    if before is None:
        return None
    try:
        return _cas(stepped(SIDES[side], before, phase, Stamp()))
    except RefusedError:
        return None


@cache
def giving_up(side: int, record: int) -> Cas | None:
    """The way back out of a hold; None when it is none."""
    held = record_of(record)
    if held is None or held.kind is not Kind.HOLD or held.back is None:
        return None
    return stepping(side, record, held.back)


@cache
def committing(losing: int, records: Pair, phase: Phase) -> Cas | None:
    """The next write of a commit; None when the records do not allow it."""
    held = record_of(records[losing])
    if held is None:
        return None
    try:
        return _cas(next_of_commit(SIDES[losing], held, record_of(records[1 - losing]), phase, Stamp()))
    except RefusedError:
        return None


@cache
def marking(losing: int, records: Pair) -> Cas | None:
    """The write that completes the mark; None when there is nothing to complete."""
    lost = record_of(records[losing])
    if lost is None or lost.kind is not Kind.LOST:
        return None
    write = completing(SIDES[losing], lost, record_of(records[1 - losing]), Stamp())
    return _cas(write) if write else None


@cache
def standing_number(standing: Standing) -> int:
    """The number of a standing."""
    _standings.append(standing)
    return len(_standings) - 1


def standing_of(number: int) -> Standing:
    """The standing of a number."""
    return _standings[number]


@cache
def standing_at(side: int, record: int) -> int:
    """What a writer stands on, by its number."""
    found = record_of(record)
    assert found is not None
    return standing_number(model_record.standing_of(SIDES[side], found))


class Concluded(NamedTuple):
    """What a search for authority says next: one of the three, or none when it has to begin anew."""

    found: int = -1
    side: int = -1
    write: Cas | None = None


@cache
def conclude(known: int, reads: tuple[tuple[int, int], ...]) -> Concluded:
    """Replays a search from what was known over what was read, and says what comes next."""
    trail = Trail(standing_of(known), Stamp())
    concluded = Concluded(side=SIDES.index(trail.start))
    for side, record in reads:
        try:
            conclusion = trail.read(SIDES[side], record_of(record))
        except RecordError:
            return Concluded()
        if isinstance(conclusion, Complete):
            concluded = Concluded(side=side, write=_cas(conclusion.write))
        elif isinstance(conclusion, GoOn):
            concluded = Concluded(side=SIDES.index(conclusion.side))
        else:
            concluded = Concluded(found=standing_number(conclusion.standing))
    return concluded


def bit(step: Step) -> int:
    """A step in a set of steps."""
    return _bits[step]


@cache
def steps_of(bits: int) -> frozenset[Step]:
    """A set of steps."""
    return frozenset(step for step in STEPS if bits & _bits[step])


@cache
def planned(wish: Wish, records: Pair, begun: int, done: int, failed: bool) -> Step | Over:
    """What the planner says."""
    return next_step(
        wish,
        Situation(
            {side: record_of(number) for side, number in zip(SIDES, records, strict=True)},
            steps_of(begun),
            steps_of(done),
            "something went wrong" if failed else "",
        ),
    )


@cache
def undone_by(step: Step) -> Step | None:
    """What a step takes back."""
    return next((its for its, undo in UNDOING.items() if undo is step), None)


@cache
def found(records: Pair) -> Found:
    """What a coordinator that starts again finds."""
    return found_at_start({side: record_of(one) for side, one in zip(SIDES, records, strict=True)})


@cache
def left_over(wish: Wish, begun: int, records: Pair) -> tuple[Step, ...]:
    """What it has to undo first."""
    return leftovers(
        wish, steps_of(begun), {side: record_of(one) for side, one in zip(SIDES, records, strict=True)}
    )


@cache
def asking(side: int, record: int) -> Cas:
    """The question to all writers."""
    before = record_of(record)
    assert before is not None
    after = replace(before, epoch=before.epoch + 1, asked=f"q{before.epoch}")
    return _cas(Write(SIDES[side], before, after))
