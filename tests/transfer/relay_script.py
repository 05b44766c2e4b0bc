"""A scripted peer for a relay: answers its commands from given data, so that both twins see the same bytes.

No server is imitated: the answers are whatever the script says, right or wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from keyferry.payload.crc64 import crc64
from keyferry.transfer.relay import Relay
from keyferry.wire.resp import ReplyParser, encode_command

VERSION = 10


def payload(kind: int, body: bytes, version: int = VERSION) -> bytes:
    signed = bytes([kind]) + body + version.to_bytes(2, "little")
    return signed + crc64(signed).to_bytes(8, "little")


def bulk(data: bytes | None) -> bytes:
    return b"$-1\r\n" if data is None else b"$%d\r\n%b\r\n" % (len(data), data)


def scan_page(cursor: bytes, keys: Iterable[bytes]) -> bytes:
    keys = list(keys)
    return b"*2\r\n" + bulk(cursor) + b"*%d\r\n" % len(keys) + b"".join(map(bulk, keys))


@dataclass
class Script:
    """What the peers answer.

    Attributes:
        pages: Keys by page; the cursor of page n is n + 1, of the last one 0.
        dumps: Answer to DUMP by key, whole reply.
        expiries: Answer to PEXPIRETIME or PTTL by key, whole reply.
        restores: Answer to RESTORE by key, whole reply; +OK by default.
        hints: Answer to OBJECT by key.
        ranges: The string that GETRANGE cuts, or a whole error, by key; WRONGTYPE by default.
        sizes: Answer to MEMORY USAGE by key, whole reply.
        refused_scans: So many SCANs are refused first.
    """

    pages: list[list[bytes]]
    dumps: dict[bytes, bytes]
    expiries: dict[bytes, bytes] = field(default_factory=dict)
    restores: dict[bytes, bytes] = field(default_factory=dict)
    hints: dict[bytes, bytes] = field(default_factory=dict)
    ranges: dict[bytes, bytes] = field(default_factory=dict)
    sizes: dict[bytes, bytes] = field(default_factory=dict)
    refused_scans: int = 0

    def source_answers(self, sent: bytes) -> bytes:
        return b"".join(self._source_answer(command) for command in commands(sent))

    def target_answers(self, sent: bytes) -> bytes:
        return b"".join(self._target_answer(command) for command in commands(sent))

    def _source_answer(self, command: list[bytes]) -> bytes:
        match command:
            case [b"SCAN", *_] if self.refused_scans:
                self.refused_scans -= 1
                return b"-LOADING not yet\r\n"
            case [b"SCAN", cursor, *_]:
                number = int(cursor)
                following = b"%d" % (number + 1) if number + 1 < len(self.pages) else b"0"
                return scan_page(following, self.pages[number])
            case [b"GETRANGE", key, b"0", last]:
                text = self.ranges.get(key, b"-WRONGTYPE Operation against a key\r\n")
                return text if text.startswith(b"-") else bulk(text[: int(last) + 1])
            case [b"MEMORY", b"USAGE", key]:
                return self.sizes.get(key, b":64\r\n")
            case [b"DUMP", key]:
                return self.dumps.get(key, b"$-1\r\n")
            case [b"PEXPIRETIME" | b"PTTL", key]:
                return self.expiries.get(key, b":-1\r\n")
            case [b"TIME"]:
                return b"*2\r\n$10\r\n1700000000\r\n$6\r\n123456\r\n"
            case [b"OBJECT", _, key]:
                return self.hints.get(key, b":7\r\n")
        return b"+" + b" ".join(command).replace(b"\r", b"").replace(b"\n", b"") + b"\r\n"

    def _target_answer(self, command: list[bytes]) -> bytes:
        match command:
            case [b"RESTORE", key, *_]:
                return self.restores.get(key, b"+OK\r\n")
        return b":1\r\n"


def commands(sent: bytes) -> list[list[bytes]]:
    """The commands in bytes that were sent; fails when they are not whole commands."""
    parser = ReplyParser()
    parser.feed(sent)
    found: list[list[bytes]] = []
    for reply in parser.replies():
        assert isinstance(reply, list)
        found.append([item for item in reply if isinstance(item, bytes)])
        assert len(found[-1]) == len(reply)
    assert parser.buffered_bytes == 0
    return found


def fragments(data: bytes, cuts: list[int]) -> list[bytes]:
    """The data in pieces of the given sizes, over and over; one piece when there are none."""
    if not cuts:
        return [data] if data else []
    pieces = []
    position = turn = 0
    while position < len(data):
        size = max(1, cuts[turn % len(cuts)])
        pieces.append(data[position : position + size])
        position += size
        turn += 1
    return pieces


def state(relay: Relay) -> tuple[object, ...]:
    """Everything that a driver can see of a relay."""
    return (
        relay.queued_keys,
        relay.fetching_keys,
        relay.dumping_bytes,
        relay.storing_keys,
        relay.fetched_keys,
        relay.fetched_bytes,
        relay.scan_pending,
        relay.next_cursor,
        relay.newest_page,
        relay.source_out_bytes,
        relay.target_out_bytes,
        relay.idle,
        [(relay.lane_out_bytes(lane), relay.lane_storing(lane)) for lane in range(relay.lanes)],
    )


def ask(*words: bytes) -> bytes:
    return encode_command(*words)
