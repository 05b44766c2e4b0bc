"""How long a blocking command waits on its server, and the same command with less time left.

A blocked pop is taken back from the old side at a switch and waits on the new one for the rest of its time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

SLICE_SECONDS = 1.0
"""How long a command waits at once on a server that lets nobody take it back."""

_LAST = frozenset({"BLPOP", "BRPOP", "BRPOPLPUSH", "BLMOVE", "BZPOPMIN", "BZPOPMAX"})
_FIRST = frozenset({"BLMPOP", "BZMPOP"})
_STREAMS = frozenset({"XREAD", "XREADGROUP"})


def _place(name: str, args: tuple[Any, ...]) -> tuple[int, float] | None:
    """Where the time-out stands among the arguments, and how many of its units are a second."""
    if name in _LAST:
        return len(args) - 1, 1.0
    if name in _FIRST:
        return 1, 1.0
    if name in _STREAMS:
        for index, word in enumerate(args[1:-1], 1):
            text = word.decode("ascii", "replace") if isinstance(word, bytes) else word
            if isinstance(text, str) and text.upper() == "STREAMS":
                break
            if isinstance(text, str) and text.upper() == "BLOCK":
                return index + 1, 1000.0
    return None


def patience_seconds(name: str, args: tuple[Any, ...]) -> float | None:
    """How long the command may wait; infinity for 0, None for one that does not wait."""
    place = _place(name, args)
    if place is None:
        return None
    try:
        value = float(args[place[0]])
    except (TypeError, ValueError):
        return None  # the server will say what is wrong with it
    return value / place[1] if value else math.inf


def with_patience(name: str, args: tuple[Any, ...], seconds: float) -> tuple[Any, ...]:
    """The same command with so much time left; never 0, which would be for ever."""
    place = _place(name, args)
    if place is None or seconds == math.inf:
        return args
    index, unit = place
    left: Any = max(1, round(seconds * 1000)) if unit == 1000.0 else max(0.001, round(seconds, 3))
    return (*args[:index], left, *args[index + 1 :])


class Patience:
    """How long the application lets one blocking command wait, wherever it waits.

    Args:
        name: the command's.
        args: the command.
        seconds: as `patience_seconds` says.
        now_s: seconds of a clock that never goes back.
    """

    __slots__ = ("_args", "_ends_s", "_name")

    def __init__(self, name: str, args: tuple[Any, ...], seconds: float, now_s: float) -> None:
        self._name, self._args = name, args
        self._ends_s = now_s + seconds

    def left(self, now_s: float) -> float:
        """Seconds; infinity for a command that waits for ever."""
        return max(0.0, self._ends_s - now_s)

    def open_ends(self) -> list[tuple[int, Any]]:
        """Which streams it still reads from their end on: where their "$" stands, and the key."""
        return open_ends(self._name, self._args)

    def pin(self, ids: Sequence[tuple[int, Any]]) -> None:
        """Puts ids in the place of "$" (index and id): it means the end of the stream as it was at the beginning."""
        args = list(self._args)
        for index, identity in ids:
            args[index] = identity
        self._args = tuple(args)

    def command(self, now_s: float, *, sliced: bool) -> tuple[Any, ...]:
        """The command for the time that is left, or for a slice of it."""
        left = self.left(now_s)
        return with_patience(self._name, self._args, min(left, SLICE_SECONDS) if sliced else left)


def open_ends(name: str, args: tuple[Any, ...]) -> list[tuple[int, Any]]:
    """Which streams an XREAD reads from their end on: where their "$" stands, and the key."""
    if name != "XREAD":
        return []
    words = [word.decode("ascii", "replace") if isinstance(word, bytes) else str(word) for word in args]
    start = next((index for index, word in enumerate(words) if word.upper() == "STREAMS"), len(words)) + 1
    count = (len(words) - start) // 2
    return [(start + count + at, args[start + at]) for at in range(count) if words[start + count + at] == "$"]
