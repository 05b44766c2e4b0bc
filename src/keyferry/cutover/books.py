"""What a switch writes down of itself while it runs, so that whoever starts next can put right what it left.

A note is made before a step; that the steps before it came to their end stands in the same note. While writes wait a note
is a write to a file that nobody syncs; rights that are going to be taken away are noted durably before the gate.
"""

from __future__ import annotations

from typing import Any

from keyferry.cutover.barring import Taken
from keyferry.cutover.plan import Gate, Step, Wish, undoes
from keyferry.journal.migration import MigrationJournal
from keyferry.model.phases import Phase, Side

SWITCH = "switch"


def _rights(side: Side) -> str:
    return f"rights-taken-{side}"


class SwitchBooks:
    """Of one migration; a switch begins with ``open`` and ends with ``close``."""

    def __init__(self, journal: MigrationJournal) -> None:
        self._journal = journal
        self._wish: dict[str, Any] = {}
        self._begun: list[str] = []
        self._done: list[str] = []

    def open(self, wish: Wish) -> None:
        """A switch begins."""
        self._wish = {
            "losing": str(wish.losing),
            "gate": str(wish.gate),
            "phase": str(wish.phase),
            "reverses": wish.reverses,
        }
        self._begun, self._done = [], []

    def close(self) -> None:
        """It is over: nothing of it is left to be put right."""
        self._journal.set(SWITCH, None)

    def begun(self, step: Step) -> None:
        """It is going to be done now."""
        if self._begun[-1:] != [str(step)]:  # tried again and again it is one step all the same
            self._begun.append(str(step))
        self._journal.set(SWITCH, {**self._wish, "begun": self._begun, "done": self._done})

    def ended(self, step: Step) -> None:
        """It has been done."""
        self._done.append(str(step))

    def left_behind(self) -> tuple[Wish, frozenset[Step]] | None:
        """The switch of an earlier process, with its steps that were begun and not undone; None without one."""
        found = self._journal.get(SWITCH)
        if found is None:
            return None
        wish = Wish(Side(found["losing"]), Gate(found["gate"]), Phase(found["phase"]), found["reverses"])
        undone = {undoes(Step(name)) for name in found["done"]}
        return wish, frozenset(step for name in found["begun"] if (step := Step(name)) not in undone)

    # Rights

    def took(self, side: Side, taken: Taken | None, *, durable: bool = False) -> None:
        """Rights that are, or are going to be, taken away on a side; None: they have been given back."""
        self._journal.set(_rights(side), taken.as_dict() if taken else None, durable=durable)

    def taken(self, side: Side) -> Taken | None:
        """As ``took`` was told last."""
        found = self._journal.get(_rights(side))
        return None if found is None else Taken.of_dict(found)
