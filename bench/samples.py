"""What is measured, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field


class BenchError(Exception):
    """A row did not do what it should have done; the message says what."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one run of a row says of itself.

    Attributes:
        keys: Keys that were to arrive.
        seconds: The copying itself: from its first request to its last reply.
        process_seconds: From the start of the tool's process to its end; None where there is no such process.
        tool_cpu_s: User and system time of the tool's whole process, or of the benchmark's own replay.
        phase_cpu_s: The part of it in the copying phase, where the tool says so.
        tool_peak_bytes: Largest resident memory of the tool's process.
    """

    keys: int
    seconds: float
    process_seconds: float | None = None
    tool_cpu_s: float | None = None
    phase_cpu_s: float | None = None
    tool_peak_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of a row, with what the servers used meanwhile."""

    work: Work
    source_cpu_s: float
    target_cpu_s: float


@dataclass(slots=True)
class Latency:
    """What the light client saw, in microseconds from the due time of each request."""

    rounds: list[list[int]] = field(default_factory=list)
    client_cpu_shares: list[float] = field(default_factory=list)
    """Of one core, per round."""

    @property
    def pooled(self) -> list[int]:
        return sorted(value for values in self.rounds for value in values)


@dataclass(slots=True)
class RowResult:
    """All runs of one row on one data set. ``problem`` says why there are none, or fewer."""

    name: str
    title: str
    samples: list[Sample] = field(default_factory=list)
    latency: Latency = field(default_factory=Latency)
    problem: str = ""
    failed: bool = False


@dataclass(frozen=True, slots=True)
class DataResult:
    """All rows on one data set.

    Attributes:
        keys: DBSIZE of the source.
        idle_us: What the light client saw while nothing else happened; sorted.
    """

    name: str
    title: str
    keys: int
    sample_keys: int
    rows: list[RowResult]
    idle_us: list[int]
