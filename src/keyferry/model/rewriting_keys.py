"""Second legs of the commands of any type, and of those that only write with an option."""

from __future__ import annotations

from typing import Any

from keyferry.model.commands import look_up, written_keys_of
from keyferry.model.expiries import expire_or_delete, expiry_ms
from keyferry.model.key_positions import Args, word
from keyferry.model.second import NOTHING, Rule, Second, as_is, one, only_when_one

_UNITS = {"EXPIRE": "EX", "PEXPIRE": "PX", "EXPIREAT": "EXAT", "PEXPIREAT": "PXAT"}


def _expire(unit: str) -> Rule:
    def rule(args: Args, reply: Any, now_ms: int, _absolute: bool) -> Second:
        return expire_or_delete(args[1], expiry_ms(unit, args[2], now_ms), now_ms) if reply == 1 else NOTHING

    return rule


def _copy(args: Args, reply: Any, _now_ms: int, _absolute: bool) -> Second:
    if reply != 1:
        return NOTHING
    replaces = any(word(argument) == "REPLACE" for argument in args[3:])
    return as_is(args if replaces else (*args, "REPLACE"), reply)


def _renamenx(args: Args, reply: Any, _now_ms: int, _absolute: bool) -> Second:
    return one("RENAME", args[1], args[2]) if reply == 1 else NOTHING


def _restore(args: Args, _reply: Any, now_ms: int, absolute: bool) -> Second:
    """RESTORE key ttl payload [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]; a ttl of 0 is none."""
    key, ttl, payload = args[1], int(args[2]), args[3]
    options = [word(argument) for argument in args[4:]]
    rest = [argument for argument in args[4:] if word(argument) not in {"REPLACE", "ABSTTL"}]
    if not ttl:
        return one("RESTORE", key, 0, payload, "REPLACE", *rest)
    at_ms = ttl if "ABSTTL" in options else now_ms + ttl
    if at_ms <= now_ms:
        return one("DEL", key)
    if absolute:
        return one("RESTORE", key, at_ms, payload, "REPLACE", "ABSTTL", *rest)
    return one("RESTORE", key, at_ms - now_ms, payload, "REPLACE", *rest)


def _with_destination(args: Args, reply: Any, _now_ms: int, _absolute: bool) -> Second:
    info = look_up(args)
    return as_is(args, reply) if info and written_keys_of(info, args) else NOTHING


def _json_set(args: Args, reply: Any, _now_ms: int, _absolute: bool) -> Second:
    if reply is None:
        return NOTHING
    rest = [argument for argument in args[4:] if word(argument) not in {"NX", "XX"}]
    return one("JSON.SET", *args[1:4], *rest)


RULES: dict[str, Rule] = {
    **{name: _expire(unit) for name, unit in _UNITS.items()},
    "COPY": _copy,
    "RENAMENX": _renamenx,
    "MOVE": only_when_one,
    "RESTORE": _restore,
    "SORT": _with_destination,
    "GEORADIUS": _with_destination,
    "GEORADIUSBYMEMBER": _with_destination,
    "JSON.SET": _json_set,
}
