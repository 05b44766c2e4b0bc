"""What differs between two readings of one key. Decides only; ``snapshots`` reads.

Replies that are equal are equal values; only others are put into a form in which order (sets, hashes) and the
servers' ways to write a number do not count. Scores are compared as doubles, bit for bit.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest

from keyferry.model.keys import escape
from keyferry.wire.resp import Reply, ReplyError

TEXT_MAX = 120
Found = tuple[str, str, str]
"""Aspect, what the source has, what the target has."""
Span = tuple[int, int]
"""The earliest and the latest millisecond that an expiry can be."""

_ABSENT = object()


@dataclass(slots=True)
class Snapshot:
    """One key at one time.

    Attributes:
        kind: As TYPE says it; ``none`` for a key that is not there.
        expiry: None is for ever.
        value: The reply to the type's reading command.
        field_expiries: Of a hash, only the fields that expire, in Unix milliseconds.
    """

    kind: bytes
    expiry: Span | None
    value: Reply
    field_expiries: Mapping[bytes, int] = field(default_factory=dict)


def differences(source: Snapshot, target: Snapshot, tolerance_ms: int) -> list[Found]:
    """All aspects in which the two differ; empty when they hold the same."""
    if source.kind != target.kind:
        aspect = {b"none": "missing"}.get(target.kind) or {b"none": "extra"}.get(source.kind, "type")
        return [(aspect, escape(source.kind), escape(target.kind))]
    found = list(_values(source, target))
    if apart_ms(source.expiry, target.expiry) > tolerance_ms:
        found.append(("expiry", _span_text(source.expiry), _span_text(target.expiry)))
    found += _field_expiries(source.field_expiries, target.field_expiries, tolerance_ms)
    return found


def same_outline(source: Reply, target: Reply) -> bool:
    """True when two replies to XINFO STREAM FULL COUNT 1 show no difference and hide none but of entries."""
    one, other = _pairs(source), _pairs(target)
    groups = [group for stream in (one, other) for group in _named(stream.get(b"groups")).values()]
    if any(group.get(b"pel-count") not in (0, 1) for group in groups):
        return False
    return b"entries" in one and not any(_streams(one, other))


def _values(source: Snapshot, target: Snapshot) -> Iterator[Found]:
    one, other = source.value, target.value
    if isinstance(one, ReplyError) or isinstance(other, ReplyError):
        yield "unreadable", _text(one), _text(other)
    elif one == other:
        return
    elif source.kind == b"stream":
        yield from _streams(_pairs(one), _pairs(other))
    else:
        yield from _compared("value", _canonical(source.kind, one), _canonical(source.kind, other))


def _canonical(kind: bytes, value: Reply) -> object:
    """Lists and strings as they are; sets and hashes without order, scores as the double's own digits."""
    if not isinstance(value, list):
        return value
    match kind:
        case b"set":
            return {_hashable(member): True for member in value}
        case b"hash":
            return _pairs(value)
        case b"zset":
            # The order counts as well: it is that of the scores, then of the members. A negative zero is zero:
            # small sorted sets lose its sign from 7.0 on.
            scores = [
                (float(score) + 0.0).hex() if isinstance(score, bytes) else score for score in value[1::2]
            ]
            return list(zip(value[::2], scores, strict=True))
    return value


def _streams(one: dict[Hashable, Reply], other: dict[Hashable, Reply]) -> Iterator[Found]:
    yield from _compared("entries", one.get(b"entries"), other.get(b"entries"))
    yield from _compared("last-id", one.get(b"last-generated-id"), other.get(b"last-generated-id"))
    for aspect, name in (("entries-added", b"entries-added"), ("max-deleted-id", b"max-deleted-entry-id")):
        if name in one and name in other:  # servers before 7.0 have no such counters
            yield from _compared(aspect, one[name], other[name])
    yield from _groups(_named(one.get(b"groups")), _named(other.get(b"groups")))


def _groups(
    one: dict[Hashable, dict[Hashable, Reply]], other: dict[Hashable, dict[Hashable, Reply]]
) -> Iterator[Found]:
    yield from _compared("groups", dict.fromkeys(one, True), dict.fromkeys(other, True))
    for name in one.keys() & other.keys():
        mine, yours = one[name], other[name]
        yield from _compared("group-last-id", mine[b"last-delivered-id"], yours[b"last-delivered-id"])
        if b"entries-read" in mine and b"entries-read" in yours:
            yield from _compared("entries-read", mine[b"entries-read"], yours[b"entries-read"])
        # An entry is pending for one consumer, with the time and the count of its deliveries.
        yield from _compared("pending", mine[b"pending"], yours[b"pending"])
        consumers = [dict.fromkeys(_named(group[b"consumers"]), True) for group in (mine, yours)]
        yield from _compared("consumers", *consumers)


def _named(reply: Reply) -> dict[Hashable, dict[Hashable, Reply]]:
    """A list of maps by the maps' ``name``."""
    maps = [_pairs(item) for item in reply] if isinstance(reply, list) else []
    return {_hashable(item.get(b"name")): item for item in maps}


def _pairs(reply: Reply) -> dict[Hashable, Reply]:
    """A flat list of key, value, key, value."""
    if not isinstance(reply, list):
        return {}
    return {_hashable(name): value for name, value in zip(reply[::2], reply[1::2], strict=True)}


def _hashable(reply: Reply) -> Hashable:
    return reply if isinstance(reply, bytes) else repr(reply)


def _compared(aspect: str, one: object, other: object) -> Iterator[Found]:
    """One difference at most: the first element that differs, or the two values."""
    if one == other:
        return
    if isinstance(one, dict) and isinstance(other, dict):
        names = [name for name in {**one, **other} if one.get(name, _ABSENT) != other.get(name, _ABSENT)]
        yield aspect, _member_text(names[0], one), _member_text(names[0], other)
    elif isinstance(one, list) and isinstance(other, list):
        pairs = enumerate(zip_longest(one, other, fillvalue=_ABSENT))
        at, (mine, yours) = next((at, pair) for at, pair in pairs if pair[0] != pair[1])
        yield aspect, f"[{at}] {_text(mine)}", f"[{at}] {_text(yours)}"
    elif isinstance(one, bytes) and isinstance(other, bytes) and max(len(one), len(other)) > TEXT_MAX:
        at = _first_apart(one, other)
        yield aspect, _tail_text(one, at), _tail_text(other, at)
    else:
        yield aspect, _text(one), _text(other)


def _field_expiries(one: Mapping[bytes, int], other: Mapping[bytes, int], tolerance_ms: int) -> list[Found]:
    for name in {**one, **other}:
        mine, yours = one.get(name), other.get(name)
        if mine is None or yours is None or abs(mine - yours) > tolerance_ms:
            return [("field-expiry", f"{escape(name)}: {mine}", f"{escape(name)}: {yours}")]
    return []


def apart_ms(one: Span | None, other: Span | None) -> float:
    """The distance between two expiries; infinite when only one is for ever."""
    if one is None or other is None:
        return 0 if one is other else float("inf")
    return max(one[0] - other[1], other[0] - one[1], 0)


def _span_text(span: Span | None) -> str:
    if span is None:
        return "never"
    return str(span[0]) if span[0] == span[1] else f"{span[0]} to {span[1]}"


def _member_text(name: Hashable, members: Mapping[Hashable, object]) -> str:
    value = members.get(name, _ABSENT)
    if value is True or value is _ABSENT:
        return f"{_text(name)}{' absent' if value is _ABSENT else ''}"
    return f"{_text(name)}: {_text(value)}"


def _text(value: object) -> str:
    if value is _ABSENT:
        return "absent"
    if isinstance(value, ReplyError):
        return value.message
    if isinstance(value, bytes) and len(value) > TEXT_MAX:
        return f"{escape(value[:TEXT_MAX])}... ({len(value)} bytes)"
    text = escape(value) if isinstance(value, bytes) else repr(value)
    return text if len(text) <= TEXT_MAX else f"{text[:TEXT_MAX]}... ({len(text)} characters)"


def _tail_text(value: bytes, at: int) -> str:
    return f"[{at}:] of {len(value)} bytes: {_text(value[at:])}"


def _first_apart(one: bytes, other: bytes) -> int:
    """The first index at which two strings differ."""
    same, ahead = 0, min(len(one), len(other))
    while same < ahead:
        middle = (same + ahead + 1) // 2
        same, ahead = (middle, ahead) if one[:middle] == other[:middle] else (same, middle - 1)
    return same
