"""Reads the ledger that writers keep on one server, on a connection of its own that a poll loop turns.

    EXISTS -> is there anything? -> SPOP in bites, "everything" -> now and then: who are the writers, which entries are open

What was taken off the server is in our memory alone. So nothing here may be relied on across the end of a run: one that
begins again compares everything, whatever the ledger says. The same holds when the connection breaks while a bite is
under way (``popping``): the server has taken the keys off, and their names may not have arrived.

1. "everything" is taken off before the comparison that it leads to begins: whatever is named after that is named again.
2. An entry that is open names nothing, as long as its writer lives: its operation is still going on (PROTOCOL, rule 6).
3. Open entries are read before the list of writers: who is not on the list then has taken itself off.
"""

from __future__ import annotations

import select
import time
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field

from keyferry.capture.clients.lease import LeaseWatch
from keyferry.capture.ledger_format import ledger_keys, split_member, unpack
from keyferry.capture.silence import SILENT, Silence
from keyferry.model.errors import Side
from keyferry.model.record import RecordUnreadable, writers_key
from keyferry.model.writers import WriterEntry, decode_entry
from keyferry.wire.channel import Channel
from keyferry.wire.resp import Argument, ProtocolError, Reply, ReplyError, ReplyParser, encode_commands
from keyferry.wire.session import ConnectionLost, Session

RIGHTS = "+spop +del +hdel +client|kill ~keyferry:*"
"""The ACL rules that reading a ledger needs, besides those of every sync."""
BITE = 5000
OPEN_BITE = 500
WRITERS_EVERY_S = 1.0
REFUSED_EVERY_S = 5.0
UNREGISTERED_S = 10.0
"""An entry of a writer that is in no record (its phase is fixed) is left so long before its keys are settled."""
SUSPECTS_MAX = 100_000

_VIEW_BYTES = 256 * 1024
_LATER = frozenset(("LOADING", "BUSY", "MASTERDOWN", "READONLY", "CLUSTERDOWN"))
_ELSEWHERE = frozenset(("MOVED", "ASK", "TRYAGAIN"))

Command = tuple[Argument, ...]
Steps = Generator[list[Command], list[Reply], None]


@dataclass(frozen=True, slots=True)
class OpenEntry:
    """An operation that its writer will not end any more.

    Attributes:
        database: In whose ledger it lies.
        members: Databases and keys; None: any key.
    """

    writer: str
    database: int
    field: bytes
    members: tuple[tuple[int, bytes], ...] | None


@dataclass(slots=True)
class Told:
    """What the ledger has said since the last take.

    Attributes:
        keys: Database -> keys to be settled.
        everything: Any key may differ.
        over: Entries of writers that are gone; to be answered by ``LedgerFeed.remove`` when their keys are dirty.
    """

    keys: dict[int, list[bytes]] = field(default_factory=dict)
    everything: bool = False
    over: list[OpenEntry] = field(default_factory=list)


class LedgerFeed:
    """One server's ledger.

    Args:
        session: Of its own; its connection is the feed's afterwards.
        name: Of the migration, or of the ledger.
        databases: Those in which writers may keep one.

    Raises:
        ConnectionLost: The connection broke.
    """

    def __init__(
        self, session: Session, name: str, databases: Sequence[int], *, every_s: float = 0.1
    ) -> None:
        self.side: Side = session.side
        self._where = str(session.endpoint)
        self._keys, self._writers_key = ledger_keys(name), writers_key(name)
        self.databases = self._databases = tuple(databases)
        """In which a ledger is looked for from the next round on."""
        self._every_s = every_s
        self._selected: int | None = None
        self.modes: set[bytes] = set()
        """Of the writers that there were ever (``ledger_format.Mode``)."""
        self.writers: dict[str, WriterEntry] = {}
        """Who is registered."""
        self.found = False
        """There was something in it."""
        self.refusal = ""
        """Why the ledger cannot be read; empty while it can."""
        self.moved = False
        """Its slot is at another node."""
        self.has_room = True
        """Whether more keys may be taken; the ledger keeps them otherwise."""
        self._told = Told()
        self._leases = LeaseWatch()
        self._suspects: dict[tuple[int, bytes], float] = {}
        self._removals: list[OpenEntry] = []
        self._begun = self._done = self._wanted = 0
        self._asked_s = self._writers_s = -1e9
        self._left = False
        """Names were left on the server."""
        self._sent_s = time.monotonic()
        self.popping = False
        """Keys may have been taken off the server whose names have not arrived."""
        self._run_at_once(session)
        self._channel = Channel(session)
        self._parser = ReplyParser()
        self._view = memoryview(bytearray(_VIEW_BYTES))
        self._silence = Silence()
        self._steps: Steps | None = None
        self._expected = 0
        self._replies: list[Reply] = []

    def _run_at_once(self, session: Session) -> None:
        """Who writes is known before anything is carried."""
        steps = self._look_at_writers(self._sent_s)
        try:
            commands = next(steps)
            while True:
                commands = steps.send(session.pipeline(commands))
        except StopIteration:
            return

    def fileno(self) -> int:
        return self._channel.fileno()

    @property
    def events(self) -> int:
        return select.POLLIN | self._channel.wants

    @property
    def buffered(self) -> bool:
        return self._channel.buffered

    def close(self) -> None:
        self._channel.close()

    def request(self) -> int:
        """Asks for a whole look that begins after now; its number."""
        self._asked_s = -1e9
        self._wanted = self._begun + 1
        return self._wanted

    def answered(self, request: int) -> bool:
        """All that was named before the ``request`` has come out of ``take``, or comes with the next."""
        return self._done >= request or bool(self.refusal)

    def take(self) -> Told:
        """What was said since the last take."""
        told, self._told = self._told, Told()
        return told

    def remove(self, entries: Iterable[OpenEntry]) -> None:
        """Their keys are dirty now."""
        self._removals += entries
        for entry in entries:
            self._suspects.pop((entry.database, entry.field), None)

    # Turning

    def turn(self, now_s: float) -> None:
        """Sends what is due.

        Raises:
            ConnectionLost: It broke, or the server has been silent for too long.
        """
        if self._silence.too_long(now_s, self._expected > 0):
            raise ConnectionLost(
                self.side, f"The connection to the {self.side} {self._where} is lost: {SILENT}."
            )
        every_s = REFUSED_EVERY_S if self.refusal else self._every_s
        if self._steps is None and not self.moved and now_s >= self._asked_s + every_s:
            self._asked_s = now_s
            self._begun += 1
            self._steps = self._round(now_s)
            self._go_on(None, now_s)
        self._channel.flush()

    def read(self, now_s: float) -> None:
        """Takes replies.

        Raises:
            ConnectionLost: The connection broke.
            ProtocolError: The peer sent what nothing asked for.
        """
        count = self._channel.receive(self._view)
        if not count:
            return
        self._silence.end()
        self._parser.feed(self._view[:count])
        self._replies += self._parser.replies()
        if len(self._replies) > self._expected:
            raise ProtocolError(f"The {self.side} {self._where} sent a reply that nothing asked for.")
        if self._expected and len(self._replies) == self._expected:
            replies, self._replies, self._expected = self._replies, [], 0
            self._go_on(replies, now_s)
            self._channel.flush()

    def _go_on(self, replies: list[Reply] | None, now_s: float) -> None:
        """The next step of this round."""
        assert self._steps is not None
        popped, self.popping = self.popping, False
        error = next((reply for reply in replies or () if isinstance(reply, ReplyError)), None)
        try:
            if error is not None:
                for reply in replies or () if popped else ():
                    self._name(reply)  # taken off all the same
                self._steps.close()
                self._refused(error)
                return
            commands = next(self._steps) if replies is None else self._steps.send(replies)
        except StopIteration:
            self._steps = None
            self.refusal = ""
            self._done = self._done if self._left else self._begun
            return
        self._sent_s = now_s
        self.popping = any(command[0] == b"SPOP" for command in commands)
        self._channel.queue(encode_commands(commands))
        self._expected = len(commands)

    def _refused(self, error: ReplyError) -> None:
        self._steps = None
        self._selected = None
        if error.code in _ELSEWHERE:
            self.moved = True
        elif error.code not in _LATER:
            self.refusal = (
                f"The {self.side} {self._where} does not let us read what writers report "
                f"({error.message.rstrip('.')})."
            )

    # One round

    def _round(self, now_s: float) -> Steps:
        keys, self._left, self._databases = self._keys, False, self.databases
        replies = yield self._everywhere((b"EXISTS", keys.dirty, keys.full, keys.open))
        present = [db for db, reply in self._by_database(replies, 1) if reply != [0]]
        self.found |= bool(present)
        for database in present:
            yield from self._empty(database)
        removals, self._removals = self._removals, []
        if removals:
            yield self._at_each((one.database, (b"HDEL", keys.open, one.field)) for one in removals)
        if self._wanted > self._done or now_s >= self._writers_s + WRITERS_EVERY_S:
            self._writers_s = now_s
            opened: list[tuple[int, bytes, bytes]] = []
            for database in present:
                yield from self._read_open(database, opened)
            yield from self._look_at_writers(now_s)
            self._judge(opened, now_s)

    def _empty(self, database: int) -> Steps:
        """Takes names off the ledger, as long as there is room for them."""
        keys = self._keys
        while self.has_room:
            replies = yield self._at(database, (b"EXISTS", keys.full), (b"SPOP", keys.dirty, BITE))
            full, names = replies[-2:]
            self._name(names)
            if full:
                yield self._at(database, (b"DEL", keys.full))
                self._told.everything = True
            if not isinstance(names, list) or len(names) < BITE:
                return
        self._left = True

    def _name(self, reply: Reply) -> None:
        for raw in reply if isinstance(reply, list) else ():
            if isinstance(raw, bytes):
                self._tell(raw)

    def _tell(self, raw: bytes) -> None:
        try:
            database, key = split_member(raw)
        except ValueError:
            self._told.everything = True  # somebody else's, or a newer client's: better too much
            return
        self._told.keys.setdefault(database, []).append(key)

    def _read_open(self, database: int, opened: list[tuple[int, bytes, bytes]]) -> Steps:
        cursor: Argument = 0
        while len(opened) < SUSPECTS_MAX:
            replies = yield self._at(database, (b"HSCAN", self._keys.open, cursor, b"COUNT", OPEN_BITE))
            match replies[-1]:
                case [bytes(cursor), list(flat)]:
                    pairs = zip(flat[::2], flat[1::2], strict=True)
                    opened += [(database, bytes(its), bytes(packed)) for its, packed in pairs]  # type: ignore[arg-type]
                case _:
                    return
            if cursor == b"0":
                return

    def _look_at_writers(self, now_s: float) -> Steps:
        sent_s = max(now_s, self._sent_s)
        replies = yield self._everywhere((b"SMEMBERS", self._keys.modes), (b"HGETALL", self._writers_key))
        found: dict[str, WriterEntry] = {}
        for _, [modes, entries] in self._by_database(replies, 2):
            if isinstance(modes, list):
                self.modes.update(mode for mode in modes if isinstance(mode, bytes))
            flat = entries if isinstance(entries, list) else []
            for name, value in zip(flat[::2], flat[1::2], strict=True):
                if isinstance(name, bytes) and isinstance(value, bytes):
                    self._meet(name.decode("ascii", "backslashreplace"), value, found)
        self.writers = found
        leases = {name: (entry.renewals, entry.lease_ms) for name, entry in found.items()}
        self._leases.look(leases, sent_s, time.monotonic())

    def _meet(self, name: str, value: bytes, found: dict[str, WriterEntry]) -> None:
        try:
            found[name] = decode_entry(name, value)
        except RecordUnreadable:
            if name in self.writers:  # it is taken for alive, as it was
                found[name] = self.writers[name]

    def _judge(self, opened: list[tuple[int, bytes, bytes]], now_s: float) -> None:
        """Which of the open entries nobody will end any more."""
        before, self._suspects = self._suspects, {}
        waiting = {(one.database, one.field) for one in (*self._told.over, *self._removals)}
        for database, name, packed in opened:
            if (database, name) in waiting:
                continue
            writer = name.rpartition(b":")[0].decode("ascii", "backslashreplace")
            if not self._leases.over(writer):
                continue
            since_s = before.get((database, name), now_s)
            if writer in self.writers or now_s >= since_s + UNREGISTERED_S:
                self._told.over.append(OpenEntry(writer, database, name, _members(packed)))
            else:
                self._suspects[database, name] = since_s

    # Databases

    def _everywhere(self, *commands: Command) -> list[Command]:
        return self._at_each((database, command) for database in self._databases for command in commands)

    def _at(self, database: int, *commands: Command) -> list[Command]:
        return self._at_each((database, command) for command in commands)

    def _at_each(self, commands: Iterable[tuple[int, Command]]) -> list[Command]:
        found: list[Command] = []
        for database, command in commands:
            if database != self._selected and (len(self._databases) > 1 or database):
                found.append((b"SELECT", database))
            self._selected = database
            found.append(command)
        return found

    def _by_database(self, replies: list[Reply], count: int) -> list[tuple[int, list[Reply]]]:
        """Cuts the replies to ``_everywhere``; those to SELECT are left out."""
        said = [reply for reply in replies if reply != b"OK"]
        return [
            (database, said[number * count : (number + 1) * count])
            for number, database in enumerate(self._databases)
        ]


def _members(packed: bytes) -> tuple[tuple[int, bytes], ...] | None:
    try:
        found = unpack(packed)
        return None if found is None else tuple(map(split_member, found))
    except ValueError:
        return None


__all__ = ["LedgerFeed", "OpenEntry", "Told"]
