"""Judges whether a copy between these two servers may and should run: rights, roles, clocks. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from keyferry.copy.facts import CheckRequest, Facts, Right, ServerFacts
from keyferry.copy.finding import Finding, Level, could_not_look, counted, listed
from keyferry.copy.identify import same_server
from keyferry.copy.rights import WRITE_CODES, acl_rule
from keyferry.model.identity import Family
from keyferry.model.methods import Method
from keyferry.payload.plan import PayloadPlan

OLDEST_TESTED = {Family.REDIS: (6, 2), Family.VALKEY: (7, 2)}
CLOCK_WARNING_MS = 1000.0


def access(facts: Facts, request: CheckRequest, plan: PayloadPlan) -> Iterator[Finding]:
    """Who answers, and whether our users may do what a copy does."""
    source, target = facts.source.server, facts.target.server
    yield _reached(source)
    yield _reached(target)
    yield from _same_server(source, target)
    yield from _cluster(source, target)
    logical = any(plan.actions[byte] == Method.LOGICAL for byte in range(256))
    yield from _rights(source, logical)
    if facts.source.sample.forbidden:
        yield _forbidden_keys(source, "read", facts.source.sample.forbidden, _looked_at(facts))
    yield from _rights(target, logical)
    if facts.target.forbidden_keys:
        yield _forbidden_keys(target, "write", facts.target.forbidden_keys, facts.target.tried_keys)
    yield from _roles(facts)
    yield from _writes(facts)
    yield _clocks(facts)


def _looked_at(facts: Facts) -> int:
    return len(facts.source.sample.keys) + facts.source.sample.forbidden


def _reached(server: ServerFacts) -> Finding:
    identity, topic = server.identity, server.side
    sentence = f"{server.address} answers in {server.round_trip_ms:.1f} ms: {identity}, user {server.user}."
    if identity.version == (0, 0, 0):
        return Finding("warning", topic, f"{server.address} does not say which version it is.", "Allow INFO.")
    if identity.version[:2] < OLDEST_TESTED[identity.family]:
        return Finding(
            "warning", topic, sentence, "Keyferry is tested from Redis 6.2 on; try a --dry-run first."
        )
    return Finding("ok", topic, sentence)


def _same_server(source: ServerFacts, target: ServerFacts) -> Iterator[Finding]:
    topic, advice = "same server", "Name the server to copy to as TARGET."
    if same_server(source.identity, target.identity):
        yield Finding(
            "stop", topic, f"{source.address} and {target.address} are one server (same run id).", advice
        )
    elif source.address == target.address:
        yield Finding("stop", topic, f"Source and target are both {source.address}.", advice)
    elif not (source.identity.run_id and target.identity.run_id):
        yield could_not_look(topic, "whether both are one server", "no run id in INFO", "Allow INFO on both.")


def _cluster(source: ServerFacts, target: ServerFacts) -> Iterator[Finding]:
    """Goes when clusters come."""
    for server in (source, target):
        if server.cluster:
            yield Finding(
                "stop",
                "cluster",
                f"The {server.side} is a node of a cluster.",
                "Clusters come in the next version; this one copies between standalone servers.",
            )


def _rights(server: ServerFacts, logical: bool) -> Iterator[Finding]:
    topic = f"{server.side} rights"
    needed = [right for right in server.rights if right.use == "copy" or (right.use == "logical" and logical)]
    rest = [right for right in server.rights if right.use == "logical" and not logical]
    problems = [*_lacking(server, needed, "stop"), *_lacking(server, rest, "warning")]
    yield from problems
    if not any(problem.level == "stop" for problem in problems):
        allowed = sum(right.state == "allowed" for right in needed)
        yield Finding(
            "ok", topic, f"User {server.user} may run {allowed} of the {len(needed)} commands needed."
        )


def _lacking(server: ServerFacts, rights: list[Right], level: Level) -> Iterator[Finding]:
    topic, user = f"{server.side} rights", server.user
    purpose = "" if level == "stop" else " (needed for values too big for one DUMP)"
    commands = [right.token for right in rights if right.state == "command"]
    if commands:
        names = listed([_spelled(token) for token in commands], 8)
        yield Finding(
            level,
            topic,
            f"User {user} may not run {names} on the {server.side}{purpose}.",
            f"Run on the {server.side}: {acl_rule(user, commands, '~*')}",
        )
    missing = [_spelled(right.token) for right in rights if right.state == "missing"]
    if missing:
        yield Finding(
            level,
            topic,
            f"The {server.side} does not know {listed(missing, 8)}{purpose}: renamed or disabled.",
            f"Remove the rename-command lines for {listed(missing, 8)}, or ask the service to allow them.",
        )
    if level == "stop" and any(right.state == "key" for right in rights):
        yield Finding(
            level,
            topic,
            f"User {user} may not use names that begin with keyferry: on the {server.side}.",
            f"Run on the {server.side}: {acl_rule(user, [], '~keyferry:*')}",
        )
    unclear = [_spelled(right.token) for right in rights if right.state == "unclear"]
    if unclear:
        yield could_not_look(topic, f"the right to run {listed(unclear)}", "the server refuses MULTI")


def _spelled(token: str) -> str:
    return token.replace("|", " ").upper()


def _forbidden_keys(server: ServerFacts, verb: str, forbidden: int, looked_at: int) -> Finding:
    side, keys = server.side, counted(looked_at, "sampled key")
    return Finding(
        "stop",
        f"{side} rights",
        f"User {server.user} may not {verb} {forbidden} of {keys} on the {side}.",
        f"Run on the {side}: {acl_rule(server.user, [], '~*')} (or leave those keys out with --match).",
    )


def _roles(facts: Facts) -> Iterator[Finding]:
    source, target = facts.source.server.replication, facts.target.server.replication
    if source.role == "replica":
        state = "may lag behind it" if source.link_up else "has lost its link to it and is out of date"
        yield Finding(
            "warning",
            "source role",
            f"The source is a replica of {source.upstream} and {state}.",
            f"Copy from {source.upstream}, or stop the writes and wait until both have the same offset.",
        )
    if target.role == "replica":
        yield Finding(
            "warning" if target.writable else "stop",
            "target role",
            f"The target is a replica of {target.upstream}"
            + (", with replica-read-only off: the next full sync empties it." if target.writable else "."),
            f"Copy to {target.upstream}, or make it a master first: REPLICAOF NO ONE on the target.",
        )
    if source.role == target.role == "master":
        yield Finding("ok", "roles", "Both servers are masters.")
    elif not (source.role and target.role):
        yield could_not_look("roles", "the servers' roles", "INFO does not tell")


def _writes(facts: Facts) -> Iterator[Finding]:
    reply = facts.target.write_refusal
    code = reply.partition(" ")[0]
    if code not in WRITE_CODES or (code == "READONLY" and facts.target.server.replication.role == "replica"):
        return
    advice = {
        "OOM": "Raise maxmemory on the target, or delete keys there.",
        "MISCONF": "Repair the target's saving to disk (disk space, permissions of its directory).",
        "NOREPLICAS": "Attach the target's replicas, or set min-replicas-to-write 0.",
    }.get(code, "Make the target writable.")
    yield Finding("stop", "target writes", f"The target refuses writes now: {reply}", advice)


def _clocks(facts: Facts) -> Finding:
    clock = facts.clock
    if clock is None:
        return could_not_look(
            "clocks", "the clock difference", "a server refuses TIME", "Allow TIME on both servers."
        )
    ahead = "ahead of" if clock.offset_ms >= 0 else "behind"
    sentence = (
        f"The target's clock is {abs(clock.offset_ms):,.1f} ms {ahead} the source's "
        f"(+/- {clock.uncertainty_ms:.1f} ms)."
    )
    if abs(clock.offset_ms) - clock.uncertainty_ms > CLOCK_WARNING_MS:
        advice = (
            "Set both clocks by NTP; Keyferry corrects the keys' expiries, but not what applications write."
        )
        return Finding("warning", "clocks", sentence, advice)
    return Finding("ok", "clocks", sentence)
