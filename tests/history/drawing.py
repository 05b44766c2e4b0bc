"""Which operations an application does: all data types, unique values, keys shared with the others and keys of its own.

Pure but for the dice, which have a seed. Keys of one command lie in one slot, so that either side may be a cluster.
"""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Callable, Sequence

from .events import Op, Outcome

SCRIPT = "local n = redis.call('INCR', KEYS[1]) redis.call('RPUSH', KEYS[2], n) return n"
GROUP = "g"
ACCOUNTS = tuple(f"{{bank}}:{number}" for number in range(6))
REGISTERS = 4
SLOTS_OWNED = 3
SLOTS_GUESSED = 5
OWN_ITEMS_MAX = 50
BLOCKS_S = "0.1"
EXPIRES_MS = 400
NUMBERS_PER_THREAD = 10_000_000


class Drawer:
    """One thread's or task's operations.

    Args:
        worker: Number of the process, ``thread`` within it.
        workers: How many processes there are: their own keys are read by all.
        without: Kinds that are left out, by the names of the methods below; ``cas``: what needs WATCH.
    """

    def __init__(
        self, worker: int, thread: int, workers: int, seed: int, without: Sequence[str] = ()
    ) -> None:
        self._me = f"{worker}.{thread}"
        self._number = (worker * 16 + thread) * NUMBERS_PER_THREAD
        self._workers = workers
        self._rng = random.Random(f"{seed} {self._me}")
        self._count = itertools.count(1)
        self._slots = list(range(SLOTS_OWNED))
        self._slots_ever = SLOTS_OWNED
        self._own_items: dict[str, deque[str]] = {"set": deque(), "hash": deque()}
        self._claimed: deque[str] = deque()
        choices: dict[Callable[[], Op], float] = {
            self._register: 6,
            self._counter: 4,
            self._queue: 4,
            self._moves: 2,
            self._set: 3,
            self._zset: 2,
            self._hash: 3,
            self._text: 2,
            self._bits: 1,
            self._both: 1,
            self._stream: 4,
            self._script: 2,
            self._bank: 3,
            self._owned: 4,
        }
        self._watches = "cas" not in without
        kept = {draw: weight for draw, weight in choices.items() if draw.__name__[1:] not in without}
        self._draws, self._weights = list(kept), list(kept.values())

    def next(self) -> Op:
        return self._rng.choices(self._draws, self._weights)[0]()

    def learn(self, op: Op, outcome: Outcome, reply: Sequence[str]) -> None:
        """What became of it: some operations follow from others."""
        if op.family == "owned" and op.action != "read" and outcome is Outcome.UNKNOWN:
            # It may be carried out at any later time: nothing more can be said about the key.
            slot = int(op.key.rpartition(":")[2])
            self._slots[self._slots.index(slot)] = self._slots_ever
            self._slots_ever += 1
        if outcome is not Outcome.DONE:
            return
        if op.family == "bag" and op.action == "add" and op.extra in self._own_items:
            items = self._own_items[op.extra]
            items.append(op.value)
            if len(items) > OWN_ITEMS_MAX:
                items.popleft()
        if op.family == "stream" and op.action == "claim":
            self._claimed.extend(reply[1::3])

    def _value(self) -> str:
        return f"{self._me}-{next(self._count)}"

    def _unique_number(self) -> str:
        return str(self._number + next(self._count))

    def _register(self) -> Op:
        key, reads = f"reg:{self._rng.randrange(REGISTERS)}", self._rng.random() < 0.5
        kind = self._rng.choice(("string", "string", "hash", "zset"))
        if kind == "string":
            value = self._value()
            write = self._rng.choice(
                (("SET", key, value), ("SETEX", key, "9000", value), ("GETSET", key, value))
            )
            return self._read_or_write(reads, key, value, ("GET", key), write)
        if kind == "hash":
            value = self._value()
            return self._read_or_write(
                reads, f"h{key}|f", value, ("HGET", f"h{key}", "f"), ("HSET", f"h{key}", "f", value)
            )
        value = self._unique_number()
        return self._read_or_write(
            reads, f"z{key}|m", value, ("ZSCORE", f"z{key}", "m"), ("ZADD", f"z{key}", value, "m")
        )

    @staticmethod
    def _read_or_write(
        reads: bool, key: str, value: str, read: tuple[str, ...], write: tuple[str, ...]
    ) -> Op:
        return (
            Op("register", key, "read", "", (read,))
            if reads
            else Op("register", key, "write", value, (write,))
        )

    def _counter(self) -> Op:
        key, add, read = self._rng.choice(
            (
                ("count:0", ("INCR", "count:0"), ("GET", "count:0")),
                ("count:1", ("INCRBY", "count:1", "1"), ("GET", "count:1")),
                ("hcount:0|n", ("HINCRBY", "hcount:0", "n", "1"), ("HGET", "hcount:0", "n")),
                ("zcount:0|m", ("ZINCRBY", "zcount:0", "1", "m"), ("ZSCORE", "zcount:0", "m")),
                *([("cas:0", ("CAS", "cas:0"), ("GET", "cas:0"))] if self._watches else []),
            )
        )
        if self._rng.random() < 0.3:
            return Op("counter", key, "read", "", (read,))
        return Op("counter", key, "add", "", (add,))

    def _queue(self) -> Op:
        chance = self._rng.random()
        if chance < 0.5:
            value = self._value()
            return Op("bag", "queue:0", "add", value, (("RPUSH", "queue:0", value),), "list")
        if chance < 0.7:
            return Op("bag", "queue:0", "take", "", (("BLPOP", "queue:0", BLOCKS_S),), "list named blocks")
        return Op("bag", "queue:0", "take", "", (("LPOP", "queue:0"),), "list")

    def _moves(self) -> Op:
        chance = self._rng.random()
        if chance < 0.4:
            value = self._value()
            return Op("bag", "{moves}", "add", value, (("LPUSH", "{moves}:a", value),), "list")
        if chance < 0.75:
            ends = self._rng.choice(("LEFT", "RIGHT")), self._rng.choice(("LEFT", "RIGHT"))
            return Op("bag", "{moves}", "move", "", (("LMOVE", "{moves}:a", "{moves}:b", *ends),), "list")
        return Op("bag", "{moves}", "take", "", (("RPOP", "{moves}:b"),), "list")

    def _set(self) -> Op:
        chance = self._rng.random()
        if chance < 0.4:
            value = self._value()
            return Op("bag", "bag:0", "add", value, (("SADD", "bag:0", value),), "set")
        if chance < 0.6:
            return Op("bag", "bag:0", "take", "", (("SPOP", "bag:0"),), "set")
        if chance < 0.7 or not self._own_items["set"]:
            return Op("bag", "bag:0", "read", "", (("SMEMBERS", "bag:0"),), "set")
        value = self._own_items["set"].popleft()
        return Op("bag", "bag:0", "remove", value, (("SREM", "bag:0", value),), "set")

    def _zset(self) -> Op:
        if self._rng.random() < 0.5:
            value = self._value()
            return Op(
                "bag",
                "zbag:0",
                "add",
                value,
                (("ZADD", "zbag:0", str(self._rng.randrange(99)), value),),
                "zset",
            )
        return Op(
            "bag", "zbag:0", "take", "", ((self._rng.choice(("ZPOPMIN", "ZPOPMAX")), "zbag:0"),), "zset pairs"
        )

    def _hash(self) -> Op:
        chance = self._rng.random()
        if chance < 0.5:
            value = self._value()
            return Op("bag", "hbag:0", "add", value, (("HSET", "hbag:0", value, "1"),), "hash")
        if chance < 0.6 or not self._own_items["hash"]:
            return Op("bag", "hbag:0", "read", "", (("HKEYS", "hbag:0"),), "hash")
        value = self._own_items["hash"].popleft()
        return Op("bag", "hbag:0", "remove", value, (("HDEL", "hbag:0", value),), "hash")

    def _text(self) -> Op:
        key, value = f"text:{self._me}", self._value()
        if self._rng.random() < 0.7:
            return Op("bag", key, "add", value, (("APPEND", key, value + ";"),), "text")
        return Op("bag", key, "read", "", (("GET", key),), "text")

    def _bits(self) -> Op:
        offset = str(next(self._count))
        return Op(
            "bag", f"bits:{self._me}", "add", offset, (("SETBIT", f"bits:{self._me}", offset, "1"),), "bits"
        )

    def _both(self) -> Op:
        value = self._value()
        commands = ("RPUSH", "{both}:l", value), ("SADD", "{both}:s", value)
        return Op("bag", "{both}", "add", value, commands, "both")

    def _stream(self) -> Op:
        chance = self._rng.random()
        if chance < 0.45:
            value = self._value()
            return Op("stream", "stream:0", "add", value, (("XADD", "stream:0", "*", "v", value),))
        if chance < 0.75 or not self._claimed:
            words = "XREADGROUP", "GROUP", GROUP, f"c{self._me}", "COUNT", "3", "STREAMS", "stream:0", ">"
            return Op("stream", "stream:0", "claim", "", (words,))
        entry = self._claimed.popleft()
        return Op("stream", "stream:0", "ack", entry, (("XACK", "stream:0", GROUP, entry),))

    def _script(self) -> Op:
        return Op("counter", "{script}:n", "add", "", (("EVAL", SCRIPT, "2", "{script}:n", "{script}:l"),))

    def _bank(self) -> Op:
        if self._rng.random() < 0.4:
            return Op("bank", "bank", "read", "", (("MGET", *ACCOUNTS),))
        giver, taker = self._rng.sample(ACCOUNTS, 2)
        amount = self._rng.randint(1, 1_000)
        commands = ("DECRBY", giver, str(amount)), ("INCRBY", taker, str(amount))
        return Op("bank", "bank", "move", f"{amount}", commands, f"{giver} {taker}")

    def _owned(self) -> Op:
        chance = self._rng.random()
        if chance < 0.4:
            thread = self._rng.choice(("0", "1"))
            key = f"own:{self._rng.randrange(self._workers)}.{thread}:{self._rng.randrange(SLOTS_GUESSED)}"
            return Op("owned", key, "read", "", (("GET", key),))
        key = f"own:{self._me}:{self._rng.choice(self._slots)}"
        if chance < 0.6:
            return Op("owned", key, "delete", "", ((self._rng.choice(("DEL", "UNLINK")), key),))
        value = self._value()
        if chance < 0.7:
            return Op(
                "owned", key, "write", value, (("SET", key, value, "PX", str(EXPIRES_MS)),), str(EXPIRES_MS)
            )
        return Op("owned", key, "write", value, (("SET", key, value),))
