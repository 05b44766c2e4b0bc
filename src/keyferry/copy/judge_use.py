"""Judges what applications do with the source that a copy of its keys does not bring along. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from keyferry.copy.facts import CheckRequest, Facts, Feed
from keyferry.copy.finding import Finding, brief, could_not_look, counted, listed

OWN_COMMANDS = frozenset(
    (
        "acl",
        "client",
        "command",
        "config",
        "function|dump",
        "function|stats",
        "hello",
        "hpexpiretime",
        "info",
        "memory",
        "module",
        "pexpiretime",
    )
)
"""Keyferry runs these on the source itself, so their counters say nothing about the applications."""


def use(facts: Facts, request: CheckRequest) -> Iterator[Finding]:
    """Users, functions, scripts, commands, and the ways to hear of changes."""
    yield _users(facts)
    yield from _functions(facts, request)
    yield _scripts(facts)
    yield _commands(facts)
    yield _feeds(facts)


def _users(facts: Facts) -> Finding:
    source, target = facts.source.server, facts.target.server
    if source.users is None or target.users is None:
        blind = source if source.users is None else target
        reason = blind.refusals.get("ACL USERS", "")
        return could_not_look(
            "users", f"the {blind.side}'s ACL users", reason, "Compare ACL USERS of both by hand."
        )
    lacking = sorted(source.users - target.users)
    if lacking:
        return Finding(
            "warning",
            "users",
            f"The target lacks {counted(len(lacking), 'ACL user')} of the source: {listed(lacking)}.",
            "Create them on the target (ACL SETUSER) before applications move.",
        )
    return Finding("ok", "users", f"The target has every ACL user of the source ({len(source.users)}).")


def _functions(facts: Facts, request: CheckRequest) -> Iterator[Finding]:
    source, target = facts.source.server, facts.target.server
    count = source.function_libraries
    if count is None:
        reason = source.refusals.get("FUNCTION STATS", "")
        if "unknown command" in reason.lower():  # before 7.0, or renamed: there is nothing to carry
            yield Finding("ok", "functions", "The source has no functions (before 7.0).")
        else:
            yield could_not_look("functions", "the source's functions", reason, "Allow +function|stats.")
        return
    if not count:
        yield Finding("ok", "functions", "The source has no function libraries.")
        return
    sentence = f"The source has {counted(count, 'function library').replace('librarys', 'libraries')}"
    if target.function_libraries is None:
        reason = target.refusals.get("FUNCTION STATS", "")
        yield Finding(
            "stop" if request.functions else "warning",
            "functions",
            f"{sentence}; the target cannot take them ({brief(reason)}).",
            "Use a target from 7.0 on" + (", or leave --functions out." if request.functions else "."),
        )
    elif request.functions:
        yield Finding("ok", "functions", f"{sentence}; they are carried.")
    else:
        yield Finding(
            "warning", "functions", f"{sentence}, which are not carried.", "Add --functions to carry them."
        )


def _scripts(facts: Facts) -> Finding:
    if facts.source.calls is None:
        return could_not_look("scripts", "the use of EVALSHA", "INFO has no commandstats")
    calls = sum(facts.source.calls.get(name, 0) for name in ("evalsha", "evalsha_ro"))
    if calls:
        return Finding(
            "warning",
            "scripts",
            f"Applications called EVALSHA {counted(calls, 'time')}; the target's script cache is empty.",
            "Run SCRIPT LOAD on the target for them, unless their clients fall back to EVAL on NOSCRIPT.",
        )
    return Finding("ok", "scripts", "EVALSHA is not used.")


def _commands(facts: Facts) -> Finding:
    calls, unknown = facts.source.calls, facts.target.unknown_commands
    if calls is None:
        return could_not_look("commands", "the commands that applications use", "INFO has no commandstats")
    if unknown is None:
        reason = facts.target.server.refusals.get("COMMAND INFO", "")
        return could_not_look("commands", "the commands that the target knows", reason)
    theirs = {name: calls.get(name, 0) for name in unknown if not is_own(name)}
    if theirs:
        names = sorted(theirs, key=lambda name: (-theirs[name], name))
        shown = [f"{name.replace('|', ' ').upper()} ({theirs[name]:,})" for name in names]
        return Finding(
            "warning",
            "commands",
            f"The target does not know {listed(shown)}, which the source has been sent (number of calls).",
            "Find the applications that send them, or use a target that knows them.",
        )
    known = sum(not is_own(name) for name in calls)
    return Finding(
        "ok", "commands", f"The target knows every command that the source has been sent ({known})."
    )


def is_own(name: str) -> bool:
    """Whether Keyferry runs the command itself; ``name`` as in commandstats."""
    return name in OWN_COMMANDS or name.partition("|")[0] in OWN_COMMANDS


def _feeds(facts: Facts) -> Finding:
    feeds = facts.source.feeds
    allowed = [feed.name for feed in feeds if feed.state == "allowed"]
    others = [_withheld(feed) for feed in feeds if feed.state != "allowed"]
    rest = f"; {'; '.join(others)}" if others else ""
    if allowed:
        return Finding("ok", "feeds", f"The source lets us follow changes by {' and '.join(allowed)}{rest}.")
    return Finding(
        "warning",
        "feeds",
        f"The source does not let us follow changes{rest}.",
        "A copy alone needs none; to follow writes, allow +client|tracking or +psync, "
        "or set notify-keyspace-events KA.",
    )


def _withheld(feed: Feed) -> str:
    state = {"off": "not switched on", "refused": "refused", "unclear": "could not be looked at"}[feed.state]
    detail = "NOPERM" if feed.detail.startswith("NOPERM") else brief(feed.detail)
    return f"{feed.name} {state} ({detail})" if detail else f"{feed.name} {state}"
