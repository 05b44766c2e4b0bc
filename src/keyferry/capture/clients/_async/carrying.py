"""One command of the application on its way: first leg, second leg, and what is known in the end.

look at the phase -> turn on the keys -> first leg -> does it count? -> second leg, or keys reported -> reply
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from redis.exceptions import NoScriptError, ResponseError

from keyferry.capture.clients._async.crossing import Crossing, State
from keyferry.capture.clients._async.heard import KEY, UNHEARD, Operation
from keyferry.capture.clients._async.mirror import Batch
from keyferry.capture.clients._async.platform import wait_turn
from keyferry.capture.clients.blocking import patience_seconds, with_patience
from keyferry.capture.clients.counts import Reason
from keyferry.capture.clients.errors import LookAgain, OutcomeUnknownError, TakenBack
from keyferry.model.command_treatments import Treatment
from keyferry.model.commands import CommandInfo, look_up, written_keys_of
from keyferry.model.phases import Side
from keyferry.model.rewriting import second_leg
from keyferry.model.second import UNTOLD

FirstLeg = Callable[[Side, tuple[Any, ...], dict[str, Any]], Awaitable[Any]]

WRITES = frozenset({Treatment.MIRROR, Treatment.REWRITE, Treatment.REPORT, Treatment.BOTH})


async def carry(
    crossing: Crossing, first_leg: FirstLeg, args: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """Carries one command through; gives what redis-py gives for it.

    Args:
        crossing: whose phase counts.
        first_leg: sends a command to one side by redis-py's own ways.
        args: the command as redis-py's methods build it.
        options: redis-py's options for it.

    Raises:
        redis.exceptions.RedisError: as redis-py itself, and those of `keyferry.capture.clients.errors`.
    """
    info = look_up(args)
    writes = info is None or info.treatment in WRITES
    deadline = 0.0
    blocks = info is not None and info.blocking
    began = time.monotonic() if blocks else 0.0
    patience = patience_seconds(info.name, args) if info is not None and blocks else None
    while True:
        state = crossing.enter()
        try:
            if state.dynamic:
                await crossing.sure(state)
            if not (state.waits and writes):
                if writes and state.mirror is not None:
                    return await _write(crossing, state, first_leg, info, args, options)
                return await _plain(crossing, state, first_leg, info, args, options)
        except LookAgain:
            if state is crossing.state:
                continue
        except TakenBack as taken:
            # It waits on the new side for the rest of its time.
            left = (patience or 0.0) - (time.monotonic() - began)
            if left <= 0:
                return taken.reply
            assert info is not None
            args = with_patience(info.name, args, left)
            continue
        finally:
            crossing.leave(state)
        deadline = deadline or time.monotonic() + crossing.options.hold_timeout_ms / 1000
        if state is crossing.state:
            await crossing.wait_for_step(state, deadline)


async def _plain(
    crossing: Crossing,
    state: State,
    first_leg: FirstLeg,
    info: CommandInfo | None,
    args: tuple[Any, ...],
    options: dict[str, Any],
) -> Any:
    """A command with one leg: a read, or any in a phase without a mirror."""
    operation = None
    if state.dynamic or state.shadows:
        blocks = state.dynamic and info is not None and info.blocking
        operation = Operation(crossing, state, hears=state.shadows or blocks, blocks=blocks)
        options = {**options, KEY: operation}
    try:
        reply = await first_leg(state.authority, args, options)
    except LookAgain:
        if operation is not None and operation.attempts and (info is None or info.treatment in WRITES):
            raise OutcomeUnknownError("the connection was lost while the phase changed") from None
        raise
    finally:
        if operation is not None and operation.blocks:
            crossing.blocked.pop(id(operation), None)
    if state.dynamic:
        if (
            operation is not None
            and operation.blocks
            and operation.reply is None
            and state is not crossing.state
        ):
            raise TakenBack(reply)
        if state.waits:
            # Rule 13: in hold a lease is not enough for a reader. The look comes after the read.
            await crossing.look_after()
        await crossing.confirm(state, ())
    if (
        state.shadows
        and info is not None
        and info.treatment is Treatment.READ
        and operation is not None
        and operation.reply is not UNHEARD
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
) -> Any:
    """A write with two legs."""
    if info is None:
        return await _unknown(crossing, state, first_leg, args, options)
    encode = crossing.encode
    keys = [encode(key) for key in written_keys_of(info, args)]
    order = crossing.order
    waits_turn = not info.blocking
    if waits_turn:
        turn = order.take(keys) if keys else order.take_all()
    try:
        if waits_turn and not turn.ready:
            await wait_turn(turn)
            if state is not crossing.state:
                raise LookAgain
        batch = Batch()
        if crossing.ahead:
            await crossing.room_ahead()
            batch.entry = crossing.ledger.open(keys) if keys else crossing.ledger.open_everything()
        operation = Operation(
            crossing, state, hears=True, blocks=info.blocking and state.dynamic, ahead=batch.entry
        )
        raced = info.blocking and any(order.busy(key) for key in keys)
        reply = await _send_first(
            crossing, state, first_leg, info, args, {**options, KEY: operation}, operation, keys, batch
        )
        if info.blocking:
            raced = raced or any(order.busy(key) for key in keys)
            turn = order.take(keys)
            waits_turn = True
            if not turn.ready:
                await wait_turn(turn)
        decide(crossing, batch, info, args, operation.reply, keys)
        if raced and batch.commands:
            crossing.report(keys, Reason.RACED)
        if operation.attempts > 1:
            crossing.report(keys, Reason.DOUBTFUL)
        await crossing.second_leg(state, batch)
        return reply
    finally:
        if waits_turn:
            turn.leave()


async def _send_first(
    crossing: Crossing,
    state: State,
    first_leg: FirstLeg,
    info: CommandInfo,
    args: tuple[Any, ...],
    options: dict[str, Any],
    operation: Operation,
    keys: list[bytes],
    batch: Batch,
) -> Any:
    """The first leg of a write; when it fails, what is not known about it is reported."""
    over, counted = True, False
    try:
        reply = await first_leg(state.authority, args, options)
        counted = True
    except LookAgain:
        if not operation.attempts:
            raise
        over = False
        crossing.report(keys, Reason.DOUBTFUL)
        raise OutcomeUnknownError("the connection was lost while the phase changed") from None
    except NoScriptError:
        raise  # nothing ran
    except ResponseError:
        # A script may have written before it failed; a command that was sent twice may have succeeded once.
        if info.treatment is Treatment.REPORT or operation.attempts > 1:
            crossing.report(keys, Reason.DOUBTFUL)
        raise
    except BaseException:
        over = False
        crossing.report(keys, Reason.DOUBTFUL)
        raise
    finally:
        if operation.blocks:
            crossing.blocked.pop(id(operation), None)
        if batch.entry is not None and over and not counted:
            crossing.ledger.close(batch.entry)
    if state.dynamic:
        if operation.blocks and operation.reply is None and state is not crossing.state:
            if batch.entry is not None:
                crossing.ledger.close(batch.entry)
            raise TakenBack(reply)
        await crossing.confirm(state, keys)
    return reply


def decide(
    crossing: Crossing, batch: Batch, info: CommandInfo, args: tuple[Any, ...], reply: Any, keys: list[bytes]
) -> None:
    """Puts into the batch what the mirror side is to be told about one command that succeeded; reports the rest."""
    treatment = info.treatment
    if reply in (b"QUEUED", "QUEUED"):
        # Inside of a transaction that was begun by hand: what it will have done is not known here.
        crossing.report(keys, Reason.REPORTED)
        return
    if reply is UNHEARD:
        if treatment is not Treatment.MIRROR:
            crossing.report(keys, Reason.REPORTED)
            return
        reply = UNTOLD
    second = second_leg(
        info, args, reply, now_ms=crossing.now_ms(), mirror_scripts=crossing.options.mirror_scripts
    )
    if second.reported:
        crossing.report([crossing.encode(key) for key in second.reported], Reason.REPORTED)
    if second.everything_unknown:
        crossing.report_everything(Reason.REPORTED)
    if second.commands:
        for command, expected in zip(second.commands, second.expected, strict=True):
            batch.add(command, keys, expected)
        if treatment is Treatment.MIRROR:
            crossing.counts.mirrored += 1
        else:
            crossing.counts.rewritten += 1


async def _unknown(
    crossing: Crossing, state: State, first_leg: FirstLeg, args: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """A command that the table does not know: to the authority alone; the server is asked for its keys."""
    try:
        return await first_leg(state.authority, args, options)
    finally:
        await crossing.report_by_server(args)
