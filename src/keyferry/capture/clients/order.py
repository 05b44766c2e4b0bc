"""The order of writes to one key within a process, the same on both servers.

Without it:
1. thread A: SET k 1 on the source      2. thread B: SET k 2 on the source
3. thread B: SET k 2 on the target      4. thread A: SET k 1 on the target       the two servers differ

So a write takes its turn on all its keys before its first leg and gives it back when its second leg is done, or is
queued where the order is kept. Turns are taken in one step for all keys of an operation, so that two of them never
wait for each other. Shared by the threads and the event loops of a process.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any


class Turn:
    """A place in the order; ready when everything before it on its keys is done."""

    __slots__ = ("_keys", "_order", "_waits", "_wake", "followers")

    def __init__(self, order: KeyOrder, keys: Iterable[bytes]) -> None:
        self._order = order
        self._keys = keys
        self._waits = 0
        self._wake: Callable[[], object] | None = None
        self.followers: list[Turn] | None = []

    @property
    def ready(self) -> bool:
        """Whether nothing is before it."""
        return not self._waits

    def when_come(self, wake: Callable[[], object]) -> bool:
        """Has `wake` called (by whichever thread) when the turn comes; False, without a call, when it has come."""
        with self._order.mutex:
            if not self._waits:
                return False
            self._wake = wake
            return True

    def leave(self) -> None:
        """Lets the next ones go. To be called once, also by one who gave up waiting.

        Who leaves before it was its turn is followed by those behind it only when those before it have left.
        """
        with self._order.mutex:
            if self._waits:
                self._wake = self._leave_held
                return
            self._leave_held()

    def _leave_held(self) -> None:
        last = self._order.last
        for key in self._keys:
            if last.get(key) is self:
                del last[key]
        if self._order.barrier is self:
            self._order.barrier = None
        followers, self.followers = self.followers, None
        for follower in followers or ():
            follower._waits -= 1
            if not follower._waits and follower._wake is not None:
                follower._wake()


class Watch:
    """Notices writes to some keys while its owner waits on the server without a turn."""

    __slots__ = ("disturbed", "keys")

    def __init__(self, keys: Iterable[bytes], *, disturbed: bool) -> None:
        self.keys = keys
        self.disturbed = disturbed


class KeyOrder:
    """Who writes to which key, in the order in which they came."""

    def __init__(self) -> None:
        # Re-entrant: one who left early lets its followers go from within another's leave().
        self.mutex = threading.RLock()
        self.last: dict[bytes, Turn] = {}
        self.barrier: Turn | None = None
        self._watches: set[Watch] = set()
        self.queues: weakref.WeakSet[Any] = weakref.WeakSet()
        """Of second legs that wait in the background; each keeps the order within itself only."""

    def forked(self) -> None:
        """In a child process: nobody of the parent's threads is here to leave."""
        self.mutex = threading.RLock()
        self.last = {}
        self.barrier = None
        self._watches = set()
        self.queues = weakref.WeakSet()

    def watch(self, keys: Iterable[bytes]) -> Watch:
        """Notices from now on when somebody takes a turn on one of the keys, or has one already."""
        with self.mutex:
            busy = self.barrier is not None or any(key in self.last for key in keys)
            watch = Watch(keys, disturbed=busy)
            self._watches.add(watch)
        return watch

    def unwatch(self, watch: Watch) -> None:
        """Ends it; without effect when it has ended."""
        with self.mutex:
            self._watches.discard(watch)

    def _disturb(self, keys: Iterable[bytes] | None) -> None:
        for watch in self._watches:
            if keys is None or not set(keys).isdisjoint(watch.keys):
                watch.disturbed = True

    def take(self, keys: Iterable[bytes], ends: Watch | None = None) -> Turn:
        """A turn on these keys (a collection that is not changed afterwards), behind all that came before.

        Args:
            ends: the taker's own watch, which ends with the turn's beginning.
        """
        turn = Turn(self, keys)
        with self.mutex:
            if ends is not None:
                self._watches.discard(ends)
            if self._watches:
                self._disturb(keys)
            last = self.last
            for key in keys:
                before = last.get(key)
                if before is not None and before is not turn:
                    before.followers.append(turn)  # type: ignore[union-attr]
                    turn._waits += 1
                last[key] = turn
            if self.barrier is not None:
                self.barrier.followers.append(turn)  # type: ignore[union-attr]
                turn._waits += 1
        return turn

    def take_all(self) -> Turn:
        """A turn on every key there is: FLUSHALL and what names no key."""
        turn = Turn(self, ())
        with self.mutex:
            self._disturb(None)
            for before in {*self.last.values(), *([self.barrier] if self.barrier else ())}:
                before.followers.append(turn)
                turn._waits += 1
            self.barrier = turn
        return turn
