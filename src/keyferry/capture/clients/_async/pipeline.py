"""Pipelines: the stack goes to the authority in one packet, what succeeded goes to the mirror side in another.

A transaction stays one: it runs on one side, and its second leg is a transaction too. What was watched on a side that
has lost authority meanwhile ends in WatchError, as if a watched key had changed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from redis.exceptions import ExecAbortError, ResponseError, WatchError

from keyferry.capture.clients._async.carrying import WRITES, carry, decide, report_written, waits_in_hold
from keyferry.capture.clients._async.crossing import Crossing, State
from keyferry.capture.clients._async.ends import End
from keyferry.capture.clients._async.flushing import TAKES_THE_RECORD, refuse
from keyferry.capture.clients._async.heard import KEY, Heard, HeardMany, Operation
from keyferry.capture.clients._async.mirror import Batch
from keyferry.capture.clients._async.platform import BasePipeline, transactional, wait_turn
from keyferry.capture.clients.counts import Reason
from keyferry.capture.clients.errors import LookAgain, OutcomeUnknownError
from keyferry.capture.clients.shaped import Shaped
from keyferry.model.command_treatments import Treatment
from keyferry.model.commands import CommandInfo, look_up, written_keys_of
from keyferry.model.phases import Side

if TYPE_CHECKING:
    from keyferry.capture.clients._async.client import Redis

Stack = list[tuple[tuple[Any, ...], Any]]


class Written:
    """What a stack of commands may write.

    Attributes:
        infos: of each command, what the table says; None where it does not know it.
        keys: of each command, the keys that it may write.
        writes: any of them may write.
        waits: any of them waits while a gate is closed.
        reads: all of them only read.
        everything: one changes keys that it does not name, or may.
    """

    __slots__ = ("everything", "infos", "keys", "reads", "waits", "writes")

    def __init__(self, crossing: Crossing, stack: Stack) -> None:
        self.infos: list[CommandInfo | None] = []
        self.keys: list[list[bytes]] = []
        self.writes = self.waits = self.everything = False
        self.reads = True
        for args, _ in stack:
            info = look_up(args)
            self.infos.append(info)
            self.waits = self.waits or waits_in_hold(info)
            self.reads = self.reads and info is not None and info.treatment is Treatment.READ
            if info is None or info.treatment not in WRITES:
                self.keys.append([])
                self.writes = self.writes or info is None
                continue
            self.writes = True
            keys = crossing.encoded(written_keys_of(info, args))
            self.everything = self.everything or info.everything
            self.keys.append(keys)

    @property
    def all_keys(self) -> list[bytes]:
        return [key for keys in self.keys for key in keys]

    async def ask_for_keys(self, crossing: Crossing, stack: Stack) -> None:
        """Asks the server for the keys of commands that the table does not know."""
        for index, info in enumerate(self.infos):
            if info is None and not self.keys[index]:
                self.keys[index] = await crossing.keys_by_server(stack[index][0])

    def report(self, crossing: Crossing, reason: Reason) -> None:
        """All that it may have written is to be settled."""
        crossing.report(self.all_keys, reason)
        if self.everything:
            crossing.report_everything(reason)


class Pipeline(BasePipeline):
    """redis-py's pipeline for two servers.

    Args:
        client: who made it.
        crossing: whose phase counts.
        ends: the two servers.
        transaction: wrap the stack in MULTI and EXEC.
        shard_hint: redis-py's.
    """

    def __init__(
        self,
        client: Redis,
        crossing: Crossing,
        ends: dict[Side, End],
        transaction: bool,
        shard_hint: str | None,
    ) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, shard_hint)
        self._crossing = crossing
        self._ends = ends
        self._stands_on: Side | None = None
        self._operation: Operation | None = None
        self._heard: list[Any] | None = None
        self._shaped: list[Any] | None = None
        self._ahead_unread = False

    # Sending, as redis-py does it, with a look before each attempt

    async def _send_command_parse_response(
        self, conn: Any, command_name: Any, *args: Any, **options: Any
    ) -> Any:
        operation = options.pop(KEY, None)
        if operation is None:
            return await super()._send_command_parse_response(conn, command_name, *args, **options)
        operation.attempt()
        try:
            await operation.send(conn, args, options)
            return await self.parse_response(Heard(conn, operation), command_name, **options)
        finally:
            await operation.let_go()

    async def _execute_transaction(self, connection: Any, commands: Any, raise_on_error: bool) -> Any:
        await self._begin_attempt(connection)
        return await super()._execute_transaction(connection, commands, raise_on_error)

    async def _execute_pipeline(self, connection: Any, commands: Any, raise_on_error: bool) -> Any:
        await self._begin_attempt(connection)
        return await super()._execute_pipeline(connection, commands, raise_on_error)

    async def _begin_attempt(self, connection: Any) -> None:
        operation = self._operation
        if operation is None:
            return
        operation.attempt()
        if operation.ahead is not None:
            await connection.send_command(*operation.ahead)
            self._ahead_unread = True
        self._heard = []

    async def _read_ahead(self, connection: Any) -> None:
        """The reply to the ledger's entry, which comes before the stack's own."""
        self._ahead_unread = False
        try:
            await connection.read_response()
        except ResponseError:
            self._crossing.ahead_refused()

    async def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        """As redis-py's own."""
        if self._ahead_unread:
            await self._read_ahead(connection)
        if self._heard is not None:
            connection = HeardMany(connection, self._heard)
        return await super().parse_response(connection, command_name, **options)

    # Immediate commands: WATCH, and what is asked between it and MULTI

    async def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        """As redis-py's own: at once, on the connection that watches."""
        if self._crossing.state.plain:
            return await super().immediate_execute_command(*args, **options)
        return await carry(self._crossing, self._immediately, args, options)

    async def _immediately(self, side: Side, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        await self._stand_on(side)
        return await super().immediate_execute_command(*args, **options)

    async def _stand_on(self, side: Side) -> None:
        """Makes that side's pool ours.

        Raises:
            WatchError: keys are watched on the other one.
        """
        pool = self._ends[side].pool
        if self.connection is not None and self._stands_on not in (None, side):
            if self.watching:
                await self.reset()
                raise WatchError("The authority has moved to the other server while keys were watched.")
            # Kept from an immediate command before the authority moved.
            connection, self.connection = self.connection, None
            await self.connection_pool.release(connection)
        if self.connection is None and pool is not None:
            self.connection_pool = pool
        self._stands_on = side

    # The stack

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """As redis-py's own."""
        crossing = self._crossing
        stack: Stack = list(self.command_stack)
        if crossing.state.plain or not stack:
            return await super().execute(raise_on_error)
        try:
            return await self._carry(crossing, stack, raise_on_error)
        finally:
            self._operation = None
            self._heard = self._shaped = None
            await self.reset()

    async def _carry(self, crossing: Crossing, stack: Stack, raise_on_error: bool) -> list[Any]:
        written = Written(crossing, stack)
        if crossing.options.phase is None:
            for info in written.infos:
                if info is not None and info.name in TAKES_THE_RECORD:
                    raise refuse(info.name, "is not done in a pipeline")
        scripts, deadline = self.scripts, 0.0
        while True:
            if scripts:
                # redis-py would load them while the stack has its turn, and loading waits for a turn of its own.
                self.scripts = scripts
                await self.load_scripts()
                self.scripts = set()
            state = crossing.enter()
            try:
                if state.dynamic:
                    await crossing.sure(state)
                await self._stand_on(state.authority)
                if not (state.waits and written.waits):
                    return await self._execute_on(crossing, state, stack, written, raise_on_error)
            except LookAgain:
                if state is crossing.state:
                    continue
            finally:
                crossing.leave(state)
            deadline = deadline or time.monotonic() + crossing.options.hold_timeout_ms / 1000
            if state is crossing.state:
                await crossing.wait_for_step(state, deadline)

    async def _execute_on(
        self, crossing: Crossing, state: State, stack: Stack, written: Written, raise_on_error: bool
    ) -> list[Any]:
        mirrors = state.mirror is not None and written.writes
        keys = written.all_keys if mirrors else []
        turn, raced, succeeded = None, False, False
        if mirrors:
            turn = crossing.order.take_all() if written.everything else crossing.order.take(keys)
        try:
            if turn is not None and not turn.ready:
                raced = not await wait_turn(turn, crossing.turn_seconds)
                if state is not crossing.state:
                    raise LookAgain
            transaction = self._transactional
            batch = Batch(atomic=transaction)
            if mirrors and crossing.ahead:
                await written.ask_for_keys(crossing, stack)
                await crossing.room_ahead()
                keys = written.all_keys
                names = keys and not written.everything
                batch.entry = crossing.ledger.open(keys) if names else crossing.ledger.open_everything()
            operation = self._operation = Operation(crossing, state, ahead=batch.entry)
            watched, explicit = self.watching, self.explicit_transaction
            replies, error = await self._first_leg(crossing, state, stack, written, batch, raise_on_error)
            succeeded = True
            if state.dynamic:
                if state.waits:
                    await crossing.look_after()
                try:
                    await crossing.confirm(state, written.all_keys, repeats=written.reads and not watched)
                except LookAgain:
                    self.command_stack, self.explicit_transaction = stack, explicit
                    raise
            if mirrors:
                if operation.attempts > 1:
                    written.report(crossing, Reason.DOUBTFUL)
                if raced:
                    written.report(crossing, Reason.RACED)
                await self._fill(crossing, batch, stack, written, self._raw_replies(len(stack), transaction))
                await crossing.second_leg(state, batch)
        except BaseException:
            if succeeded and mirrors:
                # Cancelled on the way to the second leg, or told to raise: what the mirror side has is not known.
                written.report(crossing, Reason.UNKNOWN)
            raise
        finally:
            if turn is not None:
                turn.leave()
        if error is not None:
            raise error
        return replies

    async def _first_leg(
        self,
        crossing: Crossing,
        state: State,
        stack: Stack,
        written: Written,
        batch: Batch,
        raise_on_error: bool,
    ) -> tuple[list[Any], ResponseError | None]:
        """What the authority says, and the error that redis-py would raise for one of the commands."""
        operation = self._operation
        assert operation is not None
        watched, explicit = self.watching, self.explicit_transaction
        try:
            return await self._run(state, raise_on_error), None
        except (WatchError, ExecAbortError):
            # Nothing was done.
            if batch.entry is not None:
                crossing.ledger.close(batch.entry)
            raise
        except LookAgain:
            if not operation.attempts:
                if watched:
                    raise WatchError("The phase changed while keys were watched.") from None
                # redis-py's own execute has reset the pipeline on its way out.
                self.command_stack, self.explicit_transaction = stack, explicit
                raise
            written.report(crossing, Reason.DOUBTFUL)
            raise OutcomeUnknownError("the connection was lost while the phase changed") from None
        except ResponseError as error:
            # The others have been carried out all the same.
            return [], error
        except BaseException:
            written.report(crossing, Reason.DOUBTFUL)
            raise

    async def _run(self, state: State, raise_on_error: bool) -> list[Any]:
        cluster = self._ends[state.authority].cluster
        if cluster is None:
            return await super().execute(raise_on_error)
        assert self._operation is not None
        self._operation.attempt()
        stack = list(self.command_stack)
        # A transaction across slots is the cluster client's error: it is never cut in two.
        pipe = cluster.pipeline(transaction=True) if self._transactional else cluster.pipeline()
        for args, options in stack:
            pipe.execute_command(*args, **options)
        replies: list[Any] = await pipe.execute(raise_on_error=False)
        self._shaped = [reply if isinstance(reply, Exception) else Shaped(reply) for reply in replies]
        if raise_on_error:
            self.raise_first_error(stack, replies)
        return replies

    @property
    def _transactional(self) -> bool:
        return transactional(self) or self.explicit_transaction

    def _raw_replies(self, count: int, transaction: bool) -> list[Any] | None:
        """The reply to each command as it was read; None where they are not known one by one."""
        if self._shaped is not None:
            return self._shaped if len(self._shaped) == count else None
        heard = self._heard
        if not heard:
            return None
        if transaction:
            heard = heard[-1]
        return heard if isinstance(heard, list) and len(heard) == count else None

    async def _fill(
        self, crossing: Crossing, batch: Batch, stack: Stack, written: Written, replies: list[Any] | None
    ) -> None:
        """What the mirror side is told about each command that succeeded."""
        for index, (args, _) in enumerate(stack):
            info, keys = written.infos[index], written.keys[index]
            if info is None:
                crossing.unknown_command(args)
                crossing.report(keys or await crossing.keys_by_server(args), Reason.REPORTED)
                continue
            if info.treatment not in WRITES:
                continue
            if replies is None:
                report_written(crossing, info, keys, Reason.REPORTED)
            elif isinstance(replies[index], Exception):
                if info.treatment is Treatment.REPORT:
                    report_written(crossing, info, keys, Reason.DOUBTFUL)
            else:
                decide(crossing, batch, info, args, replies[index], keys)
