"""What a live writer says of itself in `keyferry:{NAME}:writers`, and how it is written down.

One field per writer, its id; the value is JSON, so that an operator can read it with HGETALL.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from keyferry.model.phases import Phase, Side
from keyferry.model.record import RecordUnreadable

CONNECTIONS_MAX = 1000
"""Named per side; a process that has more names the newest."""
NAMES_MAX = 8
TEXT_CHARS_MAX = 1000
"""Of what is for people."""
NUMBER_MAX = 2**53
"""Every program that reads JSON knows integers up to here exactly."""
_WRITTEN = json.JSONEncoder(separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class WriterFacts:
    """What stays the same as long as the process lives.

    Attributes:
        host: Name of the machine.
        pid: Of the process there.
        program: As an operator would recognise it.
        client: Name and version of the client library.
    """

    host: str
    pid: int
    program: str
    client: str = ""

    def __str__(self) -> str:
        return f"{self.program} (pid {self.pid} on {self.host})"


@dataclass(frozen=True, slots=True)
class WriterEntry:
    """One writer as it stands in the record.

    Attributes:
        phase: The phase that it has taken; None when it has taken none yet.
        epoch: Of that phase; 0 when it has taken none yet. Every operation of an older epoch is over.
        renewals: Grows with every renewal of its lease.
        lease_ms: How long a renewal counts, from before it was sent.
        connections: Client ids of the connections on which it may send second legs: ``"7"``, and in a cluster
            ``"7@host:port"`` with the node's announced address.
        since_ms: Unix time of its start, by its own clock; for people.
        seen_ms: Unix time of the renewal, by its own clock; for people.
        answered: The record's question, when it has answered it.
        note: What an operator should know, such as that the target is away.
        names: Under which client names its connections stand in CLIENT LIST, on either side. A connection of another
            name is none of its.
    """

    facts: WriterFacts
    lease_ms: int
    renewals: int = 0
    phase: Phase | None = None
    epoch: int = 0
    connections: dict[Side, tuple[str, ...]] = field(default_factory=dict)
    since_ms: int = 0
    seen_ms: int = 0
    answered: str = ""
    note: str = ""
    names: tuple[str, ...] = ()


def encode_entry(entry: WriterEntry) -> bytes:
    """The value of the writer's field."""
    data = {
        "host": entry.facts.host,
        "pid": entry.facts.pid,
        "program": entry.facts.program,
        "client": entry.facts.client,
        "phase": entry.phase or "",
        "epoch": entry.epoch,
        "renewals": entry.renewals,
        "lease_ms": entry.lease_ms,
        "connections": {str(side): list(ids[-CONNECTIONS_MAX:]) for side, ids in entry.connections.items()},
        "since_ms": entry.since_ms,
        "seen_ms": entry.seen_ms,
        "answered": entry.answered,
        "note": entry.note,
        "names": list(entry.names[:NAMES_MAX]),
    }
    return _WRITTEN.encode(data).encode("ascii")


def decode_entry(writer_id: str, value: bytes) -> WriterEntry:
    """Reads the value of a writer's field. What we do not know in it is passed over.

    Raises:
        RecordUnreadable: It is something else: whether that writer lives cannot be judged.
    """
    try:
        data = json.loads(value)
        if not isinstance(data, dict):
            raise TypeError("it is no JSON object")
        return WriterEntry(
            WriterFacts(
                _said(data, "host"), _number(data, "pid"), _said(data, "program"), _said(data, "client")
            ),
            lease_ms=_number(data, "lease_ms", least=1),
            renewals=_number(data, "renewals"),
            phase=Phase(phase) if (phase := _text(data, "phase")) else None,
            epoch=_number(data, "epoch"),
            connections=_connections(data.get("connections", {})),
            since_ms=_number(data, "since_ms"),
            seen_ms=_number(data, "seen_ms"),
            answered=_text(data, "answered"),
            note=_said(data, "note"),
            names=_texts(data, "names"),
        )
    except (ValueError, TypeError) as error:
        raise RecordUnreadable(
            f"The entry of the writer {writer_id!r} cannot be read: {error}.",
            "If no such process runs, delete the field from the hash keyferry:{NAME}:writers.",
        ) from None


def _text(data: dict[str, Any], name: str) -> str:
    value = data.get(name, "")
    if not isinstance(value, str):
        raise TypeError(f"its {name} is no text")
    return value


def _said(data: dict[str, Any], name: str) -> str:
    """Text of another program, for people: it moves no cursor of a terminal and begins no line."""
    text = _text(data, name)[:TEXT_CHARS_MAX]
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _texts(data: dict[str, Any], name: str) -> tuple[str, ...]:
    values = data.get(name, [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"its {name} are no list of texts")
    return tuple(values)


def _number(data: dict[str, Any], name: str, least: int = 0) -> int:
    value = data.get(name, 0)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= NUMBER_MAX:
        raise ValueError(f"its {name} is no number from {least} to {NUMBER_MAX}")
    return value


def _connections(data: object) -> dict[Side, tuple[str, ...]]:
    if not isinstance(data, dict):
        raise TypeError("its connections are no JSON object")
    found: dict[Side, tuple[str, ...]] = {}
    for side, ids in data.items():
        if not isinstance(ids, list) or not all(isinstance(name, str) for name in ids):
            raise TypeError("its connections are no lists of texts")
        found[Side(side)] = tuple(ids)
    return found
