"""Every state that can come to be, and the way to the first one that must not.

Depth first, because what is wrong mostly shows at an end. A state that is quiet, where nothing but a fault can happen,
is an end; one from which no end can be reached without faults is a standstill, or a ring that never closes.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

LARGE = bool(os.environ.get("KEYFERRY_EXPLORE_LARGE"))
"""Larger bounds: minutes instead of seconds."""
STATES_MAX = 20_000_000 if LARGE else 1_000_000

S = TypeVar("S", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Explored(Generic[S]):
    """What was found.

    Attributes:
        states: How many were looked at.
        ends: How many of them are quiet.
        wrong: What is wrong; empty when nothing is.
        way: The events that lead there.
        last: The state that is wrong.
    """

    states: int
    ends: int = 0
    wrong: str = ""
    way: tuple[str, ...] = ()
    last: S | None = None

    def __str__(self) -> str:
        told = "\n".join(f"  {number}. {event}" for number, event in enumerate(self.way, 1))
        return f"{self.wrong or 'nothing is wrong'} ({self.states} states, {self.ends} ends)\n{told}\n{self.last}"


class TooMany(Exception):
    """The bound on states was reached: nothing is known."""


def explore(
    begin: S,
    moves: Callable[[S], Iterable[tuple[str, S]]],
    faults: Callable[[S], Iterable[tuple[str, S]]],
    check: Callable[[S, bool], str],
    states_max: int = STATES_MAX,
) -> Explored[S]:
    """Looks at every state.

    Args:
        moves: What may happen next, with its name.
        faults: What may go wrong next.
        check: Of a state, and whether it is quiet: what is wrong with it, or an empty text.

    Raises:
        TooMany: There are more states than that.
    """
    numbers: dict[S, int] = {begin: 0}
    states, stack = [begin], [0]
    before, events = array("l", [-1]), [""]
    edges_from, edges_to = array("l"), array("l")
    ends: list[int] = []

    def way(number: int) -> tuple[str, ...]:
        told: list[str] = []
        while number > 0:
            told.append(events[number])
            number = before[number]
        return tuple(reversed(told))

    while stack:
        here = stack.pop()
        state = states[here]
        quiet = True
        for kind in (moves, faults):
            for event, following in kind(state):
                number = numbers.get(following)
                if number == here:
                    continue
                quiet = quiet and kind is faults
                if number is None:
                    number = numbers[following] = len(states)
                    states.append(following)
                    before.append(here)
                    events.append(event)
                    stack.append(number)
                    if number >= states_max:
                        raise TooMany(f"more than {states_max} states")
                if kind is moves:
                    edges_from.append(here)
                    edges_to.append(number)
        if quiet:
            ends.append(here)
        wrong = check(state, quiet)
        if wrong:
            return Explored(len(states), len(ends), wrong, way(here), state)
    lost = _cannot_end(len(states), edges_from, edges_to, ends)
    if lost is not None:
        return Explored(len(states), len(ends), "it never comes to an end", way(lost), states[lost])
    return Explored(len(states), len(ends))


def _cannot_end(count: int, edges_from: array[int], edges_to: array[int], ends: list[int]) -> int | None:
    """The first state from which no end can be reached."""
    sources: list[list[int]] = [[] for _ in range(count)]
    for origin, following in zip(edges_from, edges_to, strict=True):
        sources[following].append(origin)
    can = bytearray(count)
    stack = list(ends)
    for number in stack:
        can[number] = 1
    while stack:
        for number in sources[stack.pop()]:
            if not can[number]:
                can[number] = 1
                stack.append(number)
    lost = can.find(0)
    return None if lost < 0 else lost
