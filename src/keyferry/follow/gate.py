"""The last settling, while writers wait: everything that was named is settled at once, and it is known when that is done.

    fence, ask watchers and ledgers -> settle what they name -> nothing dirty, nothing on its way
    -> fence once more, until a fence names nothing; where the target is followed there, too

One fence is not enough, because a write whose writer has given it up may still arrive, and may be about two keys:

    1. RENAME a b is on its way; 2. a is named, for an older write; 3. the fence; 4. RENAME arrives; 5. a is read: gone, so
    it is deleted; 6. b is named, after the fence: what a was is nowhere

Whoever waits pays for each millisecond, so limits do not count, no key rests, and what is done a few times a second is left
for later. What writers report is read only when it is asked for:

    1. all is settled; 2. the commit; 3. a writer reports on the other side; 4. we read that, and end. Nobody else knows of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from keyferry.copy.pace import Pace
from keyferry.follow.engine import Engine
from keyferry.follow.source import Followed
from keyferry.follow.target_side import TargetSide
from keyferry.follow.watch import FollowWatch


@dataclass(frozen=True, slots=True)
class GateAsks:
    """What a gate asks of the follower.

    Attributes:
        turn: Lets everything go on for one turn.
        ask: Has all looked at that no feed names; whether that is done.
        take_seen: Marks what that has found.
        sweep: Has everything compared, where no feed names what changes.
        is_whole: Nothing is to be copied or compared any more.
    """

    turn: Callable[[], None]
    ask: Callable[[], Callable[[], bool]]
    take_seen: Callable[[], None]
    sweep: Callable[[], None]
    is_whole: Callable[[], bool]


class Gate:
    """Of one run. Attributes: on: Writers wait, since ``settle_all`` and until ``end``."""

    def __init__(
        self,
        engine: Engine,
        pace: Pace,
        sources: dict[str, Followed],
        target: TargetSide,
        watch: FollowWatch,
        asks: GateAsks,
    ) -> None:
        self._engine, self._pace, self._sources = engine, pace, sources
        self._target, self._watch, self._asks = target, watch, asks
        self.on = False

    def settle_all(self, until_s: float, *, again: bool = False) -> bool:
        """Settles everything that was changed before this was called. Nobody may write on the source any more.

        From then on limits do not count and what writers report is not read, until the run goes on as usual.

        Args:
            until_s: By the monotonic clock: nothing is waited for beyond it.
            again: It was done before, under the same gate: what no feed names has been asked for, and cannot have changed
                since. Only expiry can have.

        Returns:
            True: the target holds what the source holds, as far as feeds, watchers and ledgers name what changed, and
            none of our writes is on its way. False: that was not so in time.

        Raises:
            As ``Follower.turn``.
        """
        self._begin()
        engine, settled = self._engine, self._seen()
        fences = engine.fence()
        asked = _nothing_asked if again else self._asks.ask()
        if not again:
            self._asks.sweep()

        def heard() -> bool:
            return engine.fenced(fences) and asked()

        before = (0, 0)
        while time.monotonic() < until_s:
            self._asks.turn()
            if not heard():
                continue
            self._asks.take_seen()
            if not self._is_clean():
                now = self._watch.dirty_keys, self._watch.settled
                if now != before:  # perhaps behind the turn of who carries it on
                    engine.wake()
                before = now
                continue
            if settled == self._seen():
                return True
            settled, heard = self._seen(), self._fence_again()
        return False

    def _seen(self) -> tuple[int, int]:
        """Changes with whatever is named or settled."""
        return self._watch.changes, self._watch.settled

    def _fence_again(self) -> Callable[[], bool]:
        fences = self._engine.fence()
        named = self._engine.fence_target() if self._target.mirrored else lambda: True
        return lambda: self._engine.fenced(fences) and named()

    def end(self) -> None:
        """Writers write again, or the run is over. Harmless when there was no gate."""
        if self.on:
            self._set(False)

    def _begin(self) -> None:
        if not self.on:
            self._set(True)

    def _set(self, on: bool) -> None:
        self.on = self._pace.urgent = self._engine.eager = on
        self._target.hush(on)
        for source in self._sources.values():
            source.hurry(on)

    def _is_clean(self) -> bool:
        """Nothing is dirty, and nothing is on its way."""
        quiet = all(pipeline.is_quiet for pipeline in self._engine.pipelines.values())
        return quiet and not self._watch.dirty_keys and self._asks.is_whole()


def _nothing_asked() -> bool:
    return True
