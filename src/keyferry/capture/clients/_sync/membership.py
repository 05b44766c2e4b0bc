# Written by `make generate` from _async/membership.py: change that one.
"""A process's membership in a migration: it follows the phase record, is known there, and holds a lease.

One worker per process and event loop. It hears of steps by push on one connection and renews the lease on another,
so that an idle process takes every step within milliseconds and no command of the application costs a round trip:

    1. read and register are one transaction (PROTOCOL.md, rule 7); the lease runs from before it was sent
    2. a step is seen: `on_seen` puts it in force, `on_step` returns when every operation of older standings is over
    3. only then the writer's entry names the new epoch (rule 8), and is sent at once

While a gate is closed every round trip counts, twenty processes on two cores take them one after the other:

    - told of a hold, a process closes its gate before it has read the record; when nothing older is under way, the
      look that bears the hold out carries the acknowledgement, else 2. and 3. follow as always
    - told of lost, it looks on the other side first, where the mark soon stands, and a higher epoch proves it
    - what can wait until the application writes again (that a step out of the gate was taken, the old side's list,
      connections) waits, and not for the same time in every process

What was read stays known when the side with authority is away, but nothing may be done by it once the lease is over.
The mirror side being away changes nothing here: nobody asks it.
"""

from __future__ import annotations

import functools
import logging
import os
import random
import time
import uuid
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from keyferry.capture.clients._sync.answer import Answer
from keyferry.capture.clients._sync.ear import Ears
from keyferry.capture.clients._sync.platform import (
    IS_ASYNC,
    Event,
    Lock,
    Worker,
    at_exit,
    sleep,
    spawn,
    wait_event,
)
from keyferry.capture.clients._sync.record_line import SideAccess
from keyferry.capture.clients._sync.record_sides import RecordSides
from keyferry.capture.clients.clock import now_s
from keyferry.capture.clients.lease import Lease
from keyferry.capture.clients.record_errors import (
    MigrationRecordError,
    RecordUnreachableError,
    client_error,
    unreachable,
)
from keyferry.model.phases import Phase, Side, Standing
from keyferry.model.record import (
    Kind,
    NoRecord,
    PhaseRecord,
    RecordError,
    Stamp,
    Told,
    channel,
    check_name,
    record_key,
)
from keyferry.model.record_trail import Complete, Found, GoOn, Trail, check_single
from keyferry.model.writers import CONNECTIONS_MAX, WriterEntry, WriterFacts, encode_entry

log = logging.getLogger("keyferry.clients")

STOP_S = 1.0
PAUSE_S, PAUSE_S_MAX = 0.05, 1.0
QUIET_PAUSE_S, QUIET_TRIES = 0.0005, 4
"""How often, and how many times, a process that is told of a hold asks itself whether it is quiet."""
MARK_PAUSE_S, MARK_TRIES = 0.001, 4
"""The same for the mark on the side that gains authority: whoever wrote `lost` is about to write it."""
AFTER_MOVE_S, AFTER_MOVE_S_MAX = 0.02, 0.08
"""When a process says that it has moved, and tidies up: the application's writes go first."""
_LIVE: weakref.WeakSet[Membership] = weakref.WeakSet()


class Membership:
    """See the module.

    Args:
        name: The migration's.
        sides: How the two sides are reached.
        facts: What the process says of itself.
        on_step: Returns when every operation of a standing older than the given one is over. Calls may overlap, and
            with threads come in any order; the latest one is for the newest standing.
        on_seen: Puts a standing in force at once, for the operations that begin from now on; called in order, before
            ``look_again`` returns it. Must not wait for anything. A hold may be given that the record then does not
            bear out; the standing before it is given again then.
        on_quiet: Whether no operation of a standing older than the last one given to ``on_seen`` is under way, so that
            ``on_step`` would have nothing to wait for.
        on_prepare: Makes ready what operations on a side will need, before a cutover to it.
        names: Gives the client names of the process's connections.
        lease_ms: How long the process may go on without having heard from the record.
    """

    def __init__(
        self,
        name: str,
        sides: Mapping[Side, SideAccess],
        facts: WriterFacts,
        *,
        on_step: Callable[[Standing], Any],
        on_seen: Callable[[Standing], None] | None = None,
        on_quiet: Callable[[], bool] = lambda: False,
        on_prepare: Callable[[Side], Any] | None = None,
        names: Callable[[], tuple[str, ...]] = tuple,
        lease_ms: int = 10_000,
    ) -> None:
        self.name = check_name(name)
        self._sides = dict(sides)
        self._facts = facts
        self._on_step = on_step
        self._on_seen, self._on_quiet, self._on_prepare = on_seen, on_quiet, on_prepare
        self._names = names
        self._lease_ms = lease_ms
        self._since_ms = round(time.time() * 1000)
        self._known: Standing | None = None
        self.record: PhaseRecord | None = None
        """As it was last read on the side with authority."""
        self.problem: RedisError | None = None
        """Why the last look failed; None when it did not."""
        self._abandoned: list[Any] = []
        self._begin()

    def _begin(self) -> None:
        """What a child process has to have of its own."""
        self.writer_id = uuid.uuid4().hex
        self._pid = os.getpid()
        self._lease = Lease(self._lease_ms)
        self._lock, self._ended = Lock(), Event()
        self._records = RecordSides(self.name, self._sides)
        self._ears = Ears(self._sides, record_key(self.name), channel(self.name))
        self._worker: Worker | None = None
        self._steps: list[Worker] = []
        self._renewals = 0
        self._leased = False
        self._taken: Standing | None = None
        self._hinted: Standing | None = None  # a hold in force that no look has borne out yet
        self._quiet_in_hint = False
        self._said_epoch, self._say_s = 0, float("inf")  # by our entry; when it has more to say
        self._answer = Answer(self.name, self._on_prepare)
        self._answering = Lock()
        self._replier: Worker | None = None
        self._connections: dict[Side, tuple[str, ...]] = {}
        self._left: set[Side] = set()
        self._looked_s = self._failed_s = float("-inf")
        self._said: str | None = None

    # What the clients ask

    @property
    def standing(self) -> Standing:
        """The newest standing that was read. Raises RuntimeError before ``start``."""
        if self._known is None:
            raise RuntimeError("the membership has not been started")
        return self._known

    @property
    def in_force(self) -> Standing:
        """What was last given to ``on_seen``. Raises as ``standing``."""
        return self._hinted or self.standing

    def lease_valid(self, standing: Standing) -> bool:
        """Whether an operation under this standing may go on without a look at the record. No round trip."""
        lease = self._lease  # spelled out: this stands before and after every command
        return now_s() < lease.ends_s and standing.epoch >= lease.lowest_epoch

    def start(self) -> Standing:
        """Reads the record and registers, then goes on in the background. Again without effect while it runs.

        Raises:
            RecordLostError: There is no record.
            RecordWentBackError: Both sides claim authority.
            MigrationRecordError: The record cannot be read.
            RecordUnreachableError: The side with authority, or whoever could say which it is, is away.
        """
        if self._worker is not None and self._worker.alive():
            return self.standing
        standing = self._look(now_s())
        self._check_other(standing.authority.other)
        self._go_on()
        return self.standing

    def look_again(self) -> Standing:
        """Reads the record and renews the lease now; the standing that is in force. Several callers share a look.

        When writes are refused for now (out of memory, for example) the record is read without a renewal: the lease
        stays over, and every operation has to look again.

        Raises:
            As ``start``.
        """
        if self._known is None:
            return self.start()
        standing = self._look(now_s())
        self._go_on()
        return standing

    def _go_on(self) -> None:
        """Sees to it that the worker runs: not yet started, stopped, or left behind in a parent process."""
        if self._worker is not None and self._worker.alive():
            return
        self._ended.clear()
        if self not in _LIVE:
            _LIVE.add(self)
            at_exit(_stopper(weakref.ref(self)))
        self._worker = spawn(self._work, "keyferry-membership")

    def register_connection(self, side: Side, client_id: int, node: str = "") -> Standing:
        """Names a connection for second legs in the record, before its first use, and reads the record with it.

        Args:
            client_id: As CLIENT ID says it there.
            node: In a cluster ``host:port`` of the node, as it announces itself.

        Returns:
            The standing; with another one than the caller's the connection is not to be used.

        Raises:
            As ``start``; RecordUnreachableError also while the record can be read but not written.
        """
        name = f"{client_id}@{node}" if node else str(client_id)
        with self._lock:
            others = tuple(one for one in self._connections.get(side, ()) if one != name)
            self._connections = {**self._connections, side: (*others, name)[-CONNECTIONS_MAX:]}
        standing = self._look(now_s())
        if not self._leased:
            raise RecordUnreachableError(
                f"migration {self.name!r}: the {standing.authority} takes no writes now, "
                "so no connection for second legs can be registered"
            )
        return standing

    def forget_connection(self, side: Side, client_id: int, node: str = "") -> None:
        """The connection is closed; the record says so with the next renewal."""
        name = f"{client_id}@{node}" if node else str(client_id)
        with self._lock:
            left = tuple(one for one in self._connections.get(side, ()) if one != name)
            self._connections = {**self._connections, side: left}

    def stop(self) -> None:
        """Takes the process off the record, and ends. The caller's operations must be over."""
        self._ended.set()
        worker, self._worker = self._worker, None
        if worker is not None:
            self._ears.interrupt()
            worker.stop(0.0 if IS_ASYNC else STOP_S)
        for step in (*self._steps, *([self._replier] if self._replier else [])):
            step.stop(STOP_S)
        with self._lock:
            self._lease.end()
            if self._known is not None and self._pid == os.getpid():
                self._records.take_off(self._known.authority, self.writer_id.encode())
            self._ears.close()
            self._records.close()
        _LIVE.discard(self)

    # A look at the record

    def _look(self, asked_s: float, said: Told | None = None) -> Standing:
        """One that was sent after ``asked_s``: a fresh one, or one that another caller has made meanwhile.

        The worker says what it was told.
        """
        with self._lock:
            if self._looked_s >= asked_s:
                return self.standing
            if self._failed_s >= asked_s and self.problem is not None:
                raise self.problem
            sent_s = now_s()
            try:
                if said is None or said.kind is not Kind.LOST or not self._go_over(said.epoch):
                    self._search(quick=said is not None)
            except RecordError as error:
                self._lease.end()
                self._fail(client_error(error, self.name), sent_s)
                raise self.problem or error from error
            except RedisError as error:
                self._fail(error, sent_s)
                raise
            self._looked_s = sent_s
            self.problem = self._said = None
            return self.standing

    def _fail(self, error: RedisError, sent_s: float) -> None:
        self.problem, self._failed_s = error, sent_s
        if self._said != str(error):
            self._said = str(error)
            log.warning("keyferry: %s", error, extra={"migration": self.name})

    def _go_over(self, epoch: int) -> bool:
        """Told that authority has moved: whether it is found on the other side, where we are registered then."""
        known = self._known
        if known is None or epoch <= known.epoch:
            return False
        other = known.authority.other
        for _ in range(MARK_TRIES):
            sleep(MARK_PAUSE_S)
            trail = Trail(known, self._stamp())
            trail.away(known.authority)
            try:
                record, sent_s, leased = self._read(other, registers=True)
            except (RedisConnectionError, RedisTimeoutError, OSError):
                break
            if record is not None and record.rules and record.epoch > known.epoch:
                conclusion = trail.read(other, record)
                if isinstance(conclusion, Found):
                    self._take_over(conclusion, sent_s, leased, quick=True)
                    return True
            if record is None or record.kind is not Kind.PENDING:
                break
        self._left.add(other)
        return False

    def _search(self, *, quick: bool) -> None:
        """Follows the records to where authority is, registers there, and takes what was found."""
        trail = Trail(self._known, self._stamp())
        side, away = trail.start, None
        home = self._known is not None
        while True:
            try:
                record, sent_s, leased = self._read(side, registers=home)
                if not home and record is not None and record.rules and record.epoch > self._floor():
                    record, sent_s, leased = self._read(side, registers=True)
            except (RedisConnectionError, RedisTimeoutError, OSError) as error:
                away = away or error
                if (instead := trail.away(side)) is None:
                    raise unreachable(self.name, side, self._known, away) from away
                side, home = instead.side, False
                continue
            try:
                conclusion = trail.read(side, record)
            except NoRecord:
                if away is None:
                    raise
                raise unreachable(self.name, side.other, self._known, away) from away
            if isinstance(conclusion, Found):
                self._take_over(conclusion, sent_s, leased, quick=quick)
                return
            if isinstance(conclusion, Complete):
                self._records.complete(conclusion.write)
            elif isinstance(conclusion, GoOn):
                if home:
                    self._left.add(side)
                home = record is not None and record.kind is Kind.LOST
                side = conclusion.side

    def _floor(self) -> int:
        return self._known.epoch if self._known is not None else 0

    def _read(self, side: Side, *, registers: bool) -> tuple[PhaseRecord | None, float, bool]:
        """The record of a side, when that was asked, and whether we are registered there. Raises as the reading does."""
        entry = None
        if registers:
            self._renewals += 1
            entry = encode_entry(self._entry())
        sent_s = now_s()
        record, leased = self._records.read(side, self.writer_id.encode(), entry)
        return record, sent_s, leased

    def _take_over(self, found: Found, sent_s: float, leased: bool, *, quick: bool) -> None:
        """Puts what was found in force.

        Args:
            quick: The worker asks, and says the step with its next look if nothing older is under way; else the step
                has a thread or task of its own.
        """
        before, standing = self._known, found.standing
        moved = before is not None and before.authority is not standing.authority
        if before is not None and moved:
            self._lease.moved(standing)
            self._left.add(before.authority)
        self._leased = leased
        if leased:
            self._lease.renewed(standing, sent_s, now_s())
        self._left.discard(standing.authority)
        in_force, quiet = self._hinted or before, self._quiet_in_hint
        self._hinted, self._quiet_in_hint = None, False
        self._known, self.record = standing, found.record
        if before is None or (self._taken is None and before == standing):
            self._taken = standing
        else:
            if in_force != standing and self._on_seen is not None:
                self._on_seen(standing)
            if before != standing:
                if (quiet and in_force == standing) or (quick and self._on_quiet()):
                    self._taken = standing
                else:
                    self._steps = [step for step in self._steps if step.alive()]
                    self._steps.append(spawn(functools.partial(self._step, standing), "keyferry-step"))
        due_s = now_s() + (random.uniform(AFTER_MOVE_S, AFTER_MOVE_S_MAX) if moved else 0.0)
        said = leased and self._taken is not None and self._said_epoch == self._taken.epoch
        self._say_s = float("inf") if said or not leased else min(self._say_s, due_s)

    def _step(self, standing: Standing) -> None:
        """Waits until nothing older is under way, then says so."""
        self._on_step(standing)
        if self._taken is None or standing.epoch > self._taken.epoch:
            self._taken = standing
        if self._ended.is_set():
            return
        try:
            self._look(now_s())
        except RedisError:
            pass  # the worker goes on trying, and the next renewal says it
        self._reply()

    def _asked(self) -> PhaseRecord | None:
        """The record, when it asks what we have not answered and what was before it is over."""
        record, taken = self.record, self._taken
        if record is None or taken is None or taken.epoch != record.epoch:
            return None
        return record if self._answer.owed(record) and not self._ended.is_set() else None

    def _reply(self) -> None:
        """Answers the record's question, if there is one; says so at once."""
        with self._answering:
            if (record := self._asked()) is None:
                return
            other = self.standing.authority.other
            line = self._records.new_line(other)
            if not self._answer.give(record, other, line):
                return
            with self._lock:
                if self._ended.is_set():
                    line.close()
                    return
                # The way over begins on this line: it is known to work.
                self._records.use(other, line)
            try:
                self._ears.open_spare(other)
            except RedisError as error:
                log.debug("keyferry: no push from the %s: %s", other, error, extra={"migration": self.name})
        try:
            self._look(now_s())
        except RedisError:
            pass  # as above

    def _check_other(self, side: Side) -> None:
        """Both sides may claim authority after a restore from a copy. A side that is away says nothing."""
        try:
            with self._lock:
                record, _, _ = self._read(side, registers=False)
            check_single({side: record, side.other: self.record})
        except (RedisConnectionError, RedisTimeoutError, OSError, MigrationRecordError):
            return
        except RecordError as error:
            raise client_error(error, self.name) from error

    def _entry(self) -> WriterEntry:
        taken = self._hinted if self._quiet_in_hint else self._taken
        self._said_epoch = taken.epoch if taken else 0
        return WriterEntry(
            facts=self._facts,
            lease_ms=self._lease_ms,
            renewals=self._renewals,
            phase=taken.phase if taken else None,
            epoch=taken.epoch if taken else 0,
            connections=self._connections,
            since_ms=self._since_ms,
            seen_ms=round(time.time() * 1000),
            answered=self._answer.given,
            note=self._answer.note(self.record),
            names=self._names(),
        )

    def _stamp(self) -> Stamp:
        return Stamp(round(time.time() * 1000), str(self._facts))

    # In the background

    def _work(self) -> None:
        failures = 0
        said: Told | None = None
        try:
            while not self._ended.is_set():
                try:
                    if said is not None and said.kind is Kind.HOLD:
                        self._close_gate(said)
                    self._look(now_s(), said)
                    failures = 0
                except RedisError:
                    failures += 1
                if self._say_s == float("inf"):
                    self._tidy()
                said = self._hear(self._next_look_s(failures))
        finally:
            self._ears.close()
            if not self._ended.is_set():
                self._records.close()

    def _next_look_s(self, failures: int) -> float:
        """When to look again, on our clock, if nothing is heard before."""
        if not failures:
            return min(self._say_s, max(self._lease.due_s(), self._looked_s + PAUSE_S))
        return now_s() + min(PAUSE_S_MAX, PAUSE_S * 2 ** min(failures, 10))

    def _close_gate(self, said: Told) -> None:
        """A hold that we were told of is in force before the record is read; see the module."""
        with self._lock:
            # Looks are made under this lock: each later one bears the hold out, or takes it back.
            known = self._known
            if known is None or said.epoch <= known.epoch or self._on_seen is None:
                return
            if self._ears.side is not known.authority:
                return
            hinted = self._hinted = Standing(Phase.HOLD, said.epoch, known.authority)
            self._quiet_in_hint = False
            self._on_seen(hinted)
        for _ in range(QUIET_TRIES):
            if self._on_quiet():
                with self._lock:
                    self._quiet_in_hint = self._hinted is hinted
                return
            sleep(QUIET_PAUSE_S)

    def _hear(self, until_s: float) -> Told | None:
        """Waits until a step is told, or until the time; a new subscription counts as told: look after it."""
        if until_s <= now_s():
            return None
        if self._known is None:
            wait_event(self._ended, max(0.0, until_s - now_s()))
            return None
        try:
            if not self._ears.turn(self._known.authority):
                if self._say_s < float("inf"):
                    wait_event(self._ended, until_s - now_s())  # the application's writes go first
                else:
                    self._ears.open(self._known.authority)
                return None
            while (said := self._ears.hear(until_s)) is not None:
                if self._ended.is_set() or not self._knows(said):
                    return said
        except RedisError as error:
            self._ears.close()
            if self._ended.is_set():
                return None
            log.debug("keyferry: no push of steps: %s", error, extra={"migration": self.name})
            wait_event(self._ended, max(0.0, min(until_s - now_s(), PAUSE_S_MAX)))
        return None

    def _knows(self, said: Told) -> bool:
        """Whether it is no news: a commit that begins, or the step that we have found ourselves."""
        return said.kind is Kind.PENDING or (
            said.kind is not None and self._known is not None and said.epoch == self._known.epoch
        )

    def _tidy(self) -> None:
        """What nobody waits for."""
        self._take_off_left()
        record = self.record
        expected = record is not None and (record.asked or record.phase is Phase.HOLD)
        self._ears.tidy(spare=not expected)
        if self._asked() is not None and (self._replier is None or not self._replier.alive()):
            self._replier = spawn(self._reply, "keyferry-answer")

    def _take_off_left(self) -> None:
        """Takes our entry off sides that have lost authority; once each, and it does not matter."""
        left, self._left = self._left, set()
        for side in left:
            with self._lock:
                if self._known is None or self._known.authority is not side:
                    self._records.take_off(side, self.writer_id.encode())
                    self._records.close(side)

    def forked(self) -> None:
        """In a child process: nothing of the parent's is touched, and the next ``look_again`` registers anew."""
        held = [*self._records.abandon(), *self._ears.abandon()]
        self._abandoned += [held, self._worker, self._steps, self._lock]
        self._facts = replace(self._facts, pid=os.getpid())
        self._begin()


def _stopper(reference: weakref.ref[Membership]) -> Callable[[], Any]:
    def stop() -> Any:
        membership = reference()
        return membership.stop() if membership is not None and membership in _LIVE else None

    return stop


def _after_fork() -> None:
    for membership in list(_LIVE):
        membership.forked()


os.register_at_fork(after_in_child=_after_fork)
