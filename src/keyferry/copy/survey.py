"""Asks the two servers everything that the check wants to know; bounded and gentle, and reads only.

The one thing written anywhere is a probe key under the reserved prefix on the target, gone at once. What a
server forbids becomes a refusal in the facts, never an error: managed services forbid CONFIG, ACL, COMMAND
and more. Order matters in two places: the source's command counters are read before our own probes move
them, and the keys sampled there are the names whose writing is asked about on the target.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from keyferry.copy import rights
from keyferry.copy.facts import (
    CheckRequest,
    Feed,
    ForeignKeys,
    MemoryFacts,
    ReplicationFacts,
    Right,
    RightState,
    Sample,
    SampledKey,
    ServerFacts,
    SourceFacts,
    TargetFacts,
)
from keyferry.copy.identify import (
    footer_version,
    identity_of,
    identity_of_hello,
    probe_name,
    with_footer,
)
from keyferry.copy.info import (
    Info,
    Keyspace,
    command_calls,
    data_bytes,
    info_number,
    info_text,
    keyspace,
    module_names,
    parse_info,
)
from keyferry.model.address import Endpoint
from keyferry.model.errors import Side
from keyferry.model.keys import RESERVED_PREFIX, is_reserved
from keyferry.wire.resp import Argument, Push, Reply, ReplyError
from keyferry.wire.session import ConnectionLost, Session

SAMPLE_KEYS_MAX = 200
SAMPLE_PAGE_KEYS = 20
"""Keys asked about between two looks at the clock."""
SAMPLE_SECONDS_MAX = 0.1
FOREIGN_PAGES_MAX = 10
FOREIGN_PAGE_KEYS = 1000
TRIED_KEYS_MAX = 20
"""Sampled names whose writing is asked about on the target."""
COMMANDS_MAX = 600
"""Commands asked of COMMAND INFO; no server has as many."""
PINGS = 3
BUILTIN_MODULES = frozenset(("vectorset",))
"""Modules that come with a server (Redis 8), for where only INFO tells of modules, which does not say so."""


class Inquiry:
    """One session that keeps what it was refused, by command.

    Args:
        session: Stays the caller's to close.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.refusals: dict[str, str] = {}

    def ask(self, *command: Argument, topic: str = "") -> Reply:
        """The reply, or None with the refusal kept under ``topic`` (default: the command's name)."""
        reply = self.session.call(*command)
        if isinstance(reply, ReplyError):
            self.refusals[topic or str(command[0])] = reply.message
            return None
        return reply

    def parameter(self, name: str) -> str | None:
        """A configuration parameter; None when it is unknown or CONFIG is forbidden."""
        match self.ask("CONFIG", "GET", name, topic="CONFIG GET"):
            case [_, bytes(value)]:
                return value.decode("utf-8", "backslashreplace")
        return None

    def number(self, name: str) -> int | None:
        text = self.parameter(name)
        return int(text) if text is not None and text.isdecimal() else None


def survey_source(session: Session, request: CheckRequest) -> SourceFacts:
    """Everything about the source. The session's database is another one afterwards.

    Raises:
        ServerError: A connection broke, or could not be made again.
    """
    inquiry = Inquiry(session)
    info = _all_info(inquiry)
    databases = keyspace(info)
    selected = request.selection.databases
    if selected is None:
        selected = tuple(sorted(databases))
    absent = _absent_databases(session.endpoint, "source", selected)
    present = {db: databases[db] for db in selected if db in databases and db not in absent}
    sample = _sample(inquiry, request, present)
    footer = _footer_of_any(session, databases)
    server = _server_facts(inquiry, info, footer, absent, request)
    return SourceFacts(
        server=server,
        selected=selected,
        sample=sample,
        feeds=(
            _replication_feed(inquiry, server.user),
            _tracking_feed(session.endpoint),
            _notification_feed(inquiry),
        ),
        calls=command_calls(info) if "commandstats" in info else None,
    )


def survey_target(session: Session, request: CheckRequest, source: SourceFacts) -> TargetFacts:
    """Everything about the target, seen from what the source holds. Raises as ``survey_source``."""
    inquiry = Inquiry(session)
    info = _all_info(inquiry)
    wanted = sorted({request.selection.target_database(db) for db in source.selected})
    absent = _absent_databases(session.endpoint, "target", wanted)
    server = _server_facts(inquiry, info, footer_version(session), absent, request)
    names = [sampled.key for sampled in source.sample.keys[:TRIED_KEYS_MAX]]
    forbidden, refusal = _try_names(session.endpoint, names)
    return TargetFacts(
        server=server,
        foreign=tuple(_foreign_keys(session, db) for db in wanted if db not in absent),
        unknown_commands=_unknown_commands(inquiry, source.calls or {}),
        write_refusal=refusal,
        tried_keys=len(names),
        forbidden_keys=forbidden,
    )


def _all_info(inquiry: Inquiry) -> Info:
    # "all" leaves out what modules generate, which may be slow.
    reply = inquiry.ask("INFO", "all")
    return parse_info(reply) if isinstance(reply, bytes) else {}


def _server_facts(
    inquiry: Inquiry, info: Info, footer: int, absent: dict[int, str], request: CheckRequest
) -> ServerFacts:
    session = inquiry.session
    identity = with_footer(identity_of(info) if info else identity_of_hello(session.call("HELLO")), footer)
    probes_of = rights.source_probes if session.side == "source" else rights.target_probes
    modules, builtin = _modules(inquiry)
    return ServerFacts(
        side=session.side,
        address=str(session.endpoint),
        user=_user(session),
        identity=identity,
        round_trip_ms=_round_trip_ms(session),
        memory=_memory(info),
        replication=_replication(info),
        cluster=info_text(info, "cluster", "cluster_enabled") == "1" if info else None,
        keyspace=keyspace(info) if info else None,
        database_count=inquiry.number("databases"),
        absent_databases=absent,
        bulk_bytes_max=inquiry.number("proto-max-bulk-len"),
        users=_users(inquiry),
        modules=modules,
        builtin_modules=builtin,
        function_libraries=_function_libraries(inquiry),
        rights=_rights(session.endpoint, session.side, probes_of(identity, request, probe_name())),
        refusals=inquiry.refusals,
    )


def _memory(info: Info) -> MemoryFacts:
    return MemoryFacts(
        used=info_number(info, "memory", "used_memory"),
        data=data_bytes(info),
        maxmemory=info_number(info, "memory", "maxmemory"),
        system=info_number(info, "memory", "total_system_memory"),
        policy=info_text(info, "memory", "maxmemory_policy"),
        evicted_keys=info_number(info, "stats", "evicted_keys"),
    )


def _replication(info: Info) -> ReplicationFacts:
    role = info_text(info, "replication", "role")
    if role != "slave":
        return ReplicationFacts("master" if role == "master" else "")
    upstream = (
        f"{info_text(info, 'replication', 'master_host')}:{info_text(info, 'replication', 'master_port')}"
    )
    return ReplicationFacts(
        role="replica",
        link_up=info_text(info, "replication", "master_link_status") == "up",
        writable=info_text(info, "replication", "slave_read_only") == "0",
        upstream=upstream,
    )


def _user(session: Session) -> str:
    reply = session.call("ACL", "WHOAMI")
    return (
        reply.decode("utf-8", "backslashreplace")
        if isinstance(reply, bytes)
        else session.endpoint.username or "default"
    )


def _round_trip_ms(session: Session) -> float:
    best_s = float("inf")
    for _ in range(PINGS):
        began = time.perf_counter()
        session.call("PING")
        best_s = min(best_s, time.perf_counter() - began)
    return best_s * 1000


def _users(inquiry: Inquiry) -> frozenset[str] | None:
    # ACL LIST would bring the password hashes along.
    reply = inquiry.ask("ACL", "USERS", topic="ACL USERS")
    return frozenset(_texts(reply)) if isinstance(reply, list) else None


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


def _rights(endpoint: Endpoint, side: Side, probes: list[rights.Probe]) -> tuple[Right, ...]:
    with Session(endpoint, side, db=0) as session:
        direct = [probe for probe in probes if not probe.queued]
        queued = [probe for probe in probes if probe.queued]
        answers = session.pipeline([probe.command for probe in direct])
        found = list(map(rights.right_of, direct, answers))
        # Only a plain OK to MULTI, the last of the direct ones, keeps what follows from running.
        if direct[-1].token == "multi" and answers[-1] == b"OK":
            replies = session.pipeline([probe.command for probe in queued])
            session.call("DISCARD")  # where it is forbidden, the end of the connection discards as well
            return (*found, *map(rights.right_of, queued, replies))
        harmless = [probe for probe in queued if probe.harmless]
        found += map(rights.right_of, harmless, session.pipeline([probe.command for probe in harmless]))
        return (
            *found,
            *(Right(probe.token, "unclear", "", probe.use) for probe in queued if not probe.harmless),
        )


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


def _select(session: Session, db: int) -> bool:
    """Whether the session is on that database now; where SELECT is forbidden it never left its own."""
    return not isinstance(session.call("SELECT", db), ReplyError) or db == session.endpoint.db


def _footer_of_any(session: Session, databases: dict[int, Keyspace]) -> int:
    if databases:
        _select(session, max(databases, key=lambda db: databases[db].keys))
    return footer_version(session)


def _sample(inquiry: Inquiry, request: CheckRequest, databases: dict[int, Keyspace]) -> Sample:
    """Random keys of each database by its share, until there are enough or the time is up."""
    total = sum(database.keys for database in databases.values())
    passes = request.selection.key_filter() or (lambda key: not is_reserved(key))
    found: dict[tuple[int, bytes], SampledKey] = {}
    forbidden: set[tuple[int, bytes]] = set()
    session = inquiry.session
    deadline = time.perf_counter() + SAMPLE_SECONDS_MAX
    for db, database in databases.items():
        if not _select(session, db):
            continue
        share = max(SAMPLE_PAGE_KEYS, SAMPLE_KEYS_MAX * database.keys // max(1, total))
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


def _foreign_keys(session: Session, db: int) -> ForeignKeys:
    """Counts the keys of one database without ours; looks at all only where they are few."""
    if not _select(session, db):
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


def _try_names(endpoint: Endpoint, names: list[bytes]) -> tuple[int, str]:
    """How many names our user may not write, and what the target answers to a write apart from rights."""
    probes = [rights.Probe("restore", ("RESTORE", name, 0, b"")) for name in (probe_name(), *names)]
    with Session(endpoint, "target", db=0) as session:
        # Where transactions are forbidden the broken payload alone keeps RESTORE from doing anything.
        session.call("MULTI")
        replies = session.pipeline([probe.command for probe in probes])
        session.call("DISCARD")
    states = list(map(rights.right_of, probes, replies))
    refusal = next((right.reply for right in states if right.reply.split(" ")[0] in rights.WRITE_CODES), "")
    return sum(right.state == "key" for right in states[1:]), refusal


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
