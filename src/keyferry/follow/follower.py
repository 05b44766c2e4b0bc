"""Source and target under one hand: opens what follows, begins new generations, watches what no feed names."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable
from dataclasses import replace

from keyferry.capture.counters import Counters
from keyferry.capture.kinds import FeedKind
from keyferry.copy.connect import Sides
from keyferry.copy.failures import FailureLog
from keyferry.copy.leftovers import sweep
from keyferry.copy.pace import Pace
from keyferry.copy.passes import Following, PassContext, Task
from keyferry.copy.predecessors import end_writers
from keyferry.copy.settled import SettledPages
from keyferry.follow.accounts import Accounts
from keyferry.follow.attaching import Attaching
from keyferry.follow.comparisons import Comparisons, Job
from keyferry.follow.engine import MORE_THAN_REMEMBERED, Engine
from keyferry.follow.equal import EqualBegin, EqualParts
from keyferry.follow.extras import KeptKeys
from keyferry.follow.functions import carry_functions
from keyferry.follow.gate import Gate, GateAsks
from keyferry.follow.ground import Ground
from keyferry.follow.half_built import HalfBuilt
from keyferry.follow.hearing import Hearing
from keyferry.follow.judging import Judge
from keyferry.follow.marking import Marking
from keyferry.follow.moved_slots import MovedSlots
from keyferry.follow.opening import check_processes, open_probes, was_flushed
from keyferry.follow.reins import Reins
from keyferry.follow.rescans import Rescans
from keyferry.follow.seeing import Seeing, SeeingAsks
from keyferry.follow.settings import SyncSettings
from keyferry.follow.source import Followed
from keyferry.follow.target_side import Asks, TargetSide
from keyferry.follow.touched import Touched
from keyferry.follow.touched_check import Surroundings, TouchedCheck, TouchedPasses
from keyferry.follow.watch import FollowWatch
from keyferry.journal.state import State
from keyferry.model.errors import ServerAway, ServerError
from keyferry.telemetry.comparing import Difference
from keyferry.telemetry.following import Stage, SyncObserver, SyncReport
from keyferry.telemetry.progress import Alert, Teller
from keyferry.verify.passes import CompareContext

LOOK_AT_SLOTS_EVERY_S = 0.5
CHORES_EVERY_S = 0.1
SWEEP_PAUSE_S = 2.0
CLOSE_S_MAX = 1.5
"""What is tidied at the end must not keep the user waiting."""


class Follower:
    """Of one run.

    Args:
        check_stop: Ends the run by raising, when it is to be ended.
        writes: False: nothing is written to the target to learn who it is; it is full of keys that tell.
    """

    def __init__(
        self,
        settings: SyncSettings,
        state: State,
        owner: bytes,
        observe: SyncObserver,
        tell: Teller,
        check_stop: Callable[[], None],
        *,
        writes: bool = True,
    ) -> None:
        self._settings, self._state, self._tell, self._check_stop = settings, state, tell, check_stop
        self.owner = owner
        # Into an empty target, too, everything is replaced: what is there is ours, and older.
        self._copy = replace(settings.copy, on_conflict="replace")
        self.sides = Sides(self._copy, self._while_waiting, writes=writes)
        self.ground = Ground(settings, state, self.sides, tell)
        self._pace = Pace(self._copy.max_rate, self._copy.max_bandwidth, self._copy.max_latency_ms)
        self._sources: dict[str, Followed] = {}
        self._marking = Marking(self.sides, self._sources, settings.dirty_max // 2, self._on_slot_moved)
        self.mark = self._marking.mark
        self.comparisons = Comparisons(self._marking.has_room)
        self.engine = Engine(
            self.sides,
            self._pace,
            self._sources,
            self.comparisons,
            on_scanned=self._on_scanned,
            on_gap=self._on_gap,
            comparing=self._comparing,
        )
        self.watch = FollowWatch(self._pace, self._sources, observe, lambda: self.engine.probes, self.sides)
        self._attaching = Attaching(settings, self.sides, self.ground, self.engine, self._sources, tell)
        self._verifying = False
        self.accounts = Accounts(self._sources)
        self._under_way: set[tuple[int, bytes]] = set()
        self._slots: MovedSlots | None = None
        self._slots_looked_s = self._chores_s = self._swept_s = 0.0
        self.functions_due = False
        """Function libraries may have changed since they were carried."""
        self._extras_due = self._compare_all_once_open = False
        self._judge = Judge(self.sides, self._copy, self.turn_for)
        self._touched = Touched(settings.dirty_max)
        self.rescans = Rescans(
            self._copy,
            state,
            self.sides,
            self.ground,
            self.engine,
            self._pace,
            self._marking,
            self._on_slot_moved,
            keep_extra=settings.keep_extra,
        )
        self._target = self._target_side()
        self._seeing = Seeing(
            self._copy,
            self.ground,
            self.engine,
            self._sources,
            self._attaching,
            SeeingAsks(self._on_gap, self._on_functions, self._compare_when_open),
            tell,
        )
        self._met = False
        """Both sides were reached once."""
        self._close_by_s: float | None = None
        self._half_built = HalfBuilt(self.sides, owner)
        self._flushes: dict[str, Counters] = {}
        self._wire_reins()

    def _wire_reins(self) -> None:
        """What a migration holds: pause and limits, touched keys, the gate, and a begin on equal servers."""
        self.hearing = Hearing(self.engine, self._sources, self._target, self.turn)
        self.reins = Reins(self._pace, self._sources, self.comparisons)
        self.pause, self.unpause, self.set_limits = (
            self.reins.pause,
            self.reins.unpause,
            self.reins.set_limits,
        )
        asks = GateAsks(self.turn, self.hearing.ask, self._take_seen, self._sweep, self._is_whole)
        self.gate = Gate(self.engine, self._pace, self._sources, self._target, self.watch, asks)
        self.settle_all = self.gate.settle_all
        self.note_touched, self.forget_touched = self._touched.note, self._touched.forget
        passes = TouchedPasses(self._sources, self.rescans.looking)
        self.engine.beside.append(passes)
        around = Surroundings(self.turn, self.hearing.fence, self.rescans.is_kept, lambda: self.gate.on)
        self._check = TouchedCheck(self._touched, passes, self.engine, self._sources, self._marking, around)
        self.compare_touched = self._check.run
        self.equal = EqualBegin(
            EqualParts(self.ground, self.engine, self._sources, self._attaching, self._marking, self._target)
        )

    def _target_side(self) -> TargetSide:
        return TargetSide(
            self._settings,
            self.sides,
            self.ground,
            self.engine,
            self._sources,
            self._marking,
            self._judge,
            self._touched,
            Asks(
                hear_all=self._hear_all,
                is_kept=self.rescans.is_kept,
                compare=self._on_everything,
                looking=self.rescans.looking,
            ),
            self._tell,
        )

    # Beginning

    def choose_feed(self) -> None:
        """Raises RefusedError where the feed that was asked for is not available."""
        self.watch.feed = self._attaching.choose().value

    def begin_equal(self, opposite: Follower) -> None:
        """Attaches the feeds while ``opposite`` makes both servers equal; see ``equal``. Raises as ``open``."""
        self.ground.begin_equal(opposite.target_databases)
        self.choose_feed()
        self._met = True
        self.equal.attach(opposite, self._know_shards)
        self.ground.begun = True
        self.ground.met()
        self.ground.save(force=True)
        self.watch.evictions(self.sides.evicted_keys)

    def begin_scans(self) -> None:
        """A first copy: every database of every shard is scanned."""
        for shard in self.sides.source.shards:
            for database in self.ground.databases:
                self.ground.begin_scan(shard.id, database)
        self._extras_due = True
        self.functions_due = self._copy.functions

    def compare_later(self) -> None:
        """An earlier run has carried something: all of it is compared when the feeds are attached."""
        self.functions_due = self._copy.functions
        if self.ground.source_changes():
            for shard in self.sides.source.shards:
                self.ground.end_scans(shard.id)
        self._compare_all_once_open = True

    # Opening and closing

    def open(self) -> None:
        """Attaches the feeds that are missing, then opens everything else.

        Raises:
            ServerAway: A server cannot be reached now, or is another process than a moment ago.
        """
        sides, engine = self.sides, self.engine
        self._met = True
        self.equal.end()
        if sides.source.cluster and self._slots is None:
            self._slots = MovedSlots(sides, self.comparisons, self._tell)
        self._know_shards()
        self._attaching.attach()
        self._target.attach()
        context = self._pass_context()
        for source in self._sources.values():
            for database in self.ground.databases:
                supply = source.add_database(database)
                on_stream = functools.partial(source.add_stream, database)
                keeps = None
                if self._settings.keep_extra:
                    supply.foreign = KeptKeys(self._state, self._copy.selection.target_database(database))
                    keeps = supply.keeps
                following = Following(supply, supply, on_stream, keeps)
                cursor = self.ground.position(source.shard, database)
                engine.open_pipeline(context, Task(source.shard, database, cursor), following)
        engine.probes = open_probes(sides, guarded=self._pace.guarded)
        self.reins.probes_due = False
        check_processes(sides, self._flushes)
        engine.open = True
        if self._compare_all_once_open:
            self._compare_all_once_open = False
            self.compare_everything("comparing")
            self._attaching.gaps.clear()
        for shard in sorted(self._attaching.gaps & self._sources.keys()):
            self._on_gap(shard, "The feed was interrupted")
        self._attaching.gaps.clear()

    def _know_shards(self) -> None:
        """Followers of new shards; those of shards that are gone end: what they had is found by slot."""
        present = {shard.id for shard in self.sides.source.shards}
        selection = self._copy.selection
        for shard in present - self._sources.keys():
            passes = selection.key_filter()
            source = Followed(shard, self._settings.dirty_max, passes, self._touched)
            source.hold(self.reins.paused)
            self._sources[shard] = source
        for shard in self._sources.keys() - present:
            self.engine.detach(self._sources.pop(shard))
        self.comparisons.drop(lambda job: job.kind == "keys" and job.shard not in present)
        targets = {shard.id for shard in self.sides.target.shards}
        self.comparisons.drop(lambda job: job.kind == "extras" and job.shard not in targets)

    def _pass_context(self) -> PassContext:
        return PassContext(
            settings=self._copy,
            sides=self.sides,
            pace=self._pace,
            ask_expiry=True,
            is_foreign=self._state.is_foreign,
            on_source_moved=self._on_slot_moved,
            on_target_met=self.ground.met_target,
            owner=self.owner,
            under_way=self._under_way,
        )

    def close_workers(self) -> None:
        self.gate.end()
        self.engine.close_workers()
        self._half_built.add(self._under_way)
        self._under_way.clear()
        self._judge.close()

    def close(self) -> None:
        """Everything; what was set on the source is put back, if it can be reached."""
        if self._copy.failures_file is not None and self.ground.begun:
            try:
                FailureLog(self._copy.failures_file, None).write(self.accounts.failures())
            except OSError as error:
                self._tell(Alert(f"{self._copy.failures_file} cannot be written: {error.strerror}."))
        if not self.equal.hearing:
            with contextlib.suppress(ServerError):
                self.watch.turn(force=True)
        self._close_by_s = time.monotonic() + CLOSE_S_MAX
        self.close_workers()
        self.engine.close()
        self.ground.save(force=True)
        if not self._met:
            return
        with contextlib.suppress(ServerError):
            end_writers(self.sides, self.owner)
            self._half_built.remove()
        self._attaching.restore()

    def pump(self) -> None:
        """Hears the feeds while everything else waits."""
        self.engine.pump()
        self.watch.turn()

    def _while_waiting(self) -> None:
        if self._close_by_s is None:
            self._check_stop()
            self.engine.pump(0)
        elif time.monotonic() > self._close_by_s:
            raise ServerAway("source", "It does not answer in the time that there is.")

    def meet_again(self) -> None:
        """After trouble: who is there, is it who was there, what does that make void.

        Raises:
            ServerAway: A server is still away.
            RefusedError: A source that was started anew has lost most of its keys.
        """
        sides, ground = self.sides, self.ground
        sides.open()
        end_writers(sides, self.owner)
        if not self.reins.paused:
            self._half_built.remove()
        changed = ground.source_changes()
        for shard in changed:
            if shard in self._sources:
                self.engine.detach(self._sources[shard])
            ground.end_scans(shard)
        if self._slots is not None:
            self._slots.observe()
        target_changed = ground.target_changed()
        ground.met()
        self.watch.evictions(sides.evicted_keys)
        if target_changed:
            self._generation("The target is another process than before")
            self._compare_all_once_open = True
        if changed:
            self._compare_all_once_open = True
            self._generation("The source is another process than before")
        ground.save(force=True)

    # Turning

    def turn(self) -> None:
        """One turn of the loop, and the chores that are due. Raises as ``Engine.turn``."""
        self._check_stop()
        self.engine.turn()
        now = time.monotonic()
        if now - self._chores_s >= CHORES_EVERY_S:
            self._chores_s = now
            self._show()
            if not self.gate.on:
                self._chores(now)

    def turn_for(self, seconds: float) -> None:
        """Turns for a while."""
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            self.turn()

    def _chores(self, now: float) -> None:
        # The guard holds the copy and comparisons back; what changes must arrive, or the lag would only grow.
        self._pace.guard.needs(
            self.watch.needed_rate(scanning=self.engine.scanning or not self.comparisons.idle)
        )
        for shard, source in list(self._sources.items()):
            if source.overflowed:
                source.forgive_overflow()
                self._on_gap(shard, MORE_THAN_REMEMBERED)
            self._seeing.take(source, now)
        if self._slots is not None and now - self._slots_looked_s >= LOOK_AT_SLOTS_EVERY_S:
            self._slots_looked_s = now
            self._slots.look(self.engine.probes, set(self._sources), scanning=self.engine.scanning)
        if not self.engine.scanning:
            self._after_scans(now)
        comparing = not self.comparisons.idle and not self._verifying
        self._target.chores(now, comparing=comparing, paused=self.reins.paused)
        if self.reins.probes_due:
            self.reins.probes_due = False
            self.engine.reopen_probes(open_probes(self.sides, guarded=self._pace.guarded))
        self.ground.save()

    def _after_scans(self, now: float) -> None:
        if self._is_equal_once and not self._attaching.hears_target:
            self._attaching.attach_target()
        if self.reins.paused:
            return
        if self._extras_due and was_flushed(self.sides, self._flushes):
            self._extras_due = False
            self._generation("The target was flushed while it was filled")
            self.compare_everything("comparing")
        if self._extras_due:
            self._extras_due = False
            self.comparisons.request(self.rescans.extras_jobs(), self.sides.total_keys(self.ground.databases))
        self.carry_functions()
        if self._attaching.kind is FeedKind.SWEEPS and self.comparisons.idle:
            self._swept_s = self._swept_s or now
            if now - self._swept_s >= SWEEP_PAUSE_S:
                self._swept_s = 0.0
                self.compare_everything("following")

    def carry_functions(self) -> bool:
        """Makes the target's function libraries the source's, if those may have changed; whether they had."""
        due = self.functions_due
        if due:
            carry_functions(self.sides, self._tell)
            self.functions_due = False
        return due

    @property
    def _is_equal_once(self) -> bool:
        """All that was there when the run began has been carried or compared: from now on the target is as we left it."""
        done = not self.engine.scanning and self.comparisons.idle and not self._extras_due
        return done and not self._compare_all_once_open

    def _show(self) -> None:
        watch = self.watch
        if self.engine.scanning:
            watch.enter("copying")
            watch.keys_total = self.sides.total_keys(self.ground.databases)
            watch.keys_done = self.accounts.copied.scanned
        else:
            if self._verifying and self.comparisons.idle:
                self._verifying = False
            if not self.comparisons.idle:
                watch.enter("verifying" if self._verifying else "comparing")
            elif self.rescans.collect is None:
                watch.enter("following")
            watch.keys_total, watch.keys_done = self.comparisons.keys_total, self.comparisons.keys_done
        watch.foreign_keys, watch.failed = self._target.foreign_keys, self.accounts.failed
        watch.turn()

    # Generations

    def _take_seen(self) -> None:
        self._seeing.take_all(time.monotonic())

    def _sweep(self) -> None:
        if self._attaching.kind is FeedKind.SWEEPS:
            self.compare_everything("comparing")

    def _on_functions(self) -> None:
        self.functions_due = True

    def _compare_when_open(self) -> None:
        self._compare_all_once_open = True

    def _on_gap(self, shard: str, reason: str) -> None:
        """Something may have escaped the feed of a shard: everything of it is compared."""
        if self.equal.hearing:
            self.equal.gap(shard)
            return
        self._generation(reason)
        self._sources[shard].mark_flying(time.monotonic())
        self.comparisons.request(
            self.rescans.jobs([shard]), 2 * self.sides.total_keys(self.ground.databases, shard)
        )

    def _generation(self, reason: str) -> None:
        self.watch.generation += 1
        self._tell(Alert(f"{reason}: generation {self.watch.generation} begins, everything is compared."))

    def _on_everything(self, reason: str) -> None:
        """Anything may differ, of whatever shard."""
        self._generation(reason)
        self.compare_everything("comparing")

    def compare_everything(self, stage: Stage) -> None:
        """Every key of both servers, from the beginning."""
        self._verifying = stage == "verifying"
        for source in self._sources.values():
            source.mark_flying(time.monotonic())
        shards = [shard.id for shard in self.sides.source.shards]
        self.comparisons.request(self.rescans.jobs(shards), 2 * self.sides.total_keys(self.ground.databases))

    def _comparing(self, job: Job) -> CompareContext:
        return self.rescans.context(job)

    def _on_scanned(self, task: Task, pages: SettledPages) -> None:
        self.accounts.scanned(task, pages)
        self.ground.scanned_to(task.shard, task.database, pages.settled.cursor)

    # Slots of the source that move

    def _on_slot_moved(self, moved: int) -> None:
        if self._slots is not None:
            self._slots.redirected(moved)

    def _hear_all(self) -> bool:
        return self.hearing.hear_all()

    def differing(self, places: list[tuple[int, bytes]]) -> list[Difference]:
        """Keys that differ for good, of these; see ``Judge``."""
        return self._judge.differing(places)

    def count_extras(self) -> int:
        """Keys of the target that the source does not have; with ``keep_extra`` they are noted as foreign."""

        def on_turn(keys_done: int) -> None:
            self._check_stop()
            self.watch.keys_done = keys_done
            self.watch.turn()

        return self.rescans.count_extras(on_turn)

    # Ends

    @property
    def is_copied(self) -> bool:
        """All that was there has been carried or compared, in this run; a verification may go on."""
        comparing = not self.comparisons.idle and not self._verifying
        return not (self.engine.scanning or comparing or self._extras_due or self._compare_all_once_open)

    def _is_whole(self) -> bool:
        return self._is_equal_once and not (self._slots is not None and self._slots.left)

    def is_level(self, now: float) -> bool:
        """Nothing is to be copied or compared any more, and the lag is below what was asked for."""
        if not self._is_whole():
            return False
        target_s = self._settings.lag_target_s
        if self.watch.lag_s(now) < target_s:
            return True
        if self.watch.lag_s(now, with_big=False) < target_s:
            for source in self._sources.values():
                source.rest_less()
        return False

    def lag_s(self) -> float:
        return self.watch.lag_s(time.monotonic())

    @property
    def paused(self) -> bool:
        """Nothing of ours is written, or read to be carried."""
        return self.reins.paused

    @property
    def limits(self) -> tuple[float, float]:
        """Keys per second and added milliseconds; 0: none."""
        return self.reins.limits

    @property
    def touched(self) -> int:
        """Keys that were taken to be settled since all were proved equal."""
        return len(self._touched)

    @property
    def touched_overflowed(self) -> bool:
        """There were more than are remembered: only a comparison of everything proves anything."""
        return self._touched.overflowed

    @property
    def mirrored(self) -> bool:
        """Whether clients write to both servers."""
        return self._target.mirrored

    @property
    def target_databases(self) -> list[int]:
        """Those that keys are moved to."""
        return sorted(set(map(self._copy.selection.target_database, self.ground.databases)))

    def target_streams(self) -> list[tuple[int, list[bytes]]]:
        """Keys that hold, or held, streams, by database of the target."""
        target = self._copy.selection.target_database
        return [
            (target(database), list(keys))
            for source in self._sources.values()
            for database, keys in source.streams.items()
        ]

    def tidy(self) -> None:
        """Removes what interrupted carries have left. Nothing may be carried meanwhile."""
        for shard in self.sides.target.shards:
            for database in self.target_databases:
                with self.sides.session("target", database, shard.id) as session:
                    sweep(session, self.owner, self._while_tidying)

    def _while_tidying(self) -> None:
        self._check_stop()
        self.watch.turn()

    def report(self) -> SyncReport:
        """What this run has done until now."""
        report = self.accounts.report()
        report.feed = self.watch.feed
        report.generations = self.watch.generation
        report.changes, report.settled = self.watch.changes, self.watch.settled
        report.extra_deleted, report.foreign_keys = self.rescans.extras, self._target.foreign_keys
        report.lag_s, report.lag_max_s = self.lag_s(), self.watch.lag_max_s
        report.seconds, report.resumed = self.ground.seconds, self.ground.resumed
        report.throttled_seconds = self._pace.throttled_s
        return report
