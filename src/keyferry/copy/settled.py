"""What a pipeline reports of pages that are done."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from keyferry.transfer.config import Settled


@dataclass(frozen=True, slots=True)
class Failure:
    """One key that was not carried, and why."""

    key: bytes
    database: int
    reason: str


@dataclass(frozen=True, slots=True)
class SettledPages:
    """Acknowledged by the target, whole."""

    settled: Settled
    failures: list[Failure]
    notes: Counter[str]
