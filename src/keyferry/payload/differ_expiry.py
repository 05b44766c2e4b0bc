"""When a key expires, as exactly as its server says it, and whether two servers mean the same."""

from __future__ import annotations

from dataclasses import dataclass

from keyferry.payload.exchange import Changed, time_ms
from keyferry.payload.replies import integer_of
from keyferry.payload.write_commands import Abilities, Command
from keyferry.wire.resp import Reply

FOR_EVER = -1
INFERRED_SLACK_MS = 2
"""TIME and PTTL are each cut to milliseconds, and some time passes between them."""


@dataclass(frozen=True, slots=True)
class Expiry:
    """Unix milliseconds. Attributes: slack_ms: how far off ``at_ms`` may be; None: it never expires."""

    at_ms: int | None
    slack_ms: int = 0

    def moved(self, offset_ms: int) -> Expiry:
        """The same on a clock that is so far ahead."""
        return self if self.at_ms is None else Expiry(self.at_ms + offset_ms, self.slack_ms)

    def is_same(self, other: Expiry, tolerance_ms: int) -> bool:
        if self.at_ms is None or other.at_ms is None:
            return self.at_ms is other.at_ms
        return abs(self.at_ms - other.at_ms) <= tolerance_ms + self.slack_ms + other.slack_ms


def look_commands(key: bytes, abilities: Abilities) -> list[Command]:
    return [("PEXPIRETIME", key)] if abilities.expire_time else [("TIME",), ("PTTL", key), ("TIME",)]


def expiry_of(replies: list[Reply]) -> Expiry:
    """From the replies to ``look_commands``.

    Raises:
        Changed: The key is gone.
        Stop: They are something else.
    """
    match replies:
        case [at_ms]:
            at_ms, slack_ms = integer_of(at_ms), 0
        case [before, left_ms, after]:
            at_ms, slack_ms = integer_of(left_ms), INFERRED_SLACK_MS + time_ms(after) - time_ms(before)
        case _:
            raise AssertionError(replies)
    if at_ms == FOR_EVER:
        return Expiry(None)
    if at_ms < 0:
        raise Changed
    return Expiry(at_ms + (time_ms(replies[0]) if len(replies) > 1 else 0), slack_ms)
