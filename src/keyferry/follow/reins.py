"""What an operator holds while a sync runs: pause and limits. They last until they are changed, also over trouble."""

from __future__ import annotations

from keyferry.copy.pace import Pace
from keyferry.follow.comparisons import Comparisons
from keyferry.follow.source import Followed


class Reins:
    """Of one run."""

    def __init__(self, pace: Pace, sources: dict[str, Followed], comparisons: Comparisons) -> None:
        self._pace, self._sources, self._comparisons = pace, sources, comparisons
        self.probes_due = False
        """Probes were opened for another guard."""

    @property
    def paused(self) -> bool:
        return self._pace.paused

    def pause(self) -> None:
        """From now on nothing of ours is written, and nothing is read to be carried or compared.

        What is on its way arrives. Feeds, watchers, ledgers and probes go on, so nothing is missed, and what changes
        is remembered (up to ``dirty_max``).
        """
        self._set(True)

    def unpause(self) -> None:
        """It goes on where it was."""
        self._set(False)

    def _set(self, paused: bool) -> None:
        self._pace.paused = self._comparisons.paused = paused
        for source in self._sources.values():
            source.hold(paused)

    @property
    def limits(self) -> tuple[float, float]:
        """Keys per second, and milliseconds of added latency at which the guard slows us down; 0: none."""
        return self._pace.limits

    def set_limits(self, max_rate: float | None, max_latency_ms: float | None) -> None:
        """Other limits from now on. Args: None leaves one as it is, 0 takes it away."""
        guarded = self._pace.guarded
        self._pace.set_limits(max_rate, max_latency_ms)
        self.probes_due |= self._pace.guarded != guarded
