"""A process's membership in a migration: it follows the phase record, is known there, and holds a lease.

One worker per process and event loop. It hears of steps by push on one connection and renews the lease on another,
so that an idle process takes every step within milliseconds and no command of the application costs a round trip:

    1. read and register are one transaction (PROTOCOL.md, rule 7); the lease runs from before it was sent
    2. a step is seen: `on_seen` puts it in force, `on_step` returns when every operation of older standings is over
    3. only then the writer's entry names the new epoch (rule 8), and is sent at once

What was read stays known when the side with authority is away, but nothing may be done by it once the lease is over.
The mirror side being away changes nothing here: nobody asks it.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import (
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from keyferry.capture.clients._async.answer import AsyncAnswer
from keyferry.capture.clients._async.platform import (
    IS_ASYNC,
    Event,
    Lock,
    Worker,
    at_exit,
    spawn,
    wait_event,
)
from keyferry.capture.clients._async.record_line import AsyncRecordLine, AsyncSideAccess
from keyferry.capture.clients.clock import now_s
from keyferry.capture.clients.lease import Lease
from keyferry.capture.clients.record_errors import (
    MigrationRecordError,
    RecordUnreachableError,
    client_error,
    not_to_be_relied_on,
    takes_no_writes,
)
from keyferry.model.phases import Side, Standing
from keyferry.model.record import (
    Kind,
    NoRecord,
    PhaseRecord,
    RecordError,
    RecordUnreadable,
    Stamp,
    Write,
    channel,
    check_name,
    check_write,
    decode,
    encode,
    record_key,
    writers_key,
)
from keyferry.model.record_trail import Complete, Found, GoOn, Trail, check_single
from keyferry.model.writers import CONNECTIONS_MAX, WriterEntry, WriterFacts, encode_entry

log = logging.getLogger("keyferry.clients")

STOP_S = 1.0
PAUSE_S, PAUSE_S_MAX = 0.05, 1.0
_LIVE: weakref.WeakSet[AsyncMembership] = weakref.WeakSet()


class AsyncMembership:
    """See the module.

    Args:
        name: The migration's.
        sides: How the two sides are reached.
        facts: What the process says of itself.
        on_step: Returns when every operation of a standing older than the given one is over. Calls may overlap, and
            with threads come in any order; the latest one is for the newest standing.
        on_seen: Puts a standing in force at once, for the operations that begin from now on; called in order, before
            ``look_again`` returns it. Must not wait for anything.
        on_prepare: Makes ready what operations on a side will need, before a cutover to it.
        names: Gives the client names of the process's connections.
        lease_ms: How long the process may go on without having heard from the record.
    """

    def __init__(
        self,
        name: str,
        sides: Mapping[Side, AsyncSideAccess],
        facts: WriterFacts,
        *,
        on_step: Callable[[Standing], Any],
        on_seen: Callable[[Standing], None] | None = None,
        on_prepare: Callable[[Side], Any] | None = None,
        names: Callable[[], tuple[str, ...]] = tuple,
        lease_ms: int = 10_000,
    ) -> None:
        self.name = check_name(name)
        self._sides = dict(sides)
        self._facts = facts
        self._on_step = on_step
        self._on_seen, self._on_prepare = on_seen, on_prepare
        self._names = names
        self._lease_ms = lease_ms
        self._key, self._writers = record_key(name), writers_key(name)
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
        self._lines = {side: AsyncRecordLine(access, self._key) for side, access in self._sides.items()}
        self._ear: AsyncRecordLine | None = None
        self._ear_side = Side.SOURCE
        self._worker: Worker | None = None
        self._steps: list[Worker] = []
        self._renewals = 0
        self._leased = False
        self._taken: Standing | None = None
        self._answer = AsyncAnswer(self._key, self._writers, self._on_prepare)
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

    def lease_valid(self, standing: Standing) -> bool:
        """Whether an operation under this standing may go on without a look at the record. No round trip."""
        lease = self._lease  # spelled out: this stands before and after every command
        return now_s() < lease.ends_s and standing.epoch >= lease.lowest_epoch

    async def start(self) -> Standing:
        """Reads the record and registers, then goes on in the background. Again without effect while it runs.

        Raises:
            RecordLostError: There is no record.
            RecordWentBackError: Both sides claim authority.
            MigrationRecordError: The record cannot be read.
            RecordUnreachableError: The side with authority, or whoever could say which it is, is away.
        """
        if self._worker is not None and self._worker.alive():
            return self.standing
        standing = await self._look(now_s())
        await self._check_other(standing.authority.other)
        self._go_on()
        return self.standing

    async def look_again(self) -> Standing:
        """Reads the record and renews the lease now; the standing that is in force. Several callers share a look.

        When writes are refused for now (out of memory, for example) the record is read without a renewal: the lease
        stays over, and every operation has to look again.

        Raises:
            As ``start``.
        """
        if self._known is None:
            return await self.start()
        standing = await self._look(now_s())
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

    async def register_connection(self, side: Side, client_id: int, node: str = "") -> Standing:
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
        async with self._lock:
            others = tuple(one for one in self._connections.get(side, ()) if one != name)
            self._connections = {**self._connections, side: (*others, name)[-CONNECTIONS_MAX:]}
        standing = await self._look(now_s())
        if not self._leased:
            raise RecordUnreachableError(
                f"migration {self.name!r}: the {standing.authority} takes no writes now, "
                "so no connection for second legs can be registered"
            )
        return standing

    async def forget_connection(self, side: Side, client_id: int, node: str = "") -> None:
        """The connection is closed; the record says so with the next renewal."""
        name = f"{client_id}@{node}" if node else str(client_id)
        async with self._lock:
            left = tuple(one for one in self._connections.get(side, ()) if one != name)
            self._connections = {**self._connections, side: left}

    async def stop(self) -> None:
        """Takes the process off the record, and ends. The caller's operations must be over."""
        self._ended.set()
        worker, self._worker = self._worker, None
        if worker is not None:
            if self._ear is not None:
                self._ear.interrupt()
            await worker.stop(0.0 if IS_ASYNC else STOP_S)
        for step in (*self._steps, *([self._replier] if self._replier else [])):
            await step.stop(STOP_S)
        async with self._lock:
            self._lease.end()
            if self._known is not None and self._pid == os.getpid():
                await self._take_off(self._known.authority)
            await self._close_ear()
            await self._close_lines()
        _LIVE.discard(self)

    # A look at the record

    async def _look(self, asked_s: float) -> Standing:
        """One that was sent after ``asked_s``: a fresh one, or one that another caller has made meanwhile."""
        async with self._lock:
            if self._looked_s >= asked_s:
                return self.standing
            if self._failed_s >= asked_s and self.problem is not None:
                raise self.problem
            sent_s = now_s()
            try:
                await self._search()
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

    async def _search(self) -> None:
        """Follows the records to where authority is, registers there, and takes what was found."""
        trail = Trail(self._known, self._stamp())
        side, away = trail.start, None
        home = self._known is not None
        while True:
            try:
                record, sent_s, leased = await self._read(side, registers=home)
                if not home and record is not None and record.rules and record.epoch > self._floor():
                    record, sent_s, leased = await self._read(side, registers=True)
            except (RedisConnectionError, RedisTimeoutError, OSError) as error:
                away = away or error
                if (instead := trail.away(side)) is None:
                    raise self._unreachable(side, away) from away
                side, home = instead.side, False
                continue
            try:
                conclusion = trail.read(side, record)
            except NoRecord:
                if away is None:
                    raise
                raise self._unreachable(side.other, away) from away
            if isinstance(conclusion, Found):
                self._take_over(conclusion, sent_s, leased)
                return
            if isinstance(conclusion, Complete):
                await self._complete(conclusion.write)
            elif isinstance(conclusion, GoOn):
                if home:
                    self._left.add(side)
                home = record is not None and record.kind is Kind.LOST
                side = conclusion.side

    def _floor(self) -> int:
        return self._known.epoch if self._known is not None else 0

    def _unreachable(self, side: Side, error: BaseException) -> RecordUnreachableError:
        place = f"the {side}" if self._known is None else f"the {self._known.authority}, which has authority,"
        return RecordUnreachableError(
            f"migration {self.name!r}: {place} cannot be asked for the phase: {error}"
        )

    async def _read(self, side: Side, *, registers: bool) -> tuple[PhaseRecord | None, float, bool]:
        """The record of a side, when that was asked, and whether we are registered there.

        Raises:
            RedisConnectionError, RedisTimeoutError: It is away.
            MigrationRecordError: It refuses us.
            RecordUnreadable: What is there is no record.
        """
        line = self._lines[side]
        sent_s = now_s()
        if registers:
            self._renewals += 1
            replies = await line.exchange(
                (b"MULTI",),
                (b"HSET", self._writers, self.writer_id.encode(), encode_entry(self._entry())),
                (b"HGETALL", self._key),
                (b"EXEC",),
                again=True,
            )
            if isinstance(replies[-1], list):
                written, fields = replies[-1]
                return self._decoded(side, fields, written), sent_s, True
            refusal = next((one for one in replies if isinstance(one, ResponseError)), replies[-1])
            if not takes_no_writes(refusal):
                raise self._refused(side, refusal)
        (fields,) = await line.exchange((b"HGETALL", self._key), again=True)
        return self._decoded(side, fields, None), sent_s, False

    def _decoded(self, side: Side, fields: Any, written: Any) -> PhaseRecord | None:
        for reply in (fields, written):
            if isinstance(reply, ResponseError):
                if str(reply).startswith("WRONGTYPE"):
                    raise RecordUnreadable(
                        f"On the {side}, another value than Keyferry's stands in its place."
                    )
                raise self._refused(side, reply)
        return decode(side, dict(zip(fields[::2], fields[1::2], strict=True)))

    def _refused(self, side: Side, reply: object) -> RedisError:
        if not_to_be_relied_on(reply):
            return RedisConnectionError(f"the {side} says: {reply}")
        return MigrationRecordError(
            f"migration {self.name!r}: the {side} refuses its phase record: {reply}. "
            "The user needs the keys ~keyferry:*, the channel &keyferry:*, and the commands "
            "multi, exec, watch, hset, hgetall, hdel, publish, subscribe, ping."
        )

    def _take_over(self, found: Found, sent_s: float, leased: bool) -> None:
        before, standing = self._known, found.standing
        if before is not None and before.authority is not standing.authority:
            self._lease.moved(standing)
            self._left.add(before.authority)
        self._leased = leased
        if leased:
            self._lease.renewed(standing, sent_s, now_s())
        self._left.discard(standing.authority)
        self._known, self.record = standing, found.record
        if before is None or (self._taken is None and before == standing):
            self._taken = standing
        elif before != standing:
            if self._on_seen is not None:
                self._on_seen(standing)
            self._steps = [step for step in self._steps if step.alive()]
            self._steps.append(spawn(_bound(self._step, standing), "keyferry-step"))

    async def _step(self, standing: Standing) -> None:
        """Waits until nothing older is under way, then says so."""
        await self._on_step(standing)
        if self._taken is None or standing.epoch > self._taken.epoch:
            self._taken = standing
        if self._ended.is_set():
            return
        try:
            await self._look(now_s())
        except RedisError:
            pass  # the worker goes on trying, and the next renewal says it
        await self._reply()

    def _asked(self) -> PhaseRecord | None:
        """The record, when it asks what we have not answered and what was before it is over."""
        record, taken = self.record, self._taken
        if record is None or taken is None or taken.epoch != record.epoch:
            return None
        return record if self._answer.owed(record) and not self._ended.is_set() else None

    async def _reply(self) -> None:
        """Answers the record's question, if there is one; says so at once."""
        async with self._answering:
            if (record := self._asked()) is None:
                return
            other = self.standing.authority.other
            line = AsyncRecordLine(self._sides[other], self._key)
            if not await self._answer.give(record, other, line):
                return
            async with self._lock:
                if not self._ended.is_set():
                    # The way over begins on this line: it is known to work.
                    self._lines[other], line = line, self._lines[other]
                await line.close()
        try:
            await self._look(now_s())
        except RedisError:
            pass  # as above

    async def _complete(self, write: Write) -> None:
        """Makes the other side's mark (rule 15); somebody else may be faster. Raises as ``_read``."""
        check_write(write)
        line = self._lines[write.side]
        _, fields = await line.exchange((b"WATCH", self._key), (b"HGETALL", self._key))
        if decode(write.side, dict(zip(fields[::2], fields[1::2], strict=True))) != write.expected:
            await line.exchange((b"UNWATCH",))
            return
        await line.exchange(
            (b"MULTI",),
            (b"HSET", self._key, *(part for pair in encode(write.becomes).items() for part in pair)),
            (b"PUBLISH", channel(self.name), b"%d" % write.becomes.epoch),
            (b"EXEC",),
        )

    async def _check_other(self, side: Side) -> None:
        """Both sides may claim authority after a restore from a copy. A side that is away says nothing."""
        try:
            async with self._lock:
                record, _, _ = await self._read(side, registers=False)
            check_single({side: record, side.other: self.record})
        except (RedisConnectionError, RedisTimeoutError, OSError, MigrationRecordError):
            return
        except RecordError as error:
            raise client_error(error, self.name) from error

    def _entry(self) -> WriterEntry:
        taken = self._taken
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

    async def _work(self) -> None:
        failures = 0
        try:
            while not self._ended.is_set():
                try:
                    await self._look(now_s())
                    failures = 0
                except RedisError:
                    failures += 1
                await self._take_off_left()
                if self._asked() is not None and (self._replier is None or not self._replier.alive()):
                    self._replier = spawn(self._reply, "keyferry-answer")
                await self._hear(self._next_look_s(failures))
        finally:
            await self._close_ear()
            if not self._ended.is_set():
                await self._close_lines()

    def _next_look_s(self, failures: int) -> float:
        """When to look again, on our clock, if nothing is heard before."""
        if not failures:
            return max(self._lease.due_s(), self._looked_s + PAUSE_S)
        return now_s() + min(PAUSE_S_MAX, PAUSE_S * 2 ** min(failures, 10))

    async def _hear(self, until_s: float) -> None:
        """Waits until a step is told, or until the time; a new subscription counts as told: look after it."""
        if self._known is None:
            await wait_event(self._ended, max(0.0, until_s - now_s()))
            return
        try:
            if self._ear is None or self._ear_side is not self._known.authority:
                await self._open_ear(self._known.authority)
                return
            await self._listen(self._ear, until_s)
        except RedisError as error:
            await self._close_ear()
            if self._ended.is_set():
                return
            log.debug("keyferry: no push of steps: %s", error, extra={"migration": self.name})
            await wait_event(self._ended, max(0.0, min(until_s - now_s(), PAUSE_S_MAX)))

    async def _listen(self, ear: AsyncRecordLine, until_s: float) -> None:
        """Ends with a message or with the time. A connection that gives no sign of life is given up."""
        began_s, alive = now_s(), False
        await ear.ping()
        while not self._ended.is_set():
            message = await ear.message(max(0.001, until_s - now_s()))
            if message is None:
                if not alive and now_s() - began_s >= PAUSE_S_MAX:
                    raise RedisConnectionError("the subscription gives no sign of life")
                return
            if message[0] == b"message":
                return
            alive = True

    async def _open_ear(self, side: Side) -> None:
        await self._close_ear()
        ear = AsyncRecordLine(self._sides[side], self._key)
        self._ear, self._ear_side = ear, side
        await ear.subscribe(channel(self.name))

    async def _close_ear(self) -> None:
        ear, self._ear = self._ear, None
        if ear is not None:
            await ear.close()

    async def _take_off_left(self) -> None:
        """Takes our entry off sides that have lost authority; once each, and it does not matter."""
        left, self._left = self._left, set()
        for side in left:
            async with self._lock:
                if self._known is None or self._known.authority is not side:
                    await self._take_off(side)
                    await self._lines[side].close()

    async def _take_off(self, side: Side) -> None:
        try:
            await self._lines[side].exchange((b"HDEL", self._writers, self.writer_id.encode()))
        except (RedisError, OSError) as error:
            log.debug("keyferry: not taken off the %s: %s", side, error, extra={"migration": self.name})

    async def _close_lines(self) -> None:
        for line in self._lines.values():
            await line.close()

    def forked(self) -> None:
        """In a child process: nothing of the parent's is touched, and the next ``look_again`` registers anew."""
        held = [line.abandon() for line in self._lines.values()]
        if self._ear is not None:
            held.append(self._ear.abandon())
        self._abandoned += [held, self._worker, self._steps, self._lock]
        self._facts = replace(self._facts, pid=os.getpid())
        self._begin()


def _bound(work: Callable[[Standing], Any], standing: Standing) -> Callable[[], Any]:
    return lambda: work(standing)


def _stopper(reference: weakref.ref[AsyncMembership]) -> Callable[[], Any]:
    def stop() -> Any:
        membership = reference()
        return membership.stop() if membership is not None and membership in _LIVE else None

    return stop


def _after_fork() -> None:
    for membership in list(_LIVE):
        membership.forked()


os.register_at_fork(after_in_child=_after_fork)
