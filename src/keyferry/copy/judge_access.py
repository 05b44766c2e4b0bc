"""Judges whether a copy between these two servers may and should run: rights, roles, clocks. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from keyferry.copy.facts import CheckRequest, Facts, Right, RightState, ServerFacts
from keyferry.copy.finding import Finding, Level, could_not_look, counted, listed
from keyferry.copy.judge_data import payload_ways
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
    logical = Method.LOGICAL in payload_ways(plan, request)
    sample, tried = facts.source.sample, facts.target
    # The source's part in a value that goes by commands is its DUMP, unless the value is too big for one.
    yield from _rights(source, False, _Keys("read", sample.forbidden, len(sample.keys) + sample.forbidden))
    yield from _rights(target, logical, _Keys("write", tried.forbidden_keys, tried.tried_keys))
    yield from _roles(facts)
    yield from _writes(facts)
    yield from _shared_user(source)
    yield from _shared_user(target)
    yield _clocks(facts)


@dataclass(frozen=True, slots=True)
class _Keys:
    """Sampled keys that our user may not ``verb``."""

    verb: str
    forbidden: int
    looked_at: int


def _reached(server: ServerFacts) -> Finding:
    identity, topic = server.identity, server.side
    answers = f"answers in {server.round_trip_ms:.1f} ms"
    if server.cluster:
        answers = f"leads to a cluster that {answers} (the slowest node)"
    sentence = f"{server.address} {answers}: {identity}, user {server.user}."
    if identity.version == (0, 0, 0):
        return Finding("warning", topic, f"{server.address} does not say which version it is.", "Allow INFO.")
    if identity.version[:2] < OLDEST_TESTED[identity.family]:
        return Finding(
            "warning", topic, sentence, "Keyferry is tested from Redis 6.2 on; try a --dry-run first."
        )
    return Finding("ok", topic, sentence)


def _same_server(source: ServerFacts, target: ServerFacts) -> Iterator[Finding]:
    topic, advice = "same server", "Name the server to copy to as TARGET."
    one, other = _run_ids(source), _run_ids(target)
    if one & other:
        what = "of one cluster" if source.cluster or target.cluster else "one server"
        yield Finding(
            "stop", topic, f"{source.address} and {target.address} are {what} (same run id).", advice
        )
    elif source.address == target.address:
        yield Finding("stop", topic, f"Source and target are both {source.address}.", advice)
    elif not (one and other):
        yield could_not_look(topic, "whether both are one server", "no run id in INFO", "Allow INFO on both.")


def _run_ids(server: ServerFacts) -> set[str]:
    """Of every process that was looked at; empty when they hide it."""
    return {node.identity.run_id for node in server.nodes} | {server.identity.run_id} - {""}


def _rights(server: ServerFacts, logical: bool, keys: _Keys) -> Iterator[Finding]:
    needed = [right for right in server.rights if right.use == "copy" or (right.use == "logical" and logical)]
    rest = [right for right in server.rights if right.use == "logical" and not logical]
    problems = [*_lacking(server, needed, keys), *_lacking_for_big(server, rest)]
    yield from problems
    if not any(problem.level == "stop" for problem in problems):
        allowed = sum(right.state in ("allowed", "key") for right in needed)
        count = f"all {allowed}" if allowed == len(needed) else f"{allowed} of the {len(needed)}"
        sentence = f"User {server.user} may run {count} commands needed on the {server.side}."
        yield Finding("ok", f"{server.side} rights", sentence)


def _lacking(server: ServerFacts, rights: list[Right], keys: _Keys) -> Iterator[Finding]:
    """What stops a copy: one rule for all that an ACL forbids, one sentence for what is not there."""
    topic, side = f"{server.side} rights", server.side
    commands = [right.token for right in rights if right.state == "command"]
    # Nothing of ours is ever written to the source, so its names need no right there.
    names = side == "target" and any(right.state == "key" for right in rights)
    problems = []
    if commands:
        problems.append(f"run {_spelled(commands)}")
    if names:
        problems.append("use names that begin with keyferry:")
    if keys.forbidden:
        problems.append(f"{keys.verb} {keys.forbidden} of {counted(keys.looked_at, 'sampled key')}")
    if problems:
        # A pattern after ~* is an error, so what is allowed already is left out.
        pattern = "~*" if keys.forbidden else "~keyferry:*" if names else ""
        narrower = " (or leave those keys out with --match)" if keys.forbidden else ""
        yield Finding(
            "stop",
            topic,
            f"User {server.user} may not {', nor '.join(problems)} {_on(server, rights, 'command', 'key')}.",
            f"Run {_to_run(server)}: {acl_rule(server.user, commands, pattern)}{narrower}",
        )
    yield from _not_there(server, rights, "stop")


def _lacking_for_big(server: ServerFacts, rights: list[Right]) -> Iterator[Finding]:
    commands = [right.token for right in rights if right.state == "command"]
    if commands:
        yield Finding(
            "warning",
            f"{server.side} rights",
            f"Values too big for one DUMP would fail: user {server.user} may not run {_spelled(commands)} "
            f"{_on(server, rights, 'command')}.",
            f"Run {_to_run(server)}: {acl_rule(server.user, commands)}",
        )
    yield from _not_there(server, rights, "warning")


def _not_there(server: ServerFacts, rights: list[Right], level: Level) -> Iterator[Finding]:
    topic, side = f"{server.side} rights", server.side
    missing = [right.token for right in rights if right.state == "missing"]
    if missing:
        yield Finding(
            level,
            topic,
            f"{_who(server, rights)} does not know {_spelled(missing)}: renamed or disabled.",
            f"Remove the rename-command lines for {_spelled(missing)}, or ask the service to allow them.",
        )
    unclear = [right.token for right in rights if right.state == "unclear"]
    if unclear:
        advice = "Allow MULTI, or see that the user may run them."
        yield could_not_look(
            topic, f"the right to run {_spelled(unclear)}", f"the {side} refuses MULTI", advice
        )


def _on(server: ServerFacts, rights: list[Right], *states: RightState) -> str:
    """``on the source``, or on which of its nodes when the others are better."""
    places = dict.fromkeys(place for right in rights if right.state in states for place in right.places)
    return f"on the {server.side}" + (f"'s nodes {listed(list(places), 3)}" if places else "")


def _to_run(server: ServerFacts) -> str:
    # The nodes of a cluster do not tell each other of users.
    return f"on every node of the {server.side}" if server.cluster else f"on the {server.side}"


def _who(server: ServerFacts, rights: list[Right]) -> str:
    places = [place for right in rights if right.state == "missing" for place in right.places]
    return f"The {server.side}'s node {places[0]}" if places else f"The {server.side}"


def _spelled(tokens: list[str]) -> str:
    return listed([token.replace("|", " ").upper() for token in tokens], 8)


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
        clusters = facts.source.server.cluster or facts.target.server.cluster
        yield Finding("ok", "roles", f"{'All' if clusters else 'Both'} servers are masters.")
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


def _shared_user(server: ServerFacts) -> Iterator[Finding]:
    """What a cutover takes from the application is the write rights of its user, which must not be ours."""
    topic, side = f"{server.side} user", server.side
    if server.sharing is None:
        reason = server.refusals.get("CLIENT LIST", "")
        advice = "Use a user that no application uses, or allow CLIENT LIST."
        yield could_not_look(topic, f"who else uses our user on the {side}", reason, advice)
    elif server.sharing:
        yield Finding(
            "warning",
            topic,
            f"{counted(server.sharing, 'other connection')} on the {side} use our user {server.user}: no switch can bar "
            "it, so who writes there after one is only named.",
            f"Give Keyferry a user of its own {_to_run(server)}: ACL SETUSER keyferry on >PASSWORD ~* &* +@all",
        )


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
