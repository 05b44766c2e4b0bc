"""Short words for settings."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from exploring.histories import Act, Op
from exploring.model import explored
from exploring.search import Explored
from exploring.world import Setting, State

INCR, SET, DEL, GET, SETEX = (Op(act) for act in (Act.INCR, Act.SET, Act.DEL, Act.GET, Act.SETEX))
OVERTURNED = "two sides have authority"
UNTRUE = "what the application was told is not so"
APART = "the sides differ, and nobody knows"
STANDSTILL = "a coordinator waits for ever"


def on(key: int, op: Op) -> Op:
    """The same operation, on another key."""
    return op._replace(key=key)


def rename(key: int, to: int) -> Op:
    """RENAME."""
    return Op(Act.RENAME, key, to)


def finds_nothing(setting: Setting) -> Explored[State]:
    """Explores; fails when anything is wrong.

    Returns:
        What was explored, so that a test can look at its size.
    """
    result = explored(setting)
    assert not result.wrong, str(result)
    assert result.ends
    return result


def finds(setting: Setting, broken: Collection[str] | str, wrong: str) -> Explored[State]:
    """Explores with rules taken out; fails when nothing is wrong with that, or something else."""
    result = explored(replace(setting, broken=frozenset({broken} if isinstance(broken, str) else broken)))
    assert result.wrong == wrong, str(result)
    return result
