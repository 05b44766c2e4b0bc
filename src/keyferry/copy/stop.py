"""The wish to stop, handed from a signal handler to a running copy."""

from __future__ import annotations


class StopFlag:
    """Set once, never taken back; safe from any thread.

    A plain attribute and not a ``threading.Event``: an Event takes a lock to be set, and a signal handler that
    interrupts the thread holding it would wait for ever.
    """

    __slots__ = ("_requested",)

    def __init__(self) -> None:
        self._requested = False

    def request(self) -> None:
        self._requested = True

    @property
    def requested(self) -> bool:
        return self._requested
