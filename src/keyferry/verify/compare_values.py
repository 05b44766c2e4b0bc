"""Whether two payloads whose bytes differ hold the same value. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from keyferry.model.identity import Family
from keyferry.model.values import HashValue, ModuleValue, Value
from keyferry.payload.equal import same_value
from keyferry.payload.errors import PayloadError
from keyferry.payload.reader import decode
from keyferry.transfer.comparing_values import same_elements


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
    if same is not None:
        return same
    try:
        here, there = decode(source, rules.source), decode(target, rules.target)
    except PayloadError:
        return False
    if isinstance(here, HashValue) and isinstance(there, HashValue):
        return _hashes_agree(here, there, rules)
    return not _is_module(here) and same_value(here, there)


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
