"""Expiries as commands say them, made absolute: the mirror side gets its command later than the authority did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keyferry.model.second import UNTOLD, Second, one

_UNIT_MS = {"EX": 1_000, "PX": 1, "EXAT": 1_000, "PXAT": 1}


def expiry_ms(option: str, value: Any, now_ms: int) -> int:
    """Unix milliseconds of an expiry.

    Args:
        option: EX, PX, EXAT or PXAT, in upper case.
        value: Its number, as redis-py was given it; the server has accepted it.
    """
    ms = int(value) * _UNIT_MS[option]
    return ms if option.endswith("AT") else now_ms + ms


def expire_or_delete(key: Any, at_ms: int, now_ms: int) -> Second:
    """The key's new expiry; a time that is past has deleted it (expire.c, expireGenericCommand)."""
    if at_ms <= now_ms:
        return one("DEL", key, expected=1)
    return one("PEXPIREAT", key, at_ms, expected=1)


def field_expiries(key: Any, fields: Sequence[Any], at_ms: int, now_ms: int) -> Second:
    """The same for fields of a hash."""
    if not fields:
        return Second()
    if at_ms <= now_ms:
        return one("HDEL", key, *fields, expected=len(fields))
    return one("HPEXPIREAT", key, at_ms, "FIELDS", len(fields), *fields, expected=UNTOLD)
