"""poll() with a memory: a descriptor's events are only told to the system when they change."""

from __future__ import annotations

import contextlib
import select


class Poller:
    """Descriptors and what is waited for on each."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._watched: dict[int, int] = {}

    def watch(self, descriptor: int, events: int) -> None:
        """Args: events: ``select.POLLIN`` and the like; 0 waits for nothing but a broken connection."""
        known = self._watched.get(descriptor)
        if known == events:
            return
        if known is None:
            self._poll.register(descriptor, events)
        else:
            self._poll.modify(descriptor, events)
        self._watched[descriptor] = events

    def forget(self, descriptor: int) -> None:
        """Harmless for one that is not watched, or is closed."""
        if self._watched.pop(descriptor, None) is not None:
            with contextlib.suppress(OSError, KeyError, ValueError):
                self._poll.unregister(descriptor)

    def wait(self, timeout_ms: float) -> dict[int, int]:
        """Which descriptors are ready for what; empty when the time is over."""
        return dict(self._poll.poll(timeout_ms))
