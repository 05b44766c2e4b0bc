"""Values as the commands of their own type: what builds them anew on any server.

Pure: commands out, nothing sent. Every command is bounded (``ELEMENTS_MAX``, ``COMMAND_BYTES_MAX``), so
that no single one holds the target up.

Two facts shape the stream part, both the same on Redis 6.2, 7.0, 8.2 and Valkey 9.1:

- XCLAIM FORCE drops an entry from the pending list when the stream no longer holds it. So pending entries are
  claimed on placeholders, which are trimmed away before the stream's own entries are written.
- XTRIM leaves max-deleted-id alone (XDEL does not, and XSETID cannot set it back to 0-0), and XSETID may
  set the last id of an *empty* stream back. So after the trim the stream is as new, but for its groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby, islice
from typing import TypeAlias

from keyferry.model.identity import Family, ServerIdentity
from keyferry.model.values import (
    HashValue,
    ListValue,
    ModuleValue,
    PendingEntry,
    SetValue,
    StreamGroup,
    StreamId,
    StreamValue,
    StringValue,
    Value,
    ZSetValue,
)
from keyferry.wire.resp import Argument

Command: TypeAlias = tuple[Argument, ...]

ELEMENTS_MAX = 500
"""Members, fields, items or ids in one command."""
COMMAND_BYTES_MAX = 256 << 10
"""A command of many elements is closed at this size; one element may be larger."""
CLAIMED_MAX = 100
"""Ids in one XCLAIM: each costs 7 to 20 us."""
PENDING_PAGE = 500
"""Pending entries that are claimed on one set of placeholders."""

_SCAFFOLD_GROUP = b"keyferry"

LENGTH_COMMANDS = {
    b"string": "STRLEN",
    b"list": "LLEN",
    b"set": "SCARD",
    b"zset": "ZCARD",
    b"hash": "HLEN",
    b"stream": "XLEN",
}
"""TYPE's word -> the command that counts the value's elements (a string's bytes)."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """Which commands and options a server has. Sources: the ``since`` of the commands' own documentation."""

    unlink: bool
    """UNLINK: Redis 4.0."""
    hset_many: bool
    """HSET with several fields: Redis 4.0."""
    create_consumer: bool
    """XGROUP CREATECONSUMER: Redis 6.2."""
    stream_counters: bool
    """ENTRIESADDED, MAXDELETEDID, ENTRIESREAD: Redis 7.0."""
    expire_time: bool
    """PEXPIRETIME: Redis 7.0."""
    field_expiry: bool
    """HPEXPIREAT, HPEXPIRETIME: Redis 7.4, Valkey 9.0."""

    @classmethod
    def of(cls, server: ServerIdentity) -> Abilities:
        valkey = server.family is Family.VALKEY
        return cls(
            unlink=valkey or server.version >= (4, 0, 0),
            hset_many=valkey or server.version >= (4, 0, 0),
            create_consumer=valkey or server.version >= (6, 2, 0),
            stream_counters=valkey or server.version >= (7, 0, 0),
            expire_time=valkey or server.version >= (7, 0, 0),
            field_expiry=server.version >= ((9, 0, 0) if valkey else (7, 4, 0)),
        )


def value_commands(name: bytes, value: Value, abilities: Abilities) -> Iterator[Command]:
    """All commands that build ``value`` under ``name``, which must not exist.

    Field expiries are left out where ``abilities`` lacks them; what else is left out, ``lost_in`` names.

    Raises:
        ValueError: A module's value; there are no commands for it.
    """
    match value:
        case StringValue(data):
            return iter((("SET", name, data),))
        case ListValue(items):
            return list_commands(name, items)
        case SetValue(members):
            return set_commands(name, members)
        case ZSetValue(members=scored):
            return zset_commands(name, ((member, score_text(score)) for member, score in scored))
        case HashValue(fields, expiries):
            return hash_commands(name, fields, expiries, abilities)
        case StreamValue():
            return stream_commands(name, value, abilities)
        case ModuleValue(module):
            raise ValueError(f"there are no commands to build a value of the module type {module}")


def list_commands(name: bytes, items: Iterable[bytes]) -> Iterator[Command]:
    return _variadic(("RPUSH", name), ((item,) for item in items))


def set_commands(name: bytes, members: Iterable[bytes]) -> Iterator[Command]:
    return _variadic(("SADD", name), ((member,) for member in members))


def zset_commands(name: bytes, scored: Iterable[tuple[bytes, bytes]]) -> Iterator[Command]:
    """``scored``: member and the text of its score, as ``score_text`` or the server writes it.

    Of all doubles only -0 may not arrive: servers from 7.0 make it 0 while the value is small (a listpack).
    """
    return _variadic(("ZADD", name), ((score, member) for member, score in scored))


def score_text(score: float) -> bytes:
    """The shortest text that strtod reads back as the same double; infinities as ``inf`` and ``-inf``."""
    return repr(score).encode("ascii")


def hash_commands(
    name: bytes, fields: Iterable[tuple[bytes, bytes]], expiries: dict[bytes, int], abilities: Abilities
) -> Iterator[Command]:
    """HSET, then HPEXPIREAT for each distinct time."""
    if abilities.hset_many:
        yield from _variadic(("HSET", name), fields)
    else:
        yield from _variadic(("HMSET", name), fields)
    if expiries and abilities.field_expiry:
        by_time = sorted(expiries.items(), key=lambda item: item[1])
        for expires_at_ms, group in groupby(by_time, key=lambda item: item[1]):
            names = iter([field for field, _ in group])
            while page := tuple(islice(names, ELEMENTS_MAX)):
                yield ("HPEXPIREAT", name, expires_at_ms, "FIELDS", len(page), *page)


def stream_commands(name: bytes, value: StreamValue, abilities: Abilities) -> Iterator[Command]:
    """In the order that the facts at the top of this file ask for."""
    yield from stream_start_commands(name)
    for group in value.groups:
        yield from group_commands(
            name, group.name, (consumer.name for consumer in group.consumers), abilities
        )
        yield from pending_commands(name, group.name, group.pending)
    yield from entry_commands(name, value.entries)
    yield from stream_end_commands(name, value, len(value.entries), abilities)


def stream_start_commands(name: bytes) -> Iterator[Command]:
    """An empty stream without a trace: neither entries-added nor max-deleted-id have moved."""
    yield ("XGROUP", "CREATE", name, _SCAFFOLD_GROUP, "0-0", "MKSTREAM")
    yield ("XGROUP", "DESTROY", name, _SCAFFOLD_GROUP)


def group_commands(
    name: bytes, group: bytes, consumers: Iterable[bytes], abilities: Abilities
) -> Iterator[Command]:
    """The group at 0-0 (``stream_end_commands`` moves it on) and its consumers, pending entries or not."""
    yield ("XGROUP", "CREATE", name, group, "0-0")
    if abilities.create_consumer:
        for consumer in consumers:
            yield ("XGROUP", "CREATECONSUMER", name, group, consumer)


def pending_commands(name: bytes, group: bytes, pending: Iterable[PendingEntry]) -> Iterator[Command]:
    """Claims entries for their consumers while the stream holds nothing else; it is empty again at the end.

    ``pending`` may come in pieces, in any order. A time that lies ahead of the target's clock becomes the
    target's
    now: XCLAIM does that.
    """
    everything = iter(pending)
    while page := sorted(islice(everything, PENDING_PAGE), key=lambda entry: entry.entry_id):
        for entry in page:
            yield ("XADD", name, id_text(entry.entry_id), b"", b"")
        for (consumer, delivered_ms, deliveries), run in groupby(
            page, key=lambda entry: (entry.consumer, entry.delivered_ms, entry.deliveries)
        ):
            ids = [id_text(entry.entry_id) for entry in run]
            times = ("TIME", delivered_ms, "RETRYCOUNT", deliveries)
            for first in range(0, len(ids), CLAIMED_MAX):
                some = ids[first : first + CLAIMED_MAX]
                yield ("XCLAIM", name, group, consumer, 0, *some, *times, "FORCE", "JUSTID")
        yield ("XTRIM", name, "MAXLEN", 0)
        yield ("XSETID", name, "0-0")


def entry_commands(
    name: bytes, entries: Iterable[tuple[StreamId, list[tuple[bytes, bytes]]]]
) -> Iterator[Command]:
    for entry_id, fields in entries:
        yield ("XADD", name, id_text(entry_id), *(part for pair in fields for part in pair))


def stream_end_commands(
    name: bytes, value: StreamValue, length: int, abilities: Abilities
) -> Iterator[Command]:
    """The counters, and each group's position; of ``value`` everything but the entries is used.

    XSETID goes first: Redis 8 caps ENTRIESREAD at what the stream has ever held. What the source did not say
    becomes what RESTORE makes of a payload without it: entries-added is the length, max-deleted-id 0-0.
    """
    last_id = id_text(value.last_id)
    if not abilities.stream_counters:
        yield ("XSETID", name, last_id)
        for group in value.groups:
            yield ("XGROUP", "SETID", name, group.name, id_text(group.last_id))
        return
    added = length if value.entries_added is None else value.entries_added
    yield (
        "XSETID",
        name,
        last_id,
        "ENTRIESADDED",
        added,
        "MAXDELETEDID",
        id_text(value.max_deleted_id or (0, 0)),
    )
    for group in value.groups:
        yield ("XGROUP", "SETID", name, group.name, id_text(group.last_id), "ENTRIESREAD", group.entries_read)


def id_text(entry_id: StreamId) -> bytes:
    return b"%d-%d" % entry_id


def lost_in(value: Value, abilities: Abilities) -> tuple[str, ...]:
    """What of ``value`` its commands cannot bring to a server with these abilities, by name."""
    if isinstance(value, HashValue):
        return ("field_expiry",) if value.expiries and not abilities.field_expiry else ()
    if isinstance(value, StreamValue):
        return stream_losses(value, len(value.entries), abilities)
    return ()


def stream_losses(value: StreamValue, length: int, abilities: Abilities) -> tuple[str, ...]:
    """A counter that says what the entries themselves say is no loss.

    ``consumer_times``: when a consumer was last seen and active can be set by no command; they start anew.
    """
    counters = not abilities.stream_counters
    losses = {
        "entries_added": counters and value.entries_added not in (None, length),
        "max_deleted_id": counters and value.max_deleted_id not in (None, (0, 0)),
        "entries_read": counters and any(group.entries_read > 0 for group in value.groups),
        "consumers": not abilities.create_consumer and any(map(_has_idle_consumers, value.groups)),
        "consumer_times": any(group.consumers for group in value.groups),
    }
    return tuple(name for name, lost in losses.items() if lost)


def _has_idle_consumers(group: StreamGroup) -> bool:
    return (
        len({consumer.name for consumer in group.consumers} - {entry.consumer for entry in group.pending}) > 0
    )


def _variadic(head: Command, elements: Iterable[tuple[bytes, ...]]) -> Iterator[Command]:
    """``head`` followed by as many elements as one command may have, again and again."""
    remaining = iter(elements)
    while page := list(islice(remaining, ELEMENTS_MAX)):
        if sum(map(len, chain.from_iterable(page))) <= COMMAND_BYTES_MAX:
            yield (*head, *chain.from_iterable(page))
            continue
        command: list[Argument] = list(head)
        size_bytes = 0
        for element in page:
            command += element
            size_bytes += sum(map(len, element))
            if size_bytes >= COMMAND_BYTES_MAX:
                yield tuple(command)
                command, size_bytes = list(head), 0
        if len(command) > len(head):
            yield tuple(command)
