"""Writers that follow PROTOCOL.md's rule 6 by hand, leg by leg, so that a test can stop between any two of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from copying import ask
from keyferry.capture.ledger_format import LedgerKeys, Mode, ledger_keys, member, pack
from keyferry.model.phases import Phase, Side
from keyferry.model.record import writers_key
from keyferry.model.writers import WriterEntry, WriterFacts, encode_entry
from keyferry.testing.deployment import Client, Deployment
from keyferry.wire.resp import Argument, Reply, ReplyError

_NUMBERS = itertools.count(1)


@dataclass
class Operation:
    """One write on both servers. Use its methods in any order that a test wants to see."""

    writer: Writer
    command: tuple[Argument, ...]
    keys: tuple[bytes, ...]
    field: bytes = b""

    def first_leg(self) -> Reply:
        """With the entry ahead of it in the same packet."""
        writer = self.writer
        self.field = b"%b:%d" % (writer.name, next(writer.numbers))
        packed = pack([member(writer.database, key) for key in self.keys])
        opened = ("HSET", writer.ledger.open, self.field, packed)
        replies = writer.source.pipeline([opened, self.command] if writer.ahead else [self.command])
        assert not any(isinstance(reply, ReplyError) for reply in replies), replies
        return replies[-1]

    def second_leg(self) -> Reply:
        return self.writer.target.call(*self.command)

    def done(self) -> None:
        """What a reporter does: the keys are named, then the entry goes."""
        writer = self.writer
        members = [member(writer.database, key) for key in self.keys]
        writer.source.pipeline(
            [("SADD", writer.ledger.dirty, *members), ("HDEL", writer.ledger.open, self.field)]
        )

    def run(self) -> None:
        self.first_leg()
        self.second_leg()
        self.done()


@dataclass
class Writer:
    """One process. It is told of to nobody until ``announce`` or ``register``.

    Attributes:
        ahead: Opens an entry for each operation.
    """

    source_server: Deployment
    target_server: Deployment
    migration: str = "orders"
    ahead: bool = True
    database: int = 0
    name: bytes = field(default_factory=lambda: b"writer-%d" % next(_NUMBERS))

    def __post_init__(self) -> None:
        self.numbers = itertools.count(1)
        self.ledger: LedgerKeys = ledger_keys(self.migration)
        self._stack = ExitStack()
        self.source: Client = self._stack.enter_context(self.source_server.session(self.database))
        self.target: Client = self._stack.enter_context(
            self.target_server.session(self.database, side="target")
        )
        self.renewals = 0

    def write(self, *command: Argument, keys: Sequence[bytes] = ()) -> Operation:
        """Args: keys: Default: the command's first argument."""
        first = command[1]
        named = tuple(keys) or (first if isinstance(first, bytes) else str(first).encode(),)
        return Operation(self, command, named)

    def announce(self) -> None:
        """That the ledger has writers."""
        ask(self.source_server, "SADD", self.ledger.modes, Mode.AHEAD if self.ahead else Mode.FAILURES)

    def register(self, lease_ms: int = 1000, phase: Phase = Phase.DUAL) -> None:
        """In the record, or renews its lease there."""
        self.renewals += 1
        ids = [session.call("CLIENT", "ID") for session in (self.source, self.target)]
        entry = WriterEntry(
            WriterFacts("host", 1, "a test's writer"),
            lease_ms,
            self.renewals,
            phase,
            1,
            {Side.SOURCE: (str(ids[0]),), Side.TARGET: (str(ids[1]),)},
        )
        ask(self.source_server, "HSET", writers_key(self.migration), self.name, encode_entry(entry))

    def close(self) -> None:
        self._stack.close()
