"""Which feed a side uses, from what its servers allow; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from keyferry.capture.kinds import FeedKind
from keyferry.model.errors import RefusedError

BEST_FIRST = (FeedKind.TRACKING, FeedKind.NOTIFICATIONS, FeedKind.SWEEPS)
"""``WRITERS`` is never chosen: no server can tell whether every writer reports."""


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether one server allows a feed.

    Attributes:
        sentence: Why not; of a feed that is there, what has to be known of it, or nothing.
        hint: How to have it.
    """

    kind: FeedKind
    available: bool
    sentence: str = ""
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.sentence} {self.hint}".strip()


@dataclass(frozen=True, slots=True)
class Choice:
    """The feed of a side.

    Attributes:
        sentences: Why no better one is used, and what this one cannot do; for people.
    """

    kind: FeedKind
    sentences: list[str] = field(default_factory=list)


def choose(found: Sequence[list[Availability]], wanted: FeedKind | None) -> Choice:
    """The best feed that every server has, or the one that is ``wanted``.

    Args:
        found: What ``probe`` says of each server of the side.

    Raises:
        RefusedError: A server does not have the one that is wanted.
    """
    sentences: list[str] = []
    for kind in BEST_FIRST if wanted is None else (wanted,):
        answers = [answer for server in found for answer in server if answer.kind is kind]
        missing = next((answer for answer in answers if not answer.available), None)
        if missing is None:
            sentences += dict.fromkeys(str(answer) for answer in answers if str(answer))
            return Choice(kind, sentences)
        if wanted is not None:
            raise RefusedError(missing.sentence, missing.hint)
        sentences.append(str(missing))
    raise ValueError("sweeps are always there")
