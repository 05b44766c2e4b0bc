"""Second legs of the commands of lists, sets and sorted sets: mostly of what takes something out.

A list loses its elements at the end they were taken from: that is all that can be said of a list. Of a set the
members are removed by name. So are those of a sorted set, although servers replicate ZPOPMIN: which member is
the lowest depends on all the others, so a mirror side that has one too many would lose a wrong one, while removing
a member by name is right whatever else is there, and does no harm when it arrives twice.
"""

from __future__ import annotations

from typing import Any

from keyferry.model.key_positions import Args, number, word
from keyferry.model.second import NOTHING, Rule, Second, as_is, one, only_when_one, pairs, unless_nil

_ADD_OPTIONS = frozenset({"NX", "XX", "GT", "LT", "CH", "INCR"})


def _push_existing(args: Args, reply: Any, _now_ms: int, _absolute: bool) -> Second:
    """LPUSHX, RPUSHX: the list was there when its new length is not 0."""
    return one(word(args[0]).removesuffix("X"), *args[1:], expected=reply) if reply else NOTHING


def _pop(args: Args, reply: Any, _now_ms: int, _absolute: bool) -> Second:
    if isinstance(reply, (list, tuple)):
        return one(args[0], args[1], len(reply), expected=reply) if reply else NOTHING
    return NOTHING if reply is None else one(args[0], args[1], expected=reply)


def _blocking_pop(args: Args, reply: Any, _now_ms: int, _absolute: bool) -> Second:
    if not reply:
        return NOTHING
    return one(word(args[0])[1:], reply[0], expected=reply[1])


def _list_pops(count_at: int) -> Rule:
    """LMPOP numkeys key ... LEFT | RIGHT [COUNT n]; BLMPOP has its timeout before. The reply: key, elements."""

    def rule(args: Args, reply: Any, _now_ms: int, _absolute: bool) -> Second:
        if not reply or not reply[1]:
            return NOTHING
        key, elements = reply
        name = "LPOP" if word(args[count_at + 1 + number(args[count_at])]) == "LEFT" else "RPOP"
        if len(elements) == 1:
            return one(name, key, expected=elements[0])
        return one(name, key, len(elements), expected=elements)

    return rule


def _blocking_move(args: Args, reply: Any, _now_ms: int, _absolute: bool) -> Second:
    """BLMOVE source destination from to timeout, BRPOPLPUSH source destination timeout."""
    return NOTHING if reply is None else one(word(args[0])[1:], *args[1:-1], expected=reply)


def _spop(args: Args, reply: Any, _now_ms: int, _absolute: bool) -> Second:
    members = reply if isinstance(reply, (list, tuple, set, frozenset)) else () if reply is None else (reply,)
    return one("SREM", args[1], *members, expected=len(members)) if members else NOTHING


def _removed(key: Any, members: list[Any]) -> Second:
    return one("ZREM", key, *members, expected=len(members)) if members else NOTHING


def _sorted_pop(args: Args, reply: Any, _now_ms: int, _absolute: bool) -> Second:
    return _removed(args[1], pairs(reply or ()))


def _sorted_blocking_pop(_args: Args, reply: Any, _now_ms: int, _absolute: bool) -> Second:
    """The reply: key, member, score."""
    return _removed(reply[0], [reply[1]]) if reply else NOTHING


def _sorted_pops(_args: Args, reply: Any, _now_ms: int, _absolute: bool) -> Second:
    """The reply of ZMPOP and BZMPOP: key, [[member, score], ...]."""
    return _removed(reply[0], pairs(reply[1])) if reply else NOTHING


def _add(item_length: int) -> Rule:
    """ZADD key [options] score member ..., GEOADD key [options] longitude latitude member ...

    NX adds only, so its reply counts what took effect; with CH the reply counts all that changed; XX, GT and LT
    without CH hide the members that were updated.
    """

    def rule(args: Args, reply: Any, _now_ms: int, _absolute: bool) -> Second:
        begin = 2
        options = set()
        while begin < len(args) and (option := word(args[begin])) in _ADD_OPTIONS:
            options.add(option)
            begin += 1
        if "INCR" in options:
            return NOTHING if reply is None else one("ZADD", args[1], reply, args[begin + 1])
        if not options & {"NX", "XX", "GT", "LT"}:
            return as_is(args, reply)
        if reply == 0 and ("NX" in options or "CH" in options):
            return NOTHING
        if reply == (len(args) - begin) // item_length:
            changed = ("CH",) if "CH" in options else ()
            return one(args[0], args[1], *changed, *args[begin:], expected=reply)
        return as_is(args, reply)

    return rule


RULES: dict[str, Rule] = {
    "LPUSHX": _push_existing,
    "RPUSHX": _push_existing,
    "LINSERT": only_when_one,
    "LPOP": _pop,
    "RPOP": _pop,
    "BLPOP": _blocking_pop,
    "BRPOP": _blocking_pop,
    "LMPOP": _list_pops(1),
    "BLMPOP": _list_pops(2),
    "LMOVE": unless_nil,
    "RPOPLPUSH": unless_nil,
    "BLMOVE": _blocking_move,
    "BRPOPLPUSH": _blocking_move,
    "SPOP": _spop,
    "SMOVE": only_when_one,
    "ZPOPMIN": _sorted_pop,
    "ZPOPMAX": _sorted_pop,
    "BZPOPMIN": _sorted_blocking_pop,
    "BZPOPMAX": _sorted_blocking_pop,
    "ZMPOP": _sorted_pops,
    "BZMPOP": _sorted_pops,
    "ZADD": _add(2),
    "GEOADD": _add(3),
}
