"""Second legs of the commands of strings."""

from __future__ import annotations

from typing import Any

from keyferry.model.expiries import expire_or_delete, expiry_ms
from keyferry.model.key_positions import Args, number, word
from keyferry.model.second import NOTHING, UNTOLD, Rule, Second, as_is, one, raw

_EXPIRIES = frozenset({"EX", "PX", "EXAT", "PXAT"})
_COMPARISONS = frozenset({"IFEQ", "IFNE", "IFDEQ", "IFDNE"})


def _set(args: Args, reply: Any, now_ms: int, absolute: bool) -> Second:
    if len(args) == 3:
        return as_is(args, reply)
    options: dict[str, Any] = {}
    at_ms: int | None = None
    index = 3
    while index < len(args):
        option = word(args[index])
        if option in _EXPIRIES:
            index += 1
            at_ms = expiry_ms(option, args[index], now_ms)
        elif option in _COMPARISONS:
            index += 1
            options[option] = args[index]
        else:
            options[option] = True
        index += 1
    took_effect = _took_effect(options, reply)
    if took_effect is None:
        return Second(reported=(args[1],))
    return (
        _stored(args[1], args[2], at_ms, "KEEPTTL" in options, now_ms, absolute) if took_effect else NOTHING
    )


def _took_effect(options: dict[str, Any], reply: Any) -> bool | None:
    """Whether SET set, by its options and reply; None when the reply does not tell.

    With GET the reply is the old value or nil, whether or not it was set (t_string.c, setGenericCommand).
    """
    if "GET" not in options:
        return reply is not None
    if "NX" in options:
        return reply is None
    if "XX" in options:
        return reply is not None
    if "IFEQ" in options:
        return reply is not None and raw(reply) == raw(options["IFEQ"])
    if "IFNE" in options:
        return reply is None or raw(reply) != raw(options["IFNE"])
    return None if options.keys() & {"IFDEQ", "IFDNE"} else True


def _stored(key: Any, value: Any, at_ms: int | None, keep: bool, now_ms: int, absolute: bool) -> Second:
    if keep:
        return one("SET", key, value, "KEEPTTL")
    if at_ms is None:
        return one("SET", key, value)
    if at_ms <= now_ms:
        return one("DEL", key)
    return one("SET", key, value, "PXAT", at_ms) if absolute else one("SET", key, value, "PX", at_ms - now_ms)


def _setex(args: Args, _reply: Any, now_ms: int, absolute: bool) -> Second:
    return _stored(args[1], args[3], expiry_ms("EX", args[2], now_ms), False, now_ms, absolute)


def _psetex(args: Args, _reply: Any, now_ms: int, absolute: bool) -> Second:
    return _stored(args[1], args[3], expiry_ms("PX", args[2], now_ms), False, now_ms, absolute)


def _setnx(args: Args, reply: Any, _now_ms: int, _absolute: bool) -> Second:
    return one("SET", args[1], args[2]) if reply == 1 else NOTHING


def _getset(args: Args, _reply: Any, _now_ms: int, _absolute: bool) -> Second:
    return one("SET", args[1], args[2])


def _msetnx(args: Args, reply: Any, _now_ms: int, _absolute: bool) -> Second:
    return one("MSET", *args[1:]) if reply == 1 else NOTHING


def _msetex(args: Args, reply: Any, now_ms: int, absolute: bool) -> Second:
    """MSETEX numkeys key value ... [NX | XX] [expiry]: as commands that every server knows."""
    if reply != 1:
        return NOTHING
    end = 2 + 2 * number(args[1])
    at_ms: int | None = None
    keep = False
    for index in range(end, len(args)):
        option = word(args[index])
        if option in _EXPIRIES:
            at_ms = expiry_ms(option, args[index + 1], now_ms)
        keep = keep or option == "KEEPTTL"
    if at_ms is None and not keep:
        return one("MSET", *args[2:end])
    stored = [
        _stored(args[index], args[index + 1], at_ms, keep, now_ms, absolute).commands[0]
        for index in range(2, end, 2)
    ]
    return Second(stored, expected=[UNTOLD] * len(stored))


def _incrbyfloat(args: Args, reply: Any, _now_ms: int, _absolute: bool) -> Second:
    return one("SET", args[1], reply, "KEEPTTL")


def _getdel(args: Args, reply: Any, _now_ms: int, _absolute: bool) -> Second:
    return NOTHING if reply is None else one("DEL", args[1], expected=1)


def _delete_if(args: Args, reply: Any, _now_ms: int, _absolute: bool) -> Second:
    return one("DEL", args[1], expected=1) if reply == 1 else NOTHING


def _getex(args: Args, reply: Any, now_ms: int, _absolute: bool) -> Second:
    if reply is None or len(args) < 3:
        return NOTHING
    option = word(args[2])
    if option == "PERSIST":
        return one("PERSIST", args[1])
    return expire_or_delete(args[1], expiry_ms(option, args[3], now_ms), now_ms)


def _bitfield(args: Args, reply: Any, _now_ms: int, _absolute: bool) -> Second:
    writes = any(word(argument) in {"SET", "INCRBY"} for argument in args[2:])
    return as_is(args, reply) if writes else NOTHING


RULES: dict[str, Rule] = {
    "SET": _set,
    "SETEX": _setex,
    "PSETEX": _psetex,
    "SETNX": _setnx,
    "GETSET": _getset,
    "MSETNX": _msetnx,
    "MSETEX": _msetex,
    "INCRBYFLOAT": _incrbyfloat,
    "GETDEL": _getdel,
    "DELIFEQ": _delete_if,
    "DELEX": _delete_if,
    "GETEX": _getex,
    "BITFIELD": _bitfield,
}
