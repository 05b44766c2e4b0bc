"""One line of the check, and how its figures are written."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["ok", "warning", "stop"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What the check says about one thing.

    Attributes:
        topic: A word or two, the same for the same thing.
        sentence: What is so, with figures. Never holds a password.
        advice: What to do about it; empty where nothing is to be done.
    """

    level: Level
    topic: str
    sentence: str
    advice: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun if number == 1 else noun + 's'}"


def size(number: float) -> str:
    """Bytes in thousands: 999 B, 1.5 KB, 24.1 MB, 3.0 GB."""
    for unit in ("B", "KB", "MB"):
        if number < 999.95:
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def listed(names: list[str], most: int = 5) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def could_not_look(topic: str, what: str, reason: str, advice: str = "") -> Finding:
    """An honest gap: a warning, because what was not looked at is not known to be well."""
    return Finding("warning", topic, f"Could not look at {what} ({brief(reason) or 'no answer'}).", advice)


def brief(reply: str) -> str:
    """A server's error without the arguments that it repeats."""
    return reply.partition(", with args")[0].strip()


def databases_named(databases: list[int]) -> str:
    """database 3; databases 0, 3."""
    return f"database{'s' if len(databases) > 1 else ''} {', '.join(map(str, databases))}"
