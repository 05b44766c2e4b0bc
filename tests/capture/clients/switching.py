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

    def switch(self) -> None:
        """From dual or target-dual to the other side's."""
        side = self._store.look(Side.TARGET).record
        back = side is not None and side.rules
        self.step("hold", "dual" if back else "target-dual")


def subscribers(server: Any, channel: str = "news") -> int:
    """How many connections listen to a channel."""
    with redis.Redis.from_url(server.url) as client:
        return int(client.pubsub_numsub(channel)[0][1])
