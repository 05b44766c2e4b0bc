"""Which way each payload type takes from one server to another, decided before the first key moves.

The table (``types``) says what the target can load; nothing is found out by trying on a user's key.

    RESTORE     the target loads what the source writes
    RESIGNED    it loads the value, but not under the source's RDB version
    TRANSCODED  it loads the same value in an older encoding; or the payload must be looked at first: values
                of modules, hashes with field expiries for a target without them
    LOGICAL     it holds such values, but no payload of the source's can say them
    IMPOSSIBLE  it cannot hold the value
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from keyferry.model.identity import ServerIdentity
from keyferry.model.methods import Method
from keyferry.model.values import HashValue, ModuleValue, StreamValue, Value
from keyferry.payload import footer, modules
from keyferry.payload.cursor import BREAKS_OFF
from keyferry.payload.errors import PayloadError, PayloadRefused
from keyferry.payload.reader import decode_body
from keyferry.payload.streams import STREAM, STREAM_2, StreamTail, with_tail_for
from keyferry.payload.types import (
    FIELD_EXPIRY_SINCE,
    SHARED_TYPE_MAX,
    SHARED_VERSION_MAX,
    TYPES,
    TypeRow,
    rdb_version_of,
)
from keyferry.payload.writer import encode

ENTRIES_ADDED = "entries_added"
MAX_DELETED_ID = "max_deleted_id"
ENTRIES_READ = "entries_read"
CONSUMER_ACTIVE_TIME = "consumer_active_time"
FIELD_EXPIRY = "field_expiry"

_MODULE = 7
_COUNTERS_SINCE, _ACTIVE_TIMES_SINCE = 10, 11
"""RDB versions since which streams have counters, and their consumers an active time."""


@dataclass(frozen=True, slots=True)
class Converted:
    """A payload that the target loads.

    Attributes:
        payload: For RESTORE on the target.
        notes: What the value lost on the way: of ``entries_added``, ``max_deleted_id``, ``entries_read``,
            ``consumer_active_time``, ``field_expiry``.
        method: What was done: RESTORE and RESIGNED happen for values of modules.
    """

    payload: bytes
    notes: tuple[str, ...] = ()
    method: Method = Method.TRANSCODED


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000


class PayloadPlan:
    """The ways from ``source`` to ``target``.

    Args:
        source: The server whose DUMP writes the payloads.
        target: The server whose RESTORE loads them. An ``rdb_version`` of 0, here or there, is taken from the
            table of releases.
        target_modules: Names from the target's MODULE LIST.
        drop_field_expiry: The user's word that hash fields may lose their expiry where the target has none.
        clock_ms: Unix milliseconds, to leave out fields that expired already when expiries are dropped.

    Attributes:
        actions: One ``Method`` per type byte of the source.
        target_version: The RDB version for the footer of what is sent.
    """

    actions: bytes
    target_version: int

    def __init__(
        self,
        source: ServerIdentity,
        target: ServerIdentity,
        *,
        target_modules: frozenset[str] = frozenset(),
        drop_field_expiry: bool = False,
        clock_ms: Callable[[], int] = _unix_ms,
    ) -> None:
        self.source = _with_version(source)
        self.target = _with_version(target)
        self._target_modules = target_modules
        self._drop_field_expiry = drop_field_expiry
        self._clock_ms = clock_ms
        self._same_family = source.family == target.family
        self._as_is = self.source.rdb_version <= self._loads_up_to()
        self.target_version = self.source.rdb_version if self._as_is else self._loads_up_to()
        self._rows = TYPES[source.family]
        self._transcoded_types = {
            "list": 1,
            "set": 2,
            "zset": 5 if self._loads(5) else 3,
            "hash": 4,
            "stream": STREAM_2 if self._loads(STREAM_2) else STREAM,
        }
        self.actions = bytes(self._action(type_byte) for type_byte in range(256))

    def type_name(self, type_byte: int) -> str:
        """string, list, set, zset, hash, stream, module, or "unknown"."""
        row = self._rows.get(type_byte)
        return row.name if row else "unknown"

    def reason(self, type_byte: int) -> str:
        """Why values of a type byte cannot be carried, and what to do; empty when they can.

        A TRANSCODED type has a reason when ``convert`` may refuse some of its values: values of modules, and
        hashes with field expiries that are not to be dropped.
        """
        row = self._rows.get(type_byte)
        if self.actions[type_byte] == Method.TRANSCODED:
            return self._refusal(row) if row else ""
        if self.actions[type_byte] != Method.IMPOSSIBLE:
            return ""
        if row is None:
            return (
                f"The source ({self.source}) wrote a value of type {type_byte}, unknown to Keyferry. "
                f"Use a target of the same make that is at least as new as the source."
            )
        if row.name == "stream" and not self._loads(STREAM):
            return f"The target ({self.target}) has no streams. Use Redis 5.0, Valkey 7.2 or a newer target."
        return (
            f"The target ({self.target}) cannot load a {row.name} as the source ({self.source}) wrote it "
            f"({row.encoding}). Use a target of the same make that is at least as new as the source."
        )

    def module_name(self, payload: bytes) -> str:
        """The name of the module type in a payload of type 7.

        Raises:
            PayloadError: The payload is broken, or not of that type.
        """
        value = decode_body(footer.check(payload), self.source.family)
        if not isinstance(value, ModuleValue):
            raise PayloadError(f"The payload is of type {payload[0]}, not of a module's.")
        return value.module

    def convert(self, payload: bytes) -> Converted:
        """A payload of a TRANSCODED type byte as the target loads it.

        Raises:
            PayloadError: The payload is broken.
            PayloadRefused: It is whole, but the target cannot hold this value.
        """
        body = footer.check(payload)
        row = self._rows.get(body[0])
        if row is None or self.actions[body[0]] != Method.TRANSCODED:
            raise PayloadRefused(self.reason(body[0]) or f"Values of type {body[0]} need no conversion.")
        if row.name == "module":
            return self._module(payload)
        if row.name == "stream":
            return self._stream(body)
        value = decode_body(body, self.source.family)
        notes: tuple[str, ...] = ()
        if isinstance(value, HashValue) and value.expiries:
            if not self._drop_field_expiry:
                raise PayloadRefused(self._refusal(row))
            value, notes = self._without_expiries(value), (FIELD_EXPIRY,)
        converted = encode(value, self._transcoded_types[row.name])
        return Converted(footer.sign(converted, self.target_version), notes)

    def notes_for(self, value: Value) -> tuple[str, ...]:
        """What of a value the target cannot hold, whichever way it is carried."""
        if isinstance(value, HashValue):
            return (FIELD_EXPIRY,) if value.expiries and not self._target_has_field_expiry() else ()
        if isinstance(value, StreamValue):
            tail = StreamTail(
                len(value.entries),
                value.last_id,
                None,
                value.max_deleted_id,
                value.entries_added,
                value.groups,
            )
            return self._stream_notes(tail)
        return ()

    def _refusal(self, row: TypeRow) -> str:
        if row.name == "module":
            return f"A value of a module's own type needs that module on the target ({self.target})."
        if row.field_expiry and not self._drop_field_expiry:
            return (
                f"The hash has fields with an expiry of their own, which the target ({self.target}) does not "
                f"have. Use --drop-field-expiry to carry the fields without it, or a target with HPEXPIREAT "
                f"(Redis 7.4, Valkey 9.0)."
            )
        return ""

    # --- Which way

    def _loads_up_to(self) -> int:
        """The highest RDB version that means the same to both and that the target takes."""
        version = self.target.rdb_version
        return version if self._same_family else min(version, SHARED_VERSION_MAX)

    def _loads(self, type_byte: int) -> bool:
        """Whether the target loads the source's type byte."""
        if not self._same_family and type_byte > SHARED_TYPE_MAX:
            return False
        row = TYPES[self.source.family].get(type_byte)
        return row is not None and row.since <= self.target.rdb_version

    def _target_has_field_expiry(self) -> bool:
        return self.target.version[:2] >= FIELD_EXPIRY_SINCE[self.target.family]

    def _action(self, type_byte: int) -> Method:
        row = self._rows.get(type_byte)
        if row is None:
            return Method.RESTORE if self._as_is and self._same_family else Method.IMPOSSIBLE
        if type_byte == _MODULE:
            return Method.TRANSCODED  # Which module it is stands in the payload.
        if self._loads(type_byte):
            return Method.RESTORE if self._as_is else Method.RESIGNED
        if row.field_expiry:
            return self._field_expiry_action()
        return self._older_encoding_action(type_byte, row)

    def _field_expiry_action(self) -> Method:
        if self._target_has_field_expiry():
            return Method.LOGICAL
        return Method.TRANSCODED  # The type byte stays when the last expiry was taken off: look at each.

    def _older_encoding_action(self, type_byte: int, row: TypeRow) -> Method:
        if type_byte > SHARED_TYPE_MAX:
            return Method.IMPOSSIBLE
        older = self._transcoded_types.get(row.name)
        return Method.TRANSCODED if older is not None and self._loads(older) else Method.IMPOSSIBLE

    # --- Conversions

    def _module(self, payload: bytes) -> Converted:
        name = self.module_name(payload)
        if not modules.brought_by(name, self._target_modules, self.target.family):
            raise PayloadRefused(
                f"The value is of the module type {name}, which the target ({self.target}) does not have. "
                f"Load the module that brings it on the target."
            )
        if self._as_is:
            return Converted(payload, method=Method.RESTORE)
        return Converted(footer.resign(payload, self.target_version), method=Method.RESIGNED)

    def _stream(self, body: bytes) -> Converted:
        try:
            converted, tail = with_tail_for(body, self._transcoded_types["stream"])
        except IndexError:
            raise PayloadError(BREAKS_OFF) from None
        return Converted(footer.sign(converted, self.target_version), self._stream_notes(tail))

    def _stream_notes(self, tail: StreamTail) -> tuple[str, ...]:
        """Only what the target would not assume by itself is lost."""
        notes: list[str] = []
        version = self.target.rdb_version
        if version < _COUNTERS_SINCE:
            if tail.entries_added not in (None, tail.entry_count):
                notes.append(ENTRIES_ADDED)
            if tail.max_deleted_id not in (None, (0, 0)):
                notes.append(MAX_DELETED_ID)
            if any(group.entries_read > 0 for group in tail.groups):
                notes.append(ENTRIES_READ)
        if version < _ACTIVE_TIMES_SINCE and any(
            consumer.active_ms not in (-1, consumer.seen_ms)
            for group in tail.groups
            for consumer in group.consumers
        ):
            notes.append(CONSUMER_ACTIVE_TIME)
        return tuple(notes)

    def _without_expiries(self, value: HashValue) -> HashValue:
        now_ms = self._clock_ms()
        expiries = value.expiries
        fields = [(name, data) for name, data in value.fields if expiries.get(name, now_ms + 1) > now_ms]
        if not fields:
            raise PayloadRefused("Every field of the hash has expired, so there is nothing left to carry.")
        return HashValue(fields)


def _with_version(server: ServerIdentity) -> ServerIdentity:
    if server.rdb_version:
        return server
    return replace(server, rdb_version=rdb_version_of(server.family, server.version))
