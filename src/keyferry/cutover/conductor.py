"""The conductor of a migration: one side follows the other, operators are answered, authority is switched and given back.

    start: whatever an earlier process left is put right -> follow source to target -> ready -> switch
           -> follow target to source -> switch back, or finish

The loop is that of the run that follows (follow.run); it calls ``poll`` in every turn and every wait, and ``turn``
whenever it follows normally. Only ``turn`` does what takes long.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping

from keyferry.copy.replies import ServerBusy
from keyferry.copy.stop import StopFlag
from keyferry.cutover.beginning import Beginning
from keyferry.cutover.board import Board, limits_of
from keyferry.cutover.desk import QueueDesk, Ticket
from keyferry.cutover.directions import Direction, said_by
from keyferry.cutover.ending import Ending
from keyferry.cutover.leading import Leading
from keyferry.cutover.moved import MovedBooks
from keyferry.cutover.plan import End, Gate
from keyferry.cutover.proving import Proving
from keyferry.cutover.requests import Request
from keyferry.cutover.settings import MigrationSettings
from keyferry.cutover.sight import Sight
from keyferry.cutover.tools import tools_for
from keyferry.cutover.voice import Voice
from keyferry.follow.follower import Follower
from keyferry.journal.migration import MigrationJournal
from keyferry.model.errors import (
    ExitCode,
    InterruptedRun,
    KeyferryError,
    RefusedError,
    ServerAway,
    ServerError,
)
from keyferry.model.phases import Phase, Side
from keyferry.model.record import Kind, RecordError
from keyferry.telemetry.following import SyncProgress
from keyferry.telemetry.migrating import (
    FactKey,
    MigrationObserver,
    MigrationProgress,
    MigrationReport,
    MigrationStage,
    report_of,
)
from keyferry.telemetry.progress import Alert

PUBLISH_EVERY_S = 0.2
CUT_OVER_AGAIN_S = 10.0
"""After a cutover that nobody asked for was put off or undone."""
IDLE_S = 0.02
WARNINGS_MAX = 100


def run_migration(
    settings: MigrationSettings,
    journal: MigrationJournal,
    *,
    observe: MigrationObserver,
    tell: Callable[[str], None],
    stop: StopFlag,
    desk: QueueDesk,
) -> MigrationReport:
    """Leads a migration until it is finished, aborted or stopped.

    Args:
        observe: Gets a look at most ten times a second.
        tell: Gets a sentence for each thing worth one.
        stop: Ends it cleanly when requested: started again, it goes on.
        desk: What operators ask.

    Raises:
        UsageError: The settings or the state cannot be used.
        RefusedError: A safety check says no.
        ServerError: A server is lost for good, or refuses us.
        RecordError: The phase records say what cannot be.
        InterruptedRun: ``stop`` was requested.
    """
    with Conductor(settings, journal, observe, tell, stop, desk) as conductor:
        return conductor.run()


class Conductor:
    """Of one process. A context manager."""

    def __init__(
        self,
        settings: MigrationSettings,
        journal: MigrationJournal,
        observe: MigrationObserver,
        tell: Callable[[str], None],
        stop: StopFlag,
        desk: QueueDesk,
    ) -> None:
        self._settings, self._journal = settings, journal
        self._observe, self._stop, self._desk = observe, stop, desk
        self._tools = tools_for(settings, journal)
        self._watch = self._tools.watch
        self._sight = Sight(self._tools)
        self._voice = Voice(journal, tell)
        self._moved = MovedBooks(journal)
        self._leading = Leading(
            self._tools,
            self._voice,
            lambda side: self._new_direction(side, equal=True, fresh=True),
            self.poll,
            self._check_stop,
            self.opened,
        )
        self._authority = Side.SOURCE
        self._direction: Direction | None = None
        self._progress: SyncProgress | None = None
        self._proving = Proving(journal, self._voice)
        self._published_s = float("-inf")
        self._task: tuple[Request, Ticket] | None = None
        self._board = Board(settings, journal, desk, self._tools, self._voice)
        self._began_s = time.monotonic()
        self._unasked_s = 0.0
        self._id = uuid.uuid4().hex
        self._over = False

    def __enter__(self) -> Conductor:
        return self

    def __exit__(self, *_: object) -> None:
        if self._direction is not None:
            self._direction.close()
        self._leading.close()
        self._tools.close()
        self._board.keep(time.monotonic())

    # The lifetime

    def run(self) -> MigrationReport:
        """Until it is over. Raises as ``run_migration``."""
        beginning = Beginning(self._tools)
        begun = beginning.run()
        self._authority = begun.authority
        self._take_lead()
        # Again: what another process has held in between, not knowing of us yet, is given up; what it holds from now on
        # it gives up itself.
        self._authority = beginning.settle()
        for sentence in begun.sentences:
            self._voice.tell(sentence)
        if begun.committed is not None:
            self._leading.go_on_after(begun.committed)
        if self._leading.has_way_back or self._authority is Side.SOURCE:
            # On sides that were equal once nothing is a stranger's; everything is compared all the same.
            equal = self._authority is Side.TARGET or any(
                one.outcome == "done" for one in self._leading.switches
            )
            self._direction = self._new_direction(self._authority, equal=equal)
        while not self._over:
            if self._direction is None:
                self._idle()
                continue
            self._follow(self._direction)
            self._direction, self._leading.next = self._leading.next, None
        return report_of(self._settings.name, self._journal.facts(), self._journal.events())

    def _new_direction(self, authority: Side, *, equal: bool = False, fresh: bool = False) -> Direction:
        return Direction(
            self._settings,
            authority,
            self,
            self._take_progress,
            self._voice.tell,
            self._stop,
            equal=equal,
            fresh=fresh,
        )

    def _follow(self, direction: Direction) -> None:
        report = None
        try:
            report = direction.run.run()
        except KeyferryError as error:
            raise said_by(direction.authority, error) from None
        finally:
            direction.close(finished=self._over or self._leading.next is not None)
            self._moved.end(direction.authority, report or direction.run.follower.report())

    def _idle(self) -> None:
        """After a cutover that is not to be taken back: nothing is followed, operators are answered."""
        self._check_stop()
        self.poll()
        task = self._take_task()
        if task is not None:
            self._do(task, None)
        time.sleep(IDLE_S)

    def _check_stop(self) -> None:
        if self._stop.requested:
            raise InterruptedRun("Interrupted.", "Give the same command again to go on.")

    # What the loop calls

    def poll(self) -> None:
        """Answers operators, looks at the records, shows how it goes. Quick."""
        while (asked := self._desk.take()) is not None:
            self._answer(*asked)
        now = time.monotonic()
        if now - self._published_s < PUBLISH_EVERY_S:
            return
        self._published_s = now
        if self._leading.next is not None:
            self._leading.next.run.hear()
        if not self._leading.under_way:
            if self._journal.beat() and self._direction is not None:
                self._moved.keep(self._direction.authority, self._direction.run.follower.report())
            if not self._in_trouble:
                self._look_around(now)
        self._show(now)

    def opened(self) -> None:
        """Another process may have taken over while this one stood still: what we carry would go over newer data."""
        leader, by = self._tools.store.leader(self._authority)
        if leader != self._id:
            raise RecordError(
                f"Another process leads this migration now: {by or 'nobody says who'}.",
                "Only one may. Look with: keyferry status, where that one runs.",
            )

    def _take_lead(self) -> None:
        """From now on this process leads; before any connection of a predecessor is ended."""
        by = self._tools.stamp().by
        self._tools.store.take_lead(self._authority, self._id, by)
        try:
            self._tools.store.take_lead(self._authority.other, self._id, by)
        except ServerError as error:
            self._voice.tell(Alert(f"{error.message} That side has no authority: going on without it."))

    def turn(self, follower: Follower) -> bool:
        """Does what was asked for, or what is due. True: this direction is not followed any longer."""
        if self._over or self._leading.next is not None or self._direction is None:
            return True
        task = self._take_task()
        if task is not None:
            return self._do(task, follower)
        now = time.monotonic()
        if not follower.is_level(now):
            return False
        if not follower.paused and self._proving.is_due(follower, self._settings.verify_every_s):
            self._proving.verify(self._direction, None)
        elif self._wants_cutover():
            return self._cut_over_unasked(follower)
        return False

    def _cut_over_unasked(self, follower: Follower) -> bool:
        """Whether it was made; one that is refused or undone is tried again after a while."""
        self._unasked_s = time.monotonic() + CUT_OVER_AGAIN_S
        try:
            return self._switch(Request("cutover", {"yes": True}), None, follower)
        except RefusedError as error:
            self._voice.tell(Alert(error.message))
            return False

    def _wants_cutover(self) -> bool:
        if not self._settings.cutover_when_ready or self._authority is not Side.SOURCE:
            return False
        if time.monotonic() < self._unasked_s:
            return False
        if any(one.outcome == "done" for one in self._leading.switches):
            return False
        return not self._not_ready()

    def _take_progress(self, progress: SyncProgress) -> None:
        self._progress = progress
        self._observe(self._look())

    @property
    def _in_trouble(self) -> bool:
        return self._progress is not None and self._progress.stage == "waiting for a server"

    def _look_around(self, now: float) -> None:
        try:
            if self._watch.look_in_passing():
                self.opened()
            if self._sight.is_due(now, self._authority) and self._stage() in ("following", "following back"):
                self._sight.survey(self._authority)
        except ServerAway:
            return
        except RecordError:
            raise
        except KeyferryError as error:
            self._voice.warn(str(error))
        record = self._watch.records.get(self._authority)
        if record is not None and record.kind is Kind.LOST:
            # What we carry would go over what the application writes there now.
            raise RecordError(
                f"The {self._authority} has lost authority, and this process has not switched: another keyferry has.",
                "Give the same command again: it goes on from there. Only one of them may lead a migration.",
            )
        if record is not None and record.rules:
            self._journal_phase(record.phase, record.epoch)

    def _journal_phase(self, phase: Phase, epoch: int) -> None:
        facts = {"phase": str(phase), "epoch": epoch, "authority": str(self._authority)}
        if facts != self._journal.get(FactKey.PHASE):
            self._journal.set(FactKey.PHASE, facts)
        live = len(self._watch.live(self._authority))
        if live > (self._journal.get(FactKey.WRITERS) or 0):
            self._journal.set(FactKey.WRITERS, live)

    # Operators

    def _answer(self, request: Request, ticket: Ticket) -> None:
        """At once: what happens now, or why not."""
        follower = self._direction.run.follower if self._direction else None
        name = request.command
        if name in ("pause", "unpause", "throttle"):
            self._steer(request, ticket, follower)
        elif self._leading.under_way:
            ticket.end(
                ExitCode.REFUSED, f"A switch is under way ({self._leading.step}): wait until it is over."
            )
        elif self._proving.running and self._voice.ticket is None:
            ticket.end(ExitCode.REFUSED, "All keys are being compared: try again when that is done.")
        elif self._task is not None or self._proving.running:
            ticket.end(
                ExitCode.REFUSED, "Something that was asked for before is being done: try again after it."
            )
        elif name == "verify":
            self._ask_verify(request, ticket, follower)
        elif name in ("cutover", "rollback"):
            self._ask_switch(request, ticket)
        else:
            self._ask_end(request, ticket)

    def _steer(self, request: Request, ticket: Ticket, follower: Follower | None) -> None:
        if follower is None:
            ticket.end(ExitCode.REFUSED, "Nothing is followed any more.")
        elif request.command == "pause":
            follower.pause()
            self._voice.tell("Paused: nothing of ours is written any more; what changes is remembered.")
            ticket.end(ExitCode.DONE, "Paused. Changes are remembered; keyferry unpause goes on.")
        elif request.command == "unpause":
            follower.unpause()
            self._voice.tell("Going on.")
            ticket.end(ExitCode.DONE, "Going on.")
        else:
            follower.set_limits(request.options.get("max_rate"), request.options.get("max_latency_ms"))
            said = f"Limits are now: {_words_of(limits_of(follower))}."
            self._voice.tell(said)
            ticket.end(ExitCode.DONE, said)

    def _ask_verify(self, request: Request, ticket: Ticket, follower: Follower | None) -> None:
        if follower is None or self._stage() not in ("following", "following back"):
            ticket.end(ExitCode.REFUSED, f"It cannot be verified now: it is {self._stage()}.")
        elif follower.paused:
            ticket.end(ExitCode.REFUSED, "It is paused.", "Give keyferry unpause first.")
        else:
            ticket.say("Comparing all keys.")
            self._task = (request, ticket)

    def _ask_switch(self, request: Request, ticket: Ticket) -> None:
        losing = Side.SOURCE if request.command == "cutover" else Side.TARGET
        if self._authority is not losing:
            done = (
                "The target has authority already." if losing is Side.SOURCE else "The source has authority."
            )
            ticket.end(ExitCode.REFUSED, done, "Look with: keyferry status.")
            return
        if self._direction is None:
            ticket.end(ExitCode.REFUSED, "This cutover was made without a way back (--no-rollback).")
            return
        self._sight.survey(losing)
        reasons = self._not_ready(request)
        if request.options["yes"] and not reasons:
            self._task = (request, ticket)
            return
        lines = []
        if self._progress is not None:
            lines = self._sight.outlook(
                request.command,
                losing,
                self._direction.run.follower,
                self._progress,
                self._gate_of(request),
                self._timeout_of(request),
            )
        if reasons:
            ticket.end(
                ExitCode.REFUSED,
                f"Not ready for a {request.command}: {' '.join(reasons)}",
                "Look with: keyferry status.",
                lines=lines,
                ready=False,
                not_ready=reasons,
            )
        else:
            ticket.end(
                ExitCode.DONE,
                f"Ready for a {request.command}.",
                "Give it again with --yes.",
                lines=lines,
                ready=True,
                not_ready=[],
            )

    def _ask_end(self, request: Request, ticket: Ticket) -> None:
        try:
            lines = self._ending().outlook(request.command, self._authority)
        except KeyferryError as error:
            ticket.fail(error)
            return
        if request.options["yes"]:
            self._task = (request, ticket)
        else:
            ticket.end(
                ExitCode.DONE, "This would be done.", "Give it again with --yes.", lines=lines, ready=True
            )

    def _ending(self) -> Ending:
        return Ending(self._tools, self._voice.tell)

    def _take_task(self) -> tuple[Request, Ticket] | None:
        task, self._task = self._task, None
        return task if task is not None and task[1].begin() else None

    def _do(self, task: tuple[Request, Ticket], follower: Follower | None) -> bool:
        """Whether this direction is not followed any longer."""
        request, ticket = task
        self._voice.ticket = ticket
        try:
            if request.command == "verify" and self._direction is not None:
                self._proving.verify(self._direction, ticket)
                return False
            if request.command in ("cutover", "rollback") and follower is not None:
                return self._switch(request, ticket, follower)
            self._end(request, ticket)
            return self._over
        except RefusedError as error:
            ticket.fail(error)
            return False
        except ServerBusy as error:
            ticket.end(ExitCode.SERVER, error.sentence)
            raise
        except KeyferryError as error:
            ticket.fail(error)
            raise
        finally:
            self._voice.ticket = None

    def _end(self, request: Request, ticket: Ticket) -> None:
        try:
            advice = self._ending().end(request.command, self._authority)
        except KeyferryError as error:
            self._voice.tell(Alert(error.message))
            ticket.fail(error)
            return
        self._over = True
        ticket.end(ExitCode.DONE, f"The migration is {_ENDED[request.command]}.", lines=advice)

    # A switch

    def _not_ready(self, request: Request | None = None) -> list[str]:
        direction, progress = self._direction, self._progress
        if direction is None or progress is None:
            return ["Nothing is followed yet."]
        follower = direction.run.follower
        return self._sight.not_ready(
            self._authority,
            follower,
            progress,
            self._proving.age_s(follower),
            self._gate_of(request),
            self._timeout_of(request),
        )

    def _gate_of(self, request: Request | None) -> Gate | None:
        asked = request.options.get("gate") if request else None
        return Gate(asked) if asked else self._settings.gate

    def _timeout_of(self, request: Request | None) -> float:
        asked = request.options.get("timeout_s") if request else None
        return float(asked or self._settings.timeout_s)

    # A switch

    def _switch(self, request: Request, ticket: Ticket | None, follower: Follower) -> bool:
        """Whether it was made. Raises what the loop has to hear of, after everything is undone."""
        assert self._direction is not None
        self._sight.survey(self._authority)
        # It may have waited for its turn, while a server was away.
        if ticket is not None and (reasons := self._not_ready(request)):
            raise RefusedError(f"Not ready for a {request.command} any more: {' '.join(reasons)}")
        gate, problem = self._sight.gate(self._gate_of(request))
        if gate is None or problem:
            raise RefusedError(problem)
        gate_s = self._timeout_of(request)
        performed = self._leading.lead(self._authority, gate, gate_s, request, self._direction)
        if performed.end is End.DONE:
            self._take_over(self._authority.other)
        self._leading.say_end(performed, ticket)
        if performed.trouble is not None and performed.end is not End.DONE:
            raise performed.trouble
        return performed.end is End.DONE

    def _take_over(self, authority: Side) -> None:
        self._authority = authority
        self._proving.forget()
        self._sight.forget()
        if self._leading.next is not None:
            self._proving.inherit(self._leading.next.run.follower)
        record = self._watch.records.get(authority)
        if record is not None:
            self._journal_phase(record.phase, record.epoch)

    # What is shown

    def _stage(self) -> MigrationStage:
        if self._over:
            return "finished"
        if self._leading.under_way:
            return "switching"
        if self._direction is None:
            return "switched" if self._authority is Side.TARGET else "connecting"
        stage = self._progress.stage if self._progress else "connecting"
        if stage == "following" and self._authority is Side.TARGET:
            return "following back"
        return "connecting" if stage == "stopping" else stage

    def _look(self) -> MigrationProgress:
        record = self._watch.records.get(self._authority)
        stage = self._stage()
        ready = self._not_ready() if stage in ("following", "following back") else [f"It is {stage}."]
        return MigrationProgress(
            sync=self._progress,
            stage=stage,
            phase=str(record.phase) if record else "",
            epoch=record.epoch if record else 0,
            authority=self._authority,
            paused=bool(self._direction and self._direction.run.follower.paused),
            writers=len(self._watch.live(self._authority)),
            not_ready=tuple(ready),
            step=self._leading.step,
            verified=self._proving.last,
            last_switch=self._leading.switches[-1] if self._leading.switches else None,
            elapsed_s=time.monotonic() - self._began_s,
        )

    def _show(self, now: float) -> None:
        look = self._look()
        if self._direction is None:
            self._observe(look)
        self._board.show(
            look,
            now,
            follower=self._direction.run.follower if self._direction else None,
            switches=self._leading.switches,
            switching=self._leading.under_way,
        )


_ENDED = {"finish": "finished", "abort": "aborted"}


def _words_of(limits: Mapping[str, float | None]) -> str:
    rate, latency = limits.get("max_rate"), limits.get("max_latency_ms")
    return f"{f'{rate:,.0f} keys/s' if rate else 'no limit of the rate'}, {f'{latency:g} ms of latency' if latency else 'latency not guarded'}"
