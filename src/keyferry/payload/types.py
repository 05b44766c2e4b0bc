"""The table of payload types: what a type byte means, and from which RDB version on a server can load it.

Redis and Valkey share the bytes 0 to 21 and the RDB versions up to 11; from there on the same number means
different things (Valkey 9 counts from 80). Everything that decides how a value travels is derived from here.

Sources. Type bytes: Redis src/rdb.h (RDB_TYPE_*), Valkey src/rdb.h (the same names). First versions:
RDB_VERSION in src/rdb.h of the first release that writes the type. What the tested servers write of 0 to 25
and of Valkey's 22 is tested against them; 26 and 27 are from Redis' rdb.h alone, and 23 from Valkey's.
"""

from __future__ import annotations

from dataclasses import dataclass

from keyferry.model.identity import Family

SHARED_VERSION_MAX = 11
"""The last RDB version that means the same to both families (Redis 7.2, Valkey 7.2 to 8.1)."""

SHARED_TYPE_MAX = 21
"""The last type byte that means the same to both families; Valkey src/rdb.h, RDB_FOREIGN_TYPE_MIN."""

FIELD_EXPIRY_SINCE: dict[Family, tuple[int, int]] = {Family.REDIS: (7, 4), Family.VALKEY: (9, 0)}
"""The first release with HPEXPIREAT (its command table: src/commands/hpexpireat.json)."""


@dataclass(frozen=True, slots=True)
class TypeRow:
    """One type byte.

    Attributes:
        name: What TYPE answers: string, list, set, zset, hash, stream; "module" for a module's own.
        encoding: How the value is laid out.
        since: The RDB version of the first server that loads it; the servers before do not know the byte.
        source: Where the byte is defined.
        field_expiry: Whether fields may have an expiry of their own.
    """

    name: str
    encoding: str
    since: int
    source: str
    field_expiry: bool = False


_BOTH = "Redis and Valkey src/rdb.h, RDB_TYPE_"
_REDIS = "Redis src/rdb.h, RDB_TYPE_"
_VALKEY = "Valkey src/rdb.h, RDB_TYPE_"

_SHARED_ROWS: dict[int, TypeRow] = {
    0: TypeRow("string", "string", 1, _BOTH + "STRING"),
    1: TypeRow("list", "list of strings", 1, _BOTH + "LIST"),
    2: TypeRow("set", "list of strings", 1, _BOTH + "SET"),
    3: TypeRow("zset", "scores as text", 1, _BOTH + "ZSET"),
    4: TypeRow("hash", "list of strings", 1, _BOTH + "HASH"),
    5: TypeRow("zset", "scores as doubles", 8, _BOTH + "ZSET_2"),
    7: TypeRow("module", "module's own", 8, _BOTH + "MODULE_2"),
    9: TypeRow("hash", "zipmap", 2, _BOTH + "HASH_ZIPMAP"),
    10: TypeRow("list", "ziplist", 2, _BOTH + "LIST_ZIPLIST"),
    11: TypeRow("set", "intset", 2, _BOTH + "SET_INTSET"),
    12: TypeRow("zset", "ziplist", 2, _BOTH + "ZSET_ZIPLIST"),
    13: TypeRow("hash", "ziplist", 4, _BOTH + "HASH_ZIPLIST"),
    14: TypeRow("list", "quicklist of ziplists", 7, _BOTH + "LIST_QUICKLIST"),
    15: TypeRow("stream", "listpacks", 9, _BOTH + "STREAM_LISTPACKS"),
    16: TypeRow("hash", "listpack", 10, _BOTH + "HASH_LISTPACK"),
    17: TypeRow("zset", "listpack", 10, _BOTH + "ZSET_LISTPACK"),
    18: TypeRow("list", "quicklist of listpacks", 10, _BOTH + "LIST_QUICKLIST_2"),
    19: TypeRow("stream", "listpacks, counters", 10, _BOTH + "STREAM_LISTPACKS_2"),
    20: TypeRow("set", "listpack", 11, _BOTH + "SET_LISTPACK"),
    21: TypeRow("stream", "listpacks, counters, active times", 11, _BOTH + "STREAM_LISTPACKS_3"),
}

TYPES: dict[Family, dict[int, TypeRow]] = {
    Family.REDIS: _SHARED_ROWS
    | {
        22: TypeRow("hash", "field expiries, 7.4 RC", 12, _REDIS + "HASH_METADATA_PRE_GA", field_expiry=True),
        23: TypeRow(
            "hash",
            "listpack, field expiries, 7.4 RC",
            12,
            _REDIS + "HASH_LISTPACK_EX_PRE_GA",
            field_expiry=True,
        ),
        24: TypeRow("hash", "field expiries", 12, _REDIS + "HASH_METADATA", field_expiry=True),
        25: TypeRow("hash", "listpack, field expiries", 12, _REDIS + "HASH_LISTPACK_EX", field_expiry=True),
        26: TypeRow("stream", "listpacks, idempotent producers", 13, _REDIS + "STREAM_LISTPACKS_4"),
        27: TypeRow("stream", "listpacks, unowned pending entries", 14, _REDIS + "STREAM_LISTPACKS_5"),
    },
    Family.VALKEY: _SHARED_ROWS
    | {
        22: TypeRow("hash", "field expiries", 80, _VALKEY + "HASH_2", field_expiry=True),
        23: TypeRow("hash", "path hash", 81, _VALKEY + "PATH_HASH"),
    },
}
"""Family -> type byte -> row. A byte without a row is not known (6: a module format never released)."""

_VERSIONS: dict[Family, tuple[tuple[tuple[int, int], int], ...]] = {
    Family.REDIS: (
        ((2, 6), 6),
        ((3, 2), 7),
        ((4, 0), 8),
        ((5, 0), 9),
        ((7, 0), 10),
        ((7, 2), 11),
        ((7, 4), 12),
    ),
    Family.VALKEY: (((7, 2), 11), ((9, 0), 80), ((9, 2), 81)),
}


def rdb_version_of(family: Family, version: tuple[int, int, int]) -> int:
    """The RDB version that a release is known to load: for a server that could not be asked for a payload.

    For a release newer than the table it is the newest known one, which such a server loads as well. For one
    older than the table it is 0: such a server has no DUMP.
    """
    known = [rdb_version for since, rdb_version in _VERSIONS[family] if version[:2] >= since]
    return known[-1] if known else 0
