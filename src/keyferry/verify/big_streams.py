"""Compares a stream that is too big for one DUMP: its counters and groups, its pending entries and entries in pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from keyferry.copy.replies import Verdict, stopping_error, verdict
from keyferry.model.keys import escape
from keyferry.model.values import StreamId
from keyferry.payload.differences import LISTED_MAX, id_text
from keyferry.verify.look import Throttle
from keyferry.wire.resp import Argument, Reply, ReplyError
from keyferry.wire.session import Session

PAGE = 500
COUNTERS = (b"length", b"last-generated-id", b"entries-added", b"max-deleted-entry-id")
GROUP_COUNTERS = (b"last-delivered-id", b"entries-read", b"pending")
SEQUENCE_MAX = (1 << 64) - 1

Finding = dict[str, Any]
Fields = dict[bytes, Reply]
Entries = dict[StreamId, Reply]
"""Of one page, in order."""


class _Gone(Exception):
    """The key or a group is not there (any more), or is on its way to another node."""


@dataclass(frozen=True, slots=True)
class _Group:
    """``consumers``: each with how many entries it has pending."""

    counters: Fields
    consumers: Fields


@dataclass(frozen=True, slots=True)
class _Outline:
    """All of a stream but its entries."""

    counters: Fields
    groups: dict[bytes, _Group]


def compare_streams(
    key: bytes, source: Session, target: Session, throttle: Throttle
) -> tuple[bool | None, tuple[Finding, ...]]:
    """Whether both hold the same stream, None when it changed meanwhile; and what differs.

    Of deliveries their number is compared, not their times. No more than ``LISTED_MAX`` differences are looked for.

    Args:
        throttle: Called after every page.

    Raises:
        ServerAway: A server cannot answer now.
        ServerError: One refuses.
    """
    ours, theirs = _Stream(key, source, throttle), _Stream(key, target, throttle)
    try:
        before = ours.outline(), theirs.outline()
        found: list[Finding] = []
        for finding in _differences(ours, theirs, *before):
            found.append(finding)
            if len(found) == LISTED_MAX:
                break
        if (ours.outline(), theirs.outline()) != before:
            return None, ()
    except _Gone:
        return None, ()
    return not found, tuple(found)


class _Stream:
    """One side's, as its server answers now. Every method raises _Gone, and as ``compare_streams``."""

    def __init__(self, key: bytes, session: Session, throttle: Throttle) -> None:
        self._key, self._session, self._throttle = key, session, throttle

    def outline(self) -> _Outline:
        counters = _chosen(_fields(self._ask("XINFO", "STREAM", self._key)), COUNTERS)
        groups = {}
        for described in map(_fields, _items(self._ask("XINFO", "GROUPS", self._key))):
            name = described.get(b"name")
            if isinstance(name, bytes):
                consumers = map(_fields, _items(self._ask("XINFO", "CONSUMERS", self._key, name)))
                pending = {
                    one: fields[b"pending"]
                    for fields in consumers
                    if isinstance(one := fields.get(b"name"), bytes)
                }
                groups[name] = _Group(_chosen(described, GROUP_COUNTERS), pending)
        return _Outline(counters, groups)

    def entries(self, first: str) -> Entries:
        """A page from ``first`` on."""
        return _by_id(self._ask("XRANGE", self._key, first, "+", "COUNT", PAGE), lambda item: item[1])

    def pending(self, group: bytes, first: str) -> Entries:
        """A page of pending entries: the consumer, and how often it was delivered."""
        reply = self._ask("XPENDING", self._key, group, first, "+", PAGE)
        return _by_id(reply, lambda item: [item[1], item[3]])

    def _ask(self, *command: Argument) -> Reply:
        reply = self._session.call(*command)
        self._throttle(0, 0)
        if isinstance(reply, ReplyError):
            if verdict(reply.message) is Verdict.STOP:
                raise stopping_error(self._session.side, reply.message)
            raise _Gone
        return reply


def _differences(ours: _Stream, theirs: _Stream, source: _Outline, target: _Outline) -> Iterator[Finding]:
    yield from _counters("", source.counters, target.counters)
    for name in dict.fromkeys((*source.groups, *target.groups)):
        if name not in target.groups or name not in source.groups:
            how = "missing" if name in source.groups else "extra"
            yield {"what": "group", "name": escape(name), "how": how}
            continue
        group: Finding = {"group": escape(name)}
        for finding in _group(source.groups[name], target.groups[name]):
            yield finding | group
        pages = _pages(
            lambda first, name=name: ours.pending(name, first),  # type: ignore[misc]
            lambda first, name=name: theirs.pending(name, first),  # type: ignore[misc]
        )
        for entry, how in pages:
            yield {"what": "pending entry", **group, "id": id_text(entry), "how": how}
    for entry, how in _pages(ours.entries, theirs.entries):
        yield {"what": "entry", "id": id_text(entry), "how": how}


def _group(source: _Group, target: _Group) -> Iterator[Finding]:
    yield from _counters("group's ", source.counters, target.counters)
    for name in dict.fromkeys((*source.consumers, *target.consumers)):
        if (name in source.consumers) != (name in target.consumers):
            how = "missing" if name in source.consumers else "extra"
            yield {"what": "consumer", "name": escape(name), "how": how}


def _counters(whose: str, source: Fields, target: Fields) -> Iterator[Finding]:
    """Those that both servers tell."""
    for name, value in source.items():
        if name in target and target[name] != value:
            yield {"what": whose + name.decode("ascii").replace("-", " ")}


def _pages(
    ours: Callable[[str], Entries], theirs: Callable[[str], Entries]
) -> Iterator[tuple[StreamId, str]]:
    """What differs between two lists in the order of their ids: id, and how."""
    first = "-"
    while True:
        source, target = ours(first), theirs(first)
        # What lies behind the end of a full page may be on the other side's next one.
        ends = [max(page) for page in (source, target) if len(page) == PAGE]
        end = min(ends) if ends else None
        for entry in sorted(source.keys() | target.keys()):
            if end is not None and entry > end:
                break
            if entry not in target:
                yield entry, "missing"
            elif entry not in source:
                yield entry, "extra"
            elif source[entry] != target[entry]:
                yield entry, "differs"
        if end is None:
            return
        first = id_text((end[0], end[1] + 1) if end[1] < SEQUENCE_MAX else (end[0] + 1, 0))


def _by_id(reply: Reply, value: Callable[[list[Reply]], Reply]) -> Entries:
    found: Entries = {}
    for item in _items(reply):
        if isinstance(item, list) and isinstance(item[0], bytes):
            ms, _, sequence = item[0].partition(b"-")
            found[int(ms), int(sequence)] = value(item)
    return found


def _chosen(fields: Fields, names: tuple[bytes, ...]) -> Fields:
    return {name: fields[name] for name in names if name in fields}


def _fields(reply: Reply) -> Fields:
    """A flat list of name, value, name, value."""
    items = _items(reply)
    pairs = zip(items[::2], items[1::2], strict=True)
    return {name: value for name, value in pairs if isinstance(name, bytes)}


def _items(reply: Reply) -> list[Reply]:
    return reply if isinstance(reply, list) else []
