"""What the section about a sync asks for and gets, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field

from bench.following import Snapshot
from bench.load import Load, Written
from bench.samples import Sample

TIMEOUT_S = 120.0
SLOWEST_KEYS_PER_S = 1_000
UNIFORM, HOT = "uniform", "hot"
LOADS = (UNIFORM, HOT)


@dataclass(frozen=True, slots=True)
class SyncSize:
    """How much is done.

    Attributes:
        rate: Writes per second.
        seconds: Of each load.
        hot_keys: What the second load hits mostly.
        backlog: Dirty keys; they are written within the seconds that the sync bears a silent target.
    """

    keys: int
    rate: int
    seconds: float
    hot_keys: int
    backlog: int
    backlog_rate: int

    @property
    def timeout_s(self) -> float:
        return TIMEOUT_S + self.keys / SLOWEST_KEYS_PER_S

    def loads(self, round_number: int) -> dict[str, Load]:
        """Name -> load; other keys and values in each round."""
        writes, seed = int(self.rate * self.seconds), 10 * round_number
        return {
            UNIFORM: Load(writes, self.rate, self.keys, seed=seed),
            HOT: Load(writes, self.rate, self.keys, self.hot_keys, seed=seed + 1),
        }


@dataclass(frozen=True, slots=True)
class Plain:
    """A load without a sync. CPU in cores: seconds per second."""

    written: Written
    source_cpu: float


@dataclass(frozen=True, slots=True)
class Followed:
    """A load with a sync.

    Attributes:
        stamps_us: From a write until it was seen on the target.
        snapshots: What the sync showed meanwhile.
    """

    written: Written
    stamps_us: list[int]
    snapshots: list[Snapshot]
    source_cpu: float
    target_cpu: float

    @property
    def tool_cpu(self) -> float:
        return (self.snapshots[-1].cpu_s - self.snapshots[0].cpu_s) / self.seconds

    @property
    def seconds(self) -> float:
        """From the first snapshot to the last."""
        return self.snapshots[-1].at_s - self.snapshots[0].at_s

    @property
    def settled_keys(self) -> int:
        return self.snapshots[-1].settled_keys - self.snapshots[0].settled_keys

    @property
    def settling_cpu_us(self) -> float:
        """Of the tool, per dirty key that was settled."""
        return 1e6 * (self.snapshots[-1].cpu_s - self.snapshots[0].cpu_s) / max(1, self.settled_keys)


@dataclass(frozen=True, slots=True)
class Backlog:
    """Dirty keys that had gathered while the target was silent.

    Attributes:
        seconds: From the target's coming back until nothing was dirty.
        cpu_s: Of the tool, in these.
        memory_bytes: What the tool's resident memory had grown by when all were dirty.
        name_bytes: Of all their names.
    """

    keys: int
    seconds: float
    cpu_s: float
    memory_bytes: int
    name_bytes: int

    @property
    def per_second(self) -> float:
        return self.keys / self.seconds

    @property
    def bytes_per_key(self) -> float:
        """Without the name's own."""
        return (self.memory_bytes - self.name_bytes) / self.keys


@dataclass(slots=True)
class SyncRow:
    """All rounds with one setting. ``loads``: load's name -> one per round."""

    name: str
    title: str
    arguments: tuple[str, ...]
    copies: list[Sample] = field(default_factory=list)
    loads: dict[str, list[Followed]] = field(default_factory=lambda: {name: [] for name in LOADS})
    backlogs: list[Backlog] = field(default_factory=list)
    problem: str = ""
    failed: bool = False


@dataclass(frozen=True, slots=True)
class SyncResult:
    size: SyncSize
    plain: dict[str, list[Plain]]
    rows: list[SyncRow]
