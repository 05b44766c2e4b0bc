"""Reads keys with the plain commands of their types."""

from __future__ import annotations

import re

from keyferry.model.errors import KeyferryError
from keyferry.testing.deployment import Client
from keyferry.testing.differences import Snapshot, Span
from keyferry.wire.resp import Reply, ReplyError, encode_command

READ_COMMANDS: dict[bytes, tuple[bytes, bytes]] = {
    b"string": (b"*2\r\n$3\r\nGET\r\n", b""),
    b"list": (b"*4\r\n$6\r\nLRANGE\r\n", b"$1\r\n0\r\n$2\r\n-1\r\n"),
    b"set": (b"*2\r\n$8\r\nSMEMBERS\r\n", b""),
    b"zset": (b"*5\r\n$6\r\nZRANGE\r\n", b"$1\r\n0\r\n$2\r\n-1\r\n$10\r\nWITHSCORES\r\n"),
    b"hash": (b"*2\r\n$7\r\nHGETALL\r\n", b""),
    b"stream": (b"*6\r\n$5\r\nXINFO\r\n$6\r\nSTREAM\r\n", b"$4\r\nFULL\r\n$5\r\nCOUNT\r\n$1\r\n0\r\n"),
}
"""Per type what stands before and after the key; COUNT 0 asks for everything."""
STREAM_ENTRIES = (b"*4\r\n$6\r\nXRANGE\r\n", b"$1\r\n-\r\n$1\r\n+\r\n")
NO_COMMAND = (b"*2\r\n$4\r\nTYPE\r\n", b"")
"""For a key that is gone, or of a module's type: its type is all that can be read."""


Frame = tuple[bytes, Span | None]
"""A key's type and expiry."""


class Reader:
    """One side of a comparison."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._has_absolute_expiry = _knows(client, "PEXPIRETIME")
        self.may_hold_field_expiry = _knows(client, "HPEXPIRETIME") and _holds_field_expiry(client)
        """False when the server knows no field expiry, or says that no hash has one."""

    def frames(self, keys: list[bytes]) -> list[Frame]:
        """Types and expiries; of an expiry the earliest and latest millisecond that it can be.

        Raises:
            KeyferryError: The server refuses to say them.
        """
        bulks = list(map(_bulk, keys))
        ask = b"*2\r\n$11\r\nPEXPIRETIME\r\n" if self._has_absolute_expiry else b"*2\r\n$4\r\nPTTL\r\n"
        body = b"".join([b"*2\r\n$4\r\nTYPE\r\n" + bulk + ask + bulk for bulk in bulks])
        # PTTL counts from a moment between two readings of the server's clock.
        begin_ms = 0 if self._has_absolute_expiry else self._clock_ms()
        replies = self._client.exchange(body, 2 * len(keys))
        end_ms = 0 if self._has_absolute_expiry else self._clock_ms() + 1
        kinds = [kind for kind in replies[::2] if isinstance(kind, bytes)]
        times = [at for at in replies[1::2] if isinstance(at, int)]
        if len(kinds) != len(keys) or len(times) != len(keys):
            refused = next(reply for reply in replies if isinstance(reply, ReplyError))
            raise KeyferryError(f"The {self._client.side} cannot be compared: {refused.message}.")
        expiries = [(begin_ms + at, end_ms + at) if at >= 0 else None for at in times]
        return list(zip(kinds, expiries, strict=True))

    def encodings(self, keys: list[bytes]) -> list[Reply]:
        """As OBJECT ENCODING says them."""
        head = b"*3\r\n$6\r\nOBJECT\r\n$8\r\nENCODING\r\n"
        return self._client.exchange(b"".join([head + _bulk(key) for key in keys]), len(keys))

    def outlines(self, keys: list[bytes]) -> list[Reply]:
        """Streams with all but one of their entries, and of each group's and consumer's pending ones, left out."""
        before, after = READ_COMMANDS[b"stream"]
        after = after.replace(b"$1\r\n0\r\n", b"$1\r\n1\r\n")
        return self._client.exchange(b"".join([before + _bulk(key) + after for key in keys]), len(keys))

    def raw_values(self, kind: bytes, keys: list[bytes]) -> bytes:
        """What the server answers to the reading command of ``kind`` for all keys, unparsed; entries of streams."""
        before, after = STREAM_ENTRIES if kind == b"stream" else READ_COMMANDS[kind]
        return self._client.exchange_raw(b"".join([before + _bulk(key) + after for key in keys]))

    def read(self, keys: list[bytes]) -> list[Snapshot]:
        """What the keys hold now, in the same order. Raises as ``frames``."""
        frames = self.frames(keys)
        around = [READ_COMMANDS.get(kind, NO_COMMAND) for kind, _ in frames]
        commands = [before + _bulk(key) + after for key, (before, after) in zip(keys, around, strict=True)]
        values = self._client.exchange(b"".join(commands), len(keys))
        snapshots = [Snapshot(*frame, value) for frame, value in zip(frames, values, strict=True)]
        if self.may_hold_field_expiry:
            self._add_field_expiries(keys, snapshots)
        return snapshots

    def _clock_ms(self) -> int:
        """Rounded down; 0 from a server that refuses to say it."""
        time = self._client.call("TIME")
        if isinstance(time, list) and isinstance(time[0], bytes) and isinstance(time[1], bytes):
            return int(time[0]) * 1_000 + int(time[1]) // 1_000
        return 0

    def _add_field_expiries(self, keys: list[bytes], snapshots: list[Snapshot]) -> None:
        hashes: list[tuple[Snapshot, list[bytes]]] = []
        commands: list[bytes] = []
        for key, snapshot in zip(keys, snapshots, strict=True):
            if snapshot.kind == b"hash" and isinstance(snapshot.value, list) and snapshot.value:
                fields = [name for name in snapshot.value[::2] if isinstance(name, bytes)]
                hashes.append((snapshot, fields))
                commands.append(encode_command("HPEXPIRETIME", key, "FIELDS", len(fields), *fields))
        replies = self._client.exchange(b"".join(commands), len(commands))
        for (snapshot, fields), reply in zip(hashes, replies, strict=True):
            if isinstance(reply, list):
                times = zip(fields, reply, strict=True)
                snapshot.field_expiries = {name: at for name, at in times if isinstance(at, int) and at >= 0}


_FIELD_EXPIRY_COUNTER = re.compile(rb"(?:subexpiry|keys_with_volatile_items)=(\d+)")
"""What INFO keyspace calls the number of hashes with field expiry: Redis from 7.4, Valkey from 9.0."""


def _holds_field_expiry(client: Client) -> bool:
    info = client.call("INFO", "keyspace")
    if not isinstance(info, bytes):
        return True
    counters = _FIELD_EXPIRY_COUNTER.findall(info)
    return len(counters) < info.count(b"\ndb") or any(map(int, counters))


def _bulk(data: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(data), data)


def _knows(client: Client, command: str) -> bool:
    reply = client.call("COMMAND", "INFO", command)
    return isinstance(reply, list) and bool(reply) and reply[0] is not None
