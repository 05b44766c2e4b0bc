"""Keys that this process has to name to whoever settles: what failed, is unknown, or differed on the mirror side.

    add(keys, reason)           a second leg failed, is unknown, was not sent, or its reply differed
    open(keys) ... close(it)    ledger="ahead": every mirrored write (PROTOCOL.md, rule 6)

With "ahead" an entry of its own lies on the authority from before an operation's first leg until after the reply to its
last one, and only then its keys are named. Why not just name failures, or name keys before the write?

    1. W0: SET k a on the source          2. W1: SET k b on the source       3. W1: SET k b on the target, and names k
    4. the settler finds b on both        5. W0: SET k a on the target       6. W0 names k: it is settled once more

Without W0's own naming at 6 nobody would look again. A writer killed between its legs leaves its entry open, which
whoever settles finds when the writer's lease is over.

No I/O here; a ``Reporter`` sends it. Shared by all threads of a process; a child process begins with one of its own.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field

from keyferry.capture.ledger_format import EVERYTHING, ONE, LedgerKeys, ledger_keys, member, pack, unpack
from keyferry.model.keys import RESERVED_PREFIX

SERVER_KEYS_MAX = 1_000_000
"""More names than these on the server are "everything"."""
BITE_BYTES = 1 << 20

Command = tuple[bytes | str | int, ...]
Steps = Generator[list[Command], Sequence[object], None]
Entry = tuple[bytes, bytes, bytes, bytes]
"""``HSET open <writer>:<number> <packed>``: the command that opens an entry, and the entry's handle."""


@dataclass(slots=True)
class Reports:
    """What one flush says.

    Attributes:
        members: Keys to be named.
        entries: Operations that are over; their keys are to be named, then their entries removed.
        everything: Any key may differ.
    """

    members: list[bytes] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    everything: bool = False


class Ledger:
    """Of one process and one database of a migration.

    Args:
        name: The migration's, or the ledger's, name.
        database: Of keys that are named without one.
        writer: This process's id in the record; it has no colon at its end. Needed for ``open``.
        keys_max: More keys waiting to be named than these are "everything".
    """

    def __init__(self, name: str, database: int = 0, *, writer: bytes = b"", keys_max: int = 100_000) -> None:
        self.keys: LedgerKeys = ledger_keys(name)
        self.reasons: Counter[str] = Counter()
        """Namings so far."""
        self.wake: Callable[[], object] = _nothing
        """Called when there is something to say, after there was nothing; by whichever thread has it."""
        self._database, self._keys_max = database, keys_max
        self._begin = b"%d:" % database
        self._one = ONE + self._begin
        self._open = self.keys.open
        self._field = writer + b":%d"
        self._numbers = itertools.count(1)
        # Re-entrant: a client that is collected closes itself, wherever its thread is just then.
        self._mutex = threading.RLock()
        self._members: dict[bytes, None] = {}
        self._done: deque[Entry] = deque()
        self._everything = False
        self._asleep = True
        self._cautious = False

    def sign(self, writer: bytes) -> None:
        """Entries are opened under this writer's id from now on."""
        self._field = writer + b":%d"

    def __len__(self) -> int:
        """What waits to be said."""
        return len(self._members) + len(self._done) + self._everything

    @property
    def overflowed(self) -> bool:
        """Keys have been given up for "everything", which has not been said yet."""
        return self._everything

    @property
    def crowded(self) -> bool:
        """Operations end faster than they are reported: whoever opens the next entry has to wait for a flush first."""
        return len(self._done) > self._keys_max // 2

    @property
    def backlog(self) -> tuple[int, int]:
        """Keys and operations that wait to be said; ``take`` gives the oldest of each."""
        return len(self._members), len(self._done)

    # Naming

    def add(self, keys: Iterable[bytes], reason: str, database: int | None = None) -> None:
        """Keys that are to be settled: what was done to them is over, or may never have been done."""
        begin = self._begin if database is None else b"%d:" % database
        named = [begin + key for key in keys if not key.startswith(RESERVED_PREFIX)]
        if not named:
            return
        with self._mutex:
            self.reasons[reason] += len(named)
            self._take_in(named)
        self._rouse()

    def add_everything(self, reason: str) -> None:
        """Any key may differ."""
        with self._mutex:
            self.reasons[reason] += 1
            self._give_up()
        self._rouse()

    def _take_in(self, members: Iterable[bytes]) -> None:
        if self._everything:
            return
        self._members.update(dict.fromkeys(members))
        if len(self._members) > self._keys_max:
            self._give_up()

    def _give_up(self) -> None:
        self._everything = True
        self._members.clear()

    def _rouse(self) -> None:
        # After what is to be said is in: ``take`` falls asleep before it looks.
        if self._asleep:
            self._asleep = False
            self.wake()

    # Ahead

    def open(self, keys: Sequence[bytes]) -> Entry:
        """The command that has to go out before an operation's first leg, in the same packet, outside of its MULTI."""
        if len(keys) == 1:
            return (b"HSET", self._open, self._field % next(self._numbers), self._one + keys[0])
        packed = pack([self._begin + key for key in keys])
        return (b"HSET", self._open, self._field % next(self._numbers), packed)

    def open_at(self, places: Iterable[tuple[int, bytes]]) -> Entry:
        """The same for keys of several databases (COPY, MOVE)."""
        packed = pack([member(database, key) for database, key in places])
        return (b"HSET", self._open, self._field % next(self._numbers), packed)

    def open_everything(self) -> Entry:
        """The same for what names no keys (FLUSHDB)."""
        return (b"HSET", self._open, self._field % next(self._numbers), EVERYTHING)

    def close(self, entry: Entry) -> None:
        """The operation is over: the reply to its last leg is there, or it is known that none of it can still happen.

        Not to be called for a leg whose outcome is unknown, as long as it may still reach its server: until its
        connection has been ended there. Such an entry stays open; when the process's lease is over its keys are settled.
        """
        self._done.append(entry)
        if len(self._done) > self._keys_max:
            # The entry stays open on the server until the lease is over.
            self._done.popleft()
            self.add_everything("overflow")
        if self._asleep:
            self._asleep = False
            self.wake()

    # Sending

    def take(self, count: int = 1000) -> Reports | None:
        """At most so many keys and so many operations, and about 1 MiB; None when there is nothing to say.

        Either all of it is said afterwards or it is given back by ``put_back``.
        """
        with self._mutex:
            self._asleep = True
            reports = Reports(everything=self._everything)
            self._everything = False
            room = BITE_BYTES
            for one in itertools.islice(self._members, count):
                reports.members.append(one)
                room -= len(one)
                if room <= 0:
                    break
            for one in reports.members:
                del self._members[one]
            while self._done and len(reports.entries) < count and room > 0:
                reports.entries.append(self._done.popleft())
                room -= len(reports.entries[-1][3])
        return reports if reports.everything or reports.members or reports.entries else None

    def put_back(self, reports: Reports) -> None:
        """It could not be said."""
        with self._mutex:
            self._done.extendleft(reversed(reports.entries))
            if reports.everything:
                self._give_up()
            self._take_in(reports.members)

    def steps(self, reports: Reports) -> Steps:
        """What is to be sent to the authority, one pipeline after the other; takes their replies, none of them an error.

        An entry is removed only after its keys have been named: a process that ends in between has said too much,
        never too little. Every command may be sent twice.

        Where "everything" is said already, keys need no naming: it is read, and taken back, before the comparison
        that it leads to begins.
        """
        keys, everything = self.keys, reports.everything
        members = dict.fromkeys(reports.members)
        for entry in reports.entries:
            its = unpack(entry[3])
            everything |= its is None
            members.update(dict.fromkeys(its or ()))
        if everything:
            yield [("SET", keys.full, 1)]
        elif members:
            if self._cautious:
                replies = yield [("EXISTS", keys.full), ("SCARD", keys.dirty)]
                self._cautious = bool(replies[0]) or _number(replies[1]) > SERVER_KEYS_MAX
                if self._cautious and not replies[0]:
                    yield [("SET", keys.full, 1)]
            if not self._cautious:
                replies = yield [("SADD", keys.dirty, *members), ("SCARD", keys.dirty)]
                if _number(replies[1]) > SERVER_KEYS_MAX:
                    self._cautious = True
                    yield [("SET", keys.full, 1)]
        if reports.entries:
            yield [("HDEL", keys.open, *(entry[2] for entry in reports.entries))]


def _number(reply: object) -> int:
    return reply if isinstance(reply, int) else 0


def _nothing() -> None:
    return None


__all__ = ["Command", "Entry", "Ledger", "Reports", "Steps"]
