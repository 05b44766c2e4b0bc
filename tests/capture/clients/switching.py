"""A migration whose phase a test moves, as `keyferry phase set` does."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import redis

from keyferry.cutover.phase_steps import Outcome, Performer, Plan
from keyferry.cutover.record_store import RecordStore
from keyferry.model.errors import RefusedError
from keyferry.model.phases import Phase, Side, after_switch
from keyferry.model.record import PhaseRecord, Stamp

_NUMBERS = itertools.count()
_PUSHER = """
import json, os, sys, threading
import keyferry

source, target, migration, key, settings = sys.argv[1:]
client = keyferry.Redis.from_urls(source, target, migration=migration, **json.loads(settings))
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
number = 0
while not stop.wait(0.001):
    value = f"{os.getpid()}-{number}"
    client.lpush(key, value)
    print(value, flush=number == 0)
    number += 1
client.close()
"""


class Migration:
    """Begins with the phase source.

    Args:
        source, target: A Server or a Cluster of keyferry.testing.

    Attributes:
        name: Another one for each: what an earlier test has left running does not take part.
    """

    def __init__(self, source: Any, target: Any) -> None:
        self.name = f"orders-{next(_NUMBERS)}"
        self.source, self.target = source, target
        endpoints = {Side.SOURCE: source.endpoint, Side.TARGET: target.endpoint}
        self._store = RecordStore(self.name, endpoints, {})
        self.step(Phase.SOURCE)

    def __enter__(self) -> Migration:
        return self

    def __exit__(self, *_: object) -> None:
        self._store.__exit__(None, None, None)

    def step(self, *phases: str, wait_s: float = 10.0, everyone: bool = True) -> Outcome:
        """One step after the other; each is taken by all writers when the next one begins.

        Args:
            wait_s: For the writers, each time.
            everyone: Fails when a writer has not taken the last step by then.
        """
        for phase in phases:
            outcome = Performer(self._store, Plan(Phase(phase), True, Stamp(1, "a test"))).run(wait_s)
            assert not (everyone and outcome.waiting), outcome
        return outcome

    @contextlib.contextmanager
    def pusher(self, key: str, **settings: Any) -> Iterator[list[bytes]]:
        """Another process that pushes onto a list as fast as it can, until the end; then here is what it pushed."""
        urls = self.source.url, self.target.url
        command = [sys.executable, "-c", _PUSHER, *urls, self.name, key, json.dumps(settings)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None and process.stdout is not None
            pushed = [process.stdout.readline().strip()]
            try:
                yield pushed
            finally:
                process.stdin.close()
                pushed += process.stdout.read().split()
        assert process.returncode == 0

    @property
    def phase(self) -> Phase:
        """Of the record that counts."""
        return self._authority()[1].phase

    def _authority(self) -> tuple[Side, PhaseRecord]:
        for side in Side:
            record = self._store.look(side).record
            if record is not None and record.rules:
                return side, record
        raise AssertionError("no side has authority")

    def switch(self, *, settles: bool = False, waits: bool = True) -> None:
        """To the other side: from a phase that mirrors to one that does, from `source` to `target`, and back.

        Args:
            settles: Carries everything to the side that gains authority while the gate is closed.
            waits: At the end for all writers.
        """
        side, record = self._authority()
        self.step("hold")
        if settles:
            settle(*((self.source, self.target) if side is Side.SOURCE else (self.target, self.source)))
        if waits:
            self.step(after_switch(record.phase))
        else:
            self._commit(after_switch(record.phase))

    def _commit(self, phase: Phase) -> None:
        """Without a wait after it. One that comes over only now has not taken this hold yet: it is given again."""
        until_s = time.monotonic() + 10.0
        while True:
            try:
                self.step(phase, wait_s=0.0, everyone=False)
                return
            except RefusedError:
                assert time.monotonic() < until_s
                time.sleep(0.01)


def settle(authority: Any, other: Any) -> None:
    """Makes the other side equal. Nobody writes meanwhile."""
    with redis.Redis.from_url(authority.url) as source, redis.Redis.from_url(other.url) as target:
        keys = [key for key in source.keys("*") if not key.startswith(b"keyferry:")]
        for key in set(target.keys("*")) - set(keys):
            if not key.startswith(b"keyferry:"):
                target.delete(key)
        for key in keys:
            target.restore(key, max(0, source.pttl(key)), source.dump(key), replace=True)


def blocked(server: Any) -> int:
    """How many connections wait in a blocking command."""
    with redis.Redis.from_url(server.url) as client:
        return int(client.info("clients")["blocked_clients"])


def subscribers(server: Any, channel: str = "news") -> int:
    """How many connections listen to a channel."""
    with redis.Redis.from_url(server.url) as client:
        return int(client.pubsub_numsub(channel)[0][1])
