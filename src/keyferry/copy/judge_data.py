"""Judges whether the source's data fits the target: payloads, memory, databases, keys there. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

from keyferry.copy.databases import cluster_problem
from keyferry.copy.facts import CheckRequest, Facts, MemoryFacts
from keyferry.copy.finding import Finding, Level, could_not_look, counted, databases_named, listed, size
from keyferry.copy.rights import has_field_expiry
from keyferry.model.methods import Method
from keyferry.model.selection import TYPES as CORE_TYPES
from keyferry.payload.plan import PayloadPlan
from keyferry.payload.types import TYPES as TYPE_ROWS

MEMORY_WARNING_SHARE = 0.8
"""Of the target's free memory: payloads decode to other sizes on other versions."""
MEMORY_ROOM = 1.4
"""Of the data, in the advice on maxmemory: clearly more than the warning asks for."""
BIG_KEY_BYTES = 64 << 20
BULK_WARNING_SHARE = 0.9
WAYS = {
    Method.RESTORE: "as they are",
    Method.RESIGNED: "re-signed",
    Method.TRANSCODED: "transcoded",
    Method.LOGICAL: "by commands",
    Method.IMPOSSIBLE: "not at all",
}
SUPERSEDED = {1: 7, 3: 8, 9: 4, 10: 7, 12: 10, 13: 10, 14: 10, 15: 10, 19: 11}
"""Type byte -> RDB version from which servers write another one in its place (their rdb.c)."""
MODULES_WITHOUT_KEYS = frozenset(("lua",))
"""Valkey's script engine (>= 9.1)."""
_FIELD_EXPIRY_WRITES = ("hexpire", "hpexpire", "hexpireat", "hpexpireat", "hsetex", "hgetex")


def data(facts: Facts, request: CheckRequest, plan: PayloadPlan) -> Iterator[Finding]:
    """What there is to carry, in which form, and whether there is room for it."""
    yield from _payloads(facts, request, plan)
    yield from _lossy(facts, request, plan)
    yield from _modules(facts)
    yield from _databases(facts, request)
    yield _memory(facts)
    yield from _eviction(facts.source.server.memory, facts.target.server.memory)
    yield from _target_keys(facts, request)
    yield from _sizes(facts, request)


def payload_ways(plan: PayloadPlan, request: CheckRequest) -> dict[Method, list[str]]:
    """Way -> types that take it, of the types that the source's version writes; a type may take several."""
    ways: dict[Method, list[str]] = {}
    for type_byte in written_types(plan):
        row = TYPE_ROWS[plan.source.family][type_byte]
        if row.name == "module":
            continue
        name = f"{row.name} with field expiry" if row.field_expiry else row.name
        way = Method(plan.actions[type_byte])
        if row.field_expiry and not has_field_expiry(plan.target) and not request.drop_field_expiry:
            way = Method.IMPOSSIBLE
        names = ways.setdefault(way, [])
        if name not in names:
            names.append(name)
    return dict(sorted(ways.items()))


def written_types(plan: PayloadPlan) -> list[int]:
    """The type bytes that the source's version writes by itself; what RESTORE brought to it may differ."""
    rows, version = TYPE_ROWS[plan.source.family], plan.source.rdb_version
    return [
        type_byte
        for type_byte, row in sorted(rows.items())
        if row.since <= version < SUPERSEDED.get(type_byte, version + 1) and "7.4 RC" not in row.encoding
    ]


def _payloads(facts: Facts, request: CheckRequest, plan: PayloadPlan) -> Iterator[Finding]:
    source, target = facts.source.server.identity, facts.target.server.identity
    yield Finding(
        "ok",
        "versions",
        f"{source} (RDB {plan.source.rdb_version}) to {target} (RDB {plan.target.rdb_version}).",
    )
    ways = payload_ways(plan, request)
    text = "; ".join(
        f"{WAYS[way]}: {', '.join(names)}" for way, names in ways.items() if way != Method.IMPOSSIBLE
    )
    yield Finding("ok", "payloads", f"Values travel {text}.")


def _lossy(facts: Facts, request: CheckRequest, plan: PayloadPlan) -> Iterator[Finding]:
    rows = TYPE_ROWS[plan.source.family]
    for byte in written_types(plan):
        if plan.actions[byte] == Method.IMPOSSIBLE and not rows[byte].field_expiry:
            sentence = f"A {rows[byte].name} ({rows[byte].encoding}) would fail."
            yield Finding("warning", "payloads", sentence, plan.reason(byte))
    if has_field_expiry(plan.source) and not has_field_expiry(plan.target):
        yield _field_expiry(facts, request)
    if plan.target.rdb_version < 10 <= plan.source.rdb_version and _has_streams(facts):
        yield Finding(
            "warning",
            "streams",
            f"{facts.target.server.identity} cannot hold the entries-added, entries-read and max-deleted-id "
            "of streams; they are not carried.",
            "Nothing to do unless an application reads them from XINFO (consumer lag).",
        )


def _field_expiry(facts: Facts, request: CheckRequest) -> Finding:
    calls = facts.source.calls
    uses = sum(count for name, count in (calls or {}).items() if name in _FIELD_EXPIRY_WRITES)
    used = f"; the source has had {counted(uses, 'command')} that set one" if uses else ""
    level: Level = "warning" if uses or calls is None else "ok"
    target = facts.target.server.identity
    if request.drop_field_expiry:
        sentence = f"{target} has no expiry of hash fields: it is dropped{used}."
        return Finding(level, "field expiry", sentence)
    return Finding(
        level,
        "field expiry",
        f"{target} has no expiry of hash fields: hashes that use it fail{used}.",
        "Use --drop-field-expiry to carry them without it, or a target from Redis 7.4 or Valkey 9.0 on.",
    )


def _has_streams(facts: Facts) -> bool:
    return any(key.type == "stream" for key in facts.source.sample.keys) or "xadd" in (
        facts.source.calls or {}
    )


def _modules(facts: Facts) -> Iterator[Finding]:
    source, target = facts.source.server, facts.target.server
    if source.modules is None or target.modules is None:
        blind = source if source.modules is None else target
        yield could_not_look("modules", f"the {blind.side}'s modules", blind.refusals.get("MODULE LIST", ""))
        return
    sampled = sorted(
        {key.type for key in facts.source.sample.keys if key.type not in CORE_TYPES and key.type}
    )
    theirs = source.modules - MODULES_WITHOUT_KEYS
    lacking = sorted(theirs - target.modules)
    if not lacking:
        sentence = (
            f"The target has the source's {_modules_named(sorted(theirs))}." if theirs else "None to carry."
        )
        yield Finding("ok", "modules", sentence)
    elif sampled or any(name not in source.builtin_modules for name in lacking):
        found = f"; sampled keys have the types {listed(sampled)}" if sampled else ""
        yield Finding(
            "warning",
            "modules",
            f"The target lacks the source's {_modules_named(lacking)}: keys of its types would fail{found}.",
            f"Load {listed(lacking)} on the target, or leave the keys out with --type or --exclude.",
        )
    else:
        sentence = (
            f"The target lacks the source's built-in {_modules_named(lacking)}; no sampled key uses it."
        )
        yield Finding("ok", "modules", sentence)


def _modules_named(names: list[str]) -> str:
    return f"{'module' if len(names) == 1 else 'modules'} {listed(names)}"


def _databases(facts: Facts, request: CheckRequest) -> Iterator[Finding]:
    source, target = facts.source, facts.target.server
    for db, reply in source.server.absent_databases.items():
        yield Finding(
            "stop",
            "databases",
            f"The source does not give us database {db} ({reply}).",
            "Name another with --db.",
        )
    for db, reply in target.absent_databases.items():
        wanted = next(one for one in source.selected if request.selection.target_database(one) == db)
        has = f": it has {target.database_count}" if target.database_count is not None else ""
        yield Finding(
            "stop",
            "databases",
            f"The target does not give us database {db}{has} ({reply}).",
            f"Set databases {db + 1} in the target's configuration, or map it with --db-map {wanted}:N.",
        )
    problem = cluster_problem(source.selected, request.selection) if target.cluster else None
    if problem is not None:
        yield Finding("stop", "databases", *problem)
    else:
        yield from _merged(source.selected, request)
    keyspace = source.server.keyspace
    if keyspace is None:
        yield could_not_look("databases", "the databases in use", source.server.refusals.get("INFO", ""))
        return
    keys = sum(keyspace[db].keys for db in source.selected if db in keyspace)
    expiring = sum(keyspace[db].expires for db in source.selected if db in keyspace)
    left_out = [db for db in keyspace if db not in source.selected]
    chosen = f" in {databases_named(list(source.selected))}" if source.selected else ""
    yield Finding("ok", "databases", f"{counted(keys, 'key')}{chosen}, {expiring:,} of them with an expiry.")
    if left_out:
        rest = sum(keyspace[db].keys for db in left_out)
        yield Finding(
            "warning",
            "databases",
            f"Not part of the copy: {counted(rest, 'key')} in {databases_named(left_out)}.",
            "Use --all-dbs, or --db for each, if they are wanted.",
        )


def _merged(selected: tuple[int, ...], request: CheckRequest) -> Iterator[Finding]:
    by_target: dict[int, list[int]] = {}
    for db in selected:
        by_target.setdefault(request.selection.target_database(db), []).append(db)
    for db, sources in by_target.items():
        if len(sources) > 1:
            names = ", ".join(map(str, sources))
            yield Finding(
                "warning",
                "databases",
                f"Databases {names} all go into database {db}: keys of the same name meet there.",
                "Map them to different databases with --db-map, unless you know that no name repeats.",
            )


def _memory(facts: Facts) -> Finding:
    need, target = needed_bytes(facts), facts.target.server.memory
    if need is None:
        return could_not_look("memory", "the source's memory", facts.source.server.refusals.get("INFO", ""))
    limit = target.maxmemory or target.system
    name = "maxmemory" if target.maxmemory else "the machine's memory"
    if target.used is None or not limit:
        return could_not_look(
            "memory", "the target's free memory", facts.target.server.refusals.get("INFO", "")
        )
    free = max(0, limit - target.used)
    room = f"{size(free)} free of {size(limit)} ({name})"
    sentence = f"The source's data takes about {size(need)}; the target has {room}."
    advice = "Use a larger machine for the target, or copy less with --match or --db."
    if target.maxmemory:
        wanted_mb = math.ceil((target.used + need * MEMORY_ROOM) / (1 << 20))
        advice = f"Run CONFIG SET maxmemory {wanted_mb}mb on the target (or more), or use a larger one."
    if need > free:
        present = sum(keys.keys for keys in facts.target.foreign)
        return Finding("warning" if present else "stop", "memory", sentence, advice)
    return (
        Finding("warning", "memory", sentence, advice)
        if need > free * MEMORY_WARNING_SHARE
        else Finding("ok", "memory", sentence)
    )


def needed_bytes(facts: Facts) -> int | None:
    """Memory that the selected databases take on the source, by their share of all keys. None: not known."""
    server = facts.source.server
    if server.memory.data is None or server.keyspace is None:
        return None
    total = sum(database.keys for database in server.keyspace.values())
    chosen = sum(server.keyspace[db].keys for db in facts.source.selected if db in server.keyspace)
    return server.memory.data * chosen // total if total else 0


def _eviction(source: MemoryFacts, target: MemoryFacts) -> Iterator[Finding]:
    if target.maxmemory is None or not target.policy:
        yield could_not_look("eviction", "the target's eviction policy", "INFO does not tell")
        return
    evicts = bool(target.maxmemory) and target.policy != "noeviction"
    if evicts:
        yield Finding(
            "warning",
            "eviction",
            f"The target evicts keys ({target.policy}) beyond {size(target.maxmemory)}; "
            f"{target.evicted_keys or 0:,} evicted so far.",
            "Run CONFIG SET maxmemory-policy noeviction on the target for the copy; evictions would stop it.",
        )
    if source.maxmemory and source.policy != "noeviction" and target.maxmemory and not evicts:
        yield Finding(
            "warning",
            "eviction",
            f"The source evicts keys ({source.policy}, {source.evicted_keys or 0:,} so far); "
            "the target would refuse writes instead when it is full.",
            f"If it is a cache, run CONFIG SET maxmemory-policy {source.policy} there after the copy.",
        )
    elif not evicts:
        yield Finding("ok", "eviction", "The target evicts nothing.")


def _target_keys(facts: Facts, request: CheckRequest) -> Iterator[Finding]:
    foreign = [keys for keys in facts.target.foreign if keys.keys]
    if unseen := [keys.database for keys in facts.target.foreign if not keys.known]:
        reason = facts.target.server.refusals.get("DBSIZE", "DBSIZE refused")
        yield Finding(
            "stop" if request.on_conflict is None else "warning",
            "target keys",
            f"Could not look at the target's keys in {databases_named(unseen)} ({reason}).",
            "Allow DBSIZE and SCAN, or say what to do with keys there: --on-conflict replace, skip or fail.",
        )
        return
    if not foreign:
        yield Finding("ok", "target keys", "The target holds no keys where the copy goes.")
        return
    total = sum(keys.keys for keys in foreign)
    about = "" if all(keys.exact for keys in foreign) else "about "
    where = databases_named([keys.database for keys in foreign])
    sentence = f"The target already holds {about}{counted(total, 'key')} in {where}"
    if request.resuming:
        yield Finding("ok", "target keys", f"{sentence}; an unfinished copy goes on.")
    elif request.on_conflict is None:
        advice = "Say what to do with them: --on-conflict replace, skip or fail; or empty the target."
        yield Finding("stop", "target keys", f"{sentence}.", advice)
    else:
        fate = {
            "replace": "are replaced",
            "skip": "stay, and the source's are skipped",
            "fail": "make the key fail",
        }
        sentence += f"; those of the same name {fate[request.on_conflict]}."
        yield Finding("warning", "target keys", sentence, "Others stay there and mix with the copy.")


def _sizes(facts: Facts, request: CheckRequest) -> Iterator[Finding]:
    keys = sorted(facts.source.sample.keys, key=lambda key: -key.bytes)
    if not keys:
        return
    largest = keys[0]
    if not largest.bytes:
        yield could_not_look(
            "key sizes", "the sizes of keys", facts.source.server.refusals.get("MEMORY USAGE", "")
        )
        return
    name = request.names.name(largest.key)
    name = name if len(name) <= 40 else name[:37] + "..."
    sentence = (
        f"Largest of {counted(len(keys), 'sampled key')}: {largest.type} {name}, {size(largest.bytes)}."
    )
    yield from _bulk_limits(facts, largest.bytes)
    if request.big_key_bytes and largest.bytes > request.big_key_bytes:
        yield Finding("ok", "key sizes", f"{sentence[:-1]}; it travels in pieces.")
    elif largest.bytes > BIG_KEY_BYTES:
        advice = "Its transfer may be felt on both servers; leave --big-key-bytes as it is."
        yield Finding("warning", "key sizes", sentence, advice)
    else:
        yield Finding("ok", "key sizes", sentence)


def _bulk_limits(facts: Facts, largest_bytes: int) -> Iterator[Finding]:
    for server in (facts.source.server, facts.target.server):
        limit = server.bulk_bytes_max
        if limit is not None and largest_bytes > limit * BULK_WARNING_SHARE:
            yield Finding(
                "warning",
                "key sizes",
                f"A sampled key takes {size(largest_bytes)}; "
                f"proto-max-bulk-len of the {server.side} is {size(limit)}.",
                f"If it is a string, run CONFIG SET proto-max-bulk-len {_next_power(largest_bytes)} there.",
            )


def _next_power(number: int) -> int:
    return int(1 << (number - 1).bit_length())
