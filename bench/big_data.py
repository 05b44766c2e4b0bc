"""Big keys: many of one kind with many small members each, and old values for them to replace.

One is written by commands, the others are copies made by the server (COPY, since 6.2).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import MappingProxyType

from bench.samples import BenchError
from keyferry.testing.servers import Server
from keyferry.wire.resp import Argument, Reply

MEMBERS_PER_COMMAND = 500
COMMANDS_PER_BATCH = 500
REPLY_TIMEOUT_S = 60.0
FIRST_ENTRY_MS = 1_700_000_000_000
SEED, OLD_SEED = 1, 2

Command = tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class BigSize:
    """``keys`` keys of ``members`` members each."""

    keys: int
    members: int


@dataclass(frozen=True, slots=True)
class BigKind:
    """One collection type.

    Attributes:
        title: In the plural.
        length: The command for the number of members.
        write: The commands that write a key out of its members.
    """

    name: str
    title: str
    length: str
    write: Callable[[bytes, list[bytes]], Iterable[Command]]


def fill_big(server: Server, kind: BigKind, size: BigSize) -> None:
    """Raises ``BenchError`` when the server does not take it."""
    _fill(server, kind, size.keys, size.members, SEED)


def fill_old(server: Server, kind: BigKind, size: BigSize) -> None:
    """Other values of the same kind under the same keys, with one member less. Raises as ``fill_big``."""
    _fill(server, kind, size.keys, size.members - 1, OLD_SEED)


def look_at_big(source: Server, target: Server, kind: BigKind, size: BigSize) -> None:
    """Whether all keys have arrived: every length, and the last value (to compare all would take minutes).

    Raises:
        BenchError: They have not.
    """
    names = [_name(number) for number in range(size.keys)]
    with target.session(timeout_s=REPLY_TIMEOUT_S) as session:
        lengths = session.pipeline([(kind.length, name) for name in names])
        count = session.call("DBSIZE")
    if count != size.keys or lengths != [size.members] * size.keys:
        raise BenchError(f"the target holds {count!r} keys of the lengths {sorted(set(map(str, lengths)))}")
    if _digest(source, names[-1]) != _digest(target, names[-1]):
        raise BenchError(f"the value of {names[-1].decode()} differs")


def _digest(server: Server, name: bytes) -> Reply:
    with server.session(timeout_s=REPLY_TIMEOUT_S) as session:
        return session.call("DEBUG", "DIGEST-VALUE", name)


def _fill(server: Server, kind: BigKind, keys: int, members: int, seed: int) -> None:
    rng = random.Random(seed)
    values = [b"%016x" % number for number in rng.sample(range(1 << 62), members)]
    first = _name(0)
    with server.session(timeout_s=REPLY_TIMEOUT_S) as session:
        batch: list[Command] = []
        for command in kind.write(first, values):
            batch.append(command)
            if len(batch) == COMMANDS_PER_BATCH:
                session.pipeline(batch)
                batch = []
        session.pipeline(batch)
        for number in range(1, keys):
            session.call("COPY", first, _name(number))
        lengths = session.pipeline([(kind.length, _name(number)) for number in range(keys)])
    if lengths != [members] * keys:
        raise BenchError(f"the {kind.title} have the lengths {sorted(set(map(str, lengths)))}")


def _name(number: int) -> bytes:
    return b"big:%d" % number


def _slices(members: list[bytes]) -> Iterable[list[bytes]]:
    for first in range(0, len(members), MEMBERS_PER_COMMAND):
        yield members[first : first + MEMBERS_PER_COMMAND]


def _list(key: bytes, members: list[bytes]) -> Iterable[Command]:
    return (("RPUSH", key, *some) for some in _slices(members))


def _set(key: bytes, members: list[bytes]) -> Iterable[Command]:
    return (("SADD", key, *some) for some in _slices(members))


def _zset(key: bytes, members: list[bytes]) -> Iterable[Command]:
    """A member's score is made of its digits."""
    for some in _slices(members):
        yield ("ZADD", key, *(part for member in some for part in (b"%d" % int(member[:8], 16), member)))


def _hash(key: bytes, members: list[bytes]) -> Iterable[Command]:
    """A field's value is its name turned round."""
    for some in _slices(members):
        yield ("HSET", key, *(part for member in some for part in (member, member[::-1])))


def _stream(key: bytes, members: list[bytes]) -> Iterable[Command]:
    for number, member in enumerate(members):
        yield ("XADD", key, f"{FIRST_ENTRY_MS + number}-0", "field", member)


BIG_KINDS: MappingProxyType[str, BigKind] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            BigKind("list", "lists", "LLEN", _list),
            BigKind("set", "sets", "SCARD", _set),
            BigKind("zset", "sorted sets", "ZCARD", _zset),
            BigKind("hash", "hashes", "HLEN", _hash),
            BigKind("stream", "streams", "XLEN", _stream),
        )
    }
)
