"""Which commands a copy needs on each side, and what a server's answer says about the right to run one.

A command is asked about by queueing it in a transaction that is then thrown away: the server judges the
user's rights and the key when it queues, and nothing runs. Where transactions are forbidden, only commands
that are harmless in the form given here are sent as they are. Pure; survey.py sends.
"""

from __future__ import annotations

from dataclasses import dataclass

from keyferry.copy.facts import CheckRequest, Right, RightState, RightUse
from keyferry.model.identity import Family, ServerIdentity
from keyferry.payload.types import FIELD_EXPIRY_SINCE
from keyferry.wire.resp import Argument, Reply, ReplyError

STATE_CODES = frozenset(
    (
        "OOM",
        "READONLY",
        "LOADING",
        "MASTERDOWN",
        "MISCONF",
        "NOREPLICAS",
        "MOVED",
        "ASK",
        "CLUSTERDOWN",
        "CROSSSLOT",
    )
)
"""Errors that speak of the server's state; the right to run the command is there."""
WRITE_CODES = frozenset(("OOM", "READONLY", "MISCONF", "NOREPLICAS"))
"""Those of them that every write gets."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A command in a form that does nothing.

    Attributes:
        token: Its name in an ACL rule.
        command: With every argument that the server counts before it looks at rights.
        use: What needs it: every copy, only values that travel logically, or nothing that cannot do without.
        harmless: It may also be sent outside a transaction.
        queued: It is asked about by queueing it; the rest is sent as it is, before.
    """

    token: str
    command: tuple[Argument, ...]
    use: RightUse = "copy"
    harmless: bool = True
    queued: bool = True


def source_probes(
    identity: ServerIdentity, request: CheckRequest, key: bytes, cluster: bool = False
) -> list[Probe]:
    """What the copy runs on the source. ``key`` is a reserved name that does not exist."""
    probes = [
        Probe("info", ("INFO", "server")),
        Probe("time", ("TIME",)),
        Probe("dbsize", ("DBSIZE",)),
        Probe("select", ("SELECT", 0)),
        Probe("scan", ("SCAN", 0, "COUNT", 1)),
        Probe("dump", ("DUMP", key)),
        Probe("pttl", ("PTTL", key)),
        *(_cluster_probes() if cluster else ()),
    ]
    if request.big_key_bytes:
        probes.append(Probe("memory|usage", ("MEMORY", "USAGE", key, "SAMPLES", 1)))
    if _speaks(identity, (7, 0, 0)):
        probes.append(Probe("pexpiretime", ("PEXPIRETIME", key)))
    if request.keep_eviction_hints:
        probes += [
            Probe("object|idletime", ("OBJECT", "IDLETIME", key)),
            Probe("object|freq", ("OBJECT", "FREQ", key)),
        ]
    if request.functions and _speaks(identity, (7, 0, 0)):
        probes += [Probe("function|list", ("FUNCTION", "LIST")), Probe("function|dump", ("FUNCTION", "DUMP"))]
    return probes + _piece_readers(identity, key)


def target_probes(
    identity: ServerIdentity, request: CheckRequest, key: bytes, cluster: bool = False
) -> list[Probe]:
    """What the copy runs on the target."""
    remove = "UNLINK" if _speaks(identity, (4, 0, 0)) else "DEL"
    probes = [
        Probe("info", ("INFO", "server")),
        Probe("time", ("TIME",)),
        Probe("select", ("SELECT", 0)),
        # Not a payload: a server that ran it would refuse it before it looks at the key.
        Probe("restore", ("RESTORE", key, 0, b"")),
        Probe(remove.lower(), (remove, key)),
        Probe("exists", ("EXISTS", key)),
        Probe("pttl", ("PTTL", key)),
        Probe("dbsize", ("DBSIZE",)),
        Probe("scan", ("SCAN", 0, "COUNT", 1)),
        *(_cluster_probes() if cluster else ()),
    ]
    if request.functions and _speaks(identity, (7, 0, 0)):
        probes.append(Probe("function|restore", ("FUNCTION", "RESTORE", b"", "REPLACE")))
    return probes + _value_writers(identity, key)


def _cluster_probes() -> list[Probe]:
    """Who owns which slots; without NODES, a copy knows less of slots that migrate."""
    return [
        Probe("cluster|slots", ("CLUSTER", "SLOTS")),
        Probe("cluster|nodes", ("CLUSTER", "NODES"), "helpful"),
        Probe("asking", ("ASKING",)),
    ]


def _piece_readers(identity: ServerIdentity, key: bytes) -> list[Probe]:
    """What reads a big value by ranges, under WATCH."""
    commands: list[tuple[Argument, ...]] = [
        ("TYPE", key),
        ("STRLEN", key),
        ("GETRANGE", key, 0, 1),
        ("LLEN", key),
        ("LRANGE", key, 0, 1),
        ("SCARD", key),
        ("SSCAN", key, 0),
        ("ZCARD", key),
        ("ZRANGE", key, 0, 0, "WITHSCORES"),
        ("HLEN", key),
        ("HSCAN", key, 0),
        ("XLEN", key),
        ("XRANGE", key, "-", "+", "COUNT", 1),
        ("XPENDING", key, "g"),
    ]
    if has_field_expiry(identity):
        commands.append(("HPEXPIRETIME", key, "FIELDS", 1, "f"))
    about: dict[str, tuple[Argument, ...]] = {
        "stream": ("XINFO", "STREAM", key),
        "groups": ("XINFO", "GROUPS", key),
        "consumers": ("XINFO", "CONSUMERS", key, "g"),
    }
    return [
        Probe("watch", ("WATCH", key), "logical", queued=False),
        Probe("unwatch", ("UNWATCH",), "logical", queued=False),
        *(Probe(str(command[0]).lower(), command, "logical") for command in commands),
        *(Probe(f"xinfo|{what}", command, "logical") for what, command in about.items()),
        *_transaction(),
    ]


def _transaction() -> list[Probe]:
    """A transaction outside of one: EXEC without MULTI is an error after the rights are judged."""
    return [
        Probe("exec", ("EXEC",), "logical", queued=False),
        Probe("multi", ("MULTI",), "logical", queued=False),
    ]


def _value_writers(identity: ServerIdentity, key: bytes) -> list[Probe]:
    """What builds a value with its type's own commands. They would write, so only a transaction may ask."""
    commands: list[tuple[Argument, ...]] = [
        ("SET", key, "x"),
        ("SETRANGE", key, 0, "x"),
        ("RPUSH", key, "x"),
        ("SADD", key, "x"),
        ("ZADD", key, 1, "x"),
        ("HSET", key, "f", "x"),
        ("XADD", key, "1-1", "f", "x"),
        ("XTRIM", key, "MAXLEN", 0),
        ("XCLAIM", key, "g", "c", 0, "1-1", "JUSTID"),
        ("XSETID", key, "1-1"),
        ("PEXPIREAT", key, 1),
        ("RENAME", key, key + b":2"),
        ("RENAMENX", key, key + b":2"),
    ]
    if has_field_expiry(identity):
        commands.append(("HPEXPIREAT", key, 1, "FIELDS", 1, "f"))
    groups: dict[str, tuple[Argument, ...]] = {
        "create": ("XGROUP", "CREATE", key, "g", "0"),
        "createconsumer": ("XGROUP", "CREATECONSUMER", key, "g", "c"),
        "setid": ("XGROUP", "SETID", key, "g", "0"),
        "destroy": ("XGROUP", "DESTROY", key, "g"),
    }
    probes = [Probe(str(command[0]).lower(), command, "logical", harmless=False) for command in commands]
    return [
        *probes,
        *(Probe(f"xgroup|{what}", group, "logical", harmless=False) for what, group in groups.items()),
        *_transaction(),
    ]


def has_field_expiry(identity: ServerIdentity) -> bool:
    return identity.version[:2] >= FIELD_EXPIRY_SINCE[identity.family]


def right_of(probe: Probe, reply: Reply) -> Right:
    """What a server's answer to a probe, queued or run, says."""
    if not isinstance(reply, ReplyError):
        return Right(probe.token, "allowed", use=probe.use)
    return Right(probe.token, _state_of(reply), reply.message, probe.use)


def _state_of(error: ReplyError) -> RightState:
    text = error.message.lower()
    if error.code in STATE_CODES:
        return "allowed"
    if error.code == "NOPERM":
        # "... no permissions to run the 'dump' command" against "No permissions to access a key" (acl.c)
        return "command" if "run the" in text or "key" not in text else "key"
    if "unknown command" in text or "unknown subcommand" in text:
        return "missing"
    if "not allowed" in text and "transaction" not in text:  # managed services in their own words
        return "command"
    return "allowed"


def acl_rule(user: str, tokens: list[str], pattern: str = "") -> str:
    """The command that gives a user the commands ``tokens`` and the keys of ``pattern``."""
    return " ".join(
        part for part in ("ACL SETUSER", user, *(f"+{token}" for token in tokens), pattern) if part
    )


def psync_allowed(rules: str) -> bool | None:
    """Whether ACL GETUSER's ``commands`` (6.x, which has no DRYRUN) allow PSYNC; None: they do not say.

    PSYNC is in the categories admin, slow and dangerous; later rules overrule earlier ones.
    """
    allowed: bool | None = None
    for rule in rules.split():
        if rule[1:] in ("@all", "@admin", "@slow", "@dangerous", "psync"):
            allowed = rule.startswith("+")
    return allowed


def notifies(flags: str) -> bool:
    """Whether ``notify-keyspace-events`` names every changed key: K, and every event class (A)."""
    return "K" in flags and ("A" in flags or set("g$lshzxet") <= set(flags))


def _speaks(identity: ServerIdentity, redis_version: tuple[int, int, int]) -> bool:
    """Whether the server has what that Redis release brought (up to 7.2, from which Valkey branched)."""
    return identity.family is Family.VALKEY or identity.version >= redis_version
