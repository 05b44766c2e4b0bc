"""Compares a stream that is too big for one DUMP: its counters and groups, its pending entries and entries in pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keyferry.model.errors import ServerError
from keyferry.model.keys import escape
from keyferry.payload.differences import LISTED_MAX
from keyferry.wire.resp import Reply, ReplyError
from keyferry.wire.session import Session

PAGE = 500

_Map = dict[bytes, Reply]
Outline = tuple[_Map, dict[bytes, tuple[_Map, dict[bytes, Reply]]]]
"""Counters; per group its own, and per consumer how many entries are pending."""


class _Gone(Exception):
    """The key, or a group, is not there any more, or is on its way to another node."""


def compare_streams(
    key: bytes, source: Session, target: Session
) -> tuple[bool | None, tuple[dict[str, Any], ...]]:
    """Whether both hold the same stream, None when it changed meanwhile; and what differs.

    Of deliveries their number is compared, not their times. No more than ``LISTED_MAX`` differences are looked for.

    Raises:
        ServerAway: A server cannot answer now.
        ServerError: One refuses.
    """
    try:
        before = _outline(source, key), _outline(target, key)
        found: list[dict[str, Any]] = []
        for difference in _differences(key, source, target, *before):
            found.append(difference)
            if len(found) == LISTED_MAX:
                break
        after = _outline(source, key), _outline(target, key)
    except _Gone:
        return None, ()
    return None if after != before else not found, tuple(found)


def _differences(
    key: bytes, source: Session, target: Session, ours: Outline, theirs: Outline
) -> Iterator[dict[str, Any]]:
    for name in sorted(ours[0].keys() & theirs[0].keys()):
        if ours[0][name] != theirs[0][name]:
            yield {"what": _text(name)}
    for group in {**ours[1], **theirs[1]}:
        if group not in theirs[1] or group not in ours[1]:
            how = "missing" if group in ours[1] else "extra"
            yield {"what": "group", "name": escape(group), "how": how}
            continue
        yield from _group(group, *ours[1][group], *theirs[1][group])
        for entry, how in _paged(
            lambda session, first, group=group: _pending(session, key, group, first), source, target
        ):
            yield {"what": "pending entry", "group": escape(group), "id": entry, "how": how}
    for entry, how in _paged(lambda session, first: _entries(session, key, first), source, target):
        yield {"what": "entry", "id": entry, "how": how}


def _group(
    group: bytes, ours: _Map, our_consumers: _Map, theirs: _Map, their_consumers: _Map
) -> Iterator[dict[str, Any]]:
    for name in sorted(ours.keys() & theirs.keys()):
        if ours[name] != theirs[name]:
            yield {"what": f"group's {_text(name)}", "group": escape(group)}
    for name in {**our_consumers, **their_consumers}:
        if (name in our_consumers) != (name in their_consumers):
            how = "missing" if name in our_consumers else "extra"
            yield {"what": "consumer", "group": escape(group), "name": escape(name), "how": how}


def _paged(read: Any, source: Session, target: Session) -> Iterator[tuple[str, str]]:
    """What differs between two lists in the order of their ids, page by page: id, and how."""
    first = b"-"
    while True:
        ours, theirs = read(source, first), read(target, first)
        if not ours and not theirs:
            return
        # What lies behind the end of the shorter page is compared with the next ones.
        full = [page for page in (ours, theirs) if len(page) == PAGE]
        end = min((_id(next(reversed(page))) for page in full), default=None)
        for entry in sorted({**ours, **theirs}, key=_id):
            if end is not None and _id(entry) > end:
                break
            if entry not in theirs:
                yield _text(entry), "missing"
            elif entry not in ours:
                yield _text(entry), "extra"
            elif ours[entry] != theirs[entry]:
                yield _text(entry), "differs"
        if end is None:
            return
        first = b"%d-%d" % ((end[0], end[1] + 1) if end[1] < _SEQUENCE_MAX else (end[0] + 1, 0))


_SEQUENCE_MAX = (1 << 64) - 1


def _outline(session: Session, key: bytes) -> Outline:
    info, groups = map(
        _checked(session), session.pipeline([("XINFO", "STREAM", key), ("XINFO", "GROUPS", key)])
    )
    counters = _map(info)
    wanted = (b"length", b"last-generated-id", b"entries-added", b"max-deleted-entry-id")
    found = {}
    for described in map(_map, _items(groups)):
        name = described[b"name"]
        assert isinstance(name, bytes)
        consumers = _checked(session)(session.call("XINFO", "CONSUMERS", key, name))
        by_name = {one[b"name"]: one[b"pending"] for one in map(_map, _items(consumers))}
        own = {field: described[field] for field in _OF_GROUPS if field in described}
        found[name] = own, {name: count for name, count in by_name.items() if isinstance(name, bytes)}
    return {name: counters[name] for name in wanted if name in counters}, found


_OF_GROUPS = (b"last-delivered-id", b"entries-read", b"pending")


def _entries(session: Session, key: bytes, first: bytes) -> dict[bytes, Reply]:
    reply = _checked(session)(session.call("XRANGE", key, first, "+", "COUNT", PAGE))
    return {
        item[0]: item[1] for item in _items(reply) if isinstance(item, list) and isinstance(item[0], bytes)
    }


def _pending(session: Session, key: bytes, group: bytes, first: bytes) -> dict[bytes, Reply]:
    """By entry: the consumer, and how often it was delivered."""
    reply = _checked(session)(session.call("XPENDING", key, group, first, "+", PAGE))
    return {
        item[0]: [item[1], item[3]]
        for item in _items(reply)
        if isinstance(item, list) and isinstance(item[0], bytes)
    }


def _checked(session: Session) -> Any:
    def check(reply: Reply) -> Reply:
        if isinstance(reply, ReplyError):
            if reply.code in ("NOPERM", "NOAUTH"):
                raise ServerError(session.side, f"The {session.side} refuses: {reply.message.rstrip('.')}.")
            raise _Gone
        return reply

    return check


def _map(reply: Reply) -> _Map:
    items = _items(reply)
    return {
        name: value for name, value in zip(items[::2], items[1::2], strict=True) if isinstance(name, bytes)
    }


def _items(reply: Reply) -> list[Reply]:
    return reply if isinstance(reply, list) else []


def _id(entry: bytes) -> tuple[int, int]:
    ms, _, sequence = entry.partition(b"-")
    return int(ms), int(sequence)


def _text(name: bytes) -> str:
    return (
        name.decode("ascii", "backslashreplace").replace("-", " ")
        if not name[:1].isdigit()
        else name.decode()
    )
