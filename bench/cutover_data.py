"""What the section about switches asks for and gets, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field

from keyferry.testing.service import Habits
from keyferry.testing.service_crowd import Counted, Tally
from keyferry.testing.service_waits import Gap

TICKS_PER_S = 12.5
"""Of each process. A client in Python takes its time per call: with twice as many calls for the same writes, 20 processes
took 1.1 cores instead of 0.6."""
CUTOVER, ROLLBACK = "cutover", "rollback"
DIRECTIONS = (CUTOVER, ROLLBACK)


@dataclass(frozen=True, slots=True)
class CutoverSize:
    """How much is done.

    Attributes:
        writes_per_s: Of all processes together.
        pairs: Cutovers, each followed by a rollback.
        rest_s: Between two switches.
        quiet_s: Of load before the first one.
    """

    keys: int
    processes: int
    writes_per_s: int
    pairs: int
    rest_s: float
    quiet_s: float

    def habits(self) -> Habits:
        """Of each process: in every tick one pipeline of SETs, one single INCR, RPUSH or the like, and one read."""
        in_tick = round(self.writes_per_s / self.processes / TICKS_PER_S)
        return Habits(TICKS_PER_S, in_tick - 1, 1, 1, wide_keys=self.keys, wide_share=0.97)


@dataclass(frozen=True, slots=True)
class Switched:
    """One switch, as it was seen from outside, by the application.

    Attributes:
        direction: One of ``DIRECTIONS``.
        gate_s: As the tool itself says; None where it does not.
        gap: From the first write that was held to the first that came back; None when none was held.
        longest_s: The longest wait of a call that lay in the gap or began shortly after it.
        around_s: The longest wait while the whole command ran.
        seconds: From the command to its end.
        errors: Calls that failed while the command ran.
        steps: Of the tool, in seconds, by name.
    """

    direction: str
    gate_s: float | None
    gap: Gap | None
    longest_s: float
    around_s: float
    seconds: float
    errors: int
    steps: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class CutoverRow:
    """One way to switch.

    Attributes:
        quiet_us: Waits of calls while nobody switched; sorted.
        problem: Why it ended early.
        undone: Switches that were put off or undone, with the reason.
    """

    name: str
    title: str
    switches: list[Switched] = field(default_factory=list)
    undone: list[str] = field(default_factory=list)
    quiet_us: list[int] = field(default_factory=list)
    seconds: float = 0.0
    tally: Tally | None = None
    counted: Counted | None = None
    problem: str = ""
    failed: bool = False


@dataclass(frozen=True, slots=True)
class CutoverResult:
    size: CutoverSize
    rows: list[CutoverRow]
