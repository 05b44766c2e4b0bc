"""What a switch does next: a planner without I/O that is asked after every step, and knows the way back.

A switch moves authority from the losing side to the gaining one: a cutover from the source to the target, a rollback
from the target to the source. The order is PROTOCOL.md's rule 14, with rules 11, 13, 17 and the order for plain
clients. Up to the commit whatever fails is undone, in the opposite order; after it there is only forward:

    prepare, reverse, narrow          nobody waits yet
    hold, acknowledged, sever, pause  the gate closes
    settle, functions, compare        the gaining side becomes equal, and is proved to be
    bar, check pause, unpause         for plain clients: rights are taken away while they wait
    give back, pending, commit        the commit is one compare-and-set
    complete, open                    the gate opens
    bar after, hook                   nobody waits for these

Whether the commit was made is read from the records, never remembered: a coordinator that dies anywhere is picked up
by the next one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from keyferry.model.phases import Phase, Side
from keyferry.model.record import Kind, PhaseRecord


class Gate(StrEnum):
    """What makes writes wait."""

    WRITERS = "writers"
    """Writers with leases hold by themselves; nobody else writes."""
    PAUSE = "pause"
    """CLIENT PAUSE holds plain clients back; no writer is registered."""
    BOTH = "both"
    """Both kinds are there."""
    NONE = "none"
    """Whoever does not follow the record was stopped by the operator."""

    @property
    def pauses(self) -> bool:
        return self in (Gate.PAUSE, Gate.BOTH)


class Step(StrEnum):
    """One step, or the undoing of one."""

    PREPARE = "prepare"
    REVERSE = "reverse"
    NARROW = "narrow"
    HOLD = "hold"
    ACKNOWLEDGED = "acknowledged"
    SEVER = "sever"
    PAUSE = "pause"
    SETTLE = "settle"
    FUNCTIONS = "functions"
    COMPARE = "compare"
    BAR = "bar"
    CHECK_PAUSE = "check-pause"
    UNPAUSE = "unpause"
    GIVE_BACK = "give-back"
    PENDING = "pending"
    COMMIT = "commit"
    COMPLETE = "complete"
    OPEN = "open"
    BAR_AFTER = "bar-after"
    HOOK = "hook"

    UNDO_GIVE_BACK = "undo-give-back"
    UNDO_BAR = "undo-bar"
    UNDO_PAUSE = "undo-pause"
    UNDO_HOLD = "undo-hold"
    UNDO_REVERSE = "undo-reverse"


ORDER: tuple[Step, ...] = (
    Step.PREPARE,
    Step.REVERSE,
    Step.NARROW,
    Step.HOLD,
    Step.ACKNOWLEDGED,
    Step.SEVER,
    Step.PAUSE,
    Step.SETTLE,
    Step.FUNCTIONS,
    Step.COMPARE,
    Step.BAR,
    Step.CHECK_PAUSE,
    Step.UNPAUSE,
    Step.GIVE_BACK,
    Step.PENDING,
    Step.COMMIT,
)
AFTER_COMMIT: tuple[Step, ...] = (Step.COMPLETE, Step.OPEN, Step.BAR_AFTER, Step.HOOK)
PAUSING = frozenset({Step.PAUSE, Step.BAR, Step.CHECK_PAUSE, Step.UNPAUSE})
UNDOING: Mapping[Step, Step] = {
    Step.REVERSE: Step.UNDO_REVERSE,
    Step.HOLD: Step.UNDO_HOLD,
    Step.PAUSE: Step.UNDO_PAUSE,
    Step.BAR: Step.UNDO_BAR,
    Step.GIVE_BACK: Step.UNDO_GIVE_BACK,
}
GATED = frozenset(ORDER[ORDER.index(Step.HOLD) :])
"""Steps in which writes wait, or are about to: what is late here is undone."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What an operator wants.

    Attributes:
        losing: The side that has authority now.
        reverses: The opposite direction is followed afterwards, so that the switch can be taken back.
        phase: That begins with the commit.
    """

    losing: Side
    gate: Gate
    phase: Phase
    reverses: bool = True

    @property
    def gaining(self) -> Side:
        return self.losing.other


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known at a moment.

    Attributes:
        records: As they were read after the last step. A side that cannot be asked is missing.
        begun: Steps that were begun and not undone since: they may have happened, in part or whole.
        done: Those of them that came to their end.
        failure: Why the switch cannot go on; empty while it can.
    """

    records: Mapping[Side, PhaseRecord | None]
    begun: frozenset[Step] = frozenset()
    done: frozenset[Step] = frozenset()
    failure: str = ""


class End(StrEnum):
    """How a switch ended."""

    DONE = "done"
    UNDONE = "undone"
    """Everything is as it was before."""
    UNKNOWN = "unknown"
    """The side that is to lose authority does not say whether the commit was made: ask it again."""


@dataclass(frozen=True, slots=True)
class Over:
    """Nothing is left to do."""

    end: End


def next_step(wish: Wish, situation: Situation) -> Step | Over:
    """One step; to be asked again after it, with the records read anew.

    1. The losing side has lost authority: forward, whatever failed.
    2. COMMIT was begun and the losing side cannot be asked: unknown, neither forward nor back.
    3. Something failed: the last step that was begun and can be undone.
    4. Otherwise the first step that is not done.
    """
    if is_committed(wish, situation.records):
        return _first(AFTER_COMMIT, wish, situation.done) or Over(End.DONE)
    if wish.losing not in situation.records and Step.COMMIT in situation.begun:
        return Over(End.UNKNOWN)
    if situation.failure:
        return _undo(situation.begun) or Over(End.UNDONE)
    # All is done, and the losing side does not say so: has a failover forgotten the commit? To be looked at again.
    return _first(ORDER, wish, situation.done) or Over(End.UNKNOWN)


def is_committed(wish: Wish, records: Mapping[Side, PhaseRecord | None]) -> bool:
    """Whether authority is on its way to the gaining side, or there."""
    lost, gained = records.get(wish.losing), records.get(wish.gaining)
    if lost is not None and lost.kind is Kind.LOST:
        return True
    return lost is None and gained is not None and gained.rules


def _first(order: tuple[Step, ...], wish: Wish, done: frozenset[Step]) -> Step | None:
    for step in order:
        if step in done or (step in PAUSING and not wish.gate.pauses):
            continue
        if step is Step.REVERSE and not wish.reverses:
            continue
        if step is Step.BAR_AFTER and wish.gate.pauses and wish.reverses:
            continue
        return step
    return None


def _undo(begun: frozenset[Step]) -> Step | None:
    if Step.COMMIT in begun and Step.HOLD in begun:
        # The commit may still be on its way: once the record has changed it cannot be made any more. Only then
        # anybody gets rights back. (The pause is over by then, so the record can be written.)
        return Step.UNDO_HOLD
    for step in reversed(ORDER):
        if step in begun and step in UNDOING:
            return UNDOING[step]
    return None


def undoes(step: Step) -> Step | None:
    """The step that an undoing takes back; None for every other step."""
    return next((its for its, undo in UNDOING.items() if undo is step), None)


@dataclass(frozen=True, slots=True)
class Found:
    """What a coordinator finds when it starts again.

    Attributes:
        side: That has authority, or gets it by completing a mark; None: there is no record yet.
        undo_hold: A hold was left behind, and is given up first (rule 16).
        complete: A commit was made and its mark is missing.
    """

    side: Side | None
    undo_hold: bool = False
    complete: bool = False


def found_at_start(records: Mapping[Side, PhaseRecord | None]) -> Found:
    """From both records. Two authorities are an error elsewhere (record_trail.check_single)."""
    for side in Side:
        record = records.get(side)
        if record is not None and record.rules:
            return Found(side, undo_hold=record.kind is Kind.HOLD)
    for side in Side:
        record = records.get(side)
        if record is not None and record.kind is Kind.LOST:
            return Found(side.other, complete=True)
    return Found(None)


def leftovers(
    wish: Wish, begun: frozenset[Step], records: Mapping[Side, PhaseRecord | None]
) -> tuple[Step, ...]:
    """What has to be undone, in this order, of a switch that nobody led to its end.

    Args:
        begun: Its steps that were begun and not undone, by the journal.
    """
    if is_committed(wish, records):
        return ()
    found: list[Step] = []
    while (step := _undo(begun)) is not None:
        found.append(step)
        begun = begun - {its for its, undo in UNDOING.items() if undo is step}
    return tuple(found)
