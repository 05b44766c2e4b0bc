"""What a copy says of itself at its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from keyferry.model.methods import Method

CARRYING_METHODS = (Method.RESTORE, Method.RESIGNED, Method.TRANSCODED, Method.LOGICAL)


@dataclass(slots=True)
class Counts:
    """What became of the keys. Every scanned key is copied, skipped, vanished or failed."""

    scanned: int = 0
    copied: int = 0
    skipped: int = 0
    vanished: int = 0
    failed: int = 0
    bytes: int = 0
    """Payload bytes of the copied keys."""
    methods: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    """Copied keys by ``Method``, in the order of ``CARRYING_METHODS``."""

    def add(self, other: Counts) -> None:
        self.scanned += other.scanned
        self.copied += other.copied
        self.skipped += other.skipped
        self.vanished += other.vanished
        self.failed += other.failed
        self.bytes += other.bytes
        self.methods = [mine + its for mine, its in zip(self.methods, other.methods, strict=True)]

    def as_dict(self) -> dict[str, Any]:
        return {
            "scanned": self.scanned,
            "copied": self.copied,
            "skipped": self.skipped,
            "vanished": self.vanished,
            "failed": self.failed,
            "bytes": self.bytes,
            "methods": {method.name.lower(): self.methods[method] for method in CARRYING_METHODS},
        }


@dataclass(slots=True)
class CopyReport:
    """``run`` is this run, ``total`` all runs of this copy since it began."""

    run: Counts
    total: Counts
    resumed: bool
    seconds: float
    total_seconds: float
    throttled_seconds: float
    notes: dict[str, int] = field(default_factory=dict)
    """What the target cannot hold and was therefore not carried -> number of keys."""
    cpu_seconds: float = 0.0
    """Processor time of this process while it copied."""
    functions: int = 0
    """Function libraries carried."""

    def as_dict(self) -> dict[str, Any]:
        rate = self.run.scanned / self.seconds if self.seconds > 0 else 0.0
        return {
            **self.run.as_dict(),
            "seconds": round(self.seconds, 3),
            "keys_per_second": round(rate),
            "cpu_seconds": round(self.cpu_seconds, 3),
            "throttled_seconds": round(self.throttled_seconds, 3),
            "resumed": self.resumed,
            **{f"total_{name}": value for name, value in self.total.as_dict().items()},
            "total_seconds": round(self.total_seconds, 3),
            "not_carried": self.notes,
            "functions": self.functions,
        }
