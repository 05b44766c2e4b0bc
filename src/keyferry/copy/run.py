"""A whole copy: look, go over every shard and database, survive what breaks, say what happened.

    open both sides -> safety -> checkpoint -> all pipelines until done -> slots that moved -> functions -> report

A pipeline that breaks is made anew at the last settled cursor. A server that is another process than before makes
every cursor void (SCAN's order hangs on a seed of the process), so its keys are gone over again: of a standalone
server and of the target by comparison, of a source that is a cluster by slot.
"""

from __future__ import annotations

import contextlib
import time

from keyferry.copy.books import Books
from keyferry.copy.connect import Sides, evicted_keys
from keyferry.copy.crew import Crew
from keyferry.copy.functions import copy_functions
from keyferry.copy.house import open_probes
from keyferry.copy.leftovers import sweep
from keyferry.copy.meeting import Meeting
from keyferry.copy.passes import PassContext, Task
from keyferry.copy.patience import Patience
from keyferry.copy.pipeline import ExpiryMoved
from keyferry.copy.plan import CopyPlan, plan_copy
from keyferry.copy.predecessors import end_writers
from keyferry.copy.replies import ServerBusy
from keyferry.copy.settings import CopySettings
from keyferry.copy.settled import SettledPages
from keyferry.copy.stop import StopFlag
from keyferry.copy.watch import Watch
from keyferry.journal.state import State, state_name
from keyferry.model.address import Endpoint
from keyferry.model.errors import InterruptedRun, ServerAway, ServerError
from keyferry.model.topology import Topology, merge, parse_nodes, slots_text
from keyferry.telemetry.progress import Observer, ShardProgress, Teller
from keyferry.telemetry.report import CopyReport

__all__ = ["CopyPlan", "has_checkpoint", "plan_copy", "run_copy"]

LOOK_AT_SLOTS_EVERY_S = 1.0
OPEN_SLOTS_PAUSE_S = 0.5


def copy_name(settings: CopySettings) -> str:
    """Tells this copy from every other: the two locations and the selection."""
    return state_name(
        place_name(settings.source), place_name(settings.target), settings.selection.fingerprint()
    )


def place_name(endpoint: Endpoint) -> str:
    """The same for the same nodes, in whatever order they are named."""
    return ",".join(sorted(endpoint.location.split(","))) if endpoint.cluster else endpoint.location


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
        self._books = Books(settings, state)
        self._watch = Watch(settings, observe)
        self._sides = Sides(settings, self._check_stop)
        self._meeting = Meeting(
            settings, state, self._books, self._sides, self._watch, tell, self._check_stop
        )
        self._databases: list[int] = []
        self._began_cpu_s = time.process_time()
        self._owner = copy_name(settings).encode()
        self._interrupted = False
        """Whether pipelines have ended before their time."""
        self._patience = Patience(
            settings.retry_s,
            "Everything acknowledged is in the checkpoint: give the same command again when it is back.",
            tell,
            self._pause,
        )
        self._slots_looked_s = 0.0
        self._ask_expiry = False

    def run(self) -> CopyReport:
        books, watch = self._books, self._watch
        self._databases = self._meeting.first()
        if books.resumed:
            end_writers(self._sides, self._owner)
        self._began_cpu_s = time.process_time()
        watch.begin(
            self._sides.total_keys(self._databases),
            0 if books.checkpoint.comparing else books.earlier.scanned,
            self._shards(),
            len(self._sides.source.shards),
        )
        try:
            self._copy()
            functions = self._copy_functions()
        finally:
            books.save(force=True)
            watch.close()
        now = time.monotonic()
        return CopyReport(
            run=books.counts,
            total=books.total(),
            resumed=books.resumed,
            seconds=books.seconds(now),
            total_seconds=books.total_seconds(now),
            throttled_seconds=watch.pace.throttled_s,
            notes=books.checkpoint.notes,
            cpu_seconds=time.process_time() - self._began_cpu_s,
            functions=functions,
        )

    def _shards(self) -> dict[str, ShardProgress]:
        """Those that are still to be scanned."""
        sides, books = self._sides, self._books
        found = {}
        for shard in sides.source.shards:
            positions = [books.position(shard.id, database) for database in self._databases]
            if any(position and not position.done for position in positions):
                found[shard.id] = ShardProgress(
                    sides.source.endpoint(shard.id).location,
                    sides.total_keys(self._databases, shard.id),
                    sum(position.scanned for position in positions if position),
                )
        return found

    # Copying

    def _copy(self) -> None:
        """Everything, through as many pipelines as it takes."""
        while True:
            try:
                self._run_tasks(self._tasks())
                self._settle_slots()
                self._meet_targets_again()
                if self._is_done():
                    self._sweep()
                    self._last_look()
                    return
            except ExpiryMoved:
                self._ask_expiry = True
                self._tell("Keys expire on the source: fetching expiries too, from here on.")
            except (ServerAway, ServerBusy) as trouble:
                self._patience.wait(trouble, self._meet_again)

    def _is_done(self) -> bool:
        return not self._tasks() and not (self._books.slots and self._books.slots.moved)

    def _meet_targets_again(self) -> None:
        """Whether every primary of a target's cluster is the one that we met first.

        One that was cut off from the others may have acknowledged keys and lost them to its replica, which took
        its place meanwhile, all without a word to us but MOVED.
        """
        if self._sides.target.cluster:
            self._sides.open()
            self._meeting.recognise()

    def _tasks(self) -> list[Task]:
        """The first passes that are not done. A shard that came later has none: all its slots have moved to it."""
        comparing = self._books.checkpoint.comparing
        found = []
        for shard in self._sides.source.shards:
            for database in self._databases:
                position = self._books.position(shard.id, database)
                if position is not None and not position.done:
                    found.append(Task(shard.id, database, position.cursor, comparing=comparing))
        return found

    def _run_tasks(self, tasks: list[Task]) -> None:
        if not tasks:
            return
        context = PassContext(
            settings=self._settings,
            sides=self._sides,
            pace=self._watch.pace,
            ask_expiry=self._ask_expiry,
            is_foreign=self._state.is_foreign,
            on_source_moved=self._on_source_moved,
            on_target_met=self._meeting.met_target,
            owner=self._owner,
        )
        crew = Crew(
            context,
            self._watch,
            open_probes(self._sides, guarded=bool(self._settings.max_latency_ms)),
            on_settled=self._on_settled,
            on_done=self._on_done,
            on_turn=self._turn,
        )
        with crew:
            try:
                crew.run(tasks)
            except BaseException:
                self._interrupted = True
                raise

    def _on_settled(self, task: Task, pages: SettledPages) -> None:
        self._watch.add(self._books.settle(task, pages), task.shard)
        self._patience.renew()

    def _on_done(self, task: Task) -> None:
        position = self._books.position(task.shard, task.database)
        if task.slots is None and position is not None:
            position.done = True
        if task.database == self._databases[-1]:
            self._watch.shard_done(task.shard)
        self._books.save(force=True)

    def _turn(self) -> None:
        """Every few milliseconds while pipelines run."""
        self._check_stop()
        self._books.save()
        self._watch.turn()
        self._look_at_slots()

    def _check_stop(self) -> None:
        if not self._stop.requested:
            return
        if not self._meeting.begun:
            raise InterruptedRun("Interrupted before the copy began; nothing was written.")
        self._books.save(force=True)
        raise InterruptedRun("Interrupted.", "Give the same command again to go on where it was.")

    # Slots of the source that move while we scan

    def _on_source_moved(self, slot: int) -> None:
        if self._books.slots is not None:
            self._books.slots.redirected(slot)

    def _look_at_slots(self) -> None:
        """What the probes were last told of who owns what."""
        now = time.monotonic()
        if self._books.slots is None or now - self._slots_looked_s < LOOK_AT_SLOTS_EVERY_S:
            return
        self._slots_looked_s = now
        texts = [
            (probe.nodes, self._sides.source.endpoint(probe.shard).host)
            for probe in self._watch.probes
            if probe.side == "source" and probe.nodes is not None
        ]
        # What cannot be read here is said by the next look, which has a server to name.
        with contextlib.suppress(ValueError):
            if texts:
                self._books.slots.observe(merge([parse_nodes(text, host) for text, host in texts]))

    def _settle_slots(self) -> None:
        """Goes over the slots that have moved, until a look finds that none moved meanwhile."""
        if self._books.slots is None:
            return
        topology = self._look_anew()
        quiet_since_s = time.monotonic()
        waiting = topology.open_slots
        # The ledger is another one, and there are first passes to make, once all keys must be compared.
        while not self._tasks() and (moved := self._books.slots.moved):
            ready = self._books.slots.ready(topology)
            if ready:
                topology = self._go_over(ready)
                quiet_since_s = time.monotonic()
                continue
            if topology.open_slots != waiting:
                waiting, quiet_since_s = topology.open_slots, time.monotonic()
            if time.monotonic() - quiet_since_s > self._settings.retry_s:
                raise ServerError(
                    "source",
                    f"The slots {slots_text(moved)} of the source are half moved from one node to another.",
                    "Finish that (redis-cli --cluster fix), then give the same command again: it goes on where it was.",
                )
            self._watch.stage = "waiting for slots on the move"
            self._pause(OPEN_SLOTS_PAUSE_S)
            topology = self._look_anew()

    def _go_over(self, ready: dict[str, frozenset[int]]) -> Topology:
        policy = self._settings.on_conflict
        count = sum(map(len, ready.values()))
        self._tell(f"{_slots(count)} of the source moved meanwhile: going over them again.")
        self._watch.stage = "slots that moved"
        # Also meets nodes that were not there before.
        self._sides.open()
        self._meeting.recognise()
        if self._tasks():
            return self._sides.source.topology
        ledger = self._books.slots
        assert ledger is not None
        # By this last look, not by an earlier one: a slot that moved in between is at another node by now.
        ready = ledger.ready(self._sides.source.topology)
        slots: frozenset[int] = frozenset().union(*ready.values())
        # Under skip and fail only a comparison tells our own earlier copy of a key from a conflict.
        comparing = self._books.checkpoint.comparing or policy in ("skip", "fail")
        ledger.begin(slots)
        self._run_tasks(
            [
                Task(shard, database, slots=its, comparing=comparing)
                for shard, its in ready.items()
                for database in self._databases
            ]
        )
        topology = self._look_anew()
        ledger.finished(slots)
        self._books.save(force=True)
        return topology

    def _look_anew(self) -> Topology:
        topology = self._sides.discover("source").topology
        if self._books.slots is not None:
            self._books.slots.observe(topology)
        return topology

    # When something breaks

    def _meet_again(self) -> None:
        """Raises ServerAway when a server is away still."""
        self._sides.open()
        end_writers(self._sides, self._owner)
        self._watch.evictions(self._sides.evicted_keys)
        self._meeting.recognise()

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._check_stop()
            self._watch.turn()
            time.sleep(min(0.1, left))

    # The end

    def _sweep(self) -> None:
        """Removes what an interrupted carry may have left, of this run or an earlier one."""
        if not (self._books.resumed or self._settings.restart or self._interrupted):
            return
        self._watch.stage = "tidying up"
        targets = sorted(map(self._settings.selection.target_database, self._databases))
        removed = 0
        for shard in self._sides.target.shards:
            for database in targets:
                with self._sides.session("target", database, shard.id) as session:
                    removed += sweep(session, self._owner, self._tidying)
        if removed:
            values = "value" if removed == 1 else "values"
            self._tell(f"Removed {removed:,} half-built {values} of an interrupted copy.")

    def _tidying(self) -> None:
        self._check_stop()
        self._watch.turn()

    def _last_look(self) -> None:
        """Whether the target has evicted keys since the last probe."""
        counts = []
        for shard in self._sides.target.shards:
            with self._sides.session("target", shard=shard.id) as session:
                counts.append(evicted_keys(session))
        known = [count for count in counts if count is not None]
        self._watch.evictions(sum(known) if len(known) == len(counts) else None)

    def _copy_functions(self) -> int:
        if not self._settings.functions:
            return 0
        carried = 0
        with self._sides.session("source") as source:
            for shard in self._sides.target.shards:
                with self._sides.session("target", shard=shard.id) as target:
                    carried = copy_functions(
                        source,
                        target,
                        policy="REPLACE" if self._settings.on_conflict == "replace" else "APPEND",
                        target_version=self._sides.plan.target_version,
                    )
        self._tell(f"Carried {carried} function {'library' if carried == 1 else 'libraries'}.")
        return carried


def _slots(count: int) -> str:
    return f"{count:,} {'slot' if count == 1 else 'slots'}"
