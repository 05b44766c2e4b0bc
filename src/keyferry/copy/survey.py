"""Asks the two servers everything that the check wants to know; bounded and gentle, and reads only.

The one thing written anywhere is a probe key under the reserved prefix on the target, gone at once. What a
server forbids becomes a refusal in the facts, never an error: managed services forbid CONFIG, ACL, COMMAND
and more. Order matters in two places: the source's command counters are read before our own probes move
them, and the keys sampled there are the names whose writing is asked about on the target.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from dataclasses import replace

from keyferry.copy import gather, rights
from keyferry.copy.client_list import parse_client_list
from keyferry.copy.deployment import Deployment
from keyferry.copy.facts import (
    CheckRequest,
    Feed,
    ForeignKeys,
    NodeFacts,
    RightState,
    Sample,
    SampledKey,
    ServerFacts,
    SourceFacts,
    TargetFacts,
)
from keyferry.copy.info import Info, Keyspace, command_calls, keyspace, module_names
from keyferry.copy.survey_node import Inquiry, all_info, look_at, select, try_names
from keyferry.model.address import Endpoint
from keyferry.model.errors import Side
from keyferry.model.keys import RESERVED_PREFIX, is_reserved
from keyferry.wire.resp import Argument, Push, Reply, ReplyError
from keyferry.wire.session import CLIENT_NAME, ConnectionLost, Session

SAMPLE_KEYS_MAX = 200
SAMPLE_PAGE_KEYS = 20
"""Keys asked about between two looks at the clock."""
SAMPLE_SECONDS_MAX = 0.1
SAMPLE_NODES_MAX = SAMPLE_KEYS_MAX // SAMPLE_PAGE_KEYS
NODES_MAX = 100
"""Primaries of a cluster that are looked at one by one."""
FOREIGN_PAGES_MAX = 10
FOREIGN_PAGE_KEYS = 1000
TRIED_KEYS_MAX = 20
"""Sampled names whose writing is asked about on the target."""
COMMANDS_MAX = 600
"""Commands asked of COMMAND INFO; no server has as many."""
BUILTIN_MODULES = frozenset(("vectorset",))
"""Modules that come with a server (Redis 8), for where only INFO tells of modules, which does not say so."""


def survey_source(deployment: Deployment, request: CheckRequest) -> SourceFacts:
    """Everything about the source.

    Raises:
        ServerError: A connection could not be made, or broke.
    """
    with contextlib.ExitStack() as stack:
        inquiries = _inquiries(deployment, stack)
        first = inquiries[0]
        infos = [all_info(inquiry) for inquiry in inquiries]
        databases = gather.keyspaces([keyspace(info) for info in infos]) or {}
        selected = request.selection.databases
        if selected is None:
            selected = tuple(sorted(databases))
        absent = _absent_databases(first.session.endpoint, "source", selected)
        wanted = [database for database in selected if database not in absent]
        sample = _sample(inquiries, infos, request, wanted)
        nodes = _nodes(deployment, inquiries, infos, request)
        return SourceFacts(
            server=_server_facts(deployment, inquiries, nodes, absent),
            selected=selected,
            sample=sample,
            feeds=(
                _replication_feed(first, nodes[0].user),
                _tracking_feed(first.session.endpoint),
                _notification_feed(first),
            ),
            calls=gather.calls([command_calls(info) if "commandstats" in info else None for info in infos]),
        )


def survey_target(deployment: Deployment, request: CheckRequest, source: SourceFacts) -> TargetFacts:
    """Everything about the target, seen from what the source holds. Raises as ``survey_source``."""
    with contextlib.ExitStack() as stack:
        inquiries = _inquiries(deployment, stack)
        infos = [all_info(inquiry) for inquiry in inquiries]
        wanted = {0} if deployment.cluster else set(map(request.selection.target_database, source.selected))
        absent = _absent_databases(inquiries[0].session.endpoint, "target", sorted(wanted))
        nodes = _nodes(deployment, inquiries, infos, request)
        names = [sampled.key for sampled in source.sample.keys[:TRIED_KEYS_MAX]]
        tried = [
            try_names(inquiry.session.endpoint, names, shard.slots)
            for inquiry, shard in zip(inquiries, deployment.shards, strict=False)
        ]
        nodes = [
            replace(node, write_refusal=refusal) for node, (_, refusal) in zip(nodes, tried, strict=True)
        ]
        return TargetFacts(
            server=_server_facts(deployment, inquiries, nodes, absent),
            foreign=tuple(_foreign_keys(inquiries, db) for db in sorted(wanted - absent.keys())),
            unknown_commands=_unknown_commands(inquiries[0], source.calls or {}),
            write_refusal=next((refusal for _, refusal in tried if refusal), ""),
            tried_keys=len(names),
            forbidden_keys=max(forbidden for forbidden, _ in tried),
        )


def _inquiries(deployment: Deployment, stack: contextlib.ExitStack) -> list[Inquiry]:
    """One for each server, the first ``NODES_MAX`` of them."""
    endpoints = [deployment.endpoint(shard.id) for shard in deployment.shards[:NODES_MAX]]
    return [Inquiry(stack.enter_context(Session(endpoint, deployment.side))) for endpoint in endpoints]


def _nodes(
    deployment: Deployment, inquiries: list[Inquiry], infos: list[Info], request: CheckRequest
) -> list[NodeFacts]:
    return [
        look_at(inquiry, info, shard, deployment.cluster, request)
        for inquiry, info, shard in zip(inquiries, infos, deployment.shards, strict=False)
    ]


def _server_facts(
    deployment: Deployment, inquiries: list[Inquiry], nodes: list[NodeFacts], absent: dict[int, str]
) -> ServerFacts:
    """What the nodes have together; what every server of a cluster has alike is asked of the first."""
    first = inquiries[0]
    modules, builtin = _modules(first)
    facts = ServerFacts(
        side=deployment.side,
        address=str(deployment.start),
        user=nodes[0].user,
        identity=gather.identity(deployment.side, nodes),
        round_trip_ms=max(node.round_trip_ms for node in nodes),
        memory=gather.memory(nodes),
        replication=gather.replication(nodes),
        nodes=tuple(nodes),
        nodes_left_out=len(deployment.shards) - len(nodes),
        cluster=deployment.cluster,
        open_slots=deployment.topology.open_slots,
        sees_migrations=deployment.topology.sees_open,
        keyspace=gather.keyspaces([node.keyspace for node in nodes]),
        database_count=first.number("databases"),
        absent_databases=absent,
        bulk_bytes_max=first.number("proto-max-bulk-len"),
        users=_users(first),
        sharing=_sharing(inquiries, nodes),
        modules=modules,
        builtin_modules=builtin,
        function_libraries=_function_libraries(first),
        rights=gather.rights(nodes),
    )
    refusals: dict[str, str] = {}
    for inquiry in reversed(inquiries):
        refusals |= inquiry.refusals
    return replace(facts, refusals=refusals)


def _users(inquiry: Inquiry) -> frozenset[str] | None:
    # ACL LIST would bring the password hashes along.
    reply = inquiry.ask("ACL", "USERS", topic="ACL USERS")
    return frozenset(_texts(reply)) if isinstance(reply, list) else None


def _sharing(inquiries: list[Inquiry], nodes: list[NodeFacts]) -> int | None:
    """Connections of others than Keyferry that use the user that we are there."""
    count = 0
    for inquiry, node in zip(inquiries, nodes, strict=True):
        reply = inquiry.ask("CLIENT", "LIST", topic="CLIENT LIST")
        if not isinstance(reply, bytes):
            return None
        lines = [line for line in parse_client_list(reply) if line.user == node.user and not line.replicates]
        others = sum(not line.name.startswith(CLIENT_NAME) for line in lines)
        if others == len(lines):
            inquiry.refusals["CLIENT LIST"] = "CLIENT SETNAME is refused"
            return None
        count += others
    return count


def _modules(inquiry: Inquiry) -> tuple[frozenset[str] | None, frozenset[str]]:
    """All modules, and those of them that were not loaded from a file: they came with the server."""
    reply = inquiry.ask("MODULE", "LIST", topic="MODULE LIST")
    if isinstance(reply, list):
        modules = [dict(zip(one[::2], one[1::2], strict=False)) for one in reply if isinstance(one, list)]
        names = frozenset(_texts(module.get(b"name") for module in modules))
        return names, frozenset(
            _texts(module.get(b"name") for module in modules if module.get(b"path") == b"")
        )
    listed = inquiry.session.call("INFO", "modules")
    if not isinstance(listed, bytes) or b"# Modules" not in listed:
        return None, frozenset()
    names = module_names(listed)
    return names, names & BUILTIN_MODULES


def _function_libraries(inquiry: Inquiry) -> int | None:
    reply = inquiry.ask("FUNCTION", "STATS", topic="FUNCTION STATS")
    match reply:
        case [b"running_script", _, b"engines", [*engines]]:
            counts = [
                dict(zip(one[::2], one[1::2], strict=False)) for one in engines[1::2] if isinstance(one, list)
            ]
            return sum(count for one in counts if isinstance(count := one.get(b"libraries_count"), int))
    return None


def _absent_databases(endpoint: Endpoint, side: Side, databases: Iterable[int]) -> dict[int, str]:
    wanted = [db for db in databases if db]
    if not wanted:
        return {}
    with Session(endpoint, side, db=0) as session:
        replies = session.pipeline([("SELECT", db) for db in wanted])
    # NOPERM is about rights and says nothing of the database.
    return {
        db: reply.message
        for db, reply in zip(wanted, replies, strict=True)
        if isinstance(reply, ReplyError) and reply.code != "NOPERM"
    }


def _sample(inquiries: list[Inquiry], infos: list[Info], request: CheckRequest, wanted: list[int]) -> Sample:
    """Random keys of a few nodes, as many of each, until there are enough or the time is up."""
    count = min(len(inquiries), SAMPLE_NODES_MAX)
    chosen = [index * len(inquiries) // count for index in range(count)]
    keys: list[SampledKey] = []
    forbidden = 0
    for index in chosen:
        spaces = keyspace(infos[index])
        present = {db: spaces[db] for db in wanted if db in spaces}
        found = _node_sample(inquiries[index], request, present, count)
        keys += found.keys
        forbidden += found.forbidden
    return Sample(tuple(keys), forbidden)


def _node_sample(
    inquiry: Inquiry, request: CheckRequest, databases: dict[int, Keyspace], nodes: int
) -> Sample:
    """Random keys of each database by its share; ``nodes`` share the number of keys and the time."""
    total = sum(database.keys for database in databases.values())
    passes = request.selection.key_filter() or (lambda key: not is_reserved(key))
    found: dict[tuple[int, bytes], SampledKey] = {}
    forbidden: set[tuple[int, bytes]] = set()
    session = inquiry.session
    deadline = time.perf_counter() + SAMPLE_SECONDS_MAX / nodes
    for db, database in databases.items():
        if not select(session, db):
            continue
        share = max(SAMPLE_PAGE_KEYS, SAMPLE_KEYS_MAX // nodes * database.keys // max(1, total))
        for _ in range(0, share, SAMPLE_PAGE_KEYS):
            if time.perf_counter() >= deadline:
                break
            names = [key for key in _some_keys(session) if passes(key) and (db, key) not in found]
            for key, right, sampled in _looked_at(inquiry, db, names):
                if right == "key":
                    forbidden.add((db, key))
                elif sampled is not None and (
                    not request.selection.types or sampled.type in request.selection.types
                ):
                    found[db, key] = sampled
    return Sample(tuple(found.values()), len(forbidden))


def _some_keys(session: Session) -> list[bytes]:
    replies = session.pipeline([("RANDOMKEY",)] * SAMPLE_PAGE_KEYS)
    if isinstance(replies[0], ReplyError):
        match session.call("SCAN", 0, "COUNT", SAMPLE_PAGE_KEYS):
            case [_, [*keys]]:
                replies = keys[:SAMPLE_PAGE_KEYS]
    return list(dict.fromkeys(key for key in replies if isinstance(key, bytes)))


def _looked_at(
    inquiry: Inquiry, db: int, names: list[bytes]
) -> list[tuple[bytes, RightState, SampledKey | None]]:
    commands: list[tuple[Argument, ...]] = []
    for name in names:
        commands += [("PTTL", name), ("TYPE", name), ("MEMORY", "USAGE", name, "SAMPLES", 1)]
    replies = inquiry.session.pipeline(commands)
    looks: list[tuple[bytes, RightState, SampledKey | None]] = []
    for index, name in enumerate(names):
        expiry, kind, size = replies[index * 3 : index * 3 + 3]
        if isinstance(size, ReplyError):
            inquiry.refusals["MEMORY USAGE"] = size.message
        state = rights.right_of(rights.Probe("pttl", ()), expiry).state
        text = kind.decode("utf-8", "backslashreplace") if isinstance(kind, bytes) else ""
        there = expiry != -2 and text != "none"
        sampled = SampledKey(name, db, text, size if isinstance(size, int) else 0) if there else None
        looks.append((name, state, sampled))
    return looks


def _foreign_keys(inquiries: list[Inquiry], db: int) -> ForeignKeys:
    """The sum over all nodes."""
    found = [_node_foreign_keys(inquiry.session, db) for inquiry in inquiries]
    return ForeignKeys(
        db,
        sum(keys.keys for keys in found),
        exact=all(keys.exact for keys in found),
        known=all(keys.known for keys in found),
    )


def _node_foreign_keys(session: Session, db: int) -> ForeignKeys:
    """Counts the keys of one database without ours; looks at all only where they are few."""
    if not select(session, db):
        return ForeignKeys(db, 0, known=False)
    size = session.call("DBSIZE")
    if not isinstance(size, int):
        return ForeignKeys(db, 0, known=False)
    if not size:
        return ForeignKeys(db, 0)
    keys: set[bytes] = set()
    cursor: Argument = 0
    for _ in range(FOREIGN_PAGES_MAX):
        match session.call("SCAN", cursor, "COUNT", FOREIGN_PAGE_KEYS):
            case [bytes(following), [*page]]:
                keys.update(key for key in page if isinstance(key, bytes))
                cursor = following
            case _:
                return ForeignKeys(db, size, exact=False)
        if cursor == b"0":
            return ForeignKeys(db, sum(not is_reserved(key) for key in keys))
    return ForeignKeys(db, size - sum(map(is_reserved, keys)), exact=False)


def _unknown_commands(inquiry: Inquiry, calls: dict[str, int]) -> frozenset[str] | None:
    """Those that the target does not know; before 7.0 a server knows no subcommands by name."""
    names = sorted(calls, key=lambda name: -calls[name])[:COMMANDS_MAX]
    if not names:
        return frozenset()
    whole = inquiry.ask("COMMAND", "INFO", "command|count", topic="COMMAND INFO")
    if not isinstance(whole, list):
        return None
    by_subcommand = whole != [None]
    asked = names if by_subcommand else [name.partition("|")[0] for name in names]
    reply = inquiry.ask("COMMAND", "INFO", *asked, topic="COMMAND INFO")
    if not isinstance(reply, list) or len(reply) != len(names):
        return None
    return frozenset(name for name, known in zip(names, reply, strict=True) if not known)


def _replication_feed(inquiry: Inquiry, user: str) -> Feed:
    """Asks about PSYNC without ever running it."""
    match inquiry.session.call("COMMAND", "INFO", "psync"):
        case [None]:
            return Feed("replication", "refused", "the server has no PSYNC")
    reply = inquiry.session.call("ACL", "DRYRUN", user, "PSYNC", "?", -1)
    if reply == b"OK":
        return Feed("replication", "allowed")
    if isinstance(reply, bytes):
        return Feed("replication", "refused", f"user {user} may not run PSYNC")
    described = inquiry.session.call("ACL", "GETUSER", user)
    allowed = rights.psync_allowed(_commands_rule(described))
    if allowed is None:
        reason = described.message if isinstance(described, ReplyError) else "the rules do not say"
        return Feed("replication", "unclear", reason)
    return (
        Feed("replication", "allowed")
        if allowed
        else Feed("replication", "refused", f"user {user} may not run PSYNC")
    )


def _commands_rule(described: Reply) -> str:
    """ACL GETUSER's ``commands``; the rest, which holds password hashes, is left alone."""
    if isinstance(described, list):
        for name, value in zip(described[::2], described[1::2], strict=False):
            if name == b"commands" and isinstance(value, bytes):
                return value.decode("utf-8", "backslashreplace")
    return ""


def _tracking_feed(endpoint: Endpoint) -> Feed:
    """Switches tracking on for names that nobody writes, on a connection of its own; its end switches it off."""
    try:
        with Session(endpoint, "source", db=0) as session:
            hello = session.call("HELLO", 3)
            if isinstance(hello, ReplyError):
                return Feed("tracking", "refused", hello.message)
            prefix = RESERVED_PREFIX + b"probe:"
            reply = session.call("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", prefix)
    except ConnectionLost as error:  # some proxies answer what they do not know by hanging up
        return Feed("tracking", "unclear", error.message)
    if isinstance(reply, ReplyError):
        return Feed("tracking", "refused", reply.message)
    if isinstance(reply, Push) or reply == b"OK":  # a FLUSHALL in this moment pushes before the reply
        return Feed("tracking", "allowed")
    return Feed("tracking", "unclear", "the server gave no answer that we know")


def _notification_feed(inquiry: Inquiry) -> Feed:
    flags = inquiry.parameter("notify-keyspace-events")
    if flags is None:
        return Feed(
            "notifications", "unclear", inquiry.refusals.get("CONFIG GET", "the parameter is unknown")
        )
    return Feed("notifications", "allowed" if rights.notifies(flags) else "off", flags)


def _texts(values: Iterable[Reply]) -> list[str]:
    return [value.decode("utf-8", "backslashreplace") for value in values if isinstance(value, bytes)]
