"""The first look of a migration's process: who has authority, and what an earlier process left half done.

Writers may be waiting for just this, so it comes before anything else (PROTOCOL.md, rule 16): a hold is given up, a
pause ended, rights are given back, a mark is completed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from keyferry.cutover.plan import Step, Wish, found_at_start, is_committed, leftovers
from keyferry.cutover.tools import Tools
from keyferry.model.errors import ServerAway, ServerError
from keyferry.model.phases import Side
from keyferry.model.record import PhaseRecord, RecordError, begun, completing, stepped
from keyferry.model.record_trail import check_single
from keyferry.telemetry.migrating import EventKind, FactKey

TRIES = 5


@dataclass(slots=True)
class Begun:
    """What was found.

    Attributes:
        committed: The switch that an earlier process has made, and not led to its end.
        sentences: What was put right.
    """

    authority: Side
    committed: Wish | None = None
    sentences: list[str] = field(default_factory=list)


class Beginning:
    """Of one process."""

    def __init__(self, tools: Tools) -> None:
        self._tools, self._journal = tools, tools.journal
        self._store, self._watch, self._books = tools.store, tools.watch, tools.books
        self._stamp = tools.stamp()
        self._said: list[str] = []

    def run(self) -> Begun:
        """Puts right what was left, and says where the migration is.

        Raises:
            UsageError: The journal belongs to another migration.
            ServerAway: A side that has to be asked is away.
            RecordError: The records say what cannot be.
        """
        self._claim()
        left = self._books.left_behind()
        records = self._records()
        committed = None
        if left is not None:
            wish, steps = left
            committed = wish if is_committed(wish, records) else None
            for step in leftovers(wish, steps, records):
                self._undo(step, wish)
        authority = self.settle()
        self._give_back(authority)  # of a switch that could not undo it
        if left is not None:
            self._books.close()
        return Begun(authority, committed, self._said)

    def _claim(self) -> None:
        copy = self._tools.settings.sync.copy
        source, target = copy.source.location, copy.target.location
        identity = copy.selection.fingerprint()
        if not self._journal.is_claimed(identity, source, target):
            self._journal.claim(identity, source, target)
        self._journal.event(EventKind.STARTED, seen_ms=self._journal.get(FactKey.SEEN))

    def _records(self) -> dict[Side, PhaseRecord | None]:
        """Of the sides that can be asked; the one with authority is among them.

        Raises:
            ServerAway: Nobody can say where authority is.
        """
        away: ServerAway | None = None
        for side in Side:
            try:
                self._watch.look(side)
            except ServerAway as error:
                away = error
        records = self._watch.records
        check_single(records)
        found = found_at_start(records)
        if away is not None and (found.side is None or found.complete):
            # The other side has lost authority: only the one that is away knows whether the mark is complete.
            raise away
        return records

    def settle(self) -> Side:
        """Authority, with no hold left on it. Every write is a compare-and-set: somebody may be faster."""
        for _ in range(TRIES):
            records = self._records()
            found = found_at_start(records)
            if found.side is None:
                self._check_elsewhere()
                self._store.compare_and_set(begun(self._stamp))
            elif found.complete:
                losing = found.side.other
                lost, other = records[losing], records.get(found.side)
                write = completing(losing, lost, other, self._stamp) if lost else None
                if write is None:
                    raise RecordError(
                        f"The {losing} says {lost}, and the {found.side} {other or 'nothing'}.",
                        "Was a server flushed, or restored from an older copy? Look with: keyferry phase show.",
                    )
                self._store.compare_and_set(write)
                self._said.append(f"A switch to the {found.side} had been made: its mark is complete now.")
            elif found.undo_hold:
                record = records[found.side]
                if record is not None and record.back is not None:
                    self._store.compare_and_set(stepped(found.side, record, record.back, self._stamp))
                    self._said.append(f"A hold on the {found.side} was left behind: given up, writers go on.")
            else:
                return found.side
        raise RecordError(
            "The phase record changes all the time.", "Does another keyferry lead this migration?"
        )

    def _check_elsewhere(self) -> None:
        for side in Side:
            if found := self._store.elsewhere(side):
                raise RecordError(
                    f"The {side} has a record of this name in database {', '.join(map(str, found))}.",
                    "Name that database in the address; a migration has one record per side.",
                )

    def _undo(self, step: Step, wish: Wish) -> None:
        """One leftover of a switch that was not made. The hold is undone with the records."""
        try:
            if step is Step.UNDO_PAUSE:
                self._tools.pauses[wish.losing].end()
            elif step is Step.UNDO_BAR:
                self._give_back(wish.losing)
            elif step is Step.UNDO_HOLD:
                self.settle()
        except ServerAway:
            raise
        except ServerError as error:
            self._said.append(f"{step} failed: {error}")

    def _give_back(self, side: Side) -> None:
        """Raises ServerAway; where it is refused the note remains for the next start."""
        taken = self._books.taken(side)
        if taken is None:
            return
        try:
            self._said += self._tools.bars[side].give_back(taken)
        except ServerAway:
            raise
        except ServerError as error:
            self._said.append(f"Write rights on the {side} are still taken away: {error}")
            return
        self._books.took(side, None)
        self._said.append(f"Write rights on the {side} had been taken away: given back.")
