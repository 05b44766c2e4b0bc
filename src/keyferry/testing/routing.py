"""Which slot a command goes to, and how the replies of several nodes become one. Decides only.

Knows the commands that the test kit and its tests use, not all that there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum, auto
from typing import NamedTuple

from keyferry.model.errors import KeyferryError
from keyferry.testing.topology import hash_slot
from keyferry.wire.resp import Reply, ReplyError


class Place(Enum):
    """Where a command without a key goes."""

    ANYWHERE = auto()
    EVERYWHERE = auto()


class RoutedCommand(NamedTuple):
    """One command, encoded, and the slot or the place that it goes to."""

    data: bytes
    words: Sequence[bytes]
    where: int | Place


class _Rule(Enum):
    """How a command names its key, where that is not by its first argument."""

    SECOND = auto()
    SCRIPT = auto()
    STREAMS = auto()
    DEBUG = auto()
    REFUSED = auto()


_RULES: dict[bytes, Place | _Rule] = {
    name: rule
    for rule, names in (
        (Place.ANYWHERE, b"PING ECHO TIME COMMAND CLUSTER CLIENT PUBLISH"),
        (Place.EVERYWHERE, b"FLUSHALL FLUSHDB FUNCTION SCRIPT CONFIG ACL SELECT INFO DBSIZE KEYS SAVE"),
        (_Rule.SECOND, b"XGROUP XINFO OBJECT MEMORY BITOP"),
        (_Rule.SCRIPT, b"EVAL EVALSHA EVAL_RO EVALSHA_RO FCALL FCALL_RO"),
        (_Rule.STREAMS, b"XREAD XREADGROUP"),
        (_Rule.DEBUG, b"DEBUG"),
        # What only makes sense on one connection, or for one node.
        (_Rule.REFUSED, b"MULTI EXEC DISCARD WATCH UNWATCH SCAN RANDOMKEY SUBSCRIBE MONITOR WAIT"),
    )
    for name in names.split()
}


def where(words: Sequence[bytes]) -> int | Place:
    """The slot of the command's first key, or the place of one without keys.

    Raises:
        KeyferryError: It has to be said to one node.
    """
    name = words[0].upper()
    rule = _RULES.get(name)
    match rule:
        case None:
            return hash_slot(words[1])
        case Place():
            return rule
        case _Rule.SECOND:
            return hash_slot(words[2])
        case _Rule.SCRIPT:
            return hash_slot(words[3]) if words[2] != b"0" else Place.ANYWHERE
        case _Rule.STREAMS:
            return hash_slot(words[[word.upper() for word in words].index(b"STREAMS") + 1])
        case _Rule.DEBUG:
            return hash_slot(words[2]) if words[1].upper() == b"OBJECT" else Place.EVERYWHERE
        case _Rule.REFUSED:
            raise KeyferryError(f"{name.decode()} goes to one node; use session_of(key) or parts().")


def routed(commands: bytes) -> Iterator[RoutedCommand]:
    """Cuts encoded commands (arrays of bulk strings) apart."""
    at = 0
    while at < len(commands):
        begin = at
        end = commands.index(b"\r\n", at)
        words: list[bytes] = []
        count, at = int(commands[at + 1 : end]), end + 2
        for _ in range(count):
            end = commands.index(b"\r\n", at)
            at = end + 2 + int(commands[at + 1 : end])
            words.append(commands[end + 2 : at])
            at += 2
        yield RoutedCommand(commands[begin:at], words, where(words))


def merged(words: Sequence[bytes], replies: Sequence[Reply]) -> Reply:
    """One reply for those of all primaries: the first error, the sum, the whole, or else the first."""
    for reply in replies:
        if isinstance(reply, ReplyError):
            return reply
    match words[0].upper():
        case b"DBSIZE":
            return sum(reply for reply in replies if isinstance(reply, int))
        case b"KEYS":
            return [key for reply in replies if isinstance(reply, list) for key in reply]
        case b"INFO":
            return b"".join(reply for reply in replies if isinstance(reply, bytes))
    return replies[0]
