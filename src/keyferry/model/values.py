"""Decoded values: what a key holds, whatever its encoding. Times are Unix milliseconds."""

from __future__ import annotations

from dataclasses import dataclass, field

StreamId = tuple[int, int]
"""(milliseconds, sequence), both unsigned 64-bit."""


@dataclass(slots=True)
class StringValue:
    data: bytes


@dataclass(slots=True)
class ListValue:
    items: list[bytes]


@dataclass(slots=True)
class SetValue:
    members: list[bytes]


@dataclass(slots=True)
class ZSetValue:
    """``scores`` are exact doubles (inf and -inf included)."""

    members: list[tuple[bytes, float]]


@dataclass(slots=True)
class HashValue:
    """``expiries`` holds only the fields that have one: field -> Unix milliseconds."""

    fields: list[tuple[bytes, bytes]]
    expiries: dict[bytes, int] = field(default_factory=dict)


@dataclass(slots=True)
class PendingEntry:
    entry_id: StreamId
    consumer: bytes
    delivered_ms: int
    deliveries: int


@dataclass(slots=True)
class Consumer:
    """``active_ms`` is -1 where the payload does not say (before stream type 21)."""

    name: bytes
    seen_ms: int
    active_ms: int = -1


@dataclass(slots=True)
class StreamGroup:
    """``entries_read`` is -1 when unknown (older payloads, or invalid on the server)."""

    name: bytes
    last_id: StreamId
    entries_read: int
    consumers: list[Consumer]
    pending: list[PendingEntry]


@dataclass(slots=True)
class StreamValue:
    """``entries`` are the live ones in order. Fields may repeat within an entry.

    ``entries_added`` and ``max_deleted_id`` are None where the payload does not say (stream type 15).
    """

    entries: list[tuple[StreamId, list[tuple[bytes, bytes]]]]
    last_id: StreamId
    entries_added: int | None
    max_deleted_id: StreamId | None
    groups: list[StreamGroup]


@dataclass(slots=True)
class ModuleValue:
    """A value of a module's own type; only that module can read it."""

    module: str


Value = StringValue | ListValue | SetValue | ZSetValue | HashValue | StreamValue | ModuleValue
