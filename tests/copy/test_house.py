"""Whose turn it is, and how long a run is patient: without a server."""

from __future__ import annotations

import time
from collections import deque

import pytest

from keyferry.copy.house import WORKERS_MAX, take_startable
from keyferry.copy.passes import Task
from keyferry.copy.patience import BACKOFF_S, BACKOFF_S_MAX, TROUBLES_MIN, Patience
from keyferry.copy.replies import ServerBusy
from keyferry.model.errors import ServerAway, ServerError

RETRY_S = 0.5


def test_one_task_of_a_shard_at_a_time() -> None:
    tasks = [Task(shard, database) for shard in "ab" for database in (0, 1)]
    waiting = deque(tasks)
    assert take_startable(waiting, []) == [Task("a", 0), Task("b", 0)]
    assert list(waiting) == [Task("a", 1), Task("b", 1)]
    assert take_startable(waiting, [Task("a", 0)]) == [Task("b", 1)]
    assert list(waiting) == [Task("a", 1)]


def test_not_more_tasks_than_may_run() -> None:
    waiting = deque(Task(str(i), 0) for i in range(WORKERS_MAX + 5))
    running = take_startable(waiting, [])
    assert len(running) == WORKERS_MAX
    assert len(waiting) == 5
    assert take_startable(waiting, running[1:]) == [Task(str(WORKERS_MAX), 0)]


class Waiting:
    """A patience of which everything is kept."""

    def __init__(self, retry_s: float) -> None:
        self.told: list[str] = []
        self.pauses: list[float] = []
        self.patience = Patience(retry_s, "Do so.", self.told.append, self._pause)

    def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        time.sleep(0.001)


def test_a_server_that_comes_back_is_met_after_growing_pauses() -> None:
    waiting, tries = (
        Waiting(60.0),
        [ServerAway("source", "It is away."), ServerBusy("source", "LOADING"), None],
    )

    def meet() -> None:
        if trouble := tries.pop(0):
            raise trouble

    waiting.patience.wait(ServerBusy("target", "BUSY"), meet)
    assert waiting.told == ["The target says: BUSY. Trying again."]
    assert waiting.pauses == [BACKOFF_S, 2 * BACKOFF_S, 4 * BACKOFF_S]
    for _ in range(10):
        waiting.patience.wait(ServerAway("target", "It is away."), lambda: None)
    assert waiting.pauses[-1] == BACKOFF_S_MAX
    waiting.patience.renew()
    waiting.patience.wait(ServerAway("target", "It is away."), lambda: None)
    assert waiting.pauses[-1] == BACKOFF_S


def test_a_server_that_does_not_come_back_ends_the_run() -> None:
    waiting = Waiting(RETRY_S)

    def meet() -> None:
        raise ServerAway("target", "It refuses connections.")

    with pytest.raises(ServerError) as error:
        waiting.patience.wait(ServerAway("source", "It is away."), meet)
    assert error.value.message == "It refuses connections. It has not come back for 0.5 s."
    assert error.value.side == "target"
    assert error.value.hint == "Do so."
    assert not isinstance(error.value, ServerAway)


def test_a_server_that_comes_and_goes_ends_the_run_when_nothing_is_done_meanwhile() -> None:
    waiting = Waiting(RETRY_S)
    trouble = ServerAway("target", "It is away.")
    for _ in range(TROUBLES_MIN - 1):
        waiting.patience.wait(trouble, lambda: None)
    time.sleep(1.2 * RETRY_S)
    waiting.patience.renew()
    waiting.patience.wait(trouble, lambda: None)  # something was done: the first one again
    for _ in range(TROUBLES_MIN - 2):
        waiting.patience.wait(trouble, lambda: None)
    time.sleep(1.2 * RETRY_S)
    with pytest.raises(ServerError, match="has not come back"):
        waiting.patience.wait(trouble, lambda: None)
