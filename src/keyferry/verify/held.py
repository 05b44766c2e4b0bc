"""What a key holds at one moment, short enough to be remembered: its type, a digest of its value, its expiries. Pure.

Payloads of equal values differ between versions and encodings, so the digest is made of the decoded value, in one
order. It leaves out what ``payload.equal`` does not compare either. Expiries stay outside of the digest, because
they are compared within a tolerance.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace

from keyferry.model.identity import Family
from keyferry.model.values import (
    HashValue,
    ListValue,
    ModuleValue,
    SetValue,
    StreamGroup,
    StreamValue,
    StringValue,
    Value,
    ZSetValue,
)
from keyferry.payload.errors import PayloadError
from keyferry.payload.footer import FOOTER_BYTES
from keyferry.payload.reader import decode

DIGEST_BYTES = 16
ABSENT_KIND = "none"


@dataclass(frozen=True, slots=True)
class Held:
    """A key on one server at one moment.

    Attributes:
        kind: As TYPE says it; ``none`` when it is not there.
        digest: Of the value, without expiries; the same for equal values of either server.
        expires_at_ms: Unix milliseconds on the target's clock; None is for ever.
        field_expiries: Of a hash, in the order of the fields' names; the digest says which fields they belong to.
        raw: Digest of the payload's body, which changes with every change and may differ between equal values.
        unreadable: The server's words where it could not be read; then nothing else counts.
        size_bytes: Of its payload.
    """

    kind: str
    digest: bytes = b""
    expires_at_ms: int | None = None
    field_expiries: tuple[int, ...] = ()
    raw: bytes = b""
    unreadable: str = ""
    size_bytes: int = 0

    @property
    def absent(self) -> bool:
        return self.kind == ABSENT_KIND

    def same_value(self, other: Held) -> bool:
        """Whether both hold the same, expiries apart."""
        return self.kind == other.kind and self.digest == other.digest

    def same(self, other: Held, tolerance_ms: int) -> bool:
        """Whether both hold the same, with expiries that are at most so far apart."""
        return (
            self.same_value(other)
            and not self.unreadable
            and not other.unreadable
            and _near(self.expires_at_ms, other.expires_at_ms, tolerance_ms)
            and len(self.field_expiries) == len(other.field_expiries)
            and all(
                abs(one - two) <= tolerance_ms
                for one, two in zip(self.field_expiries, other.field_expiries, strict=True)
            )
        )


ABSENT = Held(ABSENT_KIND)


@dataclass(frozen=True, slots=True)
class Dialect:
    """What two servers can both say of a value.

    Attributes:
        stream_counters: Entries added, entries read, the max deleted id: Redis since 7.0.
        field_expiry: False: the target cannot hold expiries of fields, and they may be dropped.
    """

    stream_counters: bool = True
    field_expiry: bool = True


def held_of(
    payload: bytes, family: Family, expires_at_ms: int | None, dialect: Dialect, known: Held | None = None
) -> Held:
    """What a payload holds.

    Args:
        expires_at_ms: Of the key, on the target's clock.
        known: Of an earlier look at the same key on the same server: the same payload is not decoded again.

    Raises:
        PayloadError: It is broken, or of a type that we do not read.
    """
    raw = _digest((payload[:-FOOTER_BYTES],))
    if known is not None and known.raw == raw:
        return replace(known, expires_at_ms=expires_at_ms)
    value = decode(payload, family)
    if isinstance(value, ModuleValue):
        # Only its module can read it: the same bytes are the same value, others may be.
        return Held(value.module, raw, expires_at_ms, (), raw, size_bytes=len(payload))
    kind, parts = kind_of(value), _canonical(value, dialect)
    expiries: tuple[int, ...] = ()
    if isinstance(value, HashValue) and dialect.field_expiry and value.expiries:
        names = sorted(value.expiries)
        expiries = tuple(value.expiries[name] for name in names)
        parts = [*parts, b"expiring", *names]
    return Held(kind, _digest(parts), expires_at_ms, expiries, raw, size_bytes=len(payload))


def kind_of(value: Value) -> str:
    """As TYPE says it."""
    return value.module if isinstance(value, ModuleValue) else _NAMES[type(value)]


def is_of_module(held: Held) -> bool:
    """Whether it is of a type that only a module can read."""
    return held.kind not in _KINDS


_NAMES: dict[type[object], str] = {
    StringValue: "string",
    ListValue: "list",
    SetValue: "set",
    ZSetValue: "zset",
    HashValue: "hash",
    StreamValue: "stream",
}
_KINDS = frozenset((ABSENT_KIND, "", *_NAMES.values()))


def _canonical(value: Value, dialect: Dialect) -> Iterable[bytes]:
    match value:
        case StringValue():
            return (value.data,)
        case ListValue():
            return value.items
        case SetValue():
            return sorted(value.members)
        case ZSetValue():
            # 0 and -0 are equal: the packed encodings do not tell them apart.
            return [
                part
                for member, score in sorted(value.members)
                for part in (member, struct.pack("<d", score + 0.0))
            ]
        case HashValue():
            return [part for field in sorted(value.fields) for part in field]
        case StreamValue():
            return _stream(value, dialect)
    raise PayloadError("The value is of a type that is not known.")


def _stream(value: StreamValue, dialect: Dialect) -> list[bytes]:
    parts = [_text(value.last_id)]
    if dialect.stream_counters:
        parts.append(_text((value.entries_added, value.max_deleted_id)))
    for entry_id, fields in value.entries:
        parts += (_text(entry_id), _text(len(fields)))
        parts += (part for field in fields for part in field)
    for group in sorted(value.groups, key=lambda group: group.name):
        parts += _group(group, dialect)
    return parts


def _group(group: StreamGroup, dialect: Dialect) -> list[bytes]:
    parts = [b"group", group.name, _text(group.last_id)]
    if dialect.stream_counters:
        parts.append(_text(group.entries_read))
    parts.append(_text(len(group.consumers)))
    parts += sorted(consumer.name for consumer in group.consumers)
    for entry in sorted(group.pending, key=lambda entry: entry.entry_id):
        parts += (_text((entry.entry_id, entry.delivered_ms, entry.deliveries)), entry.consumer)
    return parts


def _text(value: object) -> bytes:
    return repr(value).encode()


def _digest(parts: Iterable[bytes]) -> bytes:
    """Each part with its length, or ``a, bc`` and ``ab, c`` would be the same."""
    found = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        found.update(b"%d:" % len(part))
        found.update(part)
    return found.digest()


def _near(one: int | None, other: int | None, tolerance_ms: int) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= tolerance_ms
