"""One process's part in one migration: what the clients of the same two servers share.

    Crossing
      state       the phase as every operation sees it; another object with every step
      order       turns on keys, shared by all threads and event loops of the process
      mirrors     second legs to either side          background    those that wait
      ledger      keys to be settled                   membership    lease and phase record, if there is one

How a step is taken, so that `hold` is acknowledged only when nothing is under way any more:

1. an operation puts itself into `state.operations`, and looks again whether that state is still the current one
2. the step puts another state in place, then waits until the old one's `operations` are empty
3. an operation that came between 1 and 2 either saw the new state at its second look, or is waited for
"""

from __future__ import annotations

import functools
import logging
import os
import socket
import sys
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException, RedisError, ResponseError

from keyferry import __version__
from keyferry.capture.clients._async.background import Background
from keyferry.capture.clients._async.ends import End, close_pool, encoder_of, mirror_pool
from keyferry.capture.clients._async.heard import Operation
from keyferry.capture.clients._async.membership import AsyncMembership
from keyferry.capture.clients._async.mirror import DIALS_AHEAD, Batch, Mirror
from keyferry.capture.clients._async.platform import (
    IS_ASYNC,
    BaseRedis,
    ConnectionPool,
    Event,
    Lock,
    at_exit,
    context_key,
    sleep,
    wait_event,
)
from keyferry.capture.clients._async.preparing import prepare
from keyferry.capture.clients._async.record_line import AsyncSideAccess
from keyferry.capture.clients._async.reporter import AsyncReporter
from keyferry.capture.clients._async.shadow import Shadow
from keyferry.capture.clients.counts import Counts, Reason
from keyferry.capture.clients.cursors import Cursors
from keyferry.capture.clients.errors import HoldTimeoutError, LookAgain, OutcomeUnknownError
from keyferry.capture.clients.ledger import Ledger
from keyferry.capture.clients.migration import Migration
from keyferry.capture.clients.options import ClientOptions
from keyferry.capture.clients.order import KeyOrder
from keyferry.capture.clients.registry import CROSSINGS, order_of
from keyferry.model.phases import RULES, Phase, Side, Standing, fixed
from keyferry.model.writers import WriterFacts

log = logging.getLogger("keyferry.clients")

_UNKNOWN_MAX = 1_000  # names of unknown commands that are remembered, to log each once
_SPEAKER_SECONDS = 2.0
_CLIENT = f"keyferry {__version__}, redis-py {redis.__version__}"
_LOSSLESS = frozenset({"strict", "surrogateescape", "surrogatepass"})
_BEFORE_THE_RECORD = (Phase.SOURCE, 0, Side.SOURCE)


class State:
    """A standing, spelled out for the operations that run under it.

    Attributes:
        operations: one entry for each operation that is under way, second legs that wait included.
        over: set when another state has taken its place.
        plain: nothing to do but what redis-py does: one fixed side.
        dynamic: the phase may change: leases and looks.
    """

    __slots__ = (
        "authority",
        "dynamic",
        "mirror",
        "operations",
        "over",
        "plain",
        "shadows",
        "standing",
        "waits",
    )

    def __init__(self, standing: Standing, *, dynamic: bool) -> None:
        rules = RULES[standing.phase]
        self.standing = standing
        self.authority = standing.authority
        self.mirror = standing.mirror
        self.waits = rules.waits
        self.shadows = rules.shadows
        self.dynamic = dynamic
        self.plain = not dynamic and self.mirror is None
        self.operations: list[None] = []
        self.over = Event()


class Crossing:
    """See the module. Made by `crossing_of`; clients keep it alive."""

    def __init__(self, options: ClientOptions, ends: dict[Side, End], order: KeyOrder) -> None:
        self.options = options
        self.ends = ends
        self.order = order
        self.counts = Counts()
        self.writer = uuid.uuid4().hex
        self.ledger = self._new_ledger()
        self.ahead = options.ledger == "ahead"
        self.migration = Migration(self)
        self.membership: AsyncMembership | None = None
        self._joining = Lock()
        self._older: list[State] = []
        self._mutex = threading.RLock()
        self._subscriptions: weakref.WeakSet[Any] = weakref.WeakSet()
        self._clients: weakref.WeakSet[Any] = weakref.WeakSet()
        self.names: tuple[str, ...] = ()  # under which our clients' connections go; told with each renewal
        self.cursors = Cursors()
        self.blocked: dict[int, Operation] = {}
        self.unblocking = Lock()
        self._unblocks: dict[Side, bool] = {}
        standing = Standing(*_BEFORE_THE_RECORD) if options.phase is None else fixed(options.phase)
        self.state = State(standing, dynamic=options.phase is None)
        # With a fixed phase one side at most is ever mirrored to.
        self.mirrors = {
            side: Mirror(self, end)
            for side, end in ends.items()
            if options.phase is None or side is self.state.mirror
        }
        self.background = Background(self) if options.mirror == "background" else None
        self.shadow = Shadow(self)
        self.users = 0
        self._speakers: dict[Side, Any] = {}
        self._reporter: AsyncReporter | None = None
        pool = ends[Side.SOURCE].pool
        encoders = {side: encoder_of(end.pool or pool or ConnectionPool()) for side, end in ends.items()}
        self._encodes: dict[Side, Callable[[Any], bytes]] = {
            side: one.encode for side, one in encoders.items()
        }
        self.encode = self._encodes[self.state.authority]
        """As the authority gets it, so the other side has to."""
        self.lossy = any(one.encoding_errors not in _LOSSLESS for one in encoders.values())
        self._unknown: set[str] = set()

    def _new_ledger(self) -> Ledger:
        options = self.options
        return Ledger(
            options.name,
            self.ends[Side.SOURCE].database,
            writer=self.writer.encode(),
            keys_max=options.ledger_keys_max,
        )

    @property
    def turn_seconds(self) -> float:
        """How long a write waits for its turn. Then it goes on without, and its keys are reported.

        What is before it may hang on its own connection for longer than the application would have us wait for it.
        """
        return self.options.target_timeout_ms / 1000

    @property
    def waiting(self) -> int:
        """Second legs in the queue."""
        return 0 if self.background is None else len(self.background)

    def facts(self, **more: Any) -> dict[str, Any]:
        """What every log record of ours carries as fields: migration, phase and epoch, and more."""
        standing = self.state.standing
        return {"migration": self.options.name, "phase": str(standing.phase), "epoch": standing.epoch, **more}

    @staticmethod
    def now_ms() -> int:
        """Unix time in milliseconds."""
        return time.time_ns() // 1_000_000

    # The phase

    def enter(self) -> State:
        """The state under which an operation runs; `leave` belongs into its finally."""
        while True:
            state = self.state
            state.operations.append(None)
            if state is self.state:
                return state
            state.operations.pop()

    @staticmethod
    def leave(state: State) -> None:
        """The operation is over, its last reply is there or will never be."""
        state.operations.pop()

    def holds(self, state: State) -> bool:
        """Whether an operation of this state may still send something."""
        return (
            state is self.state
            and self.membership is not None
            and self.membership.lease_valid(state.standing)
        )

    async def sure(self, state: State) -> None:
        """Before an operation: the lease is valid, or the record is read again.

        Raises:
            LookAgain: the phase is another one.
            RedisConnectionError: the record cannot be read, or is gone.
        """
        membership = self.membership
        if membership is None:
            await self._join()
        elif not membership.lease_valid(state.standing):
            await membership.look_again()
        if state is not self.state:
            raise LookAgain

    async def _join(self) -> None:
        """The first operation of all reads the record and registers."""
        async with self._joining:
            if self.membership is not None:
                return
            seconds = max(0.5, self.options.lease_ms / 3000)
            membership = AsyncMembership(
                self.options.migration or "",
                {side: AsyncSideAccess(end, seconds) for side, end in self.ends.items()},
                WriterFacts(socket.gethostname(), os.getpid(), Path(sys.argv[0]).name or "python", _CLIENT),
                on_step=self._finish_older,
                on_seen=self._put,
                on_quiet=self._quiet,
                on_prepare=functools.partial(prepare, self),
                names=lambda: self.names,
                lease_ms=self.options.lease_ms,
            )
            self._put(await membership.start())
            # A step may have been heard in between, by another thread, and must not be taken back.
            while self.state.standing != membership.in_force:
                self._put(membership.in_force)
            # The ledger's entries stand under the id that the record knows.
            self.writer = membership.writer_id
            self.ledger.sign(self.writer.encode())
            self.membership = membership
            self.ends_at_exit()

    def _put(self, standing: Standing) -> None:
        """Puts a standing in force, for operations that begin from now on."""
        old = self.state
        if standing == old.standing and self.membership is not None:
            return
        self._older = [state for state in self._older if state.operations] + [old]
        self.encode = self._encodes[standing.authority]
        self.state = State(standing, dynamic=True)
        if standing.authority is not old.authority:
            with self._mutex:
                for client in list(self._clients):
                    client.move(standing.authority)
        old.over.set()
        log.info("phase %s, epoch %s", standing.phase, standing.epoch, extra=self.facts())

    def _quiet(self) -> bool:
        """Whether ``_finish_older`` would have nothing to do."""
        return (
            not any(state.operations for state in self._older if state is not self.state)
            and not len(self._subscriptions)
            and (self._reporter is None or self._reporter.silent)
        )

    async def _finish_older(self, standing: Standing) -> None:
        """Returns when no operation of an older standing is under way: what blocks is taken back, queued legs are sent.

        However long that takes: the coordinator waits for us, or gives the step up.
        """
        with self._mutex:
            subscriptions = list(self._subscriptions)
        for subscription in subscriptions:
            await subscription.follow(self.state)
        pause, before = 0.001, self._older
        while any(state.operations for state in before if state is not self.state):
            await self._take_back_blocked()
            await sleep(pause)
            pause = min(pause * 1.5, 0.05)
        if RULES[standing.phase].waits and self._reporter is not None:
            # Before the gate's last fence every key that is to be settled has to be named.
            while self.state.standing == standing and not await self._reporter.flush(_SPEAKER_SECONDS):
                await sleep(0.05)

    async def _take_back_blocked(self) -> None:
        """CLIENT UNBLOCK for each operation of an older state that may block."""
        for name, operation in list(self.blocked.items()):
            if operation.state is self.state:
                continue
            async with self.unblocking:
                if name not in self.blocked:
                    continue
                operation.taken_back = True
                try:
                    await self.speaker(operation.state.authority).execute_command(
                        "CLIENT UNBLOCK", operation.client_id
                    )
                except (RedisError, OSError) as error:
                    log.debug("a blocked command cannot be taken back: %s", error, extra=self.facts())

    async def can_take_back(self, side: Side) -> bool:
        """Whether blocked commands can be taken back from a side; asked once. Where not, they wait in slices."""
        known = self._unblocks.get(side)
        if known is None:
            if self.ends[side].pool is None:
                known = False
            else:
                try:
                    await self.speaker(side).execute_command("CLIENT ID")
                    await self.speaker(side).execute_command("CLIENT UNBLOCK", 0)
                    known = True
                except ResponseError as error:
                    log.info(
                        "the %s lets nobody take back a blocked command: %s", side, error, extra=self.facts()
                    )
                    known = False
                except (RedisError, OSError):
                    return True  # it is away: the command itself will say so
            self._unblocks[side] = known
        return known

    async def confirm(self, state: State, keys: Sequence[bytes], *, repeats: bool = False) -> None:
        """After a first leg: its reply may be passed on only if the lease held all the time, or the record is the same.

        Args:
            repeats: it only read, so it may be sent again, by the record as it is now.

        Raises:
            LookAgain: neither, and it repeats.
            OutcomeUnknownError: neither; its keys are reported.
        """
        assert self.membership is not None
        # An older standing counts as long as the lease held: the step is not acknowledged before we are done.
        if self.membership.lease_valid(state.standing):
            return
        try:
            standing = await self.membership.look_again()
        except Exception as error:
            self.report(keys, Reason.DOUBTFUL)
            raise OutcomeUnknownError(
                "the command was sent, and the phase record could not be read again to know whether it counts"
            ) from error
        if standing != state.standing:
            if repeats:
                raise LookAgain
            self.report(keys, Reason.DOUBTFUL)
            raise OutcomeUnknownError(
                "the command was sent while the phase changed: whether it counts is not known"
            )

    async def look_after(self) -> None:
        """After a read in `hold`: the record itself is looked at, a lease is not enough there (rule 13)."""
        assert self.membership is not None
        await self.membership.look_again()

    async def wait_for_step(self, state: State, deadline: float) -> None:
        """Waits in `hold` for the next phase.

        Raises:
            HoldTimeoutError: it did not come in time (monotonic seconds); nothing was written.
        """
        if not await wait_event(state.over, max(0.0, deadline - time.monotonic())) and state is self.state:
            raise HoldTimeoutError(
                f"a cutover has held writes back for more than {self.options.hold_timeout_ms} ms; nothing was written"
            )

    def add_client(self, client: Any) -> None:
        """One more client, whose `move` is called when authority moves, as long as somebody keeps it."""
        with self._mutex:
            self._clients.add(client)
            client.move(self.state.authority)

    def add_names(self, names: Iterable[str]) -> None:
        """One more client's connections go under these."""
        with self._mutex:
            self.names = tuple(dict.fromkeys((*self.names, *names)))

    def add_subscription(self, subscription: Any) -> None:
        """One more subscriber, whose `follow` is called with every step as long as somebody keeps it."""
        with self._mutex:
            self._subscriptions.add(subscription)

    def encoded(self, keys: Iterable[Any]) -> list[bytes]:
        """Keys as the server sees them."""
        encode = self.encode
        return [key if key.__class__ is bytes else encode(key) for key in keys]

    # Reporting

    def report(self, keys: Sequence[bytes], reason: Reason, database: int | None = None) -> None:
        """Keys that are to be settled, of our database or of another one."""
        if keys:
            self.counts.reported[reason] += len(keys)
            if self.options.ledger != "off":
                self.ledger.add(keys, reason, database)
                self.start_reporter()

    def report_everything(self, reason: Reason) -> None:
        """Any key may differ."""
        self.counts.reported[reason] += 1
        if self.options.ledger != "off":
            self.ledger.add_everything(reason)
            self.start_reporter()

    async def room_ahead(self) -> None:
        """Before an entry is opened: the ledger's worker runs, and is not far behind."""
        self.start_reporter()
        if self.ledger.crowded and self._reporter is not None:
            await self._reporter.flush(_SPEAKER_SECONDS)

    def ahead_refused(self) -> None:
        """The server refused a ledger entry: nobody would settle what its writer leaves behind."""
        self.report_everything(Reason.FAILED)

    def unknown_command(self, args: Sequence[Any]) -> None:
        """A command that the table does not know: counted, and logged once."""
        name = args[0] if isinstance(args[0], str) else bytes(args[0]).decode("ascii", "replace")
        self.counts.unknown_commands[name.upper()] += 1
        if name not in self._unknown and len(self._unknown) < _UNKNOWN_MAX:
            self._unknown.add(name)
            log.warning(
                "unknown command %s: it goes to the %s only",
                name[:64],
                self.state.authority,
                extra=self.facts(command=name[:64]),
            )

    async def keys_by_server(self, args: Sequence[Any]) -> list[bytes]:
        """The keys of a command that the table does not know, as the server names them."""
        words = str(args[0]).split() if isinstance(args[0], str) else [args[0]]
        try:
            keys = await self.speaker(self.state.authority).execute_command(
                "COMMAND GETKEYS", *words, *args[1:]
            )
        except (RedisError, RedisClusterException, OSError):
            return []  # it has no keys, or the server does not say: the feeds of a sync see what it did
        return self.encoded(keys)

    def speaker(self, side: Side) -> Any:
        """A client of our own on a side, for what is not the application's business; with short time-outs."""
        speaker = self._speakers.get(side)
        if speaker is None:
            end = self.ends[side]
            if end.pool is None:
                speaker = end.cluster
            else:
                speaker = BaseRedis(connection_pool=mirror_pool(end.pool, _SPEAKER_SECONDS, None))
            speaker = self._speakers.setdefault(side, speaker)
        return speaker

    def start_reporter(self) -> None:
        """The ledger's worker runs, and says that this ledger has writers: at once where a follower may rely on it."""
        with self._mutex:
            begins = self._reporter is None
            if self._reporter is None:
                self._reporter = AsyncReporter(
                    self.ledger,
                    lambda: self.speaker(self.state.authority),
                    ahead=self.ahead,
                    announces=self.ahead or self.options.migration is not None,
                )
            self._reporter.start()
        if begins:
            self.ends_at_exit()

    def ends_at_exit(self) -> None:
        """Has all of it closed in its order before the interpreter ends.

        Called again after each part that has an end of its own: what was registered last is done first.
        """
        at_exit(functools.partial(_close_at_exit, weakref.ref(self)))

    async def flush(self, timeout_seconds: float = 5.0) -> bool:
        """Waits until what waits in the background has been sent, and the ledger says what it has to say.

        Returns:
            False when that took longer; what waits is not lost by that.
        """
        done = self.background is None or await self.background.drain(timeout_seconds)
        if self._reporter is not None:
            done = await self._reporter.flush(timeout_seconds) and done
        return done

    # Second legs

    async def second_leg(self, state: State, batch: Batch) -> None:
        """Sends it, or queues it; in the second case the operation stays under way until it is done."""
        if self._reporter is None and self.options.ledger != "off":
            self.start_reporter()
        side = state.mirror
        if side is None or not batch.commands:
            if batch.entry is not None:
                self.ledger.close(batch.entry)
            return
        if self.background is None:
            await self.mirrors[side].carry((batch,))
        else:
            self.background.put(state, side, batch)

    def on_mirror_connect(self, side: Side, node: str = "") -> Callable[[Any], Any] | None:
        """What a new mirror connection has to do before its first use: with a record, to be registered there.

        Args:
            node: of a cluster: "host:port".
        """
        if self.options.phase is not None:
            return None

        async def registered(connection: Any) -> None:
            if self.membership is None:
                return
            await connection.send_command("CLIENT", "ID")
            client_id = int(await connection.read_response())
            standing = await self.membership.register_connection(side, client_id, node)
            if standing.mirror is not side and not (DIALS_AHEAD.get() and standing.authority is side):
                raise RedisConnectionError("the phase has changed: no second legs to this side any more")

        return registered

    async def leave_user(self) -> None:
        """A client is closed. What it left waiting is sent; with the last one, what runs in the background ends."""
        self.users -= 1
        if self.users > 0:
            await self.flush()
        else:
            await self.close()

    async def close(self) -> None:
        """Ends what runs in the background, after it is done or its time is over; a client that is used again begins anew."""
        if self.background is not None:
            await self.background.stop()
        if self.membership is not None:
            await self.membership.stop()
            self.membership = None
        if self._reporter is not None:
            await self._reporter.stop()
        for mirror in self.mirrors.values():
            await mirror.close()
        speakers, self._speakers = self._speakers, {}
        for side, speaker in speakers.items():
            if self.ends[side].pool is not None:
                await close_pool(speaker.connection_pool)

    def forked(self) -> None:
        """In a child process: what the parent's threads were doing is not ours."""
        standing = self.state.standing
        self.writer = uuid.uuid4().hex if self.membership is None else self.membership.writer_id
        self.ledger = self._new_ledger()
        self._reporter = None
        self.blocked = {}
        self.unblocking = Lock()
        self._mutex = threading.RLock()
        # The parent's subscribers stay the parent's; one that has not begun yet may be anybody's.
        self._subscriptions = weakref.WeakSet([one for one in self._subscriptions if one.connection is None])
        self._older = []
        self._joining = Lock()
        self._speakers = {}
        for mirror in self.mirrors.values():
            mirror.forked()
        self.state = State(standing, dynamic=self.options.phase is None)
        if self.background is not None:
            self.background = Background(self)
        self.shadow = Shadow(self)


async def _close_at_exit(reference: weakref.ref[Crossing]) -> None:
    crossing = reference()
    if crossing is not None:
        await crossing.close()


def _after_fork() -> None:
    for crossing in list(CROSSINGS.values()):
        if isinstance(crossing, Crossing):
            crossing.forked()


os.register_at_fork(after_in_child=_after_fork)


def crossing_of(options: ClientOptions, ends: dict[Side, End]) -> Crossing:
    """The crossing of these two servers with these settings in this process (and event loop)."""
    places = tuple(end.place for end in ends.values())
    name = (IS_ASYNC, options, places, tuple(end.encoding for end in ends.values()), context_key())
    crossing: Crossing | None = CROSSINGS.get(name)
    if crossing is None:
        crossing = CROSSINGS.setdefault(name, Crossing(options, ends, order_of(places)))
    return crossing
