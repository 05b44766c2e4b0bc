"""A whole comparison: every key of the source with the target's, every key of the target with the source's.

    open both sides -> safety -> checkpoint -> passes in both directions -> slots that moved -> suspects -> report

Suspects are looked at when enough have come together, and at the end; the passes rest meanwhile, at their cursors.
What makes a cursor void is what does so for a copy: another process, or slots that moved.
"""

from __future__ import annotations

import time

from keyferry.copy.connect import Sides
from keyferry.copy.house import open_probes
from keyferry.copy.leftovers import sweep
from keyferry.copy.patience import Patience
from keyferry.copy.poller import Poller
from keyferry.copy.probe import Probe
from keyferry.copy.replies import ServerBusy
from keyferry.copy.run import OPEN_SLOTS_PAUSE_S
from keyferry.copy.stop import StopFlag
from keyferry.journal.state import State
from keyferry.model.errors import InterruptedRun, ServerAway, ServerError, Side
from keyferry.model.topology import slots_text
from keyferry.telemetry.comparing import VerifyObserver, VerifyReport
from keyferry.telemetry.progress import Teller
from keyferry.verify.books import Direction, PassTask, VerifyBooks
from keyferry.verify.crew import CrewEvents, PassCrew
from keyferry.verify.judging import Judge, JudgeParts
from keyferry.verify.meeting import VerifyMeeting
from keyferry.verify.naming import chooser, verify_name
from keyferry.verify.passes import CompareContext, KeyPass, open_compare, open_extras
from keyferry.verify.settings import VerifySettings
from keyferry.verify.watch import Standing, VerifyWatch

SUSPECTS_AT_ONCE = 100_000
"""So many are looked at together, which bounds what is remembered of them."""
SCANNED: dict[Direction, Side] = {"compare": "source", "extras": "target"}
STAGES: dict[Direction, str] = {"compare": "comparing", "extras": "looking for extra keys"}
BOTH: tuple[Direction, Direction] = ("compare", "extras")


def run_verify(
    settings: VerifySettings, *, observe: VerifyObserver, tell: Teller, stop: StopFlag
) -> VerifyReport:
    """Compares every selected key, in both directions. Writes nothing, unless asked to repair or to delete.

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
    copy = settings.copy
    with State(copy.state_dir, verify_name(settings), restart=copy.restart, kind="verify") as state:
        run = _Run(settings, state, observe, tell, stop)
        report = run.run()
        state.discard()
        state.close(finished=True)
    return report


class _Run:
    """The lifetime of one ``run_verify``."""

    def __init__(
        self, settings: VerifySettings, state: State, observe: VerifyObserver, tell: Teller, stop: StopFlag
    ) -> None:
        self._settings, self._copy, self._tell, self._stop = settings, settings.copy, tell, stop
        self._books = VerifyBooks(settings, state)
        self._watch = VerifyWatch(settings.copy, settings.rounds, observe)
        writes = settings.repair or settings.delete_extra
        self._sides = Sides(settings.copy, self._check_stop, writes=settings.repair)
        self._meeting = VerifyMeeting(settings, state, self._books, self._sides, tell)
        self._owner = verify_name(settings).encode()
        self._writes = writes
        self._began = False
        self._began_cpu_s = time.process_time()
        self._keys_total = 0
        self._patience = Patience(
            settings.copy.retry_s,
            "What was compared is in the checkpoint: give the same command again when it is back.",
            tell,
            self._pause,
        )
        self._interrupted = False
        """Whether a server was away in the middle of something."""
        self._slots_looked_s = 0.0
        self._limited_s = 0.0
        self._judge = Judge(
            JudgeParts(
                settings=settings,
                sides=self._sides,
                books=self._books,
                watch=self._watch,
                tell=tell,
                owner=self._owner,
                probes=self._probes,
                pause=self._pause,
            )
        )

    def run(self) -> VerifyReport:
        self._meeting.first()
        self._keys_total = self._meeting.keys_total()
        self._began = True
        self._began_cpu_s = time.process_time()
        self._judge.begin()
        try:
            self._verify()
        finally:
            self._books.save(force=True)
            self._show()
        report = self._books.report
        report.compared = self._books.keys_done("compare")
        report.looked_for = self._books.keys_done("extras")
        report.sampled = self._settings.sample is not None
        report.seconds = self._books.seconds
        report.cpu_seconds = time.process_time() - self._began_cpu_s
        report.throttled_seconds = self._watch.pace.throttled_s
        return report

    # Comparing

    def _verify(self) -> None:
        """Everything, through as many passes as it takes."""
        while True:
            try:
                if self._step():
                    return
            except (ServerAway, ServerBusy) as trouble:
                self._interrupted = True
                self._patience.wait(trouble, self._meet_again)

    def _step(self) -> bool:
        """One step on; True when all is done. Raises as the passes do."""
        if self._enough():
            self._judge.judge_pending()
            self._patience.renew()
        for direction in BOTH:
            tasks = self._first_tasks(direction)
            if tasks:
                self._run_passes(direction, tasks)
                return False
        for direction in BOTH:
            if self._go_over_moved(direction):
                return False
        self._judge.judge_pending()
        # A judgement takes its time: what moved meanwhile was looked at where it is.
        self._sweep()
        return True

    def _enough(self) -> bool:
        return len(self._books.pending) >= SUSPECTS_AT_ONCE

    def _first_tasks(self, direction: Direction) -> list[PassTask]:
        shards = self._meeting.deployment(SCANNED[direction]).shards
        return self._books.tasks(direction, [shard.id for shard in shards], self._meeting.databases)

    def _run_passes(self, direction: Direction, tasks: list[PassTask]) -> None:
        self._watch.stage = STAGES[direction]
        poller = Poller()
        crew: PassCrew | None = None

        def totals() -> tuple[int, int, int]:
            return crew.totals() if crew is not None else (0, 0, 0)

        context = CompareContext(
            sides=self._sides,
            settings=self._copy,
            pace=self._watch.pace,
            poller=poller,
            totals=totals,
            expiry_tolerance_ms=self._settings.expiry_tolerance_ms,
            chooses=chooser(self._books.share),
            on_suspects=self._books.suspect,
            on_big=self._books.suspect,
            on_streams=None,
            on_moved=lambda slot: self._on_moved(direction, slot),
        )

        def open_pass(task: PassTask) -> KeyPass:
            opens = open_compare if task.direction == "compare" else open_extras
            return opens(context, task.shard, task.database, cursor=task.cursor, slots=task.slots)

        crew = PassCrew(poller, open_pass, self._watch, self._probes(), self._events())
        with crew:
            crew.run(tasks)

    def _events(self) -> CrewEvents:
        return CrewEvents(self._on_moved_on, self._on_done, self._turn, self._enough)

    def _probes(self) -> list[Probe]:
        guarded = bool(self._copy.max_latency_ms)
        return open_probes(self._sides, guarded=guarded, nodes_of=("source", "target"))

    def _on_moved_on(self, task: PassTask, cursor: str, keys: int) -> None:
        self._books.moved_on(task, cursor, keys)
        if keys:
            self._patience.renew()

    def _on_done(self, task: PassTask) -> None:
        self._books.done(task)
        self._patience.renew()
        self._books.save(force=True)

    def _turn(self) -> None:
        """Every few milliseconds while something runs."""
        self._check_stop()
        self._books.save()
        if self._watch.turn():
            self._show()
        self._meeting.hear_slots(self._watch.probes)

    def _show(self) -> None:
        books = self._books
        done = books.keys_done("compare") + books.keys_done("extras")
        self._watch.show(Standing(self._keys_total, done, len(books.pending), books.report.differences))

    def _check_stop(self) -> None:
        if not self._stop.requested:
            return
        if not self._began:
            raise InterruptedRun("Interrupted before the comparison began; nothing was written.")
        self._books.save(force=True)
        raise InterruptedRun("Interrupted.", "Give the same command again to go on where it was.")

    # Slots that move while we scan

    def _on_moved(self, direction: Direction, slot: int) -> None:
        """A key was sent elsewhere. It is a suspect; where it was met, its slot may have moved under our scan."""
        ledger = self._books.ledgers.get(SCANNED[direction])
        if ledger is not None:
            ledger.redirected(slot)

    def _go_over_moved(self, direction: Direction) -> bool:
        """Goes over the slots that have moved on the side that is scanned. False: there are none (any more)."""
        side = SCANNED[direction]
        ledger = self._books.ledgers.get(side)
        if ledger is None:
            return False
        topology = self._meeting.look_at_slots(side)
        if not ledger.moved:
            return False
        began_s = time.monotonic()
        while not (ready := ledger.ready(topology)):
            if time.monotonic() - began_s > self._copy.retry_s:
                raise ServerError(
                    side,
                    f"The slots {slots_text(ledger.moved)} of the {side} are half moved from one node to another.",
                    "Finish that (redis-cli --cluster fix), then give the same command again: it goes on where it was.",
                )
            self._watch.stage = "waiting for slots on the move"
            self._pause(OPEN_SLOTS_PAUSE_S)
            topology = self._meeting.look_at_slots(side)
            if not ledger.moved:
                return False
        self._sides.open()
        self._meeting.recognise()
        ledger = self._books.ledgers.get(side)
        if ledger is None or self._first_tasks(direction):
            return True
        ready = ledger.ready(self._meeting.deployment(side).topology)
        slots: frozenset[int] = frozenset().union(*ready.values())
        count = len(slots)
        noun = "slot" if count == 1 else "slots"
        self._tell(f"{count:,} {noun} of the {side} moved meanwhile: going over them again.")
        ledger.begin(slots)
        tasks = [
            PassTask(direction, shard, database, slots=its)
            for shard, its in ready.items()
            for database in self._meeting.databases
        ]
        self._run_slots(direction, tasks)
        self._meeting.look_at_slots(side)
        ledger.finished(slots)
        self._books.save(force=True)
        return True

    def _run_slots(self, direction: Direction, tasks: list[PassTask]) -> None:
        """All of them: the suspects of so few slots are looked at afterwards, or when the passes rest."""
        left = {task.name: task for task in tasks}
        while left:
            before = self._books.passes_done
            self._run_passes(direction, list(left.values()))
            if self._books.passes_done - before == len(left):
                return
            self._judge.judge_pending()

    # When something breaks

    def _meet_again(self) -> None:
        """Raises ServerAway when a server is away still."""
        self._sides.open()
        self._meeting.recognise()

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while True:
            self._turn()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(0.1, left))

    def _sweep(self) -> None:
        """Removes what an interrupted repair may have left, of this run or an earlier one."""
        if not self._settings.repair or not (self._books.resumed or self._copy.restart or self._interrupted):
            return
        targets = sorted(map(self._copy.selection.target_database, self._meeting.databases))
        for shard in self._sides.target.shards:
            for database in targets:
                with self._sides.session("target", database, shard.id) as session:
                    sweep(session, self._owner, self._turn)


__all__ = ["run_verify"]
