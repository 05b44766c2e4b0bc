"""Which streams changed in what no feed names: their groups, consumers and pending entries; pure.

What XINFO GROUPS and XINFO CONSUMERS tell is kept as one hash per stream: of each group its name, last delivered id,
entries read, pending; of each consumer its name and pending. Commands that leave all of that as it was (a history
read and XCLAIM set delivery time and count only) still renew the consumer's last-seen time, on every version (tried:
tests/capture/test_watcher.py). So a stream changed when its hash is another one, or when a consumer was seen since
the last sweep began:

    server's time after the look - idle >= server's time before the last sweep

XACK, XAUTOCLAIM and deletions only take pending entries away: nothing but a command that renews that time brings them
back, so no change is undone between two looks unseen. Groups that are made and destroyed, and XSETID, are: when their
counters moved, every stream counts as changed (``Sweep(..., all_changed=True)``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from keyferry.wire.resp import Argument, Reply, ReplyError

STREAMS_MAX = 1_000_000
STREAMS_PER_STEP = 128
GROUPS_PER_STEP = 256
SLACK_MS = 20
"""Last-seen times come from a clock that the server reads once per command or per turn of its event loop."""

_UNKNOWN_MS = 1 << 62

Stream = tuple[int, bytes]
"""Database and name."""
Command = tuple[Argument, ...]


class StreamBook:
    """The streams of one server, at most ``STREAMS_MAX``.

    Each takes a dict entry, a hash and its name: about 150 bytes and the name.
    """

    def __init__(self, streams_max: int = STREAMS_MAX) -> None:
        self._streams_max = streams_max
        self._hashes: dict[int, dict[bytes, int]] = {}
        self._unknown: dict[int, set[bytes]] = {}
        """Those that have not been looked at yet."""

    def __len__(self) -> int:
        return sum(map(len, self._hashes.values())) + self.unknown

    @property
    def unknown(self) -> int:
        """How many have not been looked at yet."""
        return sum(map(len, self._unknown.values()))

    def add(self, database: int, keys: Iterable[bytes]) -> bool:
        """Idempotent. False: there is no room for all of them."""
        hashes = self._hashes.setdefault(database, {})
        unknown = self._unknown.setdefault(database, set())
        room = self._streams_max - len(self)
        for key in keys:
            if key not in hashes and key not in unknown:
                if not room:
                    return False
                unknown.add(key)
                room -= 1
        return True

    def drop(self, stream: Stream) -> None:
        self._hashes[stream[0]].pop(stream[1], None)
        self._unknown[stream[0]].discard(stream[1])

    def note(self, stream: Stream, fingerprint: int) -> bool:
        """Keeps what a look found; whether it is new."""
        database, key = stream
        self._unknown[database].discard(key)
        before = self._hashes[database].get(key)
        self._hashes[database][key] = fingerprint
        return before != fingerprint

    def batches(self, unknown_only: bool) -> list[tuple[int, list[bytes]]]:
        """All streams as they are now, by database, at most ``STREAMS_PER_STEP`` together."""
        found = {database: list(keys) for database, keys in self._unknown.items()}
        if not unknown_only:
            for database, hashes in self._hashes.items():
                found[database] += hashes
        return [(database, part) for database, keys in found.items() for part in _parts(keys)]


class Sweep:
    """One look at streams: commands out with ``step``, their replies in with ``take``, until ``step`` is None.

    Args:
        since_ms: The server's time before the last sweep of all streams.
        all_changed: Every stream that is there counts as changed.
        unknown_only: Only streams that have not been looked at.
    """

    def __init__(
        self, book: StreamBook, since_ms: int, *, all_changed: bool = False, unknown_only: bool = False
    ) -> None:
        self._book = book
        self._since_ms = since_ms
        self.all_changed = all_changed
        self.unknown_only = unknown_only
        self._batches = iter(book.batches(unknown_only))
        self._database = 0
        self._streams: list[bytes] = []
        self._looks: dict[bytes, _Look] = {}
        self._groups: Iterator[tuple[bytes, bytes]] = iter(())
        self._asked: list[tuple[bytes, bytes]] = []
        self.began_ms: int | None = None
        """The server's time before the first look; None: there was none, or TIME is refused."""
        self.changed: list[Stream] = []
        self.refusal = ""
        """What the server answers to XINFO where it is not allowed."""
        self.failed = False
        """Some streams could not be looked at now, and are to be looked at again."""

    def step(self) -> list[Command] | None:
        """The next commands; None: the sweep is over."""
        self._asked = list(islice(self._groups, GROUPS_PER_STEP))
        if self._asked:
            return [*(("XINFO", "CONSUMERS", key, group) for key, group in self._asked), ("TIME",)]
        self._settle()
        batch = next(self._batches, None)
        if batch is None:
            return None
        self._database, self._streams = batch
        return [("SELECT", self._database), ("TIME",), *(("XINFO", "GROUPS", key) for key in self._streams)]

    def take(self, replies: list[Reply]) -> None:
        """All replies to the last ``step``."""
        if self._asked:
            now_ms = _time_ms(replies[-1])
            for (key, group), reply in zip(self._asked, replies[:-1], strict=True):
                self._looks[key].consumers(group, reply, now_ms)
            return
        selected, time, *groups = replies
        if isinstance(selected, ReplyError):
            groups = [selected] * len(groups)
        if self.began_ms is None:
            self.began_ms = _time_ms(time)
            if self.began_ms is None or self.began_ms < self._since_ms:  # its clock was set back
                self._since_ms = 0
        pairs: list[tuple[bytes, bytes]] = []
        for key, reply in zip(self._streams, groups, strict=True):
            if isinstance(reply, ReplyError):
                self._without(key, reply)
            else:
                look = self._looks[key] = _Look(reply)
                pairs += ((key, name) for name in look.names)
        self._groups = iter(pairs)

    def _without(self, key: bytes, error: ReplyError) -> None:
        stream = self._database, key
        if error.code == "NOPERM" or "unknown" in error.message.lower():
            self.refusal = error.message
            self._book.note(stream, 0)
            self.changed.append(stream)
        elif "no such key" in error.message or error.code in ("WRONGTYPE", "MOVED", "ASK"):
            self._book.drop(stream)
        else:
            self.failed = True

    def _settle(self) -> None:
        for key, look in self._looks.items():
            stream = (self._database, key)
            new = self._book.note(stream, look.fingerprint())
            if new or self.all_changed or look.seen_ms >= self._since_ms - SLACK_MS:
                self.changed.append(stream)
        self._looks = {}


class _Look:
    """What XINFO says of one stream."""

    def __init__(self, groups: Reply) -> None:
        self._facts: list[object] = []
        self.names: list[bytes] = []
        self.seen_ms = -1
        """The latest at which a consumer was seen; -1 without one."""
        for group in _maps(groups):
            name = group.get(b"name")
            if isinstance(name, bytes):
                self.names.append(name)
                self._facts += (
                    name,
                    group.get(b"pending"),
                    group.get(b"last-delivered-id"),
                    group.get(b"entries-read"),
                )

    def consumers(self, group: bytes, reply: Reply, now_ms: int | None) -> None:
        for consumer in _maps(reply):  # an error: the group is gone since
            self._facts += (group, consumer.get(b"name"), consumer.get(b"pending"))
            idle = consumer.get(b"idle")
            if isinstance(idle, int):
                self.seen_ms = max(self.seen_ms, _UNKNOWN_MS if now_ms is None else now_ms - idle)

    def fingerprint(self) -> int:
        return hash(tuple(self._facts))


def _maps(reply: Reply) -> Iterator[dict[object, object]]:
    """The maps of a list, each a flat list of names and values."""
    for flat in reply if isinstance(reply, list) else ():
        if isinstance(flat, list):
            yield dict(zip(flat[::2], flat[1::2], strict=False))


def _time_ms(reply: Reply) -> int | None:
    """Of TIME; None where it is refused."""
    match reply:
        case [bytes(seconds), bytes(micros)]:
            return int(seconds) * 1000 + int(micros) // 1000
        case _:
            return None


def _parts(keys: list[bytes]) -> Iterator[list[bytes]]:
    for at in range(0, len(keys), STREAMS_PER_STEP):
        yield keys[at : at + STREAMS_PER_STEP]
