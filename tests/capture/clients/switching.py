"""A migration whose phase a test moves, as `keyferry phase set` does."""

from __future__ import annotations

import itertools
from typing import Any

import redis

from keyferry.cutover.phase_steps import Outcome, Performer, Plan
from keyferry.cutover.record_store import RecordStore
from keyferry.model.phases import Phase, Side
from keyferry.model.record import Stamp

_NUMBERS = itertools.count()


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

    def switch(self, *, settles: bool = False) -> None:
        """From dual or target-dual to the other side's.

        Args:
            settles: Carries everything to the side that gains authority while the gate is closed.
        """
        side = self._store.look(Side.TARGET).record
        back = side is not None and side.rules
        self.step("hold")
        if settles:
            settle(*((self.target, self.source) if back else (self.source, self.target)))
        self.step("dual" if back else "target-dual")


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
