"""Whether two payloads whose bytes differ hold the same value. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from keyferry.model.identity import Family
from keyferry.model.values import HashValue, ModuleValue, StreamValue, Value
from keyferry.payload.cursor import Cursor
from keyferry.payload.equal import same_value
from keyferry.payload.errors import PayloadError
from keyferry.payload.footer import FOOTER_BYTES
from keyferry.payload.reader import decode
from keyferry.payload.streams import STREAM, STREAM_2, STREAM_3, read_tail, skip_nodes
from keyferry.transfer.comparing_values import same_elements

_STREAMS = frozenset((STREAM, STREAM_2, STREAM_3))


@dataclass(frozen=True, slots=True)
class ValueRules:
    """Who wrote the payloads, and what counts as equal.

    Attributes:
        tolerance_ms: Fields' expiries that are further apart differ.
        drop_field_expiry: They do not count where only the source's hash has any.
    """

    source: Family
    target: Family
    tolerance_ms: int
    drop_field_expiry: bool


def values_agree(source: bytes, target: bytes, rules: ValueRules) -> bool:
    """Whether both are the same value; False also where nobody but a module can tell, or one is broken."""
    same = same_elements(source, target)
    if same is None:
        same = _streams_agree(source, target)
    if same is not None:
        return same
    try:
        here, there = decode(source, rules.source), decode(target, rules.target)
    except PayloadError:
        return False
    if isinstance(here, HashValue) and isinstance(there, HashValue):
        return _hashes_agree(here, there, rules)
    return not _is_module(here) and same_value(here, there)


def _streams_agree(source: bytes, target: bytes) -> bool | None:
    """By their groups, where the entries are the same bytes; None where they are not, or something else is there.

    Types of streams differ in what stands behind the entries, and servers keep entries as they were sent.
    """
    if not {source[0], target[0]} <= _STREAMS:
        return None
    here, there = Cursor(source[:-FOOTER_BYTES], 1), Cursor(target[:-FOOTER_BYTES], 1)
    try:
        skip_nodes(here)
        skip_nodes(there)
        if here.data[1 : here.pos] != there.data[1 : there.pos]:
            return None
        tails = read_tail(here, source[0]), read_tail(there, target[0])
    except (PayloadError, IndexError):
        return None
    one, other = (
        StreamValue([], tail.last_id, tail.entries_added, tail.max_deleted_id, tail.groups) for tail in tails
    )
    return tails[0].entry_count == tails[1].entry_count and same_value(one, other)


def _is_module(value: Value) -> bool:
    return isinstance(value, ModuleValue)


def _hashes_agree(here: HashValue, there: HashValue, rules: ValueRules) -> bool:
    if len(here.fields) != len(there.fields) or dict(here.fields) != dict(there.fields):
        return False
    if rules.drop_field_expiry and not there.expiries:
        return True
    return here.expiries.keys() == there.expiries.keys() and all(
        abs(expires_at_ms - there.expiries[field]) <= rules.tolerance_ms
        for field, expires_at_ms in here.expiries.items()
    )
