"""How many keys only the target has: counted before anything is written, and noted where they are kept."""

from __future__ import annotations

import time
from collections.abc import Callable

from keyferry.copy.poller import Poller
from keyferry.follow.comparisons import Comparisons, Job
from keyferry.journal.state import State
from keyferry.verify.passes import CompareContext

COUNT_MS = 20.0

Found = Callable[[int, list[bytes]], None]


def count_extras(
    jobs: list[Job],
    poller: Poller,
    comparing: Callable[[Job, Found, Comparisons], CompareContext],
    found: Found,
    on_turn: Callable[[int], None],
) -> int:
    """Goes over the target once.

    Args:
        comparing: Makes the context of a pass that gives what it finds to the second argument.
        found: Gets source databases and keys.
        on_turn: Called often with the keys that were gone over; ends the count by raising.

    Raises:
        ServerAway: A server cannot be reached now.
    """
    count = 0

    def take(database: int, keys: list[bytes]) -> None:
        nonlocal count
        count += len(keys)
        found(database, keys)

    counting = Comparisons(lambda: True)
    counting.request(jobs, 0)
    try:
        while not counting.idle:
            ready = poller.wait(COUNT_MS)
            counting.turn(
                ready,
                time.monotonic(),
                lambda job: comparing(job, take, counting),
                house=True,
                startable=lambda job: True,
            )
            on_turn(counting.keys_done)
    finally:
        counting.close()
    return count


class KeptKeys:
    """Keys of one target database that only the target had when the sync began: kept until the source has them."""

    def __init__(self, state: State, database: int) -> None:
        self._state, self._database = state, database

    def holds(self, key: bytes) -> bool:
        return self._state.is_foreign(self._database, key)

    def forget(self, keys: list[bytes]) -> None:
        """The source has them now."""
        self._state.forget_foreign(self._database, keys)
