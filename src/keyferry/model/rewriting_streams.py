"""Second legs of the commands of streams and of time series: what the clock of a server decided.

What the groups of a stream know is not repeated: who was given an entry, when, and how often, is in no reply, so
a repetition would differ and be settled all the same. The stream's key is reported.
"""

from __future__ import annotations

from typing import Any

from keyferry.model.commands import look_up, written_keys_of
from keyferry.model.key_positions import Args, word
from keyferry.model.second import NOTHING, Rule, Second, as_is, one

_TRIMS = frozenset({"MAXLEN", "MINID"})
_REFERENCES = frozenset({"KEEPREF", "DELREF", "ACKED"})
_IDEMPOTENCE = {"IDMPAUTO": 1, "IDMP": 2}
"""Options of XADD from Redis 8.6 on, and how many arguments each takes: they may find the entry there already."""


def _xadd(args: Args, reply: Any, _now_ms: int, _absolute: bool) -> Second:
    """XADD key [NOMKSTREAM] [references] [MAXLEN | MINID [= | ~] threshold [LIMIT n]] id field value ...

    Where a trim with ``~`` stops depends on how the server has cut the stream into blocks. A stream that was carried
    over has the same blocks, so the trim goes along, and the key is reported because it need not have.
    """
    if reply is None:
        return NOTHING
    index = 2
    kept: list[Any] = []
    approximate = False
    while (option := word(args[index])) != "*":
        if option == "NOMKSTREAM":
            index += 1
        elif option in _REFERENCES:
            kept.append(args[index])
            index += 1
        elif option in _TRIMS:
            sign = word(args[index + 1])
            end = index + (3 if sign in {"=", "~"} else 2)
            approximate = sign == "~"
            kept += args[index:end]
            index = end
        elif option == "LIMIT":
            kept += args[index : index + 2]
            index += 2
        elif option in _IDEMPOTENCE:
            return Second(reported=(args[1],))
        else:
            break
    command = ("XADD", args[1], *kept, reply, *args[index + 1 :])
    return Second((command,), reported=(args[1],) if approximate else (), expected=(reply,))


def _xtrim(args: Args, reply: Any, _now_ms: int, _absolute: bool) -> Second:
    if word(args[3]) != "~":
        return as_is(args, reply)
    return Second(reported=(args[1],)) if reply else NOTHING


def _xreadgroup(args: Args, reply: Any, _now_ms: int, _absolute: bool) -> Second:
    """A read of entries that were delivered before counts as a delivery, too (t_stream.c).

    Without entries nothing is reported: a consumer that was only made by asking is made by its next question again.
    """
    if not reply:
        return NOTHING
    streams = reply.values() if isinstance(reply, dict) else [entries for _, entries in reply]
    info = look_up(args)
    return Second(reported=written_keys_of(info, args)) if info and any(streams) else NOTHING


def _xclaim(args: Args, _reply: Any, _now_ms: int, _absolute: bool) -> Second:
    """Also with an empty reply: entries that are gone from the stream are taken off the list, and not told."""
    return Second(reported=(args[1],))


def _xautoclaim(args: Args, reply: Any, _now_ms: int, _absolute: bool) -> Second:
    """The reply: where to go on, the entries claimed, from 7.0 on the ids that were gone."""
    return Second(reported=(args[1],)) if reply and any(reply[1:]) else NOTHING


def _ts_add(args: Args, reply: Any, _now_ms: int, _absolute: bool) -> Second:
    return one(args[0], args[1], reply, *args[3:], expected=reply)


def _ts_madd(args: Args, reply: Any, _now_ms: int, _absolute: bool) -> Second:
    """TS.MADD key timestamp value ...: the reply is a timestamp, or an error, for each."""
    done: list[Any] = []
    times: list[Any] = []
    for index, at in enumerate(reply):
        if isinstance(at, int):
            done += (args[1 + 3 * index], at, args[3 + 3 * index])
            times.append(at)
    return one("TS.MADD", *done, expected=times) if done else NOTHING


def _ts_increase(args: Args, reply: Any, _now_ms: int, _absolute: bool) -> Second:
    """TS.INCRBY and TS.DECRBY key value [TIMESTAMP at] ...; without it the server's clock."""
    for index in range(3, len(args) - 1):
        if word(args[index]) == "TIMESTAMP":
            return one(*args[: index + 1], reply, *args[index + 2 :], expected=reply)
    return one(*args[:3], "TIMESTAMP", reply, *args[3:], expected=reply)


RULES: dict[str, Rule] = {
    "XADD": _xadd,
    "XTRIM": _xtrim,
    "XREADGROUP": _xreadgroup,
    "XCLAIM": _xclaim,
    "XAUTOCLAIM": _xautoclaim,
    "TS.ADD": _ts_add,
    "TS.MADD": _ts_madd,
    "TS.INCRBY": _ts_increase,
    "TS.DECRBY": _ts_increase,
}
