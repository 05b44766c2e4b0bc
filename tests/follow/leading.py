"""A run that tests lead, as a migration does: what they want done is done by the run's own thread, between two turns."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from copying import wait_until
from following import settings_of
from keyferry.copy.stop import StopFlag
from keyferry.follow.follower import Follower
from keyferry.follow.run import FollowRun, sync_name
from keyferry.journal.state import State
from keyferry.model.address import Endpoint
from keyferry.telemetry.following import SyncProgress, SyncReport
from keyferry.testing.deployment import Deployment

GATE_S = 10.0
"""Far more than a gate takes here, on a machine that others use, too."""

Answer = TypeVar("Answer")


@dataclass
class Asked:
    """Something that the run's thread is to do."""

    work: Callable[[Follower], Any]
    done: threading.Event = field(default_factory=threading.Event)
    answer: Any = None
    error: BaseException | None = None


class Led:
    """One run, and its lead."""

    def __init__(
        self,
        source: Deployment | Endpoint,
        target: Deployment | Endpoint,
        state_dir: Path,
        *,
        equal: bool = False,
        **given: Any,
    ) -> None:
        self._settings = settings_of(source, target, state_dir, **given)
        self._equal = equal
        self.told: list[str] = []
        self.seen: list[SyncProgress] = []
        self.stop = StopFlag()
        self.next: Led | None = None
        """Of the other direction: hears while this one runs, and runs when this one has ended."""
        self.report: SyncReport | None = None
        self.error: BaseException | None = None
        self.polls = 0
        self._asked: queue.SimpleQueue[Asked] = queue.SimpleQueue()
        self._over = False
        self._ended = threading.Event()

    def make(self) -> FollowRun:
        """By the thread that is going to run it: its checkpoint belongs to that."""
        name = sync_name(self._settings)
        self.state = State(self._settings.copy.state_dir, name, kind="sync")
        self.run = FollowRun(
            self._settings,
            self.state,
            name,
            self.seen.append,
            self.told.append,
            self.stop,
            lead=self,
            equal=self._equal,
        )
        return self.run

    # As the run sees it

    def opened(self) -> None:
        pass

    def poll(self) -> None:
        self.polls += 1
        if self.next is not None:
            self.next.run.hear()

    def turn(self, follower: Follower) -> bool:
        while not self._asked.empty():
            asked = self._asked.get()
            try:
                asked.answer = asked.work(follower)
            except BaseException as error:
                asked.error = error
                raise
            finally:
                asked.done.set()
        return self._over

    # As the test sees it

    def start(self) -> None:
        threading.Thread(target=self._make_and_run, daemon=True).start()

    def _make_and_run(self) -> None:
        self.make()
        self._run()
        if self.next is not None and self.error is None:
            self.next._run()

    def _run(self) -> None:
        try:
            self.report = self.run.run()
        except BaseException as error:  # noqa: BLE001 (handed to the test)
            self.error = error
        finally:
            self.state.close()
            self._ended.set()

    def do(self, work: Callable[[Follower], Answer], within_s: float = 30.0) -> Answer:
        """What the run's thread answers."""
        asked = Asked(work)
        self._asked.put(asked)
        wait_until(lambda: asked.done.is_set() or self.error, f"it is done (told: {self.told})", within_s)
        if error := asked.error or self.error:
            raise AssertionError(f"the run ended: {error!r}; told {self.told}") from error
        answer: Answer = asked.answer
        return answer

    def follows(self, timeout_s: float = 30.0) -> None:
        """Waits until everything has been carried, and nothing is dirty."""

        def does() -> bool:
            assert self.error is None, (self.error, self.told)
            return bool(self.seen) and self.seen[-1].stage == "following" and not self.seen[-1].dirty_keys

        wait_until(does, f"the run follows (told: {self.told})", timeout_s)

    def follows_soon(self, timeout_s: float = 30.0) -> None:
        """Waits until it follows, whatever changes meanwhile."""

        def does() -> bool:
            assert self.error is None, (self.error, self.told)
            return bool(self.seen) and self.seen[-1].stage == "following"

        wait_until(does, f"the run follows (told: {self.told})", timeout_s)

    def end(self) -> SyncReport | None:
        """Its lead says that it is over."""
        self._over = True
        assert self._ended.wait(30.0), f"the run does not end; told {self.told}"
        return self.report


@contextmanager
def led(
    source: Deployment | Endpoint, target: Deployment | Endpoint, state_dir: Path, **given: Any
) -> Iterator[Led]:
    """Runs one beside the block."""
    its = Led(source, target, state_dir, **given)
    its.start()
    try:
        yield its
    except BaseException as error:
        error.add_note(f"told: {its.told[-8:]}; last seen: {its.seen[-1:]}")
        _end(its, stops=True)
        raise
    _end(its, stops=False)


def _end(first: Led, *, stops: bool) -> None:
    last: Led | None = first
    while last is not None:
        if stops:
            last.stop.request()
        last.end()
        assert stops or last.error is None, last.error
        last = last.next


def gate() -> float:
    """Until when."""
    return time.monotonic() + GATE_S


def settled(follower: Follower) -> bool:
    """The last settling, and what it is worth."""
    return follower.settle_all(gate()) and follower.compare_touched(gate()) == 0
