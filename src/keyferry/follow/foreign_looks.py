"""Is it somebody else's work that a key of the target differs? Looked at again and again, before anybody is blamed.

    1. The source's key changes; 2. we look: the two servers differ; 3. the feed names the change, or a sweep finds it,
    for the groups of a stream no feed names; 4. the key is dirty, so it was no stranger's work.

So between two looks everything that was changed before is heard. What is dirty then, or was settled a moment ago, is ours.
"""

from __future__ import annotations

from collections.abc import Callable

from keyferry.follow.foreign import ForeignWrites, Place
from keyferry.follow.judging import Judge

LOOKS = 3
ROUNDS = 1
"""Of one look, after the first."""


class ForeignLooks:
    """Of one run.

    Args:
        hear_all: Lets everything go on until all that was changed before it has been heard; False: it could not.
        is_kept: Whether a key is somebody else's, as long as the source does not have it.
    """

    def __init__(
        self,
        foreign: ForeignWrites,
        judge: Judge,
        hear_all: Callable[[], bool],
        is_kept: Callable[[int, bytes], bool],
    ) -> None:
        self._foreign, self._judge, self._hear_all, self._is_kept = foreign, judge, hear_all, is_kept
        self._hears = False

    def found(self, now_s: float) -> list[Place]:
        """Keys of the target that somebody else has changed, of those that are due.

        Raises:
            ServerAway, ServerBusy: A server cannot answer now.
        """
        if self._hears or self._judge.busy:
            return []
        places = self._differing(self._foreign.due(now_s))
        for _ in range(LOOKS - 1):
            if not (places and self._hears_all()):
                return []
            places = self._differing([place for place in places if not self._foreign.is_ours(place)])
        return places

    def _hears_all(self) -> bool:
        self._hears = True
        try:
            return self._hear_all()
        finally:
            self._hears = False

    def _differing(self, places: list[Place]) -> list[Place]:
        """Those that differ, and stand still."""
        if not places:
            return []
        found = self._judge.differing(places, rounds=ROUNDS)
        differing = [
            (one.database, one.key)
            for one in found
            if one.reason != "changes all the time"
            and not (one.type_source == "none" and self._is_kept(one.database, one.key))
        ]
        return [place for place in differing if not self._foreign.is_ours(place)]
