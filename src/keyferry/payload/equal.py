"""Whether two values are the same, whatever their encodings.

Payloads of equal values differ between versions, encodings and orders of insertion, so values are compared.
"""

from __future__ import annotations

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
from keyferry.payload.footer import FOOTER_BYTES
from keyferry.payload.reader import decode
from keyferry.payload.types import SHARED_TYPE_MAX


def same_value(a: Value, b: Value, *, consumer_times: bool = False) -> bool:
    """Whether two keys hold the same.

    Scores are compared as exact doubles; 0 and -0 are equal, because the packed encodings do not tell them
    apart. What only one of two streams can say (entries added, max deleted id, entries read, active times) is
    not compared. Values of modules are never equal here: only their modules can read them.

    Args:
        consumer_times: Compare also when consumers of streams were seen and active. No command sets these, so
            a value that was carried with commands differs in them.
    """
    match a, b:
        case StringValue(), StringValue():
            return a.data == b.data
        case ListValue(), ListValue():
            return a.items == b.items
        case SetValue(), SetValue():
            return len(a.members) == len(b.members) and set(a.members) == set(b.members)
        case ZSetValue(), ZSetValue():
            return len(a.members) == len(b.members) and dict(a.members) == dict(b.members)
        case HashValue(), HashValue():
            if len(a.fields) != len(b.fields) or a.expiries != b.expiries:
                return False
            return dict(a.fields) == dict(b.fields)
        case StreamValue(), StreamValue():
            return _same_stream(a, b, consumer_times)
    return False


def payloads_equal(a: bytes, family_a: Family, b: bytes, family_b: Family) -> bool:
    """Whether two payloads hold the same value, as ``same_value`` says.

    Raises:
        PayloadError: One of them is broken or of an unknown type, and their bodies differ.
    """
    same_body = len(a) > FOOTER_BYTES and a[:-FOOTER_BYTES] == b[:-FOOTER_BYTES]
    if same_body and (family_a == family_b or a[0] <= SHARED_TYPE_MAX):
        return True
    value_a, value_b = decode(a, family_a), decode(b, family_b)
    return not isinstance(value_a, ModuleValue) and same_value(value_a, value_b)


def _same_stream(a: StreamValue, b: StreamValue, consumer_times: bool) -> bool:
    if a.last_id != b.last_id or a.entries != b.entries or len(a.groups) != len(b.groups):
        return False
    if _both_say(a.entries_added, b.entries_added) and a.entries_added != b.entries_added:
        return False
    if _both_say(a.max_deleted_id, b.max_deleted_id) and a.max_deleted_id != b.max_deleted_id:
        return False
    # Type 15 says neither entries added nor entries read; in the later types -1 is a statement.
    entries_read = _both_say(a.entries_added, b.entries_added)
    groups = {group.name: group for group in b.groups}
    return all(_same_group(group, groups.get(group.name), entries_read, consumer_times) for group in a.groups)


def _both_say(a: object, b: object) -> bool:
    return a is not None and b is not None


def _same_group(a: StreamGroup, b: StreamGroup | None, entries_read: bool, consumer_times: bool) -> bool:
    if b is None or a.last_id != b.last_id or (entries_read and a.entries_read != b.entries_read):
        return False
    if {pending.entry_id: pending for pending in a.pending} != {
        pending.entry_id: pending for pending in b.pending
    }:
        return False
    consumers_a = {consumer.name: consumer for consumer in a.consumers}
    consumers_b = {consumer.name: consumer for consumer in b.consumers}
    if consumers_a.keys() != consumers_b.keys():
        return False
    if not consumer_times:
        return True
    for name, one in consumers_a.items():
        other = consumers_b[name]
        if one.seen_ms != other.seen_ms:
            return False
        if -1 not in (one.active_ms, other.active_ms) and one.active_ms != other.active_ms:
            return False
    return True
