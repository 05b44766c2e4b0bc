"""One command of the application on its way: first leg, second leg, and what is known in the end.

look at the phase -> turn on the keys -> first leg -> does it count? -> second leg, or keys reported -> reply
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from redis.exceptions import NoScriptError, ResponseError

from keyferry.capture.clients._async.crossing import Crossing, State
from keyferry.capture.clients._async.flushing import TAKES_THE_RECORD, flush, refuse
from keyferry.capture.clients._async.heard import KEY, Operation
from keyferry.capture.clients._async.mirror import Batch
from keyferry.capture.clients._async.platform import wait_event, wait_turn
from keyferry.capture.clients.blocking import SLICE_SECONDS, Patience, patience_seconds
from keyferry.capture.clients.compare import holds_text
from keyferry.capture.clients.counts import Reason
from keyferry.capture.clients.cursors import SCANS
from keyferry.capture.clients.errors import LookAgain, OutcomeUnknownError, TakenBack
from keyferry.capture.clients.shaped import UNHEARD, Shaped
from keyferry.model.command_treatments import Treatment
from keyferry.model.commands import CommandInfo, look_up, other_database, written_keys_of
from keyferry.model.phases import Side
from keyferry.model.rewriting import second_leg
from keyferry.model.second import UNTOLD

FirstLeg = Callable[[Side, tuple[Any, ...], dict[str, Any]], Any]
Nothing = Callable[[str, dict[str, Any]], Any]

_PUBLISHES = frozenset({"PUBLISH", "SPUBLISH"})
WRITES = frozenset({Treatment.MIRROR, Treatment.REWRITE, Treatment.REPORT, Treatment.BOTH})


def waits_in_hold(info: CommandInfo | None) -> bool:
    """Whether a command waits while a gate is closed: writes, and what is said to subscribers, who move with them."""
    return info is None or info.treatment in WRITES or info.name in _PUBLISHES


async def carry(
    crossing: Crossing,
    first_leg: FirstLeg,
    args: tuple[Any, ...],
    options: dict[str, Any],
    nothing: Nothing = lambda name, options: None,
) -> Any:
    """Carries one command through; gives what redis-py gives for it.

    Args:
        crossing: whose phase counts.
        first_leg: sends a command to one side by redis-py's own ways.
        args: the command as redis-py's methods build it.
        options: redis-py's options for it.
        nothing: what redis-py gives for a blocking command that came back empty.

    Raises:
        redis.exceptions.RedisError: as redis-py itself, and those of `keyferry.capture.clients.errors`.
    """
    info = look_up(args)
    writes = info is None or info.treatment in WRITES
    deadline = 0.0
    patience = None
    if info is not None and info.blocking and (seconds := patience_seconds(info.name, args)) is not None:
        patience = Patience(info.name, args, seconds, time.monotonic())
    while True:
        state = crossing.enter()
        try:
            if state.dynamic:
                await crossing.sure(state)
            if not (state.waits and waits_in_hold(info)):
                if info is not None and info.name in TAKES_THE_RECORD and state.dynamic:
                    return await _flush(crossing, state, info, args)
                if writes and state.mirror is not None:
                    return await _write(crossing, state, first_leg, info, args, options, patience)
                return await _plain(crossing, state, first_leg, info, args, options, patience)
        except LookAgain:
            if state is crossing.state:
                continue
        except TakenBack as taken:
            # It waits for the rest of its time: at once, or on the new side.
            assert patience is not None
            if patience.left(time.monotonic()) <= 0:
                return taken.reply
            continue
        finally:
            crossing.leave(state)
        if patience is not None:
            left = patience.left(time.monotonic())
            if left <= 0 and info is not None:
                return nothing(info.name, options)
            await wait_event(state.over, min(left, SLICE_SECONDS))
            continue
        deadline = deadline or time.monotonic() + crossing.options.hold_timeout_ms / 1000
        if state is crossing.state:
            await crossing.wait_for_step(state, deadline)


async def _blocking(
    crossing: Crossing, state: State, first_leg: FirstLeg, patience: Patience, operation: Operation
) -> tuple[Any, ...]:
    """A blocking command as it is sent now: for the time that is left, or a slice of it."""
    pins = []
    for index, key in patience.open_ends():
        # "$" would mean another place when it is asked for again.
        options = {KEY: Operation(crossing, state)}
        entries: Any = await first_leg(state.authority, ("XREVRANGE", key, "+", "-", "COUNT", 1), options)
        pins.append((index, entries[0][0] if entries else "0-0"))
    if pins:
        patience.pin(pins)
    operation.sliced = not await crossing.can_take_back(state.authority)
    return patience.command(time.monotonic(), sliced=operation.sliced)


async def _flush(crossing: Crossing, state: State, info: CommandInfo, args: tuple[Any, ...]) -> Any:
    """What would take the record away with all keys: the record stays, and the other side is settled."""
    if info.name == "SWAPDB":
        raise refuse(info.name, "is not done")
    turn = crossing.order.take_all()
    try:
        if not turn.ready:
            await wait_turn(turn, crossing.turn_seconds)
            if state is not crossing.state:
                raise LookAgain
        try:
            reply = await flush(crossing.ends[state.authority], crossing.options.name, args)
        finally:
            if state.mirror is not None:
                crossing.report_everything(Reason.REPORTED)
        await crossing.confirm(state, ())
        return reply
    finally:
        turn.leave()


async def _plain(
    crossing: Crossing,
    state: State,
    first_leg: FirstLeg,
    info: CommandInfo | None,
    args: tuple[Any, ...],
    options: dict[str, Any],
    patience: Patience | None,
) -> Any:
    """A command with one leg: a read, or any in a phase without a mirror."""
    operation = None
    blocks = patience is not None and state.dynamic
    if state.dynamic or state.shadows:
        operation = Operation(crossing, state, hears=state.shadows or blocks, blocks=blocks)
        options = {**options, KEY: operation}
        if info is not None and info.name in SCANS:
            args = crossing.cursors.told(state.authority, info.name, args)
        elif blocks and patience is not None:
            args = await _blocking(crossing, state, first_leg, patience, operation)
    try:
        reply = await first_leg(state.authority, args, options)
    except LookAgain:
        if operation is not None and operation.attempts and (info is None or info.treatment in WRITES):
            raise OutcomeUnknownError("the connection was lost while the phase changed") from None
        raise
    if operation is not None and state.dynamic:
        if blocks and operation.goes_on(reply):
            raise TakenBack(reply)
        if state.waits:
            # Rule 13: in hold a lease is not enough for a reader. The look comes after the read.
            await crossing.look_after()
        await crossing.confirm(state, (), repeats=info is not None and info.treatment is Treatment.READ)
        if info is not None and info.name in SCANS:
            crossing.cursors.given(state.authority, info.name, args, reply)
    if (
        state.shadows
        and info is not None
        and info.treatment is Treatment.READ
        and operation is not None
        and not isinstance(operation.reply, Shaped)
    ):
        crossing.shadow.offer(state.authority.other, info, args, operation.reply)
    return reply


async def _write(
    crossing: Crossing,
    state: State,
    first_leg: FirstLeg,
    info: CommandInfo | None,
    args: tuple[Any, ...],
    options: dict[str, Any],
    patience: Patience | None,
) -> Any:
    """A write with two legs."""
    if info is None:
        return await _unknown(crossing, state, first_leg, args, options)
    keys = crossing.encoded(written_keys_of(info, args))
    order, blocks = crossing.order, patience is not None
    # One that blocks must not keep others from the very push that it waits for.
    turn = None if blocks else order.take(keys) if keys else order.take_all()
    watch = order.watch(keys) if blocks else None
    succeeded = raced = False
    try:
        if turn is not None and not turn.ready:
            raced = not await wait_turn(turn, crossing.turn_seconds)
            if state is not crossing.state:
                raise LookAgain
        batch = Batch()
        operation = options[KEY] = Operation(crossing, state, hears=True, blocks=blocks and state.dynamic)
        if crossing.ahead:
            await crossing.room_ahead()
            batch.entry = crossing.ledger.open(keys) if keys else crossing.ledger.open_everything()
            operation.ahead = batch.entry
        try:
            if patience is not None and state.dynamic:
                args = await _blocking(crossing, state, first_leg, patience, operation)
            reply = await first_leg(state.authority, args, options)
        except BaseException as error:
            _first_leg_failed(crossing, info, args, operation, keys, batch, error)
            raise
        succeeded = True
        if state.dynamic:
            await _count(crossing, state, operation, keys, batch, reply)
        if watch is not None:
            turn = order.take(keys, ends=watch)
            raced = watch.disturbed
            if not turn.ready:
                await wait_turn(turn, crossing.turn_seconds)
        decide(crossing, batch, info, args, operation.reply, keys)
        if raced and batch.commands:
            crossing.report(keys, Reason.RACED)
            if batch.everything:
                crossing.report_everything(Reason.RACED)
        if operation.attempts > 1:
            crossing.report(keys, Reason.DOUBTFUL)
        await crossing.second_leg(state, batch)
        return reply
    except TakenBack:
        raise
    except BaseException:
        if succeeded:
            # Cancelled on the way to the second leg, or told to raise: what the mirror side has is not known.
            report_written(crossing, info, keys, Reason.UNKNOWN)
        raise
    finally:
        if watch is not None:
            order.unwatch(watch)
        if turn is not None:
            turn.leave()


def _first_leg_failed(
    crossing: Crossing,
    info: CommandInfo,
    args: tuple[Any, ...],
    operation: Operation,
    keys: list[bytes],
    batch: Batch,
    error: BaseException,
) -> None:
    """Reports what is not known after a first leg that failed.

    Raises:
        OutcomeUnknownError: in place of a look that found another phase, after the command had been sent.
    """
    if isinstance(error, ResponseError) or (isinstance(error, LookAgain) and not operation.attempts):
        # A script may have written before it failed; a command that was sent twice may have succeeded once.
        doubtful = operation.attempts > 1 or info.treatment is Treatment.REPORT
        if doubtful and operation.attempts and not isinstance(error, NoScriptError):
            report_written(crossing, info, keys, Reason.DOUBTFUL)
        if batch.entry is not None:
            crossing.ledger.close(batch.entry)
        return
    # The entry of a leg with an unknown outcome stays open: it may still arrive.
    report_written(crossing, info, keys, Reason.DOUBTFUL)
    report_other_database(crossing, info, args, keys)
    if isinstance(error, LookAgain):
        raise OutcomeUnknownError("the connection was lost while the phase changed") from None


async def _count(
    crossing: Crossing, state: State, operation: Operation, keys: list[bytes], batch: Batch, reply: Any
) -> None:
    """Whether a reply may be passed on, where the phase can change.

    Raises:
        TakenBack: it is the empty reply of a command that was taken back.
        OutcomeUnknownError: the lease did not hold.
    """
    if operation.blocks and operation.goes_on(reply):
        if batch.entry is not None:
            crossing.ledger.close(batch.entry)
        raise TakenBack(reply)
    await crossing.confirm(state, keys)


def decide(
    crossing: Crossing, batch: Batch, info: CommandInfo, args: tuple[Any, ...], reply: Any, keys: list[bytes]
) -> None:
    """Puts into the batch what the mirror side is to be told about one command that succeeded; reports the rest."""
    treatment = info.treatment
    if reply in (b"QUEUED", "QUEUED"):
        # Inside of a transaction that was begun by hand: what it will have done is not known here.
        crossing.report(keys, Reason.REPORTED)
        return
    shaped = isinstance(reply, Shaped)
    if isinstance(reply, Shaped):
        reply = reply.raw(info.name)
        if reply is UNHEARD and treatment is not Treatment.MIRROR:
            crossing.report(keys, Reason.REPORTED)
            return
    if crossing.lossy and treatment is Treatment.REWRITE and holds_text(reply):
        # What was lost in decoding would be missing from what is made of the reply.
        crossing.report(keys, Reason.REPORTED)
        return
    second = second_leg(
        info, args, reply, now_ms=crossing.now_ms(), mirror_scripts=crossing.options.mirror_scripts
    )
    if second.reported:
        crossing.report(crossing.encoded(second.reported), Reason.REPORTED)
    if second.everything_unknown:
        crossing.report_everything(Reason.REPORTED)
    if info.everything:
        batch.everything = True
        if info.name == "SWAPDB":
            # What has been named until now, and not been settled, lies in another database from here on.
            crossing.report_everything(Reason.REPORTED)
    report_other_database(crossing, info, args, keys)
    if second.commands:
        for command, expected in zip(second.commands, second.expected, strict=True):
            batch.add(command, keys, UNTOLD if shaped else expected)
        if treatment is Treatment.MIRROR:
            crossing.counts.mirrored += 1
        else:
            crossing.counts.rewritten += 1


def report_written(crossing: Crossing, info: CommandInfo, keys: list[bytes], reason: Reason) -> None:
    """All that a command may have written."""
    crossing.report(keys, reason)
    if info.everything or (info.treatment is Treatment.REPORT and not keys):
        crossing.report_everything(reason)


def report_other_database(
    crossing: Crossing, info: CommandInfo, args: tuple[Any, ...], keys: list[bytes]
) -> None:
    """MOVE, and COPY with DB: whatever became of the legs, the other database's keys are settled."""
    if info.name in _TWO_DATABASES and (database := other_database(info, args)) is not None:
        crossing.report(keys, Reason.REPORTED, database)


_TWO_DATABASES = frozenset({"COPY", "MOVE"})


async def _unknown(
    crossing: Crossing, state: State, first_leg: FirstLeg, args: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """A command that the table does not know: to the authority alone; the server is asked for its keys."""
    operation = options[KEY] = Operation(crossing, state)
    keys: list[bytes] = []
    if crossing.ahead:
        keys = await crossing.keys_by_server(args)
        await crossing.room_ahead()
        operation.ahead = crossing.ledger.open(keys) if keys else None
    over = False
    try:
        reply = await first_leg(state.authority, args, options)
        over = True
        if state.dynamic:
            await crossing.confirm(state, ())
    except ResponseError:
        over = True
        raise
    except LookAgain:
        over = not operation.attempts
        if not over:
            raise OutcomeUnknownError("the connection was lost while the phase changed") from None
        raise
    finally:
        if operation.attempts:
            crossing.unknown_command(args)
            crossing.report(keys or await crossing.keys_by_server(args), Reason.REPORTED)
        if operation.ahead is not None and over:
            crossing.ledger.close(operation.ahead)
    return reply
