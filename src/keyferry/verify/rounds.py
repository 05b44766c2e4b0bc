"""Looks at suspects again and again until each is cleared or proven: pauses, rounds, bursts.

The decisions are ``suspects``', the reading is a ``Looker``'s. Usable without a run: a sync hands in keys that it
doubts (``look_again``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from keyferry.copy.info import info_number, parse_info
from keyferry.model.errors import Side
from keyferry.verify.look import BigLook, Looker, Throttle
from keyferry.verify.routes import Place, Routes
from keyferry.verify.suspects import PAUSES_S, Evidence, Judgement, Look, Next, Suspect, pause_s

QUIET_S = 1.0
"""Nothing written on either server for so long: no traffic runs, and no sync is on its way."""
BURST_S = 1.0
BURST_GAP_S = 0.002
"""Between two looks of a burst; a multiple of what a look takes, so that the servers have most of the time."""
BURST_SHARE = 4
BURST_KEYS = 50
BURST_GROUPS_MAX = 40
"""More keys than these groups hold, that change at every look, are not caught; they are said to change all the time."""
BURST_BYTES_MAX = 64 << 10
"""A larger value is not read many times a second."""
MORE_PAUSES = 2
"""After the rounds, for keys of which one side moved over the last pause."""
BIG_EVERY = 3
"""A value that is compared in pieces costs both servers much: at every third round, and at the last."""

WriteMarks = tuple[tuple[int, int], ...]
"""Per server: changes since its last save, and when that was."""
Pause = Callable[[float], None]
"""Waits so many seconds; ends the run by raising."""
OnRound = Callable[[int, int], None]
"""Gets the number of the round (0 is the first look) and of the suspects that are left, before it begins."""


class Calm:
    """Since when nothing has been written on either server.

    Where nothing is written, a difference need not be waited for: nothing is on its way that could mend it.

    Args:
        read: Counters that stand still while nothing is written; None where a server does not say.
    """

    def __init__(self, read: Callable[[], WriteMarks | None]) -> None:
        self._read = read
        self._marks: WriteMarks | None = None
        self._since_s = time.monotonic()

    def look(self) -> None:
        """Raises as ``read``."""
        now = time.monotonic()
        marks = self._read()
        if marks is None or marks != self._marks:
            self._marks, self._since_s = marks, now

    def proves(self, looked_s: float) -> bool:
        """Whether what a look found that began at ``looked_s`` is so still, and will stay so. Raises as ``read``."""
        self.look()
        if self._marks is None or self._since_s > looked_s:
            return False
        return time.monotonic() - self._since_s >= QUIET_S


@dataclass(frozen=True, slots=True)
class Rounds:
    """How suspects are looked at.

    Attributes:
        rounds: How often after the first look.
        evidence: For the reasons.
        throttle: As ``Looker.look``.
        big: As ``Looker.look``; None: big keys end as they came in, as differences of an unknown kind.
        calm: Knows whether anything at all was written; None: what rests is waited for in any case.
    """

    rounds: int = len(PAUSES_S)
    evidence: Evidence = field(default_factory=Evidence)
    pause: Pause = time.sleep
    on_round: OnRound = lambda number, left: None
    throttle: Throttle = lambda keys, size: None
    big: BigLook | None = None
    calm: Calm | None = None


def look_again(looker: Looker, places: Sequence[Place], tolerance_ms: int, rounds: Rounds) -> list[Judgement]:
    """Judges every key, in the order in which they came.

    Args:
        places: Source databases and keys, each once; memory grows with them (about 1 KB each), so a caller with very
            many brings them in groups.

    Raises:
        ServerAway, ServerBusy: A server cannot answer now: call again, from the beginning.
        ServerError: One refuses for good.
    """
    work = _Work(looker, places, tolerance_ms, rounds)
    work.run()
    return [suspect.judge(rounds.evidence) for suspect in work.suspects.values()]


class _Work:
    """One ``look_again``."""

    def __init__(self, looker: Looker, places: Sequence[Place], tolerance_ms: int, rounds: Rounds) -> None:
        self._looker, self._rounds = looker, rounds
        self.suspects = {place: Suspect(*place, tolerance_ms) for place in places}
        self._left = list(self.suspects)
        self._looked_s = 0.0

    def run(self) -> None:
        rounds = self._rounds
        if rounds.calm is not None:
            rounds.calm.look()
        quiet = False
        for number in range(rounds.rounds + 1):
            rounds.on_round(number, len(self._left))
            if number:
                rounds.pause(pause_s(number))
            self._look(number)
            quiet = self._is_quiet()
            if quiet or not self._left:
                break
        for left in range(MORE_PAUSES, -1, -1):
            self._finish(quiet=quiet, pauses_left=left)
            if not self._left:
                return
            rounds.pause(pause_s(rounds.rounds))
            self._look(rounds.rounds)

    def _is_quiet(self) -> bool:
        calm = self._rounds.calm
        return bool(self._left) and calm is not None and calm.proves(self._looked_s)

    def _look(self, number: int) -> None:
        """One look at every key that is left."""
        self._looked_s = time.monotonic()
        with_big = number % BIG_EVERY == 0 or number == self._rounds.rounds
        looks = self._looker.look(
            self._left,
            self._known,
            throttle=self._rounds.throttle,
            big=self._rounds.big if with_big else None,
        )
        cleared = {place for place, look in looks if self.suspects[place].take(look)}
        self._left = [place for place in self._left if place not in cleared]

    def _known(self, place: Place) -> Look | None:
        return self.suspects[place].last

    def _finish(self, *, quiet: bool, pauses_left: int) -> None:
        """Keeps only those that wait for another look."""
        waiting, hot = [], []
        for place in self._left:
            match self.suspects[place].next(quiet=quiet, pauses_left=pauses_left):
                case Next.PAUSE:
                    waiting.append(place)
                case Next.BURST:
                    hot.append(place)
        small = [place for place in hot if self.suspects[place].can_burst(BURST_BYTES_MAX)]
        for begin in range(0, min(len(small), BURST_KEYS * BURST_GROUPS_MAX), BURST_KEYS):
            self._burst(small[begin : begin + BURST_KEYS])
        rested = [
            place
            for place in hot
            if self.suspects[place].next(after_burst=True, pauses_left=pauses_left) is Next.PAUSE
        ]
        self._left = waiting + rested

    def _burst(self, places: list[Place]) -> None:
        """Many looks in short order, at keys that change at every look."""
        until_s = time.monotonic() + BURST_S
        while places and (now := time.monotonic()) < until_s:
            looks = self._looker.look(places, self._known, measured=True, throttle=self._rounds.throttle)
            cleared = {place for place, look in looks if self.suspects[place].take(look, in_burst=True)}
            places = [place for place in places if place not in cleared]
            took_s = time.monotonic() - now
            self._rounds.pause(max(BURST_GAP_S, BURST_SHARE * took_s if took_s > BURST_GAP_S else 0.0))


def write_marks(routes: Routes, servers: Sequence[tuple[Side, str]]) -> WriteMarks | None:
    """Counters that stand still while nothing is written; None when a server does not tell them.

    ``rdb_changes_since_last_save`` counts every change of the data (``server.dirty``), and begins anew with a save.

    Args:
        servers: Sides and shard ids.

    Raises:
        ServerAway: One cannot be reached.
    """
    found = []
    for side, shard in servers:
        reply = routes.session(side, 0, shard).call("INFO", "persistence")
        info = parse_info(reply) if isinstance(reply, bytes) else {}
        changes = info_number(info, "persistence", "rdb_changes_since_last_save")
        saved = info_number(info, "persistence", "rdb_last_save_time")
        if changes is None or saved is None:
            return None
        found.append((changes, saved))
    return tuple(found)
