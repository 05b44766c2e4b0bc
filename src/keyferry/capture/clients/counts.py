"""What the clients of a process have done in a migration; read by `r.migration`, logs and metrics."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum


class Reason(StrEnum):
    """Why a key was reported for settling."""

    FAILED = "failed"  # the mirror side answered with an error
    UNKNOWN = "unknown"  # the second leg was sent and no reply came
    SKIPPED = "skipped"  # the circuit breaker is open
    OVERFLOW = "overflow"  # the background queue is full
    DIFFERED = "differed"  # the two replies differ
    REPORTED = "reported"  # cannot be repeated: scripts, stream groups, unknown commands
    RACED = "raced"  # a blocked pop ran beside another write to its key
    DOUBTFUL = "doubtful"  # the outcome of the first leg is unknown, or it was sent more than once
    SHADOW = "shadow"  # a shadow read differed


@dataclass(slots=True)
class Counts:
    """Counters of a crossing, since the process began.

    Attributes:
        mirrored: second legs that were sent as the command was.
        rewritten: second legs that were built from the first leg's reply.
        queued: second legs that wait in the background now.
        reported: keys reported, by reason.
        shadow_reads: reads repeated on the other side.
        shadow_differences: those that differed, by command.
        unknown_commands: commands that the table does not know, by name.
    """

    mirrored: int = 0
    rewritten: int = 0
    queued: int = 0
    reported: Counter[Reason] = field(default_factory=Counter)
    shadow_reads: int = 0
    shadow_differences: Counter[str] = field(default_factory=Counter)
    unknown_commands: Counter[str] = field(default_factory=Counter)

    @property
    def failed(self) -> int:
        """Keys whose second write failed, was skipped or is unknown."""
        kinds = (Reason.FAILED, Reason.UNKNOWN, Reason.SKIPPED, Reason.OVERFLOW)
        return sum(self.reported[kind] for kind in kinds)

    @property
    def differed(self) -> int:
        """Keys whose two replies differed."""
        return self.reported[Reason.DIFFERED]
