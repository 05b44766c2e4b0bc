"""How long a write takes to reach the target, from outside: a key of its own written on the source every 20 ms.

Each stamp counts from before its SET is sent until a look at the target, one every few milliseconds, finds it there:
late looks make the lag longer, never shorter. A process of its own, ``python -m bench.stamps SOURCE_PORT TARGET_PORT``;
as ``Aside`` wants it.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from array import array
from contextlib import ExitStack

from keyferry.model.address import Endpoint
from keyferry.wire.session import Session

EVERY_S = 0.02
LOOK_EVERY_S = 0.004
STAMPS_MAX = 100_000
DRAIN_S = 30.0
LOOKED_AT_ONCE = 500
NAME = b"stamp:%d"


class Stamps:
    """``waiting``: number -> when it was written, in nanoseconds, which is also its value."""

    def __init__(self, source: Session, target: Session) -> None:
        self._source, self._target = source, target
        self._written = 0
        self._waiting: dict[int, int] = {}
        self.lags_us = array("L")

    def run(self, control: int) -> None:
        """Writes and looks, until the descriptor ``control`` is readable or at its end and all have arrived.

        Raises:
            SystemExit: One has not arrived ``DRAIN_S`` afterwards.
        """
        due_s = time.monotonic()
        while self._written < STAMPS_MAX:
            now_s = time.monotonic()
            if now_s >= due_s:
                self._write()
                due_s = max(due_s + EVERY_S, now_s)
            self._look()
            if select.select([control], (), (), LOOK_EVERY_S)[0]:
                break
        deadline_s = time.monotonic() + DRAIN_S
        while self._waiting:
            if time.monotonic() > deadline_s:
                raise SystemExit(f"{len(self._waiting)} stamps have not arrived after {DRAIN_S:.0f} s")
            time.sleep(LOOK_EVERY_S)
            self._look()

    def _write(self) -> None:
        now_ns = time.monotonic_ns()
        self._waiting[self._written] = now_ns
        self._source.call("SET", NAME % self._written, b"%d" % now_ns)
        self._written += 1

    def _look(self) -> None:
        # The oldest first: whether younger ones are there, too, is seen a look later.
        numbers = list(self._waiting)[:LOOKED_AT_ONCE]
        if not numbers:
            return
        found = self._target.call("MGET", *(NAME % number for number in numbers))
        now_ns = time.monotonic_ns()
        if not isinstance(found, list):
            raise SystemExit(f"the target says {found!r}")
        for number, value in zip(numbers, found, strict=True):
            if value == b"%d" % self._waiting[number]:
                self.lags_us.append((now_ns - self._waiting.pop(number)) // 1_000)


def main(source_port: int, target_port: int) -> None:
    with ExitStack() as stack:
        source = stack.enter_context(Session(Endpoint(host="127.0.0.1", port=source_port), "source"))
        target = stack.enter_context(Session(Endpoint(host="127.0.0.1", port=target_port), "target"))
        stamps = Stamps(source, target)
        print("ready", flush=True)
        os.read(sys.stdin.fileno(), 16)
        begun_s, cpu_begun_s = time.monotonic(), time.process_time()
        stamps.run(sys.stdin.fileno())
        share = (time.process_time() - cpu_begun_s) / (time.monotonic() - begun_s)
    print(json.dumps({"lags_us": list(stamps.lags_us), "cpu_share": share}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
