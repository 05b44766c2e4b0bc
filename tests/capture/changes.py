"""What changes keys, and which keys a feed has to name for it."""

from __future__ import annotations

from typing import NamedTuple

from keyferry.model.identity import Family
from keyferry.testing.servers import Server
from keyferry.wire.resp import Argument

Command = tuple[Argument, ...]
SEVEN, SEVEN_FOUR = (7, 0, 0), (7, 4, 0)


class Change(NamedTuple):
    """Commands that prepare, one that changes, and the names that must come.

    Attributes:
        since: The Redis release that brought it.
        valkey: Whether Valkey 9.1 has it.
    """

    before: list[Command]
    command: Command
    names: set[bytes]
    since: tuple[int, int, int] = (6, 2, 0)
    valkey: bool = True

    def known_to(self, server: Server) -> bool:
        if server.binary.family is Family.VALKEY:
            return self.valkey
        return server.binary.version >= self.since


SET_A: list[Command] = [("SET", "a", "1")]
LIST_A: list[Command] = [("RPUSH", "a", "1", "2", "3")]
SET_OF_A: list[Command] = [("SADD", "a", "1", "2", "3")]
HASH_A: list[Command] = [("HSET", "a", "f", "1", "g", "2")]
SORTED_A: list[Command] = [("ZADD", "a", "1", "x", "2", "y")]
STREAM_A: list[Command] = [("XADD", "a", "1-0", "f", "v"), ("XADD", "a", "2-0", "f", "v")]
A, AB = {b"a"}, {b"a", b"b"}

CHANGES: dict[str, Change] = {
    "SET": Change([], ("SET", "a", "1"), A),
    "SET same": Change(SET_A, ("SET", "a", "1"), A),
    "SET another type": Change(LIST_A, ("SET", "a", "1"), A),
    "MSET": Change([], ("MSET", "a", "1", "b", "2"), AB),
    "GETSET": Change(SET_A, ("GETSET", "a", "2"), A),
    "GETDEL": Change(SET_A, ("GETDEL", "a"), A),
    "GETEX": Change(SET_A, ("GETEX", "a", "PX", "60000"), A),
    "INCR": Change([], ("INCR", "a"), A),
    "INCRBYFLOAT": Change([], ("INCRBYFLOAT", "a", "1.5"), A),
    "APPEND": Change(SET_A, ("APPEND", "a", "2"), A),
    "SETRANGE": Change(SET_A, ("SETRANGE", "a", "3", "x"), A),
    "SETBIT": Change([], ("SETBIT", "a", "7", "1"), A),
    "BITFIELD": Change([], ("BITFIELD", "a", "SET", "u8", "0", "7"), A),
    "BITOP": Change(SET_A, ("BITOP", "NOT", "b", "a"), {b"b"}),
    "DEL": Change([*SET_A, ("SET", "b", "1")], ("DEL", "a", "b"), AB),
    "UNLINK": Change(SET_A, ("UNLINK", "a"), A),
    "EXPIRE": Change(SET_A, ("EXPIRE", "a", "100"), A),
    "PEXPIREAT": Change(SET_A, ("PEXPIREAT", "a", "99999999999999"), A),
    "EXPIRE in the past": Change(SET_A, ("PEXPIREAT", "a", "1"), A),
    "PERSIST": Change([("SET", "a", "1", "EX", "100")], ("PERSIST", "a"), A),
    "RENAME": Change(SET_A, ("RENAME", "a", "b"), AB),
    "RENAME over": Change([*SET_A, ("SET", "b", "2")], ("RENAME", "a", "b"), AB),
    "RENAMENX": Change(SET_A, ("RENAMENX", "a", "b"), AB),
    "COPY": Change(SET_A, ("COPY", "a", "b"), {b"b"}),
    "SORT STORE": Change(LIST_A, ("SORT", "a", "STORE", "b"), {b"b"}),
    "RPUSH": Change([], ("RPUSH", "a", "1"), A),
    "LPOP": Change(LIST_A, ("LPOP", "a"), A),
    "LSET": Change(LIST_A, ("LSET", "a", "0", "x"), A),
    "LINSERT": Change(LIST_A, ("LINSERT", "a", "BEFORE", "1", "x"), A),
    "LREM": Change(LIST_A, ("LREM", "a", "0", "1"), A),
    "LTRIM": Change(LIST_A, ("LTRIM", "a", "1", "1"), A),
    "LTRIM all": Change(LIST_A, ("LTRIM", "a", "9", "9"), A),
    "RPOPLPUSH": Change(LIST_A, ("RPOPLPUSH", "a", "b"), AB),
    "LMOVE": Change(LIST_A, ("LMOVE", "a", "b", "LEFT", "LEFT"), AB),
    "LMPOP": Change(LIST_A, ("LMPOP", "1", "a", "LEFT"), A, SEVEN),
    "SADD": Change([], ("SADD", "a", "1"), A),
    "SREM": Change(SET_OF_A, ("SREM", "a", "1"), A),
    "SPOP": Change(SET_OF_A, ("SPOP", "a"), A),
    "SPOP all": Change(SET_OF_A, ("SPOP", "a", "9"), A),
    "SMOVE": Change(SET_OF_A, ("SMOVE", "a", "b", "1"), AB),
    "SUNIONSTORE": Change(SET_OF_A, ("SUNIONSTORE", "b", "a"), {b"b"}),
    "SINTERSTORE to nothing": Change(
        [*SET_OF_A, ("SET", "b", "1")], ("SINTERSTORE", "b", "a", "none"), {b"b"}
    ),
    "HSET": Change([], ("HSET", "a", "f", "1"), A),
    "HINCRBY": Change([], ("HINCRBY", "a", "f", "1"), A),
    "HDEL": Change(HASH_A, ("HDEL", "a", "f"), A),
    "HDEL last": Change(HASH_A, ("HDEL", "a", "f", "g"), A),
    "HPEXPIRE": Change(HASH_A, ("HPEXPIRE", "a", "60000", "FIELDS", "1", "f"), A, SEVEN_FOUR),
    "HPEXPIRE in the past": Change(HASH_A, ("HPEXPIREAT", "a", "1", "FIELDS", "1", "f"), A, SEVEN_FOUR),
    "HPERSIST": Change(
        [*HASH_A, ("HPEXPIRE", "a", "60000", "FIELDS", "1", "f")],
        ("HPERSIST", "a", "FIELDS", "1", "f"),
        A,
        SEVEN_FOUR,
    ),
    "HGETDEL": Change(HASH_A, ("HGETDEL", "a", "FIELDS", "1", "f"), A, (8, 0, 0)),
    "HGETEX": Change(HASH_A, ("HGETEX", "a", "PX", "60000", "FIELDS", "1", "f"), A, (8, 0, 0)),
    "HSETEX": Change(HASH_A, ("HSETEX", "a", "PX", "60000", "FIELDS", "1", "f", "9"), A, (8, 0, 0)),
    "ZADD": Change([], ("ZADD", "a", "1", "x"), A),
    "ZINCRBY": Change([], ("ZINCRBY", "a", "1", "x"), A),
    "ZREM": Change(SORTED_A, ("ZREM", "a", "x"), A),
    "ZPOPMIN": Change(SORTED_A, ("ZPOPMIN", "a"), A),
    "ZREMRANGEBYRANK": Change(SORTED_A, ("ZREMRANGEBYRANK", "a", "0", "0"), A),
    "ZUNIONSTORE": Change(SORTED_A, ("ZUNIONSTORE", "b", "1", "a"), {b"b"}),
    "ZRANGESTORE": Change(SORTED_A, ("ZRANGESTORE", "b", "a", "0", "-1"), {b"b"}),
    "GEOADD": Change([], ("GEOADD", "a", "13.3", "38.1", "x"), A),
    "PFADD": Change([], ("PFADD", "a", "x"), A),
    "PFMERGE": Change([("PFADD", "a", "x")], ("PFMERGE", "b", "a"), {b"b"}),
    "XADD": Change([], ("XADD", "a", "*", "f", "v"), A),
    "XDEL": Change(STREAM_A, ("XDEL", "a", "1-0"), A),
    "XDELEX": Change(STREAM_A, ("XDELEX", "a", "IDS", "1", "1-0"), A, (8, 2, 0), valkey=False),
    "XTRIM": Change(STREAM_A, ("XTRIM", "a", "MAXLEN", "1"), A),
    "XGROUP MKSTREAM": Change([], ("XGROUP", "CREATE", "a", "g", "$", "MKSTREAM"), A),
    "EVAL": Change([], ("EVAL", "redis.call('SET', 'a', 1) redis.call('INCR', 'b')", "0"), AB),
    "MOVE": Change(SET_A, ("MOVE", "a", "1"), A),
}
