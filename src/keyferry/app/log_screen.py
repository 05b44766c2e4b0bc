"""The log as a screen: what a run shows and says becomes events, beside the display or in its place.

It is called ten times a second by the thread that works, for weeks: a look without news costs a few comparisons, and
a line of progress is due twice a minute, or once while nothing is gone over.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Generic, TypeVar

from keyferry.app.log import Level, RunLog
from keyferry.app.log_looks import Looks
from keyferry.app.screen import Screen, View, open_screen
from keyferry.telemetry.progress import Alert

PROGRESS_S, WAITING_S, DEBUG_S = 30.0, 60.0, 2.0
"""Between two lines of progress: while keys are gone over, while nothing is, and at the level debug."""
CONCERN_S = 30.0
REPEATED_S = 60.0
"""A sentence that is told again and again, as at each try of something, is a line so often."""

P = TypeVar("P")


def logged_screen(log: RunLog, title: str, view: View[P], looks: Looks[P]) -> Screen[P]:
    """The display that fits standard error, the log, or both."""
    if log.replaces_display:
        return LogScreen(log, looks)
    display = open_screen(title, view)
    return Both(display, LogScreen(log, looks)) if log.takes(Level.ERROR) else display


class LogScreen(Generic[P]):
    """Shows nothing."""

    def __init__(self, log: RunLog, looks: Looks[P]) -> None:
        self._log, self._looks = log, looks
        self._last: P | None = None
        self._heard: P | None = None
        self._heard_s = float("-inf")
        self._said_s = self._whispered_s = time.monotonic()
        self._told, self._told_s, self._repeated = "", float("-inf"), 0

    def __enter__(self) -> LogScreen[P]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What came in after the last look that had its turn.
        if self._last is not None:
            for event in self._looks.concerns(self._heard, self._last):
                self._log.tell(event)

    @property
    def last(self) -> P | None:
        return self._last

    def observe(self, progress: P) -> None:
        before, self._last = self._last, progress
        now_s = time.monotonic()
        for event in self._looks.changes(before, progress, now_s):
            self._log.tell(event)
        if now_s - self._heard_s >= CONCERN_S:
            self._hear(progress, now_s)
        self._stand(progress, now_s)

    def _hear(self, progress: P, now_s: float) -> None:
        concerns = list(self._looks.concerns(self._heard, progress))
        for event in concerns:
            self._log.tell(event)
        if concerns:
            self._heard, self._heard_s = progress, now_s

    def _stand(self, progress: P, now_s: float) -> None:
        if now_s - self._said_s >= (WAITING_S if self._looks.waits(progress) else PROGRESS_S):
            self._said_s = self._whispered_s = now_s
            self._log.tell(self._looks.standing(progress))
        elif now_s - self._whispered_s >= DEBUG_S and self._log.takes(Level.DEBUG):
            self._whispered_s = now_s
            event = self._looks.standing(progress)
            self._log.say(event.event, event.msg, Level.DEBUG, **event.fields)

    def tell(self, sentence: str) -> None:
        now_s = time.monotonic()
        if sentence == self._told and now_s - self._told_s < REPEATED_S:
            self._repeated += 1
            return
        repeated = self._repeated if sentence == self._told else 0
        self._told, self._told_s, self._repeated = sentence, now_s, 0
        if isinstance(sentence, Alert):
            self._log.say("warning", sentence, Level.WARNING, repeated=repeated or None)
        else:
            self._log.say("said", sentence, repeated=repeated or None)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Lines stay where they are."""
        yield


class Both(Generic[P]):
    """A display, and the log beside it."""

    def __init__(self, display: Screen[P], log: Screen[P]) -> None:
        self._display, self._log = display, log

    def __enter__(self) -> Both[P]:
        self._display.__enter__()
        self._log.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._log.__exit__(kind, error, trace)
        self._display.__exit__(kind, error, trace)

    @property
    def last(self) -> P | None:
        return self._display.last

    def observe(self, progress: P) -> None:
        self._log.observe(progress)
        self._display.observe(progress)

    def tell(self, sentence: str) -> None:
        self._log.tell(sentence)
        self._display.tell(sentence)

    @contextmanager
    def aside(self) -> Iterator[None]:
        with self._display.aside():
            yield
