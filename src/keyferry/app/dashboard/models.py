"""The shapes of what is served and taken, for ``/openapi.json``: every field, with its unit.

Answers are passed on as the migration says them; a test holds them against these shapes, both ways.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from keyferry.cutover.plan import Gate

SideName = Literal["source", "target"]
RunKind = Literal["migrate", "sync"]
DirectionName = Literal["cutover", "rollback"]
UnixMs = Field(description="Unix time in milliseconds, by the clock of keyferry's machine.")


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", title=None)


class GlanceShape(_Shape):
    """The run in a few words, for somebody who looks up once."""

    doing: str = Field(description="What it does now, as a sentence.")
    health: Literal["good", "attention", "trouble"]
    why: str = Field(description="What is the matter, as a sentence; empty when nothing is.")
    left: str = Field(description="How long that will take, such as 'about 2 min left'; empty when unknown.")
    next: str = Field(description="What to do or to press next, and what not, as sentences.")
    command: str = Field(description="The command that `next` names to be given now; empty without one.")


class HotKeyShape(_Shape):
    """A key that changes often."""

    key: str = Field(description="Its name with --show-keys, else a mark that is the same within a run.")
    database: int
    per_second: float = Field(description="How often it is settled, per second.")
    size_bytes: int = Field(description="Of its value as it was last carried, in bytes.")
    pause_s: float = Field(description="It is carried at most every so many seconds.")


class BigKeyShape(_Shape):
    """A key that is carried in pieces, for its size."""

    key: str = Field(description="Its name with --show-keys, else a mark that is the same within a run.")
    database: int
    size_bytes: int = Field(description="As the source said, in bytes; 0 where it is not known.")
    members: int | None = Field(description="Members, fields or entries; null where they were not counted.")
    type: str = Field(description="As TYPE says; empty where it was not asked.")


class ShardShape(_Shape):
    """One server of the side that is followed."""

    shard: str = Field(description="Its address.")
    dirty_keys: int = Field(description="Keys that changed there and are not settled.")
    feed: str = Field(description="What names changes there; empty while nothing is attached.")
    keys_total: int | None = Field(description="Of the pass that scans it; null without one.")
    keys_done: int | None = Field(description="Of these, done; null without a pass.")
    latency_ms: float | None = Field(description="Of a small request of ours, in milliseconds.")


class ProgressShape(_Shape):
    """The direction that is followed now: after a cutover from the target back to the source."""

    keys_total: int = Field(description="Of the pass that runs: the copy, or a comparison.")
    keys_done: int
    keys_per_second: float
    seconds_left: float | None = Field(description="Of the pass, in seconds; null when unknown.")
    changes_per_second: float = Field(description="Keys named by the feed, per second.")
    dirty_keys: int = Field(description="Changed, and not equal on both sides yet.")
    lag_s: float = Field(description="Age of the oldest dirty key in seconds; 0 without one.")
    settled_keys: int = Field(description="Dirty keys that became equal, so far.")
    settled_per_second: float
    cutover_s: float | None = Field(
        description="What writes would wait for dirty keys in a switch now, in seconds; null until measured."
    )
    foreign_keys: int = Field(description="Keys that somebody else wrote on the side that is written to.")
    failed: int = Field(description="Keys that could not be carried, and still differ.")
    generation: int = Field(description="1, and one more after each gap of the feed.")
    feed: str = Field(description="What names changed keys: tracking, notifications, sweeps.")
    source_latency_ms: float | None = Field(
        description="Of a small request of ours to the migration's source, in milliseconds; null until measured."
    )
    target_latency_ms: float | None = Field(description="The same of the target.")
    throttle: Literal["off", "free", "slowed", "limited"] = Field(
        description="off: no guard; free: it does not slow; slowed: by latency; limited: by a given rate."
    )
    shards: int = Field(description="Servers of the side that is followed.")
    hottest: list[HotKeyShape] = Field(description="The hottest first.")
    biggest: list[BigKeyShape] = Field(description="Of those that were met, the biggest first.")
    shard_looks: list[ShardShape] = Field(description="Where there are several; at most 64.")


class FailedKeyShape(_Shape):
    """A key that could not be carried."""

    key: str = Field(description="Its name with --show-keys, else a mark that is the same within a run.")
    database: int
    reason: str = Field(description="As a sentence.")


class FailuresShape(_Shape):
    """Keys that could not be carried."""

    count: int
    last: list[FailedKeyShape] = Field(description="At most 20, the newest last.")


class LimitsShape(_Shape):
    """How fast it may go."""

    max_rate: float | None = Field(default=None, description="Keys per second; null: no limit.")
    max_latency_ms: float | None = Field(
        default=None,
        description="The servers' latency above which it slows, in milliseconds; null: no guard.",
    )


class LastVerificationShape(_Shape):
    """The last comparison of all keys."""

    at_ms: int = Field(description="When it was over, as Unix time in milliseconds.")
    compared: int = Field(description="Keys.")
    differences: int = Field(description="Keys that were not equal.")


class ConnectionsShape(_Shape):
    """How many connections a writer has."""

    source: int
    target: int


class WriterShape(_Shape):
    """A live process of the application that writes through a Keyferry client."""

    id: str
    host: str = Field(description="Name of its machine.")
    pid: int
    program: str
    client: str = Field(description="Name and version of the client library.")
    phase: str | None = Field(description="The phase that it has taken; null: none yet.")
    epoch: int = Field(description="Of that phase; lower than the status' own: it has not taken the newest.")
    lease_ms: int = Field(description="How long a renewal counts, in milliseconds.")
    renewals: int
    since_ms: int = Field(description="When it started, as Unix time in milliseconds by its own clock.")
    seen_ms: int = Field(description="Its last renewal, as Unix time in milliseconds by its own clock.")
    connections: ConnectionsShape
    note: str = Field(description="What an operator should know of it; may be empty.")


class SwitchStepShape(_Shape):
    """One step of a switch."""

    step: str = Field(description="Its name; undone ones begin with 'undo-'.")
    seconds: float


class SwitchShape(_Shape):
    """One cutover or rollback that came to an end."""

    direction: DirectionName
    at_ms: int = Field(description="When it began, as Unix time in milliseconds.")
    gate: str = Field(description="How writes were made to wait.")
    outcome: Literal["done", "undone", "put off", "unknown"]
    gate_ms: float | None = Field(
        description="How long writes waited, in milliseconds; null: nobody has waited."
    )
    steps: list[SwitchStepShape] = Field(description="In the order in which they were done.")
    reason: str = Field(description="Why it was undone or put off, as a sentence.")
    phase: str = Field(description="Of the record when it was over.")
    epoch: int
    writers: int = Field(description="Live ones that took part.")
    settled: int = Field(description="Keys made equal while writes waited.")
    compared: int = Field(description="Keys compared while writes waited.")
    differences: int
    barred: str = Field(description="How far the old side is barred, as a sentence.")
    hook: str = Field(description="What became of the hook, as a sentence; empty without one.")
    hook_failed: bool
    warnings: list[str]


class EventShape(_Shape):
    """Something that happened."""

    at_ms: int = UnixMs
    text: str = Field(description="As a sentence.")


class StatusShape(_Shape):
    """One look at the run: what `keyferry status --json` says. What a sync does not have is empty."""

    kind: RunKind = Field(description="A sync only copies and follows.")
    version: str = Field(description="Of Keyferry.")
    name: str = Field(description="Of the migration; a sync may have none.")
    source: str = Field(description="Where it is; never with a user or a password.")
    target: str = Field(description="The same of the target.")
    pid: int = Field(description="Of keyferry's process.")
    started_ms: int = Field(description="When that process began, as Unix time in milliseconds.")
    show_keys: bool = Field(description="Whether keys are called by their names.")
    stage: str = Field(description="What it does now, in one or two words.")
    step: str = Field(description="Of a switch that is under way; empty else.")
    station: str = Field(description="Where it is on its way: one of `stations`, or finished.")
    stations: list[str] = Field(description="The way of a run of this kind.")
    glance: GlanceShape
    authority: SideName = Field(description="The side whose data counts.")
    phase: str = Field(description="Which server the application reads and writes; empty without a record.")
    epoch: int = Field(description="Grows with every phase.")
    paused: bool = Field(description="By an operator: nothing is copied or settled.")
    limits: LimitsShape
    elapsed_seconds: float = Field(description="Since the process began, in seconds.")
    progress: ProgressShape | None = Field(description="Null while nothing is followed.")
    failures: FailuresShape
    verification: LastVerificationShape | None = Field(description="Null before the first.")
    touched: int = Field(description="Keys changed since the last verification.")
    ready: bool = Field(description="Whether it can be switched now.")
    not_ready: list[str] = Field(description="Why not, as sentences.")
    writers: list[WriterShape] = Field(description="Live ones, by their ids.")
    switches: list[SwitchShape] = Field(description="The oldest first.")
    barred: str = Field(description="How far the side that was left is barred, as a sentence.")
    warnings: list[str] = Field(description="As sentences; each once.")
    events: list[EventShape] = Field(description="The newest ones, the oldest of them first.")
    age_seconds: float = Field(description="How old this look is, in seconds; above 10 it stands still.")


class HistoryShape(_Shape):
    """How the run has gone over time."""

    every_s: float = Field(description="Between two rows, in seconds; doubles when there are too many rows.")
    columns: list[str] = Field(description="What stands where in a row, with units last in the names.")
    rows: list[list[float | str | None]] = Field(description="The oldest first.")


class VerificationShape(LastVerificationShape):
    """A comparison of all keys."""

    seconds: float = Field(description="How long it took.")
    direction: str


class SpanShape(_Shape):
    """A stage on the time line."""

    stage: str
    from_ms: int = Field(description="Unix time in milliseconds.")
    to_ms: int = Field(description="Unix time in milliseconds.")


class ReportShape(_Shape):
    """What a migration has done until now: what `keyferry migrate --report` writes at its end."""

    name: str
    source: str = Field(description="Where it is; never with a user or a password.")
    target: str
    ended: Literal["", "finished", "aborted"] = Field(description="Empty while it can go on.")
    phase: str
    authority: str
    seconds: float = Field(description="In all stages.")
    stages: dict[str, float] = Field(description="Seconds by stage.")
    moved: list[dict[str, Any]] = Field(
        description="What each run of a feed has carried, with its `direction`."
    )
    switches: list[SwitchShape]
    verifications: list[VerificationShape]
    warnings: list[str]
    writers: int = Field(description="The largest number of live ones seen.")
    starts: int = Field(description="How many processes have led it.")
    barred: str
    advice: list[str] = Field(description="What may be switched off now, as sentences.")
    began_ms: int = Field(description="Of its first process, as Unix time in milliseconds.")
    seen_ms: int = Field(description="When something was last heard of it, as Unix time in milliseconds.")
    timeline: list[SpanShape]
    stopped: dict[str, Any] = Field(description="How its last process ended before its time; else empty.")
    running: bool = Field(description="Whether a process leads it now.")


class HealthShape(_Shape):
    """Whether the run goes on."""

    ok: bool
    stage: str | None = Field(description="Null before the first look.")
    age_seconds: float | None = Field(description="Of the last look, in seconds; null before the first.")


class AnswerShape(_Shape):
    """The answer to what was asked, and every refusal."""

    exit_code: int = Field(description="That the command would end with; 0: done. See docs/exit-codes.md.")
    sentence: str = Field(description="What was done, or would be, or why not.")
    hint: str = Field(description="What to do; may be empty.")
    facts: dict[str, Any] = Field(description="As the command's --json says; `lines` are sentences.")
    said: list[str] = Field(description="What happened on the way, as sentences.")


class EndedShape(_Shape):
    """The data of the event `ended`: how the run has ended."""

    exit_code: int | None = Field(description="Of the command; null when it died.")
    sentence: str = Field(description="Empty when it died.")
    hint: str
    report: str = Field(description="A file that the report is in; may be empty.")
    died: bool = Field(description="Its process went without a word.")


# What may be asked


class Nothing(_Shape):
    """No options."""


class Throttle(_Shape):
    """New limits; what is not given stays as it is."""

    max_rate: float | None = Field(
        default=None, ge=0, strict=True, description="Keys per second; 0: no limit."
    )
    max_latency_ms: float | None = Field(
        default=None,
        ge=0,
        strict=True,
        description="Milliseconds of the servers' latency above which it slows; 0: no guard.",
    )


class Act(_Shape):
    """Look first."""

    # Strict: what the control socket would not take for a yes is none here either.
    yes: bool = Field(
        default=False, strict=True, description="Act; without it the answer is what would be done."
    )


class Switch(Act):
    """A rollback. What is not given is as `keyferry migrate` was told."""

    gate: Gate | None = Field(default=None, description="How writes are made to wait.")
    timeout_s: float | None = Field(
        default=None,
        gt=0,
        strict=True,
        description="For this many seconds writes may wait; then it is undone.",
    )


class Cutover(Switch):
    """A cutover. What is not given is as `keyferry migrate` was told."""

    rollback: bool = Field(default=True, strict=True, description="False: without a way back.")
    phase: Literal["target", "target-dual"] | None = Field(
        default=None, description="That the application comes to; target-dual: it goes on writing to both."
    )
