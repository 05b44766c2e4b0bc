"""What a comparison of two servers shows while it runs, and says at its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from keyferry.telemetry.progress import ThrottleState

Reason = Literal[
    "never copied",
    "evicted on the target",
    "stale",
    "expiry differs",
    "changed on the target",
    "type clash",
    "only on the target",
    "unreadable",
    "changes all the time",
]
"""Why a key differs, as far as can be told. ``changes all the time``: it could not be caught equal, nor proven
different."""

REASONS: tuple[Reason, ...] = (
    "never copied",
    "stale",
    "expiry differs",
    "type clash",
    "changed on the target",
    "evicted on the target",
    "only on the target",
    "unreadable",
    "changes all the time",
)


@dataclass(frozen=True, slots=True)
class Difference:
    """A key that differs for good.

    Attributes:
        database: The source's.
        type_source: As TYPE says it, ``none`` where the key is not there.
        differs: What differs in it: one dict per thing, ``{"what": "value"}``, ``{"what": "field", "name": ...}``;
            names are printable text, values are never in it.
    """

    key: bytes
    database: int
    reason: Reason
    type_source: str
    type_target: str
    differs: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class VerifyProgress:
    """One look at a running comparison. Estimates and rates as in ``Progress``.

    Attributes:
        stage: connecting, comparing, looking for extra keys, looking again, repairing.
        keys_total: Of the source and, in the second direction, of the target.
        suspects: Keys that differed and are to be looked at again.
        round: Of the looks at suspects, from 1; 0 before.
    """

    stage: str
    database: int
    keys_total: int
    keys_done: int
    suspects: int
    round: int
    rounds: int
    differences: int
    elapsed_s: float
    keys_per_second: float
    seconds_left: float | None
    source_latency_ms: float | None
    target_latency_ms: float | None
    throttle: ThrottleState


@dataclass(slots=True)
class VerifyReport:
    """The outcome.

    Attributes:
        compared: Keys of the source that were compared.
        looked_for: Keys of the target that were looked for on the source.
        suspects: Keys that differed at their first look.
        reasons: Keys that stayed different, by reason.
        first: The first differences, at most 20.
        repaired: Keys that were settled (``--repair``), ``deleted`` extra ones (``--delete-extra``).
        not_compared: What of values these two servers cannot both say -> keys (as ``CopyReport.notes``).
    """

    compared: int = 0
    looked_for: int = 0
    suspects: int = 0
    reasons: dict[Reason, int] = field(default_factory=dict)
    first: list[Difference] = field(default_factory=list)
    repaired: int = 0
    deleted: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    throttled_seconds: float = 0.0
    sampled: bool = False
    not_compared: dict[str, int] = field(default_factory=dict)

    @property
    def differences(self) -> int:
        """Keys that stayed different and were not repaired or deleted."""
        return sum(self.reasons.values())

    @property
    def equal(self) -> bool:
        return not self.differences

    def as_dict(self) -> dict[str, Any]:
        rate = self.compared / self.seconds if self.seconds > 0 else 0.0
        return {
            "equal": self.equal,
            "compared": self.compared,
            "looked_for": self.looked_for,
            "suspects": self.suspects,
            "differences": self.differences,
            "reasons": dict(self.reasons),
            "repaired": self.repaired,
            "deleted": self.deleted,
            "sampled": self.sampled,
            "not_compared": self.not_compared,
            "seconds": round(self.seconds, 3),
            "keys_per_second": round(rate),
            "cpu_seconds": round(self.cpu_seconds, 3),
            "throttled_seconds": round(self.throttled_seconds, 3),
        }


VerifyObserver = Callable[[VerifyProgress], None]
"""Called at most ten times a second."""
