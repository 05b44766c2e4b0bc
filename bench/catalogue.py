"""Every row by its name."""

from __future__ import annotations

from bench.rows import KEYFERRY, KEYFERRY_GUARDED, KEYFERRY_PURE, ROW_NAMES, Row
from bench.server_rows import Replication, SourceLimit, TargetLimit
from bench.tool_rows import Keyferry, Recipe, RedisPy, RedisShake

GUARD_OFF = ("--max-latency", "0")


def all_rows() -> dict[str, Row]:
    rows: list[Row] = [
        Recipe(),
        RedisPy(),
        RedisShake(),
        Replication("replication", "native replication, default delay", None),
        Replication("replication-no-delay", "native replication, repl-diskless-sync-delay 0", 0),
        SourceLimit(),
        TargetLimit(),
        Keyferry(KEYFERRY, "keyferry copy, compiled, guard off", "compiled", GUARD_OFF),
        Keyferry(KEYFERRY_GUARDED, "keyferry copy, compiled, default guard", "compiled"),
        Keyferry(KEYFERRY_PURE, "keyferry copy, pure Python, guard off", "pure", GUARD_OFF),
    ]
    assert tuple(row.name for row in rows) == ROW_NAMES
    return {row.name: row for row in rows}
