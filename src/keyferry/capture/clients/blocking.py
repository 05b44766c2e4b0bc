"""How long a blocking command waits on its server, and the same command with less time left.

A blocked pop is taken back from the old side at a switch and waits on the new one for the rest of its time.
"""

from __future__ import annotations

from typing import Any

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
    return value / place[1] if value else float("inf")


def with_patience(name: str, args: tuple[Any, ...], seconds: float) -> tuple[Any, ...]:
    """The same command with so much time left; never 0, which would be for ever."""
    place = _place(name, args)
    if place is None or seconds == float("inf"):
        return args
    index, unit = place
    left: Any = max(1, round(seconds * 1000)) if unit == 1000.0 else max(0.001, round(seconds, 3))
    return (*args[:index], left, *args[index + 1 :])
