"""An application in a process of its own: threads that write the same few keys through the drop-in client.

    python attack_writer.py '{"source": URL, "target": URL, "seconds": 5, "threads": 8, "seed": 1, "tally": FILE, ...}'

Each thread also counts upwards in a key of its own. How often it has sent and how often it was told that it had counted
stands in a file that outlives the process, however that ends: ``Tally``.
"""

from __future__ import annotations

import json
import mmap
import random
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

import keyferry

THREADS_MAX = 32
_SLOT = struct.Struct("<qqqd")  # sent, acknowledged, commands, longest call in seconds
ERRORS_AT = THREADS_MAX * _SLOT.size
TALLY_BYTES = ERRORS_AT + 4096
TEMPLATES = """
SET {s} {v}|SET {s} {v}|SET {s} {v} EX {far}|SET {s} {v} NX|SET {s} {v} XX GET|SET {s} {v} KEEPTTL|SETEX {s} {far} {v}
SETNX {s} {v}|GETSET {s} {v}|GETDEL {s}|GETEX {s} EX {far}|GETEX {s} PERSIST|MSET {s} {v} {s} {v}|MSETNX {s} {v} {s} {v}
APPEND {s} {v}|SETRANGE {s} 2 {v}|INCR {n}|DECRBY {n} 3|INCRBYFLOAT {n} 0.5|GET {s}|MGET {s} {n}
SETBIT {b} {i} 1|BITOP OR {b} {b} {b}|BITFIELD {b} INCRBY u8 0 3|PFADD {p} {v}|PFMERGE {p} {p}|PFCOUNT {p}
LPUSH {l} {v} {v}|RPUSH {l} {v}|LPUSHX {l} {v}|LPOP {l}|RPOP {l} 2|LSET {l} 0 {v}|LREM {l} 1 {v}|LTRIM {l} 0 20
LINSERT {l} BEFORE {v} {v}|LMOVE {l} {l} LEFT RIGHT|RPOPLPUSH {l} {l}|BLPOP {l} 0.05|BLMOVE {l} {l} RIGHT LEFT 0.05
SADD {t} {v} {v}|SADD {t} {v}|SREM {t} {v}|SPOP {t}|SPOP {t} 2|SMOVE {t} {t} {v}|SINTERSTORE {t} {t} {t}
SUNIONSTORE {t} {t} {t}|SMEMBERS {t}|ZADD {z} {i} {v} {i} {v}|ZADD {z} GT CH {i} {v}|ZADD {z} XX INCR {i} {v}
ZINCRBY {z} 1.5 {v}|ZREM {z} {v}|ZPOPMIN {z}|ZPOPMAX {z} 2|BZPOPMIN {z} 0.05|ZREMRANGEBYRANK {z} 5 -1
ZUNIONSTORE {z} 2 {z} {z}|ZRANGESTORE {z} {z} 0 3|GEOADD {g} 13.36 38.11 {v}|GEOSEARCHSTORE {g} {g} FROMLONLAT 13 38 BYRADIUS 90 km
HSET {h} {f} {v}|HSET {h} {f} {v} {f} {v}|HSETNX {h} {f} {v}|HDEL {h} {f}|HINCRBY {h} n 2|HINCRBYFLOAT {h} n 0.5|HGETALL {h}
XADD {x} * f {v}|XADD {x} MAXLEN 20 * f {v}|XADD {x} MAXLEN ~ 20 * f {v}|XTRIM {x} MAXLEN 10|XGROUP CREATE {x} g 0 MKSTREAM
XREADGROUP GROUP g c COUNT 3 STREAMS {x} >|XREADGROUP GROUP g c2 STREAMS {x} 0|XAUTOCLAIM {x} g c2 0 0 COUNT 2
DEL {any} {any}|UNLINK {any}|EXPIRE {any} {far}|EXPIRE {any} {far} NX|PEXPIRE {any} 0|PERSIST {any}|RENAME {any} {any}
RENAMENX {any} {any}|COPY {any} {any} REPLACE|COPY {any} {any} DB 1 REPLACE|MOVE {s} 1|SORT {l} ALPHA STORE {l}|TYPE {any}
"""
_COMMANDS = [words for line in TEMPLATES.splitlines() for words in line.split("|") if words]
SCRIPT = (
    "redis.call('rpush', KEYS[1], ARGV[1]) redis.call('incr', KEYS[2]) return redis.call('llen', KEYS[1])"
)
KEYS = 3


def drawn(rng: random.Random) -> list[str]:
    """One command, on one of few keys of its type, seldom on one of another type."""
    return [_word(rng, word) for word in rng.choice(_COMMANDS).split()]


def _word(rng: random.Random, word: str) -> str:
    if not word.startswith("{"):
        return word
    match word[1:-1]:
        case "v":
            return f"v{rng.randrange(12)}"
        case "i":
            return str(rng.randrange(30))
        case "f":
            return f"f{rng.randrange(4)}"
        case "far":
            return str(rng.choice([1_000, 5_000, 90_000]))
        case "any":
            kind = rng.choice("snlltzhxbpg")
        case kind:
            kind = "w" if rng.random() < 0.02 else kind
    return f"{kind}:{rng.randrange(KEYS)}"


class Tally:
    """What threads have done, in a file that is mapped into memory."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), TALLY_BYTES)

    @staticmethod
    def create(path: Path) -> Tally:
        path.write_bytes(bytes(TALLY_BYTES))
        return Tally(path)

    def put(self, thread: int, sent: int, acknowledged: int, commands: int, longest_s: float) -> None:
        _SLOT.pack_into(self._map, thread * _SLOT.size, sent, acknowledged, commands, longest_s)

    def get(self, thread: int) -> tuple[int, int, int, float]:
        return _SLOT.unpack_from(self._map, thread * _SLOT.size)

    def error(self, text: str) -> None:
        """Keeps the first one."""
        if not self.first_error:
            said = text.encode()[:4000]
            self._map[ERRORS_AT : ERRORS_AT + len(said)] = said

    @property
    def first_error(self) -> str:
        return self._map[ERRORS_AT:].rstrip(b"\0").decode("utf-8", "replace")


class Thread(threading.Thread):
    """One of the application's."""

    def __init__(self, number: int, client: Any, plan: dict[str, Any], tally: Tally) -> None:
        super().__init__(daemon=True)
        self._number, self._client, self._tally = number, client, tally
        self._rng = random.Random(f"{plan['seed']} {number}")
        self._counter = f"own:{plan['writer']}:{number}"
        self._ends = time.monotonic() + plan["seconds"]
        self._pause_s = plan["threads"] / plan["rate"]
        self._outages = bool(plan.get("outages"))
        self._script = client.register_script(SCRIPT)
        self._sent = self._acknowledged = self._commands = 0
        self._longest_s = 0.0

    def run(self) -> None:
        while time.monotonic() < self._ends:
            begun = time.monotonic()
            try:
                self._one()
            except (redis.ConnectionError, redis.TimeoutError) as error:
                if not self._outages:
                    self._tally.error(f"{type(error).__name__}: {error}")
            except (redis.ResponseError, redis.WatchError):
                pass  # what the command itself gets from any server
            except BaseException as error:
                self._tally.error(f"{type(error).__name__}: {error}")
                raise
            self._longest_s = max(self._longest_s, time.monotonic() - begun)
            self._commands += 1
            self._note()
            time.sleep(self._pause_s * self._rng.uniform(0.5, 1.5))

    def _note(self) -> None:
        self._tally.put(self._number, self._sent, self._acknowledged, self._commands, self._longest_s)

    def _one(self) -> None:
        chance = self._rng.random()
        if chance < 0.2:
            self._count()
        elif chance < 0.35:
            pipe = self._client.pipeline(transaction=self._rng.random() < 0.5)
            for _ in range(self._rng.randint(1, 5)):
                command = drawn(self._rng)
                if not command[0].startswith("BL") and not command[0].startswith("BZ"):
                    pipe.execute_command(*command)
            pipe.execute(raise_on_error=False)
        elif chance < 0.38:
            self._client.transaction(self._raise_number, "n:0")
        elif chance < 0.41:
            self._script(keys=["l:0", "n:1"], args=[self._rng.random()])
        else:
            self._client.execute_command(*drawn(self._rng))

    def _count(self) -> None:
        self._sent += 1
        self._note()
        if self._rng.random() < 0.5:
            self._client.incr(self._counter)
        else:
            self._client.pipeline().incr(self._counter).get("s:0").execute(raise_on_error=False)
        self._acknowledged += 1

    @staticmethod
    def _raise_number(pipe: Any) -> None:
        try:
            value = float(pipe.get("n:0") or 0)
        except ValueError:
            value = 0.0  # others write bits into it, too
        pipe.multi()
        pipe.set("n:0", value + 1)


def main() -> None:
    plan = json.loads(sys.argv[1])
    tally = Tally(Path(plan["tally"]))
    client = keyferry.Redis.from_urls(
        plan["source"], plan["target"], retry=Retry(NoBackoff(), 0), **plan["settings"]
    )
    threads = [Thread(number, client, plan, tally) for number in range(plan["threads"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.close()


if __name__ == "__main__":
    main()
