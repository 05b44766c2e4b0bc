"""Asks one server of a side: a server that is no cluster, or each primary of one. Bounded, and reads only.

What a server forbids becomes a refusal, never an error: managed services forbid CONFIG, ACL, COMMAND and more.
"""

from __future__ import annotations

import time

from keyferry.copy import rights
from keyferry.copy.facts import CheckRequest, MemoryFacts, NodeFacts, ReplicationFacts, Right
from keyferry.copy.identify import (
    footer_version,
    identity_of,
    identity_of_hello,
    probe_name,
    server_clock,
    with_footer,
)
from keyferry.copy.info import Info, Keyspace, data_bytes, info_number, info_text, keyspace, parse_info
from keyferry.model.address import Endpoint
from keyferry.model.errors import Side
from keyferry.model.topology import Shard
from keyferry.wire.resp import Argument, Reply, ReplyError
from keyferry.wire.session import Session

PINGS = 3


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


def all_info(inquiry: Inquiry) -> Info:
    """All that INFO says; empty where it is forbidden."""
    # "all" leaves out what modules generate, which may be slow.
    reply = inquiry.ask("INFO", "all")
    return parse_info(reply) if isinstance(reply, bytes) else {}


def look_at(inquiry: Inquiry, info: Info, shard: Shard, cluster: bool, request: CheckRequest) -> NodeFacts:
    """Everything about one server. The session's database is another one afterwards.

    Args:
        info: All of its INFO, read before.
        cluster: Whether it is a node of one.

    Raises:
        ServerError: A connection broke, or could not be made again.
    """
    session = inquiry.session
    footer = _footer_of_any(session, keyspace(info), shard.slots)
    identity = with_footer(identity_of(info) if info else identity_of_hello(session.call("HELLO")), footer)
    probes_of = rights.source_probes if session.side == "source" else rights.target_probes
    probes = probes_of(identity, request, probe_name(shard.slots), cluster)
    return NodeFacts(
        place=session.endpoint.location,
        user=_user(session),
        identity=identity,
        slots=len(shard.slots),
        round_trip_ms=_round_trip_ms(session),
        memory=_memory(info),
        replication=_replication(info),
        keyspace=keyspace(info) if info else None,
        clock=server_clock(session),
        rights=_rights(session.endpoint, session.side, probes),
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


def select(session: Session, db: int) -> bool:
    """Whether the session is on that database now; where SELECT is forbidden it never left its own."""
    return not isinstance(session.call("SELECT", db), ReplyError) or db == session.endpoint.db


def _footer_of_any(session: Session, databases: dict[int, Keyspace], slots: frozenset[int]) -> int:
    if databases and session.side == "source":
        select(session, max(databases, key=lambda db: databases[db].keys))
    return footer_version(session, slots)


def try_names(endpoint: Endpoint, names: list[bytes], slots: frozenset[int]) -> tuple[int, str]:
    """How many names our user may not write, and what the target answers to a write apart from rights."""
    probes = [rights.Probe("restore", ("RESTORE", name, 0, b"")) for name in (probe_name(slots), *names)]
    with Session(endpoint, "target", db=0) as session:
        # Where transactions are forbidden the broken payload alone keeps RESTORE from doing anything.
        session.call("MULTI")
        replies = session.pipeline([probe.command for probe in probes])
        session.call("DISCARD")
    states = list(map(rights.right_of, probes, replies))
    refusal = next((right.reply for right in states if right.reply.split(" ")[0] in rights.WRITE_CODES), "")
    return sum(right.state == "key" for right in states[1:]), refusal
