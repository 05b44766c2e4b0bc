"""A key as plain commands show it, in a form that is equal exactly when the values are."""

from __future__ import annotations

from keyferry.model.identity import ServerIdentity
from keyferry.payload.write_commands import Abilities
from keyferry.testing.servers import Server
from keyferry.wire.resp import Argument, Reply, ReplyError
from keyferry.wire.session import Session


def identity(server: Server) -> ServerIdentity:
    return ServerIdentity(server.binary.family, server.binary.version, 0)


def asked(session: Session, *command: Argument) -> Reply:
    reply = session.call(*command)
    assert not isinstance(reply, ReplyError), (command, reply)
    return reply


def looked(session: Session, server: ServerIdentity, key: bytes) -> object:
    """Type, expiry (milliseconds where the server tells) and value; None for a key that is not there."""
    kind = asked(session, "TYPE", key)
    if kind == b"none":
        return None
    return kind, _VALUES[bytes(kind)](session, server, key)  # type: ignore[arg-type]


def expiry_ms(session: Session, key: bytes) -> int:
    """PEXPIRETIME on every server; -1 is for ever. Servers without it: TIME + PTTL, asked until they agree."""
    reply = session.call("PEXPIRETIME", key)
    if isinstance(reply, int):
        return reply
    while True:
        before, left, after = session.pipeline([("TIME",), ("PTTL", key), ("TIME",)])
        assert isinstance(left, int)
        if left < 0:
            return left
        if _ms(before) == _ms(after):
            return _ms(before) + left


def _ms(reply: Reply) -> int:
    assert isinstance(reply, list)
    return int(reply[0]) * 1000 + int(reply[1]) // 1000  # type: ignore[arg-type]


def _list(session: Session, *command: Argument) -> list[Reply]:
    reply = asked(session, *command)
    assert isinstance(reply, list)
    return reply


def _string(session: Session, server: ServerIdentity, key: bytes) -> object:
    return asked(session, "GET", key)


def _items(session: Session, server: ServerIdentity, key: bytes) -> object:
    return _list(session, "LRANGE", key, 0, -1)


def _members(session: Session, server: ServerIdentity, key: bytes) -> object:
    return set(_list(session, "SMEMBERS", key))


def _scored(session: Session, server: ServerIdentity, key: bytes) -> object:
    parts = _list(session, "ZRANGE", key, 0, -1, "WITHSCORES")
    return [(member, repr(float(score))) for member, score in zip(parts[::2], parts[1::2], strict=True)]  # type: ignore[arg-type]


def _fields(session: Session, server: ServerIdentity, key: bytes) -> object:
    parts = _list(session, "HGETALL", key)
    fields = dict(zip(parts[::2], parts[1::2], strict=True))
    if not Abilities.of(server).field_expiry:
        return fields, {}
    times = _list(session, "HPEXPIRETIME", key, "FIELDS", len(fields), *fields)  # type: ignore[arg-type]
    return fields, {field: time for field, time in zip(fields, times, strict=True) if time != -1}


def _stream(session: Session, server: ServerIdentity, key: bytes) -> object:
    """XINFO FULL but for consumers' times and the shape of the radix tree, both ends of what XRANGE gives."""
    full = _dict(_list(session, "XINFO", "STREAM", key, "FULL", "COUNT", 0))
    groups = []
    for item in full.pop(b"groups"):  # type: ignore[union-attr]
        group = _dict(item)
        consumers = sorted(
            (consumer[b"name"], consumer[b"pending"])
            for consumer in map(_dict, group[b"consumers"])  # type: ignore
        )
        # 7.0 calls the group's own list of pending entries "pending" too.
        groups.append({**{name: group.get(name) for name in _GROUP}, b"consumers": consumers})
    stream = {name: full.get(name) for name in _STREAM}
    return stream, groups, _list(session, "XRANGE", key, "-", "+")


_STREAM = (
    b"length",
    b"last-generated-id",
    b"max-deleted-entry-id",
    b"entries-added",
    b"recorded-first-entry-id",
)
_GROUP = (b"name", b"last-delivered-id", b"pel-count", b"entries-read", b"pending")


def _dict(reply: Reply) -> dict[bytes, Reply]:
    assert isinstance(reply, list)
    return dict(zip(reply[::2], reply[1::2], strict=True))  # type: ignore[arg-type]


_VALUES = {
    b"string": _string,
    b"list": _items,
    b"set": _members,
    b"zset": _scored,
    b"hash": _fields,
    b"stream": _stream,
}


def without_counters(view: object) -> object:
    """The same without what a server before 7.0 does not hold."""
    match view:
        case (b"stream", (dict() as stream, list() as groups, _)):
            for counter in _STREAM[2:]:
                stream.pop(counter, None)
            for group in groups:
                group.pop(b"entries-read", None)
    return view


def without_negative_zero(view: object) -> object:
    """Servers from 7.0 make the score -0 a 0 in a listpack, which every value is that begins small."""
    match view:
        case (b"zset", list() as scored):
            return b"zset", [(member, "0.0" if score == "-0.0" else score) for member, score in scored]
    return view


def without_field_expiry(view: object) -> object:
    match view:
        case (b"hash", (fields, _)):
            return b"hash", (fields, {})
    return view
