"""What a running migration shows, and the report that is made of its journal at any moment.

A migration outlives its processes: nothing here is counted in memory alone. The conductor notes events of these kinds
and facts under these keys; ``report_of`` puts them together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal

from keyferry.model.phases import Side
from keyferry.telemetry.following import SyncProgress
from keyferry.telemetry.timeline import Span, timeline_of

MigrationStage = Literal[
    "connecting",
    "copying",
    "comparing",
    "following",
    "verifying",
    "waiting for a server",
    "switching",
    "following back",
    "switched",
    "finished",
]
Direction = Literal["cutover", "rollback"]
SwitchOutcome = Literal["done", "undone", "put off", "unknown"]
Ended = Literal["", "finished", "aborted"]

STATIONS = ("copy", "follow", "verify", "ready", "cut over", "follow back")
"""The way of a migration, as people are shown it."""
EVENTS_SHOWN = 20
WARNINGS_MAX = 100
"""In a report."""


class EventKind(StrEnum):
    """Of what the journal is told; the facts that go with it."""

    STARTED = "started"
    """A process has begun to lead: ``seen_ms``, when the one before it was alive for the last time."""
    STAGE = "stage"
    """``stage``: it has entered another one, at ``at_ms`` (in a switch it is noted afterwards)."""
    TOLD = "told"
    """``text``: a sentence for people."""
    WARNING = "warning"
    """``text``: a sentence that belongs into the report."""
    VERIFICATION = "verification"
    """As ``Verified.as_dict``."""
    SWITCH = "switch"
    """As ``SwitchReport.as_dict``, when it is over."""
    MOVED = "moved"
    """``direction``, and what ``SyncReport.as_dict`` says, when a run of the feed in this direction is over."""


REPORTED = tuple(kind for kind in EventKind if kind is not EventKind.TOLD)
"""What a report is made of."""


class FactKey(StrEnum):
    """What the journal keeps the newest value of."""

    CLAIM = "claim"
    """``source``, ``target``: locations, and ``identity``."""
    STAGES = "stages"
    """As ``StageTimes.as_dict``."""
    PHASE = "phase"
    """``phase``, ``epoch``, ``authority`` as last seen in the records."""
    MOVING = "moving"
    """As the facts of ``EventKind.MOVED``, of the run that is not over."""
    SAMPLES = "samples"
    """As ``Samples.as_dict``."""
    WRITERS = "writers"
    """The largest number of live writers seen."""
    BARRED = "barred"
    """How far the old side is barred, as a sentence."""
    SWITCH = "switch"
    """The switch under way, and its steps: only while there is one."""
    STOPPED = "stopped"
    """``error``, ``hint``, ``exit_code``, ``at_ms``: how the process that led it last ended before its time."""
    SEEN = "seen_ms"
    """When its process was alive; noted every few seconds."""
    ENDED = "ended"
    """``how``: finished or aborted; ``at_ms``; ``advice``: sentences on what may be switched off."""


@dataclass(frozen=True, slots=True)
class Verified:
    """One verification of all keys.

    Attributes:
        at_ms: When it was over; by this machine's clock, since 1970.
        direction: From the side with authority to the other one.
    """

    at_ms: int
    compared: int
    differences: int
    seconds: float = 0.0
    direction: str = "source to target"

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "seconds": round(self.seconds, 3)}


@dataclass(slots=True)
class SwitchReport:
    """One cutover or rollback, from the first step to the last.

    Attributes:
        at_ms: When it began.
        gate: Its name (plan.Gate).
        gate_ms: From closing the gate to opening it, also when it was undone; None: nobody has waited.
        steps: Names and seconds, in the order in which they were done; undone ones as ``undo-...``.
        reason: Why it was undone or put off.
        phase, epoch: Of the record when it was over.
        writers: Live ones that took part.
        settled: Keys made equal under the gate; ``compared``: keys compared under it.
        barred: How far the old side is barred, as a sentence.
        hook: What became of the hook, as a sentence; empty without one.
    """

    direction: Direction
    at_ms: int
    gate: str = ""
    outcome: SwitchOutcome = "unknown"
    gate_ms: float | None = None
    steps: list[tuple[str, float]] = field(default_factory=list)
    reason: str = ""
    phase: str = ""
    epoch: int = 0
    writers: int = 0
    settled: int = 0
    compared: int = 0
    differences: int = 0
    barred: str = ""
    hook: str = ""
    hook_failed: bool = False
    warnings: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "gate_ms": None if self.gate_ms is None else round(self.gate_ms, 3),
            "steps": [{"step": step, "seconds": round(seconds, 6)} for step, seconds in self.steps],
        }

    @classmethod
    def of_dict(cls, data: Mapping[str, Any]) -> SwitchReport:
        """What ``as_dict`` said. Raises TypeError or KeyError for anything else."""
        steps = [(one["step"], one["seconds"]) for one in data["steps"]]
        return cls(**{**data, "steps": steps})


class StageTimes:
    """How long a migration has been in each stage, over all its processes. Knows no clock."""

    def __init__(self, kept: Mapping[str, float] | None = None) -> None:
        """``kept``: what ``as_dict`` of an earlier process said."""
        self._seconds = dict(kept or {})
        self._stage = ""
        self._since_s = 0.0

    @property
    def stage(self) -> str:
        return self._stage

    def enter(self, stage: str, now_s: float) -> bool:
        """Whether this is another stage than before."""
        if stage == self._stage:
            return False
        self._add(now_s)
        self._stage = stage
        self._seconds.setdefault(stage, 0.0)
        return True

    def _add(self, now_s: float) -> None:
        if self._stage:
            self._seconds[self._stage] += max(0.0, now_s - self._since_s)
        self._since_s = now_s

    def as_dict(self, now_s: float) -> dict[str, float]:
        """Seconds by stage, in the order in which they were first entered."""
        self._add(now_s)
        return {stage: round(seconds, 3) for stage, seconds in self._seconds.items()}


@dataclass(frozen=True, slots=True)
class MigrationProgress:
    """One look at a running migration.

    Attributes:
        sync: Of the direction that is followed now; None before there is one.
        stage: What it does now.
        step: Of a switch that runs (plan.Step); empty else.
        phase: Of the record that counts; empty while there is none.
        paused: By an operator: none of our writes goes out.
        writers: Live ones, registered on the side with authority.
        not_ready: Why it cannot be switched now, as sentences; empty when it can.
        verified: The last verification; None before the first.
        last_switch: That came to an end; None before the first.
        elapsed_s: Of this process.
    """

    sync: SyncProgress | None
    stage: MigrationStage
    phase: str = ""
    epoch: int = 0
    authority: Side = Side.SOURCE
    paused: bool = False
    writers: int = 0
    not_ready: tuple[str, ...] = ()
    step: str = ""
    verified: Verified | None = None
    last_switch: SwitchReport | None = None
    elapsed_s: float = 0.0

    @property
    def ready(self) -> bool:
        return not self.not_ready and self.stage in ("following", "following back", "verifying")


def in_migration_words(progress: MigrationProgress) -> SyncProgress | None:
    """Its numbers by the migration's source and target: a run that follows the target back calls it its source.

    Done twice, it is undone.
    """
    sync = progress.sync
    if sync is None or progress.authority is Side.SOURCE:
        return sync
    return replace(
        sync,
        source_latency_ms=sync.target_latency_ms,
        target_latency_ms=sync.source_latency_ms,
        away=Side(sync.away).other.value if sync.away else "",
    )


def station(progress: MigrationProgress, before: int) -> int:
    """Where it is on its way, as an index into STATIONS; one past the last when it is finished.

    Args:
        before: Where it was at the last look: a server that is away does not change that.
    """
    if progress.stage == "finished":
        return len(STATIONS)
    if progress.stage == "waiting for a server":
        return before
    if progress.stage in ("switching", "switched"):
        return STATIONS.index("cut over")
    if progress.authority is Side.TARGET:
        return STATIONS.index("follow back")
    if progress.ready:
        return STATIONS.index("ready")
    known = {"following": "follow", "verifying": "verify"}
    return STATIONS.index(known.get(progress.stage, "copy"))


@dataclass(slots=True)
class MigrationReport:
    """What a migration has done until now, or all of it when it is over.

    Attributes:
        source, target: Locations, never with a user or a password.
        ended: Empty while it can go on.
        stages: Seconds by stage.
        began_ms, seen_ms: When its first process began, and when something was heard of it for the last time; 0 when
            nobody knows.
        timeline: When it was in which stage.
        stopped: As ``FactKey.STOPPED``; empty when nothing was heard of an error since the last start.
        moved: What ``SyncReport.as_dict`` said, and ``direction``, of each run of a feed that came to an end.
        writers: The largest number of live ones seen.
        starts: How many processes have led it.
        advice: What may be switched off now, as sentences.
    """

    name: str
    source: str
    target: str
    ended: Ended = ""
    phase: str = ""
    authority: str = ""
    began_ms: int = 0
    seen_ms: int = 0
    stages: dict[str, float] = field(default_factory=dict)
    timeline: list[Span] = field(default_factory=list)
    stopped: dict[str, Any] = field(default_factory=dict)
    moved: list[dict[str, Any]] = field(default_factory=list)
    switches: list[SwitchReport] = field(default_factory=list)
    verifications: list[Verified] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    writers: int = 0
    starts: int = 0
    barred: str = ""
    advice: list[str] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """Keys that could not be carried, by the newest run that says it."""
        return next((run["failed"] for run in reversed(self.moved) if "failed" in run), 0)

    @property
    def clean(self) -> bool:
        """Nothing is left that somebody should look at."""
        hooks_failed = any(switch.hook_failed for switch in self.switches)
        return self.ended == "finished" and not self.failed and not hooks_failed

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "source": self.source,
            "target": self.target,
            "ended": self.ended,
            "phase": self.phase,
            "authority": self.authority,
            "seconds": round(sum(self.stages.values()), 3),
            "began_ms": self.began_ms,
            "seen_ms": self.seen_ms,
            "stages": self.stages,
            "timeline": [span.as_dict() for span in self.timeline],
            "stopped": self.stopped,
            "moved": self.moved,
            "switches": [switch.as_dict() for switch in self.switches],
            "verifications": [one.as_dict() for one in self.verifications],
            "warnings": self.warnings,
            "writers": self.writers,
            "starts": self.starts,
            "barred": self.barred,
            "advice": self.advice,
        }


_Noted = tuple[int, str, Mapping[str, Any]]


def report_of(name: str, facts: Mapping[str, Any], events: Iterable[_Noted]) -> MigrationReport:
    """The report of a journal.

    Args:
        facts: By ``FactKey``.
        events: When (ms since 1970), of which ``EventKind``, and with which facts; the oldest first. Those of other
            kinds do not count.
    """
    claim = facts.get(FactKey.CLAIM, {})
    ended = facts.get(FactKey.ENDED, {})
    phase = facts.get(FactKey.PHASE, {})
    report = MigrationReport(
        name=name,
        source=claim.get("source", ""),
        target=claim.get("target", ""),
        ended=ended.get("how", ""),
        phase=phase.get("phase", ""),
        authority=phase.get("authority", ""),
        stages=dict(facts.get(FactKey.STAGES, {})),
        writers=facts.get(FactKey.WRITERS, 0),
        barred=facts.get(FactKey.BARRED, ""),
        advice=list(ended.get("advice", ())),
    )
    noted = list(events)
    warnings: dict[str, None] = {}
    for at_ms, kind, its in noted:
        match kind:
            case EventKind.STARTED:
                report.starts += 1
                report.began_ms = report.began_ms or at_ms
            case EventKind.WARNING:
                warnings[its["text"]] = None
            case EventKind.VERIFICATION:
                report.verifications.append(Verified(**its))
            case EventKind.SWITCH:
                report.switches.append(SwitchReport.of_dict(its))
                warnings.update(dict.fromkeys(its["warnings"]))
            case EventKind.MOVED:
                report.moved.append(dict(its))
    if FactKey.MOVING in facts:
        report.moved.append(dict(facts[FactKey.MOVING]))
    report.warnings = list(warnings)[-WARNINGS_MAX:]
    _add_times(report, facts, noted)
    return report


def _add_times(report: MigrationReport, facts: Mapping[str, Any], events: Sequence[_Noted]) -> None:
    starts = [at_ms for at_ms, kind, _ in events if kind == EventKind.STARTED]
    entered = [
        (its.get("at_ms", at_ms), its["stage"]) for at_ms, kind, its in events if kind == EventKind.STAGE
    ]
    # Not every event: some tell of an earlier process and are noted by the next one.
    heard = [row[0] for row in facts.get(FactKey.SAMPLES, {}).get("rows", ())]
    heard += [its["seen_ms"] for _, kind, its in events if kind == EventKind.STARTED and its.get("seen_ms")]
    stopped = facts.get(FactKey.STOPPED, {})
    if stopped and stopped["at_ms"] >= max(starts, default=0):
        report.stopped = dict(stopped)
    over_ms = facts.get(FactKey.ENDED, {}).get("at_ms") or report.stopped.get("at_ms")
    newest_ms = max((at_ms for at_ms, _, _ in events), default=0)
    report.seen_ms = over_ms or max([facts.get(FactKey.SEEN, 0), newest_ms, *heard])
    # What it has ended in is no stage that lasts.
    report.timeline = timeline_of(
        [one for one in entered if one[1] != "finished"], starts, heard, report.seen_ms
    )


MigrationObserver = Callable[[MigrationProgress], None]
"""Called at most ten times a second."""
