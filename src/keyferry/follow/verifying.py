"""Proof that nothing differs: a comparison of everything, and looks at what it doubted, while all goes on."""

from __future__ import annotations

import time

from keyferry.follow.follower import CHORES_EVERY_S, Follower
from keyferry.follow.settings import SyncSettings
from keyferry.telemetry.comparing import Difference

SUSPECTS_MAX = 1_000_000
SETTLE_S_MAX = 30.0
"""Suspects are settled before they are looked at; one that is dirty all the time is not waited for."""


class Verification:
    """Of one run; may be run several times."""

    def __init__(self, follower: Follower, settings: SyncSettings) -> None:
        self._follower, self._settings = follower, settings
        self.compared = 0
        """Keys that the last pass went over, on both sides."""
        self.differences: list[Difference] = []
        self.restless = 0
        """Keys that changed at every look, so that they could be compared with nothing."""

    def run(self) -> int:
        """Compares everything once; gives how many keys stayed different. They are dirty then.

        Raises:
            ServerAway, ServerBusy: A server is to be met again; begin anew.
        """
        follower = self._follower
        suspects: set[tuple[int, bytes]] = set()
        follower.rescans.collect = suspects
        try:
            follower.compare_everything("verifying")
            while not follower.comparisons.idle:
                follower.turn()
                if len(suspects) > SUSPECTS_MAX:
                    return len(suspects)
            self.compared = follower.comparisons.keys_done
        finally:
            follower.rescans.collect = None
        self._let_settle(suspects)
        found = follower.differing(sorted(suspects))
        # What cannot be caught standing still is dirty all the time: the feed names it, and it is settled.
        self.differences = [one for one in found if one.reason != "changes all the time"]
        self.restless = len(found) - len(self.differences)
        for difference in self.differences:
            follower.mark(difference.database, [difference.key])
        return len(self.differences)

    def _let_settle(self, suspects: set[tuple[int, bytes]]) -> None:
        follower = self._follower
        fences, watched = follower.engine.fence(), follower.hearing.ask()
        until_s = time.monotonic() + SETTLE_S_MAX
        while time.monotonic() < until_s:
            follower.turn()
            if (
                follower.engine.fenced(fences)
                and watched()
                and follower.lag_s() < self._settings.lag_target_s
            ):
                # What the watchers have just seen is taken by the chores of a turn.
                follower.turn_for(2 * CHORES_EVERY_S)
                return
