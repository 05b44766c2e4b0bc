"""The newest look at a migration, kept once for every browser.

One task asks the migration, however many look. A browser has no queue: it knows how far it has been told, wakes when
there is something newer, and takes what is newest then. So one that does not read misses looks in between, and costs
nobody anything.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from keyferry.app.dashboard.asking import Asking
from keyferry.cutover.requests import End, Request
from keyferry.cutover.showing import status_of
from keyferry.follow.showing import SYNC_STATIONS
from keyferry.model.errors import KeyferryError
from keyferry.telemetry.migrating import MigrationProgress
from keyferry.telemetry.samples import rows_after

LOOK_EVERY_S = 0.5
HISTORY_EVERY_S = 2.0
QUICK_S = 0.02
"""An answer that takes longer is asked for less often, in proportion."""
LOOK_EVERY_S_MAX = 2.0
AGAIN_S = 0.5
"""After a look that nobody answered."""
TELL_EVERY_S = 5.0
"""A browser hears a status so often, also when nothing has changed."""
OLD_S = 10.0
"""A status of this age says that the migration stands still."""

_CLOCKS = frozenset({"age_seconds", "elapsed_seconds"})
"""Change with every look, and say nothing new."""


class Message(NamedTuple):
    """One event for a browser: its name, and JSON."""

    event: str
    data: str


@dataclass(slots=True)
class _Told:
    """How far one browser has been told."""

    look: int = 0
    at_s: float = -TELL_EVERY_S
    series: int = 0
    rows: int = 0


class Live:
    """What is known now. Of one event loop.

    Args:
        blank: What stands in a status that says nothing of it yet: the first ones of a run are not whole.

    Attributes:
        history: As ``Samples.as_dict``, whole; None until it is known.
        ended: How the run has ended; None while it goes on.
        browsers: How many follow the events.
    """

    def __init__(self, blank: Mapping[str, Any]) -> None:
        self._blank = blank
        self.history: Mapping[str, Any] | None = None
        self.ended: Mapping[str, Any] | None = None
        self.browsers = 0
        self._left_s = float("-inf")
        self._status: dict[str, Any] | None = None
        self._status_s = 0.0
        self._looks = self._series = 0
        self._news = asyncio.Event()

    # What is known

    @property
    def age_s(self) -> float | None:
        """How old the status is; None without one."""
        if self._status is None:
            return None
        return float(self._status["age_seconds"]) + time.monotonic() - self._status_s

    @property
    def status(self) -> dict[str, Any] | None:
        """With its age now."""
        if self._status is None or (age_s := self.age_s) is None:
            return None
        return {**self._status, "age_seconds": round(age_s, 3)}

    def is_awaited(self, comes_back_s: float) -> bool:
        """Whether a browser follows the events, or may come back: one left so shortly ago without knowing the end."""
        return self.browsers > 0 or time.monotonic() - self._left_s < comes_back_s

    def rows_after(self, after_ms: float) -> dict[str, Any] | None:
        """The history, only with rows after that time."""
        if self.history is None:
            return None
        return {**self.history, "rows": rows_after(self.history["rows"], after_ms)}

    # What has come

    def look(self, status: Mapping[str, Any]) -> None:
        """A status as the migration has answered it."""
        status = {**self._blank, "age_seconds": 0.0, **status}
        changed = self._status is None or _without_clocks(self._status) != _without_clocks(status)
        self._status, self._status_s = status, time.monotonic()
        if changed:
            self._looks += 1
            self._wake()

    def add_history(self, newer: Mapping[str, Any], *, whole: bool) -> None:
        """Rows that are newer than the last one; ``whole``: all there are, in place of those that are known."""
        if whole or self.history is None:
            self._series += 1
            self.history = newer
        elif newer["rows"]:
            self.history = {**newer, "rows": [*self.history["rows"], *newer["rows"]]}
        else:
            return
        self._wake()

    def end(self, how: Mapping[str, Any]) -> None:
        """The run is over; the first word counts."""
        if self.ended is None:
            self.ended = how
            self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    # What a browser hears

    def come(self) -> None:
        """A browser begins to follow the events."""
        self.browsers += 1

    def leave(self) -> None:
        """One that came has gone."""
        self.browsers -= 1
        if self.ended is None:
            self._left_s = time.monotonic()

    async def messages(self) -> AsyncIterator[Message]:
        """Everything from now on, to the end of the run, for one browser."""
        told = _Told()
        while True:
            # Before it is looked: what comes in between wakes this browser.
            news = self._news
            for message in self._untold(told):
                yield message
            if self.ended is not None:
                yield Message("ended", json.dumps(self.ended))
                return
            try:
                async with asyncio.timeout(max(0.0, told.at_s + TELL_EVERY_S - time.monotonic())):
                    await news.wait()
            except TimeoutError:
                if self._status is None:
                    told.at_s = time.monotonic()

    def _untold(self, told: _Told) -> list[Message]:
        """What this browser has not been told; afterwards it counts as told."""
        messages: list[Message] = []
        now = time.monotonic()
        status = self.status
        if status is not None and (told.look != self._looks or now - told.at_s >= TELL_EVERY_S):
            told.look, told.at_s = self._looks, now
            messages.append(Message("status", json.dumps(status)))
        history = self.history
        if history is not None and (told.series, told.rows) != (self._series, len(history["rows"])):
            whole = told.series != self._series
            rows: Sequence[Any] = history["rows"] if whole else history["rows"][told.rows :]
            told.series, told.rows = self._series, len(history["rows"])
            messages.append(Message("history", json.dumps({**history, "rows": rows, "whole": whole})))
        return messages


def blank_status(kind: Literal["migrate", "sync"], name: str) -> dict[str, Any]:
    """Of a run that has said nothing of itself yet."""
    status = status_of(
        MigrationProgress(None, "connecting"),
        name=name,
        source="",
        target="",
        pid=0,
        limits={},
        touched=0,
        writers={},
        switches=(),
        barred="",
        warnings=(),
        events=(),
    )
    return status if kind == "migrate" else {**status, "kind": kind, "stations": list(SYNC_STATIONS)}


def _without_clocks(status: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in status.items() if name not in _CLOCKS}


async def keep_looking(live: Live, path: Path) -> None:
    """Asks the migration again and again, until it is cancelled. One that does not answer is asked again."""
    while True:
        try:
            async with Asking(path) as asking:
                await _look_on(live, asking)
        except KeyferryError:
            # Not there yet, stopped, or gone: the age of what is known says it.
            await asyncio.sleep(AGAIN_S)


async def _look_on(live: Live, asking: Asking) -> None:
    """Raises KeyferryError when it is not answered any more."""
    asked_s = float("-inf")
    while True:
        began_s = time.monotonic()
        answer = await asking.ask(Request("status"), _unheard)
        _check(answer)
        live.look(answer.facts)
        if began_s - asked_s >= HISTORY_EVERY_S or not live.history or not live.history["rows"]:
            asked_s = began_s
            await _look_back(live, asking)
        took_s = time.monotonic() - began_s
        await asyncio.sleep(min(LOOK_EVERY_S * max(1.0, took_s / QUICK_S), LOOK_EVERY_S_MAX))


async def _look_back(live: Live, asking: Asking) -> None:
    known = live.history
    if known is not None and known["rows"]:
        newer = await _history(asking, known["rows"][-1][0])
        # Where the spacing has changed, older rows have become others, too.
        if newer["every_s"] == known["every_s"]:
            live.add_history(newer, whole=False)
            return
    live.add_history(await _history(asking, 0), whole=True)


async def _history(asking: Asking, after_ms: float) -> Mapping[str, Any]:
    answer = await asking.ask(Request("history", {"after_ms": after_ms}), _unheard)
    _check(answer)
    return answer.facts


def _check(answer: End) -> None:
    if answer.exit_code:
        raise KeyferryError(answer.sentence, answer.hint)


def _unheard(_said: object) -> None:
    """A look says nothing on the way."""
