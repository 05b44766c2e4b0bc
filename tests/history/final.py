"""Reads from one side, in the end, everything that a history speaks of."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from keyferry.testing.deployment import Client
from keyferry.wire.resp import Argument, Reply, ReplyError

from .checker import Final
from .drawing import ACCOUNTS, GROUP
from .events import Event, History
from .streams import StreamEnd

PENDING_MAX = 1_000_000


def read_final(client: Client, history: History) -> Final:
    """What is there of all that was written; nobody writes meanwhile."""
    keys = {family: _keys(history, family) for family in ("register", "counter", "owned", "bag", "stream")}
    values = {}
    for key in (*keys["register"], *keys["counter"], *keys["owned"], *ACCOUNTS):
        value = _value(client, key)
        if value is not None:
            values[key] = value
    bags = {key: tuple(_bag(client, key)) for key in keys["bag"]}
    bags |= {key: tuple(_texts(client.call(*words))) for key, words in _PAIRED.items()}
    streams = {key: _stream(client, key) for key in keys["stream"]}
    return Final(time.monotonic(), values, bags, streams)


_PAIRED: dict[str, tuple[Argument, ...]] = {
    "{script}:l": ("LRANGE", "{script}:l", 0, -1),
    "{both}:s": ("SMEMBERS", "{both}:s"),
}


def _keys(history: History, family: str) -> list[str]:
    return sorted({event.key for event in history.events if event.family == family})


def _value(client: Client, key: str) -> str | None:
    name, _, member = key.partition("|")
    read: tuple[Argument, ...] = ("GET", name)
    if member:
        read = ("ZSCORE" if name.startswith("z") else "HGET", name, member)
    found = _checked(client.call(*read))
    if found is None:
        return None
    text = _text(found)
    return str(int(float(text))) if name.startswith("z") else text


def _bag(client: Client, key: str) -> Iterable[str]:
    if key == "{moves}":
        return [text for end in ("a", "b") for text in _texts(client.call("LRANGE", f"{key}:{end}", 0, -1))]
    if key == "{both}":
        return _texts(client.call("LRANGE", "{both}:l", 0, -1))
    kind = _READS[key.partition(":")[0]]
    return kind(client, key)


def _list(client: Client, key: str) -> list[str]:
    return _texts(client.call("LRANGE", key, 0, -1))


def _set(client: Client, key: str) -> list[str]:
    return _texts(client.call("SMEMBERS", key))


def _zset(client: Client, key: str) -> list[str]:
    return _texts(client.call("ZRANGE", key, 0, -1))


def _hash(client: Client, key: str) -> list[str]:
    return _texts(client.call("HKEYS", key))


def _chunks(client: Client, key: str) -> list[str]:
    return [chunk for text in _texts(client.call("GET", key)) for chunk in text.split(";") if chunk]


def _bits(client: Client, key: str) -> list[str]:
    value = _checked(client.call("GET", key))
    if not isinstance(value, bytes):
        return []
    return [
        str(8 * index + bit)
        for index, byte in enumerate(value)
        if byte
        for bit in range(8)
        if byte & (0x80 >> bit)
    ]


_READS: dict[str, Callable[[Client, str], list[str]]] = {
    "queue": _list,
    "bag": _set,
    "zbag": _zset,
    "hbag": _hash,
    "text": _chunks,
    "bits": _bits,
}


def _stream(client: Client, key: str) -> StreamEnd:
    entries: Any = _checked(client.call("XRANGE", key, "-", "+"))
    groups: Any = _checked(client.call("XINFO", "GROUPS", key))
    pending: Any = _checked(client.call("XPENDING", key, GROUP, "-", "+", PENDING_MAX))
    group = next((dict(zip(row[::2], row[1::2], strict=True)) for row in groups), {})
    return StreamEnd(
        tuple((_text(entry), _text(fields[1])) for entry, fields in entries),
        frozenset(_text(row[0]) for row in pending),
        _text(group.get(b"last-delivered-id", b"0-0")),
    )


def _texts(reply: Reply) -> list[str]:
    found = _checked(reply)
    if found is None:
        return []
    return [_text(part) for part in found] if isinstance(found, list) else [_text(found)]


def _text(reply: Reply) -> str:
    return reply.decode("latin-1") if isinstance(reply, bytes) else str(reply)


def _checked(reply: Reply) -> Reply:
    if isinstance(reply, ReplyError):
        raise ValueError(f"The end cannot be read: {reply.message}")
    return reply


def counted(events: Iterable[Event]) -> int:
    return sum(event.done for event in events)
