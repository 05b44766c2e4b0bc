"""Second legs of the commands of hashes, whose fields may have expiries of their own (Redis 7.4, Valkey 9.0)."""

from __future__ import annotations

from typing import Any

from keyferry.model.expiries import expiry_ms, field_expiries
from keyferry.model.key_positions import Args, number, word
from keyferry.model.second import NOTHING, UNTOLD, Rule, Second, as_is, one

_UNITS = {"HEXPIRE": "EX", "HPEXPIRE": "PX", "HEXPIREAT": "EXAT", "HPEXPIREAT": "PXAT"}
_EXPIRIES = frozenset({"EX", "PX", "EXAT", "PXAT"})
_SET, _DELETED = 1, 2
"""What HEXPIRE answers of a field (t_hash.c): set, or deleted because the time is past; else no change."""


def _split(args: Args, begin: int, step: int) -> tuple[Args, dict[str, Any]]:
    """The items behind FIELDS and their count, and the options around them.

    Args:
        begin: Where the options begin.
        step: Arguments per item: 1 of fields, 2 of fields and values.
    """
    items: Args = ()
    options: dict[str, Any] = {}
    index = begin
    while index < len(args):
        option = word(args[index])
        if option == "FIELDS":
            end = index + 2 + number(args[index + 1]) * step
            items = args[index + 2 : end]
            index = end
        elif option in _EXPIRIES:
            options[option] = args[index + 1]
            index += 2
        else:
            options[option] = None
            index += 1
    return items, options


def _at_ms(options: dict[str, Any], now_ms: int) -> int | None:
    for option in options.keys() & _EXPIRIES:
        return expiry_ms(option, options[option], now_ms)
    return None


def _hsetnx(args: Args, reply: Any, _now_ms: int, _absolute: bool) -> Second:
    return one("HSET", *args[1:], expected=1) if reply == 1 else NOTHING


def _hincrbyfloat(args: Args, reply: Any, _now_ms: int, _absolute: bool) -> Second:
    """As it is, its reply tells whether both sides came to the same value.

    Servers send on HSETEX ... KEEPTTL, or HSET where fields have no expiry yet; HSET would take the field's expiry off,
    and not every server with such fields knows HSETEX.
    """
    return as_is(args, reply)


def _hexpire(unit: str) -> Rule:
    def rule(args: Args, reply: Any, now_ms: int, _absolute: bool) -> Second:
        if not isinstance(reply, (list, tuple)):
            return NOTHING
        answered = list(zip(_split(args, 3, 1)[0], reply, strict=True))
        kept = [field for field, answer in answered if answer == _SET]
        gone = [field for field, answer in answered if answer == _DELETED]
        commands: list[Args] = []
        expected: list[Any] = []
        if kept:
            at_ms = expiry_ms(unit, args[2], now_ms)
            commands.append(("HPEXPIREAT", args[1], at_ms, "FIELDS", len(kept), *kept))
            expected.append(UNTOLD if at_ms <= now_ms else [_SET] * len(kept))
        if gone:
            commands.append(("HDEL", args[1], *gone))
            expected.append(len(gone))
        return Second(commands, expected=expected)

    return rule


def _hgetex(args: Args, reply: Any, now_ms: int, _absolute: bool) -> Second:
    if not isinstance(reply, (list, tuple)):
        return NOTHING
    items, options = _split(args, 2, 1)
    fields = [field for field, value in zip(items, reply, strict=True) if value is not None]
    if not fields:
        return NOTHING
    if "PERSIST" in options:
        return one("HPERSIST", args[1], "FIELDS", len(fields), *fields)
    at_ms = _at_ms(options, now_ms)
    return NOTHING if at_ms is None else field_expiries(args[1], fields, at_ms, now_ms)


def _hgetdel(args: Args, reply: Any, _now_ms: int, _absolute: bool) -> Second:
    if not isinstance(reply, (list, tuple)):
        return NOTHING
    fields = [field for field, value in zip(_split(args, 2, 1)[0], reply, strict=True) if value is not None]
    return one("HDEL", args[1], *fields, expected=len(fields)) if fields else NOTHING


def _hsetex(args: Args, reply: Any, now_ms: int, _absolute: bool) -> Second:
    """HSETEX key [NX | XX] [FNX | FXX] [expiry | KEEPTTL] FIELDS count field value ..."""
    if reply != 1:
        return NOTHING
    items, options = _split(args, 2, 2)
    at_ms = _at_ms(options, now_ms)
    if at_ms is not None and at_ms <= now_ms:
        return one("HDEL", args[1], *items[::2])
    if at_ms is not None:
        expiry: Args = ("PXAT", at_ms)
    else:
        expiry = ("KEEPTTL",) if "KEEPTTL" in options else ()
    return one("HSETEX", args[1], *expiry, "FIELDS", len(items) // 2, *items, expected=1)


RULES: dict[str, Rule] = {
    **{name: _hexpire(unit) for name, unit in _UNITS.items()},
    "HSETNX": _hsetnx,
    "HINCRBYFLOAT": _hincrbyfloat,
    "HGETEX": _hgetex,
    "HGETDEL": _hgetdel,
    "HSETEX": _hsetex,
}
