"""Records, once per data set, the requests that a copy sends to each server."""

from __future__ import annotations

from dataclasses import dataclass

from bench.arena import Arena
from bench.replay import Segment, Stream
from bench.samples import BenchError
from keyferry.wire.resp import Argument, Reply, encode_command, encode_commands
from keyferry.wire.session import Session

SCAN_COUNT = 100
"""Small pages let the source give most: a key's DUMP finds in the cache what its SCAN has just touched."""


@dataclass(frozen=True, slots=True)
class Streams:
    """``source``: SCAN, DUMP and expiry. ``target``: the RESTOREs of what came back."""

    source: Stream
    target: Stream


NO_STREAMS = Streams(Stream([], 0, exact=True), Stream([], 0, exact=True))
"""Where no row replays them."""


def record(arena: Arena) -> Streams:
    """Reads the source once and keeps the bytes of all requests in memory.

    The source must not change its keys afterwards, except values of the light client to ones of equal length.

    Raises:
        BenchError: The source did not answer as a server does.
    """
    absolute = arena.binary.version >= (7, 0, 0)
    with arena.session(arena.source) as session:
        _settle_table(session)
        pages = _scan(session)
        source: list[Segment] = []
        target: list[Segment] = []
        for number, (request, reply_bytes, keys) in enumerate(pages):
            reads: list[tuple[Argument, ...]] = []
            for key in keys:
                reads += [("DUMP", key), ("PEXPIRETIME" if absolute else "PTTL", key)]
            replies = session.pipeline(reads)
            writes = _restores(keys, replies, absolute)
            # The next page's SCAN goes ahead of this page's DUMPs: the next keys are never waited for.
            following, following_bytes = pages[number + 1][:2] if number + 1 < len(pages) else (b"", 0)
            if number == 0:
                source.append(Segment(request, reply_bytes))
            source.append(
                Segment(
                    following + encode_commands(reads), following_bytes + sum(map(_encoded_bytes, replies))
                )
            )
            target.append(Segment(encode_commands(writes), len(b"+OK\r\n") * len(writes)))
    count = sum(len(keys) for _, _, keys in pages)
    return Streams(Stream(source, count, exact=absolute), Stream(target, count, exact=True))


Page = tuple[bytes, int, list[bytes]]
"""A SCAN request, the bytes of its reply, its keys."""


def _settle_table(session: Session) -> None:
    """Ends a rehash that the load left behind: each look-up moves a bucket, and moved keys change pages."""
    for _, _, keys in _scan(session):
        session.pipeline([("EXISTS", key) for key in keys])


def _scan(session: Session) -> list[Page]:
    pages: list[Page] = []
    cursor = b"0"
    while True:
        command = ("SCAN", cursor, "COUNT", SCAN_COUNT)
        match session.call(*command):
            case [bytes(cursor), list(found)]:
                keys = [key for key in found if isinstance(key, bytes)]
            case reply:
                raise BenchError(f"SCAN says {reply!r}")
        reply_bytes = len(b"*2\r\n") + _encoded_bytes(cursor) + len(b"*%d\r\n" % len(keys))
        pages.append((encode_command(*command), reply_bytes + sum(map(_encoded_bytes, keys)), keys))
        if cursor == b"0":
            return pages


def _restores(keys: list[bytes], replies: list[Reply], absolute: bool) -> list[tuple[Argument, ...]]:
    commands: list[tuple[Argument, ...]] = []
    for key, payload, expiry in zip(keys, replies[::2], replies[1::2], strict=True):
        if not isinstance(payload, bytes) or not isinstance(expiry, int):
            raise BenchError(f"DUMP and expiry say {payload!r} and {expiry!r}")
        if expiry < 0:
            commands.append(("RESTORE", key, 0, payload))
        elif absolute:
            commands.append(("RESTORE", key, expiry, payload, "ABSTTL"))
        else:
            commands.append(("RESTORE", key, max(expiry, 1), payload))
    return commands


def _encoded_bytes(reply: Reply) -> int:
    """The length of a bulk string or an integer on the wire (RESP2)."""
    if isinstance(reply, bytes):
        return len(b"$%d\r\n\r\n" % len(reply)) + len(reply)
    return len(b":%d\r\n" % reply) if isinstance(reply, int) else 0
