"""A writer: one process that changes a source all the time, with everything that an application may send.

    python -m keyferry.testing.workload redis://127.0.0.1:6379 --writer 0 --seed 7 --rate 1000 --report FILE

Runs until SIGTERM or the end of ``--seconds``, then writes what was acknowledged, and its ledger, as JSON. Same
seed, same commands, as far as replies and the clock do not decide. Nothing is ever sent twice.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keyferry.model.address import parse_endpoint
from keyferry.model.errors import ServerAway
from keyferry.testing.workload_names import Draw, Names
from keyferry.testing.workload_ops import (
    EXPIRY,
    FIELD_EXPIRY,
    HASHES,
    LISTS,
    SETS,
    SORTED_SETS,
    STRINGS,
    TOGETHER,
    WHOLE_KEYS,
    Command,
    Op,
)
from keyferry.testing.workload_owned import Owned, Task
from keyferry.testing.workload_roads import Roads
from keyferry.testing.workload_streams import DANGLING, READS, STREAMS
from keyferry.wire.resp import Reply, ReplyError

BATCH_MAX = 48
SECOND_DB_SHARE = 0.2
HEALED_SHARE = 0.5
"""Of the keys that a command found to hold another type, those that are deleted next."""
SURVIVE_EVERY_S = 0.05
BIG_PIECES, BIG_PIECE_ITEMS = 30, 1_000
BIG_STRING_BYTES = 1_500_000


@dataclass(frozen=True, slots=True)
class Settings:
    """What a writer does.

    Attributes:
        rate: Commands per second; 0 is as fast as it goes.
        seconds: 0 is until it is told to stop.
        keys: About how many different ones are written to.
        hot_share: How many of a hundred writes, in parts of one, go to the hottest few of a type.
        owned_share: The share of writes that the ledger counts.
        flush_every_s: About how often database 1 is flushed; 0 is never. ``big_every_s``: how often a big value
            is written anew. ``swap_every_s``: how often databases 1 and 2 are swapped.
        calm_s: Nothing of the three happens in the last so many of ``seconds``.
        survive: Go on when the source's connection is lost.
        without: Left out: names of operations, or ``big`` (values), ``field-expiry``, ``dangling``,
            ``databases``, ``readers``.
    """

    writer: int = 0
    seed: int = 1
    rate: float = 1_000.0
    seconds: float = 0.0
    keys: int = 2_000
    hot_share: float = 0.4
    owned_share: float = 0.25
    flush_every_s: float = 12.0
    big_every_s: float = 8.0
    swap_every_s: float = 0.0
    calm_s: float = 4.0
    survive: bool = False
    without: frozenset[str] = frozenset()


@dataclass(slots=True)
class Tally:
    """How many of each command were acknowledged, refused with an error, or lost with their connection."""

    acknowledged: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    unknown: int = 0
    first_errors: dict[str, str] = field(default_factory=dict)

    def note(self, command: Command, reply: Reply) -> None:
        name = command_name(command)
        if isinstance(reply, ReplyError):
            self.refused[name] += 1
            self.first_errors.setdefault(name, reply.message)
        else:
            self.acknowledged[name] += 1


def command_name(command: Command) -> str:
    """The command's own name; of XGROUP with the subcommand."""
    return " ".join(str(word) for word in command[: 1 + (command[0] == "XGROUP")] if isinstance(word, str))


def _wrong_type(error: ReplyError) -> bool:
    return (
        error.code == "WRONGTYPE"
        or "is not an integer" in error.message
        or "not a valid float" in error.message
    )


class Writer:
    """Draws tasks and sends them in pipelines of changing length; closes its connections when the block ends."""

    def __init__(self, addresses: Sequence[str], settings: Settings) -> None:
        self._settings = settings
        self._rng = random.Random(f"{settings.seed} {settings.writer}")
        self._roads = Roads([parse_endpoint(address) for address in addresses])
        several = not self._roads.clustered and "databases" not in settings.without
        names = Names(settings.keys, settings.hot_share, grouped=self._roads.clustered)
        self._draw = Draw(self._rng, names)
        self._databases = (0, 1) if several else (0,)
        self._ops = _available(self._roads, settings, several=several)
        self._weights = [op.weight for op in self._ops]
        self._owned = Owned(settings.writer, self._rng)
        self._rare = _Rare(settings, self._rng, several=several)
        self._healing: list[tuple[int, Command]] = []
        self._stop = threading.Event()
        self._names = names
        self.tally = Tally()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._roads.close()

    def stop(self) -> None:
        self._stop.set()

    def run(self) -> dict[str, Any]:
        """Writes until it is stopped; what it did, as JSON can hold it.

        Raises:
            KeyferryError: The source is gone, and we were not told to survive that.
        """
        begun = time.monotonic()
        readers = [
            _Reader(self._roads, self._settings, self._names, self._owned, serves) for serves in (True, False)
        ]
        if "readers" not in self._settings.without:
            for reader in readers:
                reader.start()
        try:
            while not self._stop.is_set() and not self._over(begun):
                self._send(self.batch(time.monotonic() - begun))
                self._keep_pace(begun)
            self._send([(0, task) for task in self._owned.last_tasks()])
        finally:
            for reader in readers:
                reader.finish()
        for reader in readers:
            self.tally.acknowledged.update(reader.tally.acknowledged)
            self.tally.refused.update(reader.tally.refused)
            if reader.error is not None:
                raise reader.error
        return self._report(time.monotonic() - begun)

    def _report(self, seconds: float) -> dict[str, Any]:
        tally = self.tally
        return {
            "writer": self._settings.writer,
            "seed": self._settings.seed,
            "seconds": round(seconds, 3),
            "ended_at_s": time.time(),
            "acknowledged": dict(sorted(tally.acknowledged.items())),
            "acknowledged_total": tally.acknowledged.total(),
            "refused": dict(sorted(tally.refused.items())),
            "first_errors": tally.first_errors,
            "unknown": tally.unknown,
            "ledger": self._owned.ledger.as_json(),
        }

    def _over(self, begun: float) -> bool:
        return bool(self._settings.seconds) and time.monotonic() - begun >= self._settings.seconds

    def _keep_pace(self, begun: float) -> None:
        if self._settings.rate:
            done = self.tally.acknowledged.total() + self.tally.refused.total() + self.tally.unknown
            ahead_s = done / self._settings.rate - (time.monotonic() - begun)
            if ahead_s > 0:
                self._stop.wait(ahead_s)

    def batch(self, elapsed_s: float) -> list[tuple[int, Task]]:
        """Database and task; many batches are short, so that the source's turns hold few commands."""
        batch = [(db, _plain([command])) for db, command in self._healing]
        batch += [(db, _plain(commands)) for db, commands in self._rare.due(elapsed_s)]
        self._healing.clear()
        self._draw.now_ms = time.time_ns() // 1_000_000
        most = max(1, min(BATCH_MAX, int(self._settings.rate / 20) or BATCH_MAX))
        for _ in range(self._rng.randint(1, most)):
            if self._rng.random() < self._settings.owned_share:
                batch.append((0, self._owned.task()))
                continue
            second = len(self._databases) > 1 and self._rng.random() < SECOND_DB_SHARE
            self._draw.other_db = 0 if second else 1
            op = self._rng.choices(self._ops, self._weights)[0]
            batch.append((int(second), _plain(op.make(self._draw))))
        return batch

    def _send(self, batch: list[tuple[int, Task]]) -> None:
        """Each road's part in one pipeline; the order between roads does not matter, they share no key."""
        for road, part in self._roads.sorted(batch).items():
            commands = [command for task in part for command in task.commands]
            try:
                replies = road.session().pipeline(commands)
            except ServerAway:
                if not self._settings.survive:
                    raise
                self._lost(part)
                road.close()
                self._stop.wait(SURVIVE_EVERY_S)
                continue
            at = 0
            for task in part:
                own = replies[at : at + len(task.commands)]
                at += len(task.commands)
                task.note(own)
                for command, reply in zip(task.commands, own, strict=True):
                    self._note(road.db, command, reply)

    def _note(self, db: int, command: Command, reply: Reply) -> None:
        self.tally.note(command, reply)
        if isinstance(reply, ReplyError) and _wrong_type(reply) and self._rng.random() < HEALED_SHARE:
            key = command[2] if command[0] in ("XGROUP", "BITOP") else command[1]
            if isinstance(key, bytes):
                self._healing.append((db, ("DEL", key)))

    def _lost(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            self.tally.unknown += len(task.commands)
            task.unknown()


class _Rare:
    """What happens every few seconds: a flush, a swap, a big value. The first writer alone does it."""

    def __init__(self, settings: Settings, rng: random.Random, *, several: bool) -> None:
        self._rng = rng
        self._until_s = settings.seconds - settings.calm_s if settings.seconds else float("inf")
        every: dict[str, float] = {} if "big" in settings.without else {"big": settings.big_every_s}
        if several:
            every |= {"flush": settings.flush_every_s, "swap": settings.swap_every_s}
        self._every_s = {what: s for what, s in every.items() if s and settings.writer == 0}
        self._next_s = {what: s * rng.uniform(0.2, 1.2) for what, s in self._every_s.items()}

    def due(self, elapsed_s: float) -> list[tuple[int, Sequence[Command]]]:
        found: list[tuple[int, Sequence[Command]]] = []
        for what, at in self._next_s.items():
            if at <= elapsed_s < self._until_s:
                self._next_s[what] = elapsed_s + self._every_s[what] * self._rng.uniform(0.5, 1.5)
                found.append(self._make(what))
        return found

    def _make(self, what: str) -> tuple[int, Sequence[Command]]:
        if what == "flush":
            return 1, [(self._rng.choice(("FLUSHDB", "FLUSHDB")), *self._rng.choice(((), ("ASYNC",))))]
        if what == "swap":
            return 1, [("SWAPDB", 1, 2)]
        return 0, self._big()

    def _big(self) -> list[Command]:
        kind = self._rng.choice((b"hash", b"hash", b"list", b"set", b"zset", b"string"))
        key = b"big:%b:%d" % (kind, self._rng.randrange(2))
        fresh: list[Command] = (
            [(self._rng.choice(("DEL", "UNLINK")), key)] if self._rng.random() < 0.5 else []
        )
        if kind == b"string":
            return [*fresh, ("SET", key, self._rng.randbytes(1_000) * (BIG_STRING_BYTES // 1_000))]
        word = {b"hash": "HSET", b"list": "RPUSH", b"set": "SADD", b"zset": "ZADD"}[kind]
        salt = self._rng.randrange(1_000)
        return fresh + [
            (word, key, *[part for i in range(BIG_PIECE_ITEMS) for part in _item(kind, piece * BIG_PIECE_ITEMS + i, salt)])
            for piece in range(BIG_PIECES)
        ]  # fmt: skip


def _item(kind: bytes, i: int, salt: int) -> Command:
    if kind == b"hash":
        return b"field %d" % i, b"value %d %d" % (salt, i)
    if kind == b"zset":
        return i * salt, b"member %d" % i
    return (b"member %d" % i,)


class _Reader(threading.Thread):
    """Waits for what others push; one of a writer's two serves the writer's own queue."""

    def __init__(self, roads: Roads, settings: Settings, names: Names, owned: Owned, serves: bool) -> None:
        super().__init__(name=f"reader-{'own' if serves else 'any'}", daemon=True)
        self.tally = Tally()
        self.error: ServerAway | None = None
        self._settings = settings
        self._owned = owned
        self._serves = serves
        self._roads = roads.again()
        self._draw = Draw(random.Random(f"{settings.seed} {settings.writer} reader"), names)
        known = self._roads.known([name for name, _ in READS])
        self._reads = [make for name, make in READS if name in known]
        self._ends = threading.Event()

    def finish(self) -> None:
        """Returns when the queue is served."""
        self._ends.set()
        if self.ident is not None:
            self.join()
        self._roads.close()

    def run(self) -> None:
        while True:
            last = self._ends.is_set()
            command = self._owned.serve() if self._serves else self._draw.rng.choice(self._reads)(self._draw)
            try:
                reply = self._ask(command)
            except ServerAway as error:
                if not self._settings.survive:
                    self.error = error
                    return
                self._roads.close()
                self._ends.wait(SURVIVE_EVERY_S)
                reply = None
            if last and (not self._serves or reply is None):
                return

    def _ask(self, command: Command) -> Reply:
        session = self._roads.road(0, [command]).session()
        reply = session.call(*command)
        self.tally.note(command, reply)
        if command[0] == "XREADGROUP" and isinstance(reply, list):
            for acknowledgement in _acknowledgements(command, reply):
                self.tally.note(acknowledgement, session.call(*acknowledgement))
        return reply


def _acknowledgements(command: Command, reply: list[Reply]) -> list[Command]:
    """XACK of all but the first entry that a stream gave."""
    found: list[Command] = []
    for stream in reply:
        if isinstance(stream, list) and isinstance(stream[0], bytes) and isinstance(stream[1], list):
            ids = [entry[0] for entry in stream[1] if isinstance(entry, list) and isinstance(entry[0], bytes)]
            if ids[1:]:
                found.append(("XACK", stream[0], command[2], *ids[1:]))
    return found


def _plain(commands: Sequence[Command]) -> Task:
    return Task(commands, lambda replies: None, lambda: None)


def _available(roads: Roads, settings: Settings, *, several: bool) -> list[Op]:
    """The operations that the source knows and nobody left out."""
    table = (
        *STRINGS, *LISTS, *SETS, *SORTED_SETS, *HASHES, *FIELD_EXPIRY, *EXPIRY, *WHOLE_KEYS, *TOGETHER, *STREAMS,
        *(() if "dangling" in settings.without else DANGLING),
    )  # fmt: skip
    ops = [op for op in table if several or not op.databases]
    if "big" in settings.without:
        ops = [op for op in ops if not op.name.endswith(" big")]
    if "field-expiry" in settings.without:
        ops = [op for op in ops if not op.field_expiry]
    known = roads.known({word for op in ops for word in op.required})
    return [op for op in ops if known.issuperset(op.required) and op.name not in settings.without]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("source", nargs="+", help="its address; of a cluster those of all primaries")
    parser.add_argument("--report", type=Path, required=True, help="file for what was done, as JSON")
    parser.add_argument("--survive", action="store_true", help="go on when the source's connection is lost")
    parser.add_argument("--without", nargs="*", default=[], help="operations that are left out")
    for name in ("writer", "seed", "keys"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Settings(), name))
    for name in (
        "rate",
        "seconds",
        "hot_share",
        "owned_share",
        "flush_every_s",
        "big_every_s",
        "swap_every_s",
        "calm_s",
    ):
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=getattr(Settings(), name))
    given = vars(parser.parse_args())
    source, report, without = given.pop("source"), given.pop("report"), given.pop("without")
    with Writer(source, Settings(without=frozenset(without), **given)) as writer:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: writer.stop())
        done = writer.run()
    unfinished = report.with_suffix(".part")
    unfinished.write_text(json.dumps(done))
    unfinished.replace(report)


if __name__ == "__main__":
    main()
