"""A whole copy: look, go over every database, survive what breaks, say what happened.

    open both sides -> safety -> checkpoint -> for each shard and database: pipeline until done -> functions -> report

A pipeline that breaks is made anew at the last settled cursor. A server that is another process than before makes
every cursor void (SCAN's order hangs on a seed of the process), so the keys are gone over again by comparison.
"""

from __future__ import annotations

import time

from keyferry.copy.connect import Sides, evicted_keys
from keyferry.copy.failures import FailureLog
from keyferry.copy.functions import copy_functions
from keyferry.copy.passes import DatabasePass, PassContext
from keyferry.copy.pipeline import ExpiryMoved, SettledPages
from keyferry.copy.plan import CopyPlan, plan_copy
from keyferry.copy.replies import ServerBusy
from keyferry.copy.safety import (
    all_keys,
    foreign_keys,
    refuse_foreign,
    refuse_merged,
    refuse_other_policy,
    refuse_same_server,
)
from keyferry.copy.settings import CopySettings
from keyferry.copy.stop import StopFlag
from keyferry.copy.watch import Watch
from keyferry.journal.state import Checkpoint, Position, State, state_name
from keyferry.model.errors import InterruptedRun, ServerAway, ServerError, Side
from keyferry.telemetry.progress import Observer, Teller
from keyferry.telemetry.report import CopyReport, Counts
from keyferry.wire.session import Session

__all__ = ["CopyPlan", "has_checkpoint", "plan_copy", "run_copy"]

SAVE_EVERY_S = 0.5
BACKOFF_S = 0.1
BACKOFF_S_MAX = 2.0


def copy_name(settings: CopySettings) -> str:
    """Tells this copy from every other: the two locations and the selection."""
    return state_name(settings.source.location, settings.target.location, settings.selection.fingerprint())


def has_checkpoint(settings: CopySettings) -> bool:
    """Whether an unfinished run of this copy left a checkpoint that the next one goes on from."""
    return not settings.restart and (settings.state_dir / f"copy-{copy_name(settings)}.sqlite").exists()


def run_copy(settings: CopySettings, *, observe: Observer, tell: Teller, stop: StopFlag) -> CopyReport:
    """Copies every selected key.

    Args:
        observe: Gets a snapshot at most ten times a second.
        tell: Gets a sentence for each thing worth one.
        stop: Ends the run cleanly when requested.

    Raises:
        UsageError: The state directory or the checkpoint cannot be used.
        RefusedError: A safety check says no.
        ServerError: A server cannot be reached, refuses us, or is lost for good.
        InterruptedRun: ``stop`` was requested; the checkpoint is written.
    """
    with State(settings.state_dir, copy_name(settings), restart=settings.restart) as state:
        run = _Run(settings, state, observe, tell, stop)
        report = run.run()
        state.discard()
        state.close(finished=True)
    return report


class _Run:
    """The lifetime of one ``run_copy``."""

    def __init__(
        self, settings: CopySettings, state: State, observe: Observer, tell: Teller, stop: StopFlag
    ) -> None:
        self._settings, self._state, self._tell, self._stop = settings, state, tell, stop
        self._counts = Counts()
        self._began_s = time.monotonic()
        self._began_cpu_s = time.process_time()
        self._saved_s = self._began_s
        self._settlings = 0
        self._trouble_s: float | None = None
        """Since when nothing has been settled because a server is away."""
        self._dirty = False
        loaded = state.load()
        self._resumed = self._begun = loaded is not None
        self._checkpoint = loaded or Checkpoint(on_conflict=settings.on_conflict)
        self._earlier = _counts_of(self._checkpoint)
        self._earlier_s = self._checkpoint.seconds
        self._failures = FailureLog(
            settings.failures_file, (loaded.failures_file, loaded.failures_bytes) if loaded else None
        )
        self._watch = Watch(settings, observe)
        self._sides = Sides(settings, self._check_stop)
        self._ask_expiry = False

    def run(self) -> CopyReport:
        databases = self._meet()
        self._began_cpu_s = time.process_time()
        self._watch.begin(
            self._sides.total_keys(databases), self._earlier.scanned if not self._checkpoint.comparing else 0
        )
        try:
            # Each again when a server turns out to be another process than the one that was copied to or from.
            while left := [database for database in databases if not self._position(database).done]:
                self._copy_database(left[0])
            functions = self._copy_functions()
            with self._sides.session("target") as target:
                self._watch.evictions(evicted_keys(target))
        finally:
            self._save(force=True)
            self._watch.close()
        return CopyReport(
            run=self._counts,
            total=self._total(),
            resumed=self._resumed,
            seconds=time.monotonic() - self._began_s,
            total_seconds=self._earlier_s + time.monotonic() - self._began_s,
            throttled_seconds=self._watch.pace.throttled_s,
            notes=self._checkpoint.notes,
            cpu_seconds=time.process_time() - self._began_cpu_s,
            functions=functions,
        )

    # Meeting the servers

    def _meet(self) -> list[int]:
        """The first look of this run: safety, and whether the checkpoint belongs to these processes.

        Returns the source's databases that are copied.
        """
        sides, checkpoint = self._sides, self._checkpoint
        sides.open()
        refuse_same_server(sides.source_identity, sides.target_identity)
        databases = sides.databases()
        refuse_merged(databases, self._settings.selection)
        if self._resumed:
            refuse_other_policy(checkpoint.on_conflict, self._settings.on_conflict)
            self._tell(f"Going on with an earlier run of this copy, {self._earlier.scanned:,} keys in.")
            self._recognise()
        else:
            self._state.discard()
        self._look_at_target(
            [database for database in databases if _position_name(database) not in checkpoint.positions]
        )
        for database in databases:
            self._position(database)
        self._belongs_now()
        # From here on what the target holds may be ours: a checkpoint before this moment would say so of foreign keys.
        self._begun = True
        self._save(force=True)
        self._watch.evictions(sides.evicted_keys)
        return databases

    def _look_at_target(self, databases: list[int]) -> None:
        """What it holds before we write to it: refused, remembered, or to be replaced. Args: the source's."""
        if not databases:
            return
        targets = sorted({self._settings.selection.target_database(database) for database in databases})
        with self._sides.session("target") as session:
            foreign = foreign_keys(session, targets)
            if self._settings.on_conflict is None:
                refuse_foreign(foreign)
            elif foreign and self._settings.on_conflict != "replace":
                self._remember_foreign(session, targets)

    def _remember_foreign(self, session: Session, targets: list[int]) -> None:
        """Which keys the target holds before we write: the only ones that can be in conflict."""
        self._tell("Noting the keys that the target holds already.")
        for database in targets:
            for keys in all_keys(session, database):
                self._check_stop()
                self._state.add_foreign(database, keys)

    def _recognise(self) -> None:
        """Makes the cursors void when what was copied, or where to go on, cannot be relied on any more."""
        sides, checkpoint = self._sides, self._checkpoint
        other = [
            side
            for side, now, then in (
                ("source", sides.source_identity.run_id, checkpoint.source_run_id),
                ("target", sides.target_identity.run_id, checkpoint.target_run_id),
            )
            if now != then
        ]
        if other:
            reason = f"The {' and the '.join(other)} {'is' if len(other) == 1 else 'are'} another process than before"
        elif (sides.evicted_keys or 0) > (checkpoint.evicted_keys or 0):
            reason = "The target has evicted keys meanwhile"
        else:
            return
        self._tell(f"{reason}: going over all keys again by comparison.")
        checkpoint.positions = {name: Position() for name in checkpoint.positions}
        checkpoint.comparing = True
        self._belongs_now()
        self._watch.forget_evictions()
        self._save(force=True)

    def _belongs_now(self) -> None:
        self._checkpoint.source_run_id = self._sides.source_identity.run_id
        self._checkpoint.target_run_id = self._sides.target_identity.run_id
        self._checkpoint.evicted_keys = self._sides.evicted_keys

    # Copying

    def _copy_database(self, database: int) -> None:
        """One database, through as many pipelines as it takes, until it is done or its cursor is void."""
        backoff_s = BACKOFF_S
        while not self._position(database).done:
            settlings = self._settlings
            try:
                self._one_pass(database)
            except ExpiryMoved:
                self._ask_expiry = True
                self._tell("Keys expire on the source: fetching expiries too, from here on.")
            except (ServerAway, ServerBusy) as trouble:
                if self._settlings != settlings:
                    backoff_s = BACKOFF_S
                self._wait(trouble, backoff_s)
                backoff_s = min(BACKOFF_S_MAX, backoff_s * 2)

    def _one_pass(self, database: int) -> None:
        context = PassContext(
            settings=self._settings,
            sides=self._sides,
            database=database,
            comparing=self._checkpoint.comparing,
            ask_expiry=self._ask_expiry,
            is_foreign=self._state.is_foreign,
            watch=self._watch,
        )
        with DatabasePass(context) as work:
            work.run(self._position(database).cursor, lambda pages: self._settle(database, pages), self._turn)
        self._position(database).done = True
        self._save(force=True)

    def _position(self, database: int) -> Position:
        return self._checkpoint.positions.setdefault(_position_name(database), Position())

    def _settle(self, database: int, pages: SettledPages) -> None:
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
        self._counts.add(counts)
        self._watch.add(counts)
        self._failures.write(pages.failures)
        for note, number in pages.notes.items():
            self._checkpoint.notes[note] = self._checkpoint.notes.get(note, 0) + number
        position = self._position(database)
        # Not later: counts and cursor are saved together, or a run that goes on would count these keys again.
        position.done = pages.settled.cursor == b"0"
        if not position.done:
            position.cursor = pages.settled.cursor.decode()
        self._settlings += 1
        self._trouble_s = None
        self._dirty = True

    def _turn(self) -> None:
        """Once per turn of a pipeline."""
        self._check_stop()
        self._save()
        self._watch.turn()

    def _save(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if not force and not (self._dirty and now - self._saved_s >= SAVE_EVERY_S):
            return
        total = self._total()
        checkpoint = self._checkpoint
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
        checkpoint.seconds = self._earlier_s + now - self._began_s
        self._state.save(checkpoint)
        self._saved_s, self._dirty = now, False

    def _total(self) -> Counts:
        total = Counts()
        total.add(self._earlier)
        total.add(self._counts)
        return total

    def _check_stop(self) -> None:
        if not self._stop.requested:
            return
        if not self._begun:
            raise InterruptedRun("Interrupted before the copy began; nothing was written.")
        self._save(force=True)
        raise InterruptedRun("Interrupted.", "Give the same command again to go on where it was.")

    # When something breaks

    def _wait(self, trouble: ServerAway | ServerBusy, backoff_s: float) -> None:
        """Waits a moment, then meets both servers again; gives up when nothing was settled for ``retry_s``.

        Raises:
            ServerError: It did not come back in time, or refuses us now.
        """
        side: Side = trouble.side
        message = (
            trouble.message if isinstance(trouble, ServerAway) else f"The {side} says: {trouble.message}."
        )
        if self._trouble_s is None:
            self._trouble_s = time.monotonic()
        self._tell(f"{message} Trying again.")
        while True:
            if time.monotonic() - self._trouble_s > self._settings.retry_s:
                raise ServerError(
                    side,
                    f"{message} It has not come back for {self._settings.retry_s:g} s.",
                    "Everything acknowledged is in the checkpoint: give the same command again when it is back.",
                )
            self._pause(backoff_s)
            backoff_s = min(BACKOFF_S_MAX, backoff_s * 2)
            try:
                self._sides.open()
            except ServerAway as error:
                side, message = error.side, error.message
            else:
                self._watch.evictions(self._sides.evicted_keys)
                self._recognise()
                return

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._check_stop()
            self._watch.turn()
            time.sleep(min(0.1, left))

    def _copy_functions(self) -> int:
        if not self._settings.functions:
            return 0
        with self._sides.session("source") as source, self._sides.session("target") as target:
            carried = copy_functions(
                source,
                target,
                replace=self._settings.on_conflict == "replace",
                target_version=self._sides.plan.target_version,
            )
        self._tell(f"Carried {carried} function {'library' if carried == 1 else 'libraries'}.")
        return carried


def _position_name(database: int) -> str:
    return f"0/{database}"


def _counts_of(checkpoint: Checkpoint) -> Counts:
    return Counts(**checkpoint.counts, methods=list(checkpoint.methods))
