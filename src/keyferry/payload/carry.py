"""Carrying a value with the commands of its own type, so that no reader ever sees half of it.

The value is built under a temporary name in the key's slot and takes the key's place in one step. For
values whose payload the target does not read (``carry_value``) and for keys too big for one DUMP and
RESTORE (``carry_in_pieces``).

What can go wrong in the middle, and what happens then:

1. The target refuses a command (OOM, NOPERM): the temporary key is removed, the old value stays.
2. The source's key changes while its pieces are read: WATCH says so at the end; begin again, a bounded
   number of times. No server lets WATCH see XACK, XCLAIM and their like, so ``read_pieces`` compares the
   groups before and after.
3. The value expires while it is built, wholly or its last field: the temporary key is gone; so is the key.
4. The temporary key is evicted: seen before the old value is touched, but for the one round trip in between.
5. We die: the temporary key stays under its reserved name; the next carry of this key begins by removing it.
6. The key's slot moves, on either side: refused with the server's own code (MOVED, ASK, TRYAGAIN,
   CLUSTERDOWN), and never taken for a key that is gone. The temporary key may have moved along; the next carry
   finds it there.
"""

from __future__ import annotations

from typing import cast

from keyferry.model.identity import ServerIdentity
from keyferry.model.values import (
    HashValue,
    ListValue,
    ModuleValue,
    SetValue,
    StreamValue,
    StringValue,
    Value,
    ZSetValue,
)
from keyferry.payload.exchange import (
    NO_SUCH_KEY,
    TORN,
    Carried,
    Carry,
    Changed,
    Conflict,
    Destination,
    Exchange,
    Outcome,
    Refused,
    Replies,
    Request,
    Steps,
    Stop,
    Vanished,
    first_error,
    raise_source_error,
    refused,
    time_ms,
)
from keyferry.payload.read_pieces import READERS
from keyferry.payload.write_commands import LENGTH_COMMANDS, Abilities, Command, lost_in, value_commands
from keyferry.wire.resp import Reply, encode_commands

ATTEMPTS = 3


def carry_value(value: Value, destination: Destination) -> Carry:
    """Puts a decoded value in the key's place.

    Args:
        value: As decoded from a DUMP payload.
        destination: Where it goes and when it expires. An expiry in the past never brings the key back: it
            ends as ``Vanished``.
    """
    exchange = Exchange(destination)
    try:
        if isinstance(value, ModuleValue):
            raise Stop(Refused(f"no command builds a value of the module type {value.module}"))
        if isinstance(value, StringValue):
            exchange.check_length(len(value.data))
        exchange.note(lost_in(value, exchange.abilities))
        _check_place(exchange, (yield from exchange.tell(*_open(exchange))))
        if isinstance(value, HashValue) and value.expiries:
            exchange.fields_expire = True
            if not exchange.abilities.field_expiry:
                value = yield from _without_expiries(exchange, value)
        yield from exchange.store(value_commands(exchange.name, value, exchange.abilities))
        return (yield from _publish(exchange, *_shape(value), destination.expires_at_ms))
    except Stop as stop:
        return (yield from _clean_up(exchange, stop.outcome))


def carry_in_pieces(
    destination: Destination,
    source: ServerIdentity,
    *,
    attempts: int = ATTEMPTS,
    clock_offset_ms: int | None = None,
    may_hold_target: bool = False,
) -> Carry:
    """Reads the key from the source by ranges and puts it in its place on the target; a few MB at a time.

    Holds a WATCH on the source connection: only one may run there at a time, and no MULTI of others.

    Args:
        destination: Its key is the source's key too.
        source: The server that is read.
        attempts: How often it begins, when the key changes while it is read; then ``Refused`` with ``TORN``.
        clock_offset_ms: The target's clock minus the source's: the expiry is read with the value, and
            ``destination.expires_at_ms`` does not count. None: it does.
        may_hold_target: The driver heeds ``Request.target_open``. Else a string of hundreds of MB stalls the
            target once (``read_pieces.read_string``).
    """
    exchange = Exchange(destination, may_hold_target=may_hold_target)
    try:
        for _ in range(attempts):
            try:
                return (yield from _attempt(exchange, source, clock_offset_ms))
            except Changed:
                continue
        raise Stop(Refused(f"changed while it was read, {attempts} times", TORN, "source"))
    except Stop as stop:
        return (yield from _clean_up(exchange, stop.outcome, ("UNWATCH",)))


def _attempt(exchange: Exchange, source: ServerIdentity, clock_offset_ms: int | None) -> Steps[Carried]:
    key, abilities = exchange.key, Abilities.of(source)
    exchange.begin()
    # UNWATCH first: what an earlier attempt saw of a change would end this one as well.
    opening: list[Command] = [("UNWATCH",), ("WATCH", key), ("TYPE", key)]
    if clock_offset_ms is not None:
        opening += [("PEXPIRETIME", key)] if abilities.expire_time else [("TIME",), ("PTTL", key)]
    target = _open(exchange)
    replies = yield Request(
        encode_commands(opening), len(opening), encode_commands(target), target_replies=len(target)
    )
    _check_place(exchange, replies.target)
    _, _, kind, *expiry = raise_source_error(cast("list[Reply]", replies.source))
    if kind == b"none":
        raise Stop(Vanished())
    if not isinstance(kind, bytes) or kind not in READERS:
        raise Stop(Refused(f"no command reads a value of the type {_text(kind)} in pieces", side="source"))
    expires_at_ms = exchange.destination.expires_at_ms
    if clock_offset_ms is not None:
        expires_at_ms = _source_expiry(expiry, clock_offset_ms)
    yield from READERS[kind](exchange, abilities)
    *_, results = yield from exchange.ask(("MULTI",), (LENGTH_COMMANDS[kind], key), ("EXEC",))
    if not isinstance(results, list) or not isinstance(results[0], int):
        raise Changed
    return (yield from _publish(exchange, kind, results[0], expires_at_ms))


def _source_expiry(replies: list[Reply], clock_offset_ms: int) -> int | None:
    """When the key expires, on the target's clock; from PEXPIRETIME, or from TIME and PTTL.

    Raises:
        Stop: The key is gone.
    """
    *now, at_ms = replies
    if not isinstance(at_ms, int) or at_ms == -2:
        raise Stop(Vanished())
    if at_ms == -1:
        return None
    return at_ms + sum(map(time_ms, now)) + clock_offset_ms


def _open(exchange: Exchange) -> list[Command]:
    """Removes what an earlier carry of this key may have left, and looks whether the target has the key."""
    commands: list[Command] = [(exchange.unlink, exchange.name)]
    if not exchange.destination.replace:
        commands.append(("EXISTS", exchange.key))
    return commands


def _check_place(exchange: Exchange, replies: list[Reply]) -> None:
    exchange.raise_error(replies)
    if not exchange.destination.replace and replies[-1] != 0:
        raise Stop(Conflict())


def _without_expiries(exchange: Exchange, value: HashValue) -> Steps[HashValue]:
    """The fields that are still alive by the target's clock; the others must not live on for ever."""
    replies = yield from exchange.tell(("TIME",))
    exchange.raise_error(replies)
    now_ms = time_ms(replies[0])
    return HashValue(
        [(field, data) for field, data in value.fields if value.expiries.get(field, now_ms + 1) > now_ms]
    )


def _publish(exchange: Exchange, kind: bytes, length: int, expires_at_ms: int | None) -> Steps[Carried]:
    """Puts the value in the key's place, if it is whole.

    ``length`` is what ``LENGTH_COMMANDS`` must say of it.
    """
    name, key = exchange.name, exchange.key
    expiry: list[Command] = [] if expires_at_ms is None else [("PEXPIREAT", name, expires_at_ms)]
    # EXISTS goes in a MULTI: a server that refuses MULTI says so here, and not where UNLINK would act at
    # once.
    look: list[Command] = [(LENGTH_COMMANDS[kind], name), *expiry, ("MULTI",), ("EXISTS", name), ("EXEC",)]
    replies = yield from exchange.tell(*look)
    exchange.raise_error(replies)
    if replies[-1] != [1]:
        raise Stop((yield from _why_gone(exchange, expires_at_ms)))
    built = replies[0]
    if built != length and not (exchange.fields_expire and isinstance(built, int) and built < length):
        raise Stop(Refused(f"{built!r} of {length} elements arrived", TORN))
    if not exchange.destination.replace:
        (renamed,) = replies = yield from exchange.tell(("RENAMENX", name, key))
        yield from _raise_error(exchange, replies, expires_at_ms)
        if renamed != 1:
            raise Stop(Conflict())
    else:
        # RENAME frees a value that it overwrites on the spot, however big: UNLINK leaves that to a thread,
        # but for a string (600 MB: 60 ms), which nothing frees otherwise.
        steps: list[Command] = [("MULTI",), (exchange.unlink, key), ("RENAME", name, key), ("EXEC",)]
        replies = yield from exchange.tell(*steps)
        yield from _raise_error(exchange, replies, expires_at_ms)
        results = replies[-1]
        if not isinstance(results, list):
            raise Stop(Refused("the transaction that puts the value in its place was aborted"))
        yield from _raise_error(exchange, results, expires_at_ms)
    return Carried(exchange.sent_bytes, tuple(sorted(exchange.notes)))


def _raise_error(exchange: Exchange, replies: list[Reply], expires_at_ms: int | None) -> Steps[None]:
    """Stops at the first error; where the temporary key is missing, with the reason for that."""
    error = first_error(replies)
    if error is not None and error.message == NO_SUCH_KEY:
        raise Stop((yield from _why_gone(exchange, expires_at_ms)))
    exchange.raise_error(replies)


def _why_gone(exchange: Exchange, expires_at_ms: int | None) -> Steps[Outcome]:
    """Whether the value has rightly expired, or somebody took the temporary key away: then the old value stays."""
    if expires_at_ms is not None:
        (now,) = yield from exchange.tell(("TIME",))
        if isinstance(now, list) and time_ms(now) >= expires_at_ms:
            return Vanished()
    if exchange.fields_expire:
        # Its last field is over on the source as well, then.
        (there,) = yield from exchange.ask(("EXISTS", exchange.key))
        if there == 0:
            return Vanished()
    return Refused("the temporary key is gone from the target: evicted?", TORN)


def _clean_up(exchange: Exchange, outcome: Outcome, *source: Command) -> Steps[Outcome]:
    """Leaves no temporary key, and where the source's key is gone no key that was to be replaced.

    As well as it can be done: an error here changes nothing, but that a key which should go may be there
    still.
    """
    commands: list[Command] = [(exchange.unlink, exchange.name)]
    if isinstance(outcome, Vanished) and exchange.destination.replace:
        commands.append((exchange.unlink, exchange.key))
    replies = yield Request(
        encode_commands(list(source)), len(source), encode_commands(commands), len(commands)
    )
    error = first_error(replies.target)
    if error is not None and isinstance(outcome, Vanished):
        return refused(error, "target")
    return outcome


def _shape(value: Value) -> tuple[bytes, int]:
    """TYPE's word for the value, and its length as ``LENGTH_COMMANDS`` counts it."""
    match value:
        case StringValue(data):
            return b"string", len(data)
        case ListValue(items):
            return b"list", len(items)
        case SetValue(members):
            return b"set", len(members)
        case ZSetValue(members=scored):
            return b"zset", len(scored)
        case HashValue(fields):
            return b"hash", len(fields)
        case StreamValue(entries):
            return b"stream", len(entries)
        case ModuleValue(module):
            return module.encode("utf-8", "backslashreplace"), 0


def _text(reply: Reply) -> str:
    return reply.decode("ascii", "backslashreplace") if isinstance(reply, bytes) else repr(reply)


__all__ = [
    "Carried",
    "Carry",
    "Conflict",
    "Destination",
    "Outcome",
    "Refused",
    "Replies",
    "Request",
    "Vanished",
    "carry_in_pieces",
    "carry_value",
]
