"""One step of a migration's phase: what to do next (pure), and a performer that does it and asks again.

The planner looks at both records and all writers and yields one move; after each it is asked anew, so that a tool
that died anywhere is picked up by the next one (PROTOCOL.md, rules 12, 14, 16):

    1. lost here, pending there: complete the mark, whatever else is wanted
    2. no record at all: begin one
    3. the wanted phase is not the record's: one step, if the table has it
    4. a commit: all live writers have taken the hold; connections of those that are gone are ended (rule 11);
       then pending, lost, authority, one at a time
    5. the wanted phase is there: wait for the writers
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from keyferry.capture.clients.lease import LeaseWatch
from keyferry.cutover.record_store import RecordStore, SideLook
from keyferry.model.errors import RefusedError, ServerAway, ServerError
from keyferry.model.phases import RULES, STEPS, Phase, Side
from keyferry.model.record import (
    Kind,
    PhaseRecord,
    RecordVanished,
    Stamp,
    Write,
    begun,
    completing,
    next_of_commit,
    stepped,
)
from keyferry.model.record_trail import check_single
from keyferry.model.writers import WriterEntry

POLL_S, POLL_S_MAX = 0.02, 0.25
AWAY_S = 5.0
"""After which a side that could not be asked is asked again."""
MOVES_MAX = 1000
"""Writes and other acts of one step; a plan that does not end is a mistake of ours."""


@dataclass(frozen=True, slots=True)
class Make:
    """Make this write."""

    write: Write


@dataclass(frozen=True, slots=True)
class Sever:
    """End the connections of writers whose lease is over, and take their entries off.

    Attributes:
        connections: By side.
        registered: Where their entries are.
        writers: Their ids.
    """

    connections: Mapping[Side, tuple[str, ...]]
    registered: Side
    writers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Await:
    """Wait: these writers have not taken the epoch, and their leases may still run."""

    record: PhaseRecord
    side: Side
    writers: Mapping[str, WriterEntry]


@dataclass(frozen=True, slots=True)
class Done:
    """The wanted phase is there, and everyone has taken it."""

    record: PhaseRecord
    side: Side


Move = Make | Sever | Await | Done
IsOver = Callable[[Side, str], bool]
"""Whether the lease of a writer that is registered on a side is over."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What an operator wants.

    A side that cannot be asked now is missing from the looks: the side with authority is enough for every step that
    leaves authority where it is, so that a dead target can be taken out of the writers' way.

    Attributes:
        wanted: The phase.
        confirmed: The operator says that the gaining side has been settled and verified.
        stamp: Of what is written.
    """

    wanted: Phase
    confirmed: bool
    stamp: Stamp

    def next(self, looks: Mapping[Side, SideLook], over: IsOver) -> Move:
        """One move.

        Args:
            looks: Of both sides, or of the one with authority.

        Raises:
            RefusedError: The step is not allowed.
            RecordError: The records make no sense.
        """
        records = {side: look.record for side, look in looks.items()}
        check_single(records)
        side = authority_of(records)
        record = records[side] if side else None
        if side is None or record is None:
            return Make(self._begin_or_complete(records))
        if record.phase is self.wanted:
            return self._settle_in(looks, side, record, over)
        return self._step(looks, side, record, over)

    def _begin_or_complete(self, records: Mapping[Side, PhaseRecord | None]) -> Write:
        for losing in Side:
            lost = records[losing]
            if lost is None or lost.kind is not Kind.LOST:
                continue
            write = completing(losing, lost, records[losing.other], self.stamp)
            if write is not None:
                return write
        if any(record is not None for record in records.values()):
            said = ", ".join(f"the {side}: {record or 'nothing'}" for side, record in records.items())
            raise RecordVanished(
                f"Neither side has authority, and none can be given it. They say: {said}.",
                "Was a server flushed, replaced, or restored from an older copy? Find out which one the writers use.",
            )
        return begun(self.stamp)

    def _step(self, looks: Mapping[Side, SideLook], side: Side, record: PhaseRecord, over: IsOver) -> Move:
        wanted = self.wanted
        if wanted not in STEPS[record.phase]:
            raise RefusedError(
                f"There is no step from {record.phase} to {wanted}.",
                f"From {record.phase} it goes to {_words([phase for phase in Phase if phase in STEPS[record.phase]])}.",
            )
        if record.phase is not Phase.HOLD or RULES[wanted].authority is side:
            if record.phase is Phase.HOLD and wanted is not record.back:
                raise RefusedError(
                    f"This hold was entered from {record.back}, so giving it up leads back there, not to {wanted}.",
                    f"Use: keyferry phase set NAME SOURCE TARGET {record.back}.",
                )
            return Make(stepped(side, record, wanted, self.stamp))
        return self._commit(looks, side, record, over)

    def _commit(self, looks: Mapping[Side, SideLook], side: Side, record: PhaseRecord, over: IsOver) -> Move:
        gaining = side.other
        if not self.confirmed:
            raise RefusedError(
                f"From hold to {self.wanted} the {gaining} gets authority: what it lacks then is lost.",
                f"Only when the {gaining} has been settled and verified since the hold: give the command again with --yes.",
            )
        if gaining not in looks:
            raise RefusedError(
                f"The {gaining} cannot be asked now, and it is to get authority.",
                "Try again when it is there.",
            )
        writers = looks[side].writers
        waiting = _waiting(writers, record.epoch, lambda writer: over(side, writer))
        if waiting:
            return Await(record, side, waiting)
        if (sever := _gone(looks, side, over)) is not None:
            return sever
        return Make(next_of_commit(side, record, looks[gaining].record, self.wanted, self.stamp))

    def _settle_in(
        self, looks: Mapping[Side, SideLook], side: Side, record: PhaseRecord, over: IsOver
    ) -> Move:
        here = looks[side].writers
        waiting = _waiting(here, record.epoch, lambda writer: over(side, writer))
        other = looks.get(side.other)
        lost = other.record if other else None
        if other and lost and lost.kind is Kind.LOST and lost.epoch == record.epoch:
            # Right after a commit: those that have not come over yet.
            left = {name: entry for name, entry in other.writers.items() if name not in here}
            waiting |= _waiting(left, record.epoch, lambda writer: over(side.other, writer))
        if waiting:
            return Await(record, side, waiting)
        return _gone(looks, side, over) or Done(record, side)


def authority_of(records: Mapping[Side, PhaseRecord | None]) -> Side | None:
    """The side whose record gives it authority, if one does."""
    for side, record in records.items():
        if record is not None and record.rules:
            return side
    return None


def _waiting(
    writers: Mapping[str, WriterEntry], epoch: int, over: Callable[[str], bool]
) -> dict[str, WriterEntry]:
    return {name: entry for name, entry in writers.items() if entry.epoch < epoch and not over(name)}


def _gone(looks: Mapping[Side, SideLook], side: Side, over: IsOver) -> Sever | None:
    """Writers on the side whose lease is over, with all their connections."""
    gone = {name: entry for name, entry in looks[side].writers.items() if over(side, name)}
    if not gone:
        return None
    connections = {
        at: tuple(one for entry in gone.values() for one in entry.connections.get(at, ())) for at in Side
    }
    return Sever(connections, side, tuple(gone))


def _words(names: Collection[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a step ended.

    Attributes:
        record: On the side with authority.
        changed: The record was changed by us.
        waiting: Writers that have not taken the step in the time, by id.
        gone: Writers whose lease was over: how many entries were taken off.
        notes: What the operator should know.
    """

    side: Side
    record: PhaseRecord
    changed: bool
    waiting: Mapping[str, WriterEntry] = field(default_factory=dict)
    gone: int = 0
    notes: tuple[str, ...] = ()


class Performer:
    """Does what a plan says.

    Args:
        tell: Takes a sentence about each thing done.
        sleep, clock: Seconds; the clock is the store's.
    """

    def __init__(
        self,
        store: RecordStore,
        plan: Plan,
        *,
        tell: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store, self._plan, self._tell = store, plan, tell
        self._clock, self._sleep = clock, sleep
        self._leases = {side: LeaseWatch() for side in Side}
        self._changed = False
        self._gone = 0
        self._notes: list[str] = []
        self._away: dict[Side, tuple[ServerAway, float]] = {}
        """What a side said that could not be asked, and when it is asked again."""

    def run(self, wait_s: float) -> Outcome:
        """Takes the step, and waits for the writers.

        Args:
            wait_s: Longest wait for the writers, each time they are waited for.

        Raises:
            RefusedError: The step is not allowed, or somebody else changed the record in the same moment; or a
                commit cannot be made because writers have not taken the hold.
            ServerError, RecordError: A side does not answer, refuses, or says what cannot be.
        """
        until_s: float | None = None
        pause_s, told = POLL_S, ""
        acts = 0
        while True:
            looks = self._look()
            move = self._plan.next(looks, lambda side, writer: self._leases[side].over(writer))
            if isinstance(move, Done):
                return self._outcome(move.side, move.record, {})
            if isinstance(move, Await):
                until_s = self._clock() + wait_s if until_s is None else until_s
                if self._clock() >= until_s:
                    return self._not_all(move)
                names = _words(sorted({str(entry.facts) for entry in move.writers.values()}))
                if names != told and pause_s >= POLL_S_MAX:
                    told = names
                    self._tell(f"Waiting for {names}.")
                self._sleep(min(pause_s, max(0.0, until_s - self._clock())))
                pause_s = min(POLL_S_MAX, pause_s * 2)
                continue
            acts += 1
            if acts > MOVES_MAX:
                raise RuntimeError("the plan of a phase step does not end")
            until_s, pause_s = None, POLL_S
            if isinstance(move, Make):
                self._make(move.write)
            elif (failed := self._sever(move)) is not None:
                record = looks[move.registered].record
                if record is None or record.phase is not self._plan.wanted:
                    raise failed
                self._note(
                    f"{len(move.writers)} entries of writers that are gone stay: {failed.message} A commit needs "
                    "their connections ended."
                )
                return self._outcome(move.registered, record, {})

    def _look(self) -> dict[Side, SideLook]:
        looks: dict[Side, SideLook] = {}
        for side in Side:
            away = self._away.get(side)
            if away is not None and self._clock() < away[1]:
                continue
            try:
                look = looks[side] = self._store.look(side)
            except ServerAway as error:
                self._away[side] = error, self._clock() + AWAY_S
                continue
            self._leases[side].look(
                {name: (entry.renewals, entry.lease_ms) for name, entry in look.writers.items()},
                look.sent_s,
                look.heard_s,
            )
        if (
            len(looks) < len(Side)
            and authority_of({side: look.record for side, look in looks.items()}) is None
        ):
            raise next(iter(self._away.values()))[0]
        for side in Side:
            if side not in looks:
                self._note(f"The {side} could not be asked: {self._away[side][0].message}")
        return looks

    def _make(self, write: Write) -> None:
        if write.expected is None and write.becomes.kind is Kind.AUTHORITY:
            self._check_elsewhere()
        if write.becomes.kind is Kind.PENDING:
            self._check_alone(write.side)
        if not self._store.compare_and_set(write):
            now = self._store.look(write.side).record
            if now is not None and now.phase is self._plan.wanted and now.rules:
                return
            raise RefusedError(
                f"Somebody else changed the record in the same moment: the {write.side} says {now or 'nothing'} now"
                f"{f', by {now.stamp.by}' if now and now.stamp.by else ''}.",
                "Look with: keyferry phase show; then decide again.",
            )
        self._changed = True
        self._tell(f"The {write.side} says {write.becomes} now.")
        if write.becomes.kind in (Kind.HOLD, Kind.LOST):
            replicas = self._store.confirm(write.side)
            if not replicas.connected:
                self._note(f"The {write.side} has no replica: its record is as safe as that one server.")
            elif replicas.confirmed < replicas.connected:
                self._note(
                    f"Only {replicas.confirmed} of {replicas.connected} replicas of the {write.side} have confirmed "
                    "its record: a failover to another one would forget it."
                )

    def _check_elsewhere(self) -> None:
        for side in Side:
            found = self._store.elsewhere(side)
            if found:
                raise RefusedError(
                    f"The {side} has a record of this name in database {_words([str(one) for one in found])}.",
                    "Name that database in the address; a migration has one record per side.",
                )

    def _check_alone(self, gaining: Side) -> None:
        """After the commit its data is the truth: nobody may carry the old side's over it any more."""
        if self._store.is_written_to(gaining):
            raise RefusedError(
                f"A keyferry sync, migrate or copy still writes to the {gaining}: after the switch it would carry the "
                f"{gaining.other}'s data over what the application has written.",
                "Writers hold; end it now, then give the command again. Or let keyferry migrate switch: keyferry cutover.",
            )

    def _sever(self, move: Sever) -> ServerError | None:
        """What was in the way, if anything."""
        try:
            for side, connections in move.connections.items():
                if connections:
                    self._store.kill(side, connections)
            self._store.forget(move.registered, move.writers)
        except ServerError as error:
            return error
        self._gone += len(move.writers)
        return None

    def _note(self, text: str) -> None:
        if text not in self._notes:
            self._notes.append(text)

    def _not_all(self, move: Await) -> Outcome:
        if move.record.phase is not self._plan.wanted:
            names = _words(sorted(str(entry.facts) for entry in move.writers.values()))
            raise RefusedError(
                f"Not every writer has taken {move.record.phase}: {names}.",
                "Nothing was committed. Wait, or stop that process; then give the command again.",
            )
        return self._outcome(move.side, move.record, move.writers)

    def _outcome(self, side: Side, record: PhaseRecord, waiting: Mapping[str, WriterEntry]) -> Outcome:
        return Outcome(side, record, self._changed, dict(waiting), self._gone, tuple(self._notes))
