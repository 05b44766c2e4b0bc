"""The load on a followed source: SETs of 64 random bytes at a fixed pace, whatever the replies before them did.

All requests are made in advance and sent as one pipeline per tick, so that the generator takes as little as possible
from the cores that it shares with what is measured. A tick that is late is made up for. A process of its own,
``python -m bench.load PORT LOAD``; as ``Aside`` wants it.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from dataclasses import asdict, dataclass

from bench.aside import Aside
from bench.samples import BenchError
from keyferry.model.address import Endpoint
from keyferry.wire.session import Session

TICK_S = 0.01
VALUE_BYTES = 64
HOT_SHARE = 0.9
REPLY_TIMEOUT_S = 60.0
END_MARGIN_S = 60.0


def key_name(number: int) -> bytes:
    """As ``keyferry.testing.dataset.fill_strings`` names them."""
    return b"string:%d" % number


@dataclass(frozen=True, slots=True)
class Load:
    """What is written.

    Attributes:
        rate: Writes per second.
        keys: Out of the first so many keys.
        hot_keys: ``HOT_SHARE`` of the writes go to the first so many; 0 is none.
        distinct: No key twice.
    """

    writes: int
    rate: int
    keys: int
    hot_keys: int = 0
    distinct: bool = False
    seed: int = 1

    @property
    def seconds(self) -> float:
        return self.writes / self.rate


@dataclass(frozen=True, slots=True)
class Written:
    """What came of it.

    Attributes:
        begun_s: By the monotonic clock, which all processes share; ``ended_s``, too.
        cpu_share: Of the generator, of one core.
    """

    writes: int
    begun_s: float
    ended_s: float
    cpu_share: float

    @property
    def seconds(self) -> float:
        return self.ended_s - self.begun_s

    @property
    def per_second(self) -> float:
        return self.writes / self.seconds


def loading(port: int, load: Load) -> Aside:
    """Runs the load as a process; leaving the context waits for its end. ``written`` of it afterwards.

    Raises:
        BenchError: It failed, or did not come to its end.
    """
    arguments = [str(port), json.dumps(asdict(load))]
    return Aside("bench.load", arguments, end_timeout_s=load.seconds + END_MARGIN_S)


def written(aside: Aside) -> Written:
    """What came of a load that has ended."""
    return Written(**aside.found)


def batches(load: Load) -> list[tuple[bytes, int]]:
    """Encoded commands and their number, one batch per tick."""
    rng = random.Random(load.seed)
    per_tick = max(1, round(load.rate * TICK_S))
    order = rng.sample(range(load.keys), load.writes) if load.distinct else None
    made: list[tuple[bytes, int]] = []
    for first in range(0, load.writes, per_tick):
        count = min(per_tick, load.writes - first)
        values = rng.randbytes(VALUE_BYTES * count)
        commands: list[bytes] = []
        for place in range(count):
            name = key_name(order[first + place] if order else _choose(rng, load))
            value = values[VALUE_BYTES * place : VALUE_BYTES * (place + 1)]
            commands.append(b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$64\r\n%b\r\n" % (len(name), name, value))
        made.append((b"".join(commands), count))
    return made


def _choose(rng: random.Random, load: Load) -> int:
    hot = load.hot_keys and rng.random() < HOT_SHARE
    return int(rng.random() * (load.hot_keys if hot else load.keys))


def _run(session: Session, load: Load, made: list[tuple[bytes, int]]) -> Written:
    cpu_begun_s, begun_s = time.process_time(), time.monotonic()
    tick_s = load.seconds / len(made)
    for number, (commands, count) in enumerate(made):
        early_s = begun_s + number * tick_s - time.monotonic()
        if early_s > 0:
            time.sleep(early_s)
        for reply in session.exchange(commands, count):
            if reply != b"OK":
                raise BenchError(f"the source says {reply!r}")
    ended_s = time.monotonic()
    return Written(load.writes, begun_s, ended_s, (time.process_time() - cpu_begun_s) / (ended_s - begun_s))


def main(port: int, load: Load) -> None:
    made = batches(load)
    with Session(Endpoint(host="127.0.0.1", port=port), "source", timeout_s=REPLY_TIMEOUT_S) as session:
        print("ready", flush=True)
        os.read(sys.stdin.fileno(), 16)
        came = _run(session, load, made)
    print(json.dumps(asdict(came)))


if __name__ == "__main__":
    main(int(sys.argv[1]), Load(**json.loads(sys.argv[2])))
