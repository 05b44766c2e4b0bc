"""The writes of a workload that can be counted: to keys that one writer alone writes to, and keeps account of.

Each task makes a few commands for one key and reads their replies: only what was acknowledged goes into the
ledger. Keys are begun anew before they get large, and in between deleted, renewed, and written again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from keyferry.testing.ledger import Kind, Ledger
from keyferry.testing.workload_ops import Command
from keyferry.wire.resp import Reply, ReplyError

ITEMS_MAX = 300
"""Of a list, a set or a stream, before the next one is begun."""
KEYS_PER_FAMILY = 20
LEASE_MS_MIN, LEASE_MS_MAX = 150, 900
KEPT_MS = 10**8
GROUP = "readers"

Note = Callable[[Sequence[Reply]], None]


@dataclass(frozen=True, slots=True)
class Task:
    """Commands that go to one server in one go.

    Attributes:
        commands: At least one.
        note: Called with their replies, in order.
        unknown: Called instead when the connection was lost under them.
    """

    commands: Sequence[Command]
    note: Note
    unknown: Callable[[], None]


class Owned:
    """One writer's own keys.

    Args:
        writer: Its number, which tells its keys from the others'.
        without: Families that are left out, by name: "handle", "order", ...
    """

    def __init__(self, writer: int, rng: random.Random, *, without: Collection[str] = ()) -> None:
        self.ledger = Ledger()
        self._writer = writer
        self._rng = rng
        self._serial = 0
        families = (
            self._count, self._count, self._add_up, self._append, self._append, self._field, self._member,
            self._entry, self._text, self._text, self._lease, self._delete, self._handle, self._order,
        )  # fmt: skip
        self._families = tuple(make for make in families if make.__name__.removeprefix("_") not in without)

    def task(self) -> Task:
        self._serial += 1
        return self._rng.choice(self._families)()

    def last_tasks(self) -> list[Task]:
        """Leases are made to last, so that it is known whether they are there."""
        leases = [key for key in self.ledger.accounts if b":lease:" in key]
        return [self._renew(key, KEPT_MS) for key in leases]

    def serve(self) -> Command:
        """One step of the queue's reader: waits for an order and moves it to those that were served."""
        return ("BLMOVE", self._queue(b"orders"), self._queue(b"served"), "LEFT", "RIGHT", "0.1")

    def _queue(self, name: bytes) -> bytes:
        return b"{own:%d}:%b" % (self._writer, name)

    def _key(self, family: str, number: int | None = None) -> bytes:
        index = self._rng.randrange(KEYS_PER_FAMILY) if number is None else number
        return b"own:%d:%b:%d" % (self._writer, family.encode(), index)

    def _count(self) -> Task:
        key = self._key("count")
        return self._task(key, "number", [("INCR", key)], lambda items: _add(items, 1))

    def _add_up(self) -> Task:
        key, amount = self._key("sum", self._rng.randrange(2)), self._rng.randint(1, 1_000)
        return self._task(key, "number", [("INCRBY", key, amount)], lambda items: _add(items, amount))

    def _append(self) -> Task:
        key, item = self._key("list", self._serial // ITEMS_MAX), b"item %d" % self._serial
        return self._task(key, "items", [("RPUSH", key, item)], lambda items: items.append(item))

    def _member(self) -> Task:
        key, member = self._key("set", self._serial // ITEMS_MAX), b"%d" % (self._serial * 7)
        return self._task(key, "members", [("SADD", key, member)], lambda items: items.append(member))

    def _order(self) -> Task:
        """For the queue's reader; accounted for where it will be in the end."""
        order = b"order %d" % self._serial
        command: Command = ("RPUSH", self._queue(b"orders"), order)
        return self._task(self._queue(b"served"), "items", [command], lambda items: items.append(order))

    def _field(self) -> Task:
        key = self._key("hash", self._rng.randrange(3))
        name, value = b"f%d=" % self._rng.randrange(50), b"v%d" % self._serial

        def apply(items: list[bytes]) -> None:
            items[:] = [item for item in items if not item.startswith(name)]
            items.append(name + value)

        return self._task(key, "fields", [("HSET", key, name[:-1], value)], apply)

    def _entry(self) -> Task:
        key, value = self._stream(), b"e%d" % self._serial
        task = self._task(key, "entries", [("XADD", key, "*", "value", value)], lambda items: None)

        def note(replies: Sequence[Reply]) -> None:
            task.note(replies)
            if isinstance(replies[0], bytes):
                self.ledger.accounts[key].items.append(b"%b %b" % (replies[0], value))

        return Task(task.commands, note, task.unknown)

    def _handle(self) -> Task:
        """Reads and acknowledges what is new in the stream; a comparison sees whether it is so on the target."""
        key = self._stream()
        commands: list[Command] = [
            ("XGROUP", "CREATE", key, GROUP, "0", "MKSTREAM"),
            ("XREADGROUP", "GROUP", GROUP, "me", "COUNT", 3, "STREAMS", key, ">"),
            ("EVAL", _ACK, 1, key, GROUP),
        ]
        return Task(commands, _nothing, _unharmed)

    def _stream(self) -> bytes:
        return self._key("stream", self._serial // (4 * ITEMS_MAX))

    def _text(self) -> Task:
        """The last value counts; half of the writes come with an expiry that is taken away at once."""
        key, value = self._key("text"), b"text %d" % self._serial
        commands: list[Command] = [("SET", key, value)]
        if self._rng.random() < 0.5:
            commands = [("SET", key, value, "EX", 60), ("PERSIST", key)]
        return self._task(key, "text", commands, lambda items: _replace(items, value))

    def _delete(self) -> Task:
        key = self._key(self._rng.choice(("text", "lease")))
        return self._task(key, "absent", [(self._rng.choice(("DEL", "UNLINK")), key)], list.clear)

    def _lease(self) -> Task:
        """An expiry that is renewed shortly before it fires, or after."""
        key, value = self._key("lease"), b"lease %d" % self._serial
        life_ms = self._rng.randint(LEASE_MS_MIN, LEASE_MS_MAX)
        account = self.ledger.accounts.get(key)
        if account is not None and account.kind == "text" and self._rng.random() < 0.8:
            return self._renew(key, life_ms)
        command: Command = ("SET", key, value, "PX", life_ms)
        return self._task(key, "text", [command], lambda items: _replace(items, value))

    def _renew(self, key: bytes, life_ms: int) -> Task:
        def note(replies: Sequence[Reply]) -> None:
            if replies[0] == 1:
                self.ledger.accounts[key].writes += 1
            elif replies[0] == 0:
                self.ledger.account(key, "absent")

        return Task([("PEXPIRE", key, life_ms)], note, self._doubt(key, "text"))

    def _task(
        self, key: bytes, kind: Kind, commands: Sequence[Command], apply: Callable[[list[bytes]], None]
    ) -> Task:
        """One whose first reply says whether it is done; ``apply`` then does the same to the account's items."""

        def note(replies: Sequence[Reply]) -> None:
            if replies[0] is not None and not isinstance(replies[0], ReplyError):
                account = self.ledger.account(key, kind)
                apply(account.items)
                account.writes += 1

        return Task(commands, note, self._doubt(key, kind))

    def _doubt(self, key: bytes, kind: Kind) -> Callable[[], None]:
        def doubt() -> None:
            account = self.ledger.accounts.get(key) or self.ledger.account(key, kind)
            account.doubtful += 1

        return doubt


_ACK = """
local done = 0
for _, entry in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 2)) do
  done = done + redis.call('XACK', KEYS[1], ARGV[1], entry[1])
end
return done
"""


def _add(items: list[bytes], amount: int) -> None:
    items[:] = [b"%d" % (int(items[0] if items else b"0") + amount)]


def _replace(items: list[bytes], value: bytes) -> None:
    items[:] = [value]


def _nothing(replies: Sequence[Reply]) -> None:
    """These writes are not counted one by one."""


def _unharmed() -> None:
    """Nothing in the ledger depends on it."""
