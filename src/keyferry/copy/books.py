"""What a copy has done so far: positions, counts and failures, kept together and saved together."""

from __future__ import annotations

import time

from keyferry.copy.failures import FailureLog
from keyferry.copy.passes import Task
from keyferry.copy.settings import CopySettings
from keyferry.copy.settled import SettledPages
from keyferry.copy.slot_ledger import SlotLedger
from keyferry.journal.state import Checkpoint, Position, State
from keyferry.model.errors import UsageError
from keyferry.telemetry.report import Counts

SAVE_EVERY_S = 0.5


class Books:
    """Of one run; begins with what an earlier, unfinished run left."""

    def __init__(self, settings: CopySettings, state: State) -> None:
        """Raises UsageError when the checkpoint cannot be read."""
        self._state = state
        self._began_s = self._saved_s = time.monotonic()
        self._dirty = False
        loaded = state.load()
        self.resumed = loaded is not None
        self.checkpoint = loaded or Checkpoint(on_conflict=settings.on_conflict)
        self.slots: SlotLedger | None = _ledger(self.checkpoint)
        """Which slots of the source are to be gone over again; None where it is no cluster."""
        self.counts = Counts()
        self.earlier = Counts(**self.checkpoint.counts, methods=list(self.checkpoint.methods))
        self.settlings = 0
        """How often pages were settled in this run."""
        self._earlier_s = self.checkpoint.seconds
        self._failures = FailureLog(
            settings.failures_file, (loaded.failures_file, loaded.failures_bytes) if loaded else None
        )

    def position(self, shard: str, database: int) -> Position | None:
        """Where the first pass over a shard's database is; None when it has none to make."""
        return self.checkpoint.positions.get(position_name(shard, database))

    def begin_shard(self, shard: str, database: int) -> None:
        """A pass over it is to be made; harmless when it has begun."""
        self.checkpoint.positions.setdefault(position_name(shard, database), Position())

    def forget_positions(self) -> None:
        """Everything is to be gone over again."""
        self.checkpoint.positions.clear()

    def end_shard(self, shard: str) -> None:
        """Its cursors are void, or it is gone: what it still had to give is looked for by slot."""
        for name, position in self.checkpoint.positions.items():
            if shard_of(name) == shard:
                position.done = True

    @property
    def shards(self) -> set[str]:
        """Those with a position."""
        return set(map(shard_of, self.checkpoint.positions))

    @property
    def databases(self) -> set[int]:
        """Those with a position."""
        return {int(name.partition("/")[2]) for name in self.checkpoint.positions}

    def settle(self, task: Task, pages: SettledPages) -> Counts:
        """Takes pages that the target has acknowledged; gives their counts."""
        outcomes = pages.settled.outcomes
        counts = Counts(
            scanned=sum(outcomes[:4]),
            copied=outcomes[0],
            skipped=outcomes[1],
            vanished=outcomes[2],
            failed=outcomes[3],
            bytes=pages.settled.payload_bytes,
            methods=list(pages.settled.methods),
        )
        self.counts.add(counts)
        self._failures.write(pages.failures)
        for note, number in pages.notes.items():
            self.checkpoint.notes[note] = self.checkpoint.notes.get(note, 0) + number
        position = self.position(task.shard, task.database) if task.slots is None else None
        if position is not None:
            # Not later: counts and cursor are saved together, or a run that goes on would count these keys again.
            position.scanned += counts.scanned
            position.done = pages.settled.cursor == b"0"
            if not position.done:
                position.cursor = pages.settled.cursor.decode()
        self.settlings += 1
        self._dirty = True
        return counts

    def save(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if not force and not (self._dirty and now - self._saved_s >= SAVE_EVERY_S):
            return
        total, checkpoint = self.total(), self.checkpoint
        checkpoint.counts = {
            "scanned": total.scanned,
            "copied": total.copied,
            "skipped": total.skipped,
            "vanished": total.vanished,
            "failed": total.failed,
            "bytes": total.bytes,
        }
        checkpoint.methods = total.methods
        checkpoint.failures_file, checkpoint.failures_bytes = self._failures.place
        checkpoint.seconds = self.total_seconds(now)
        checkpoint.slots = self.slots.as_dict() if self.slots else {}
        self._state.save(checkpoint)
        self._saved_s, self._dirty = now, False

    def total(self) -> Counts:
        """Of all runs of this copy."""
        total = Counts()
        total.add(self.earlier)
        total.add(self.counts)
        return total

    def seconds(self, now_s: float) -> float:
        return now_s - self._began_s

    def total_seconds(self, now_s: float) -> float:
        """Of all runs of this copy."""
        return self._earlier_s + self.seconds(now_s)


def position_name(shard: str, database: int) -> str:
    return f"{shard}/{database}"


def shard_of(name: str) -> str:
    return name.partition("/")[0]


def _ledger(checkpoint: Checkpoint) -> SlotLedger | None:
    if not checkpoint.slots:
        return None
    try:
        return SlotLedger.of_dict(checkpoint.slots)
    except ValueError as error:
        raise UsageError(f"The checkpoint is damaged: {error}.", "Discard it with --restart.") from None
