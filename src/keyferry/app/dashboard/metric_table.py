"""Every metric of a run: what it is called and means, and how it is read from the status that every watcher gets.

Names and units follow Prometheus' conventions (base units, `_total` for counters, times as Unix seconds, one series of
1 and the others 0 for a state). Labels are bounded: no key, no writer, no shard has a series of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from keyferry.app.leases import is_silent
from keyferry.capture.kinds import FeedKind
from keyferry.cutover.plan import GATED
from keyferry.model.phases import Phase, Side
from keyferry.telemetry import following, migrating
from keyferry.telemetry.progress import ThrottleState

Kind = Literal["gauge", "counter", "histogram"]
Labels = tuple[str, ...]
Sample = tuple[Labels, float]

OLD_S = 10.0
"""A status that is older says nothing of now."""
STAGES = tuple(dict.fromkeys((*get_args(migrating.MigrationStage), *get_args(following.Stage))))
HEALTHS = ("good", "attention", "trouble")
NO_PHASE = "none"
"""Of a writer that has taken none yet."""
_NOTHING_FOLLOWED = frozenset({"switched", "finished"})


@dataclass(frozen=True, slots=True)
class Look:
    """What there is to read from.

    Attributes:
        name: Of the migration.
        status: As ``keyferry status --json``; empty: there has been none.
        age_s: Of the status; None: there has been none.
        now_ms: Unix time.
    """

    name: str
    status: Mapping[str, Any]
    age_s: float | None
    now_ms: float

    @property
    def fresh(self) -> bool:
        return self.age_s is not None and self.age_s <= OLD_S

    @property
    def sync(self) -> Mapping[str, Any]:
        """The direction that is followed; empty where nothing is."""
        if self.status.get("stage") in _NOTHING_FOLLOWED:
            return {}
        return self.status.get("progress") or {}

    @property
    def is_migration(self) -> bool:
        return bool(self.status) and self.status.get("kind", "migrate") == "migrate"

    @property
    def writers(self) -> Sequence[Mapping[str, Any]]:
        return self.status.get("writers") or ()

    @property
    def switches(self) -> Sequence[Mapping[str, Any]]:
        return self.status.get("switches") or ()


Reader = Callable[[Look], Iterable[Sample]]


@dataclass(frozen=True, slots=True)
class Described:
    """One metric.

    Attributes:
        name: As it is served.
        unit: As people say it; empty for what has none.
        meaning: One sentence, without its full stop.
        labels: Beside ``migration``.
        always: Served also when the status is old.
    """

    name: str
    kind: Kind
    unit: str
    meaning: str
    read: Reader
    labels: Labels = ()
    always: bool = False


# How metrics are read from a look


def _at(*path: str, per: float = 1.0) -> Reader:
    """A number of the status, in units of which one of ours has ``per``; no sample where it has none."""

    def read(look: Look) -> Iterator[Sample]:
        found: Any = look.status
        for step in path:
            found = found.get(step) if isinstance(found, Mapping) else None
        if found is not None:
            yield (), float(found) / per

    return read


def _now(field: str) -> Reader:
    """A number of the direction that is followed."""

    def read(look: Look) -> Iterator[Sample]:
        found = look.sync.get(field)
        if found is not None:
            yield (), float(found)

    return read


def _migrations(read: Reader) -> Reader:
    """Only of a migration: a sync has no such thing."""
    return lambda look: read(look) if look.is_migration else ()


def _up(look: Look) -> Iterator[Sample]:
    yield (), float(look.fresh)


def _age(look: Look) -> Iterator[Sample]:
    if look.age_s is not None:
        yield (), look.age_s


def _info(look: Look) -> Iterator[Sample]:
    if "source" in look.status:
        yield tuple(str(look.status.get(label, "")) for label in ("kind", "version", "source", "target")), 1.0


def _states(states: Sequence[str], now: Callable[[Look], object]) -> Reader:
    """1 for the state that it is in, 0 for the others; nothing while it is in none."""

    def read(look: Look) -> Iterator[Sample]:
        found = now(look)
        if found:
            yield from (((state,), float(state == found)) for state in states)

    return read


def _health(look: Look) -> object:
    return (look.status.get("glance") or {}).get("health")


def _latencies(look: Look) -> Iterator[Sample]:
    for side in Side:
        found = look.sync.get(f"{side}_latency_ms")
        if found is not None:
            yield (side,), found / 1000


def _gate_closed(look: Look) -> Iterator[Sample]:
    yield (), float(look.status.get("step") in GATED or look.status.get("phase") == Phase.HOLD)


def _not_ready(look: Look) -> Iterator[Sample]:
    yield (), float(len(look.status.get("not_ready") or ()))


def _warnings(look: Look) -> Iterator[Sample]:
    yield (), float(len(look.status.get("warnings") or ()))


def _writers(look: Look) -> Iterator[Sample]:
    counts = Counter(writer.get("phase") or NO_PHASE for writer in look.writers)
    yield from (((phase,), float(counts[phase])) for phase in (*map(str, Phase), NO_PHASE))


def _counted_writers(holds: Callable[[Look, Mapping[str, Any]], bool]) -> Reader:
    def read(look: Look) -> Iterator[Sample]:
        yield (), float(sum(holds(look, writer) for writer in look.writers))

    return read


def _is_behind(look: Look, writer: Mapping[str, Any]) -> bool:
    return bool(writer.get("epoch", 0) < look.status.get("epoch", 0))


def _is_silent(look: Look, writer: Mapping[str, Any]) -> bool:
    seen_ms = writer.get("seen_ms", 0)
    return bool(seen_ms) and is_silent(seen_ms, writer.get("lease_ms", 0), look.now_ms)


def _silent_writers(look: Look) -> Iterator[Sample]:
    # While a server is away nobody looks at the writers.
    if look.status.get("stage") != "waiting for a server":
        yield from _counted_writers(_is_silent)(look)


def _has_note(look: Look, writer: Mapping[str, Any]) -> bool:
    return bool(writer.get("note"))


def _switch_counts(look: Look) -> Iterator[Sample]:
    counts = Counter((one["direction"], one["outcome"]) for one in look.switches)
    for direction in get_args(migrating.Direction):
        for outcome in get_args(migrating.SwitchOutcome):
            yield (direction, outcome), float(counts[direction, outcome])


def _gates(look: Look) -> Iterator[Sample]:
    for one in look.switches:
        if one.get("gate_ms") is not None:
            yield (one["direction"],), one["gate_ms"] / 1000


def _last_gates(look: Look) -> Iterator[Sample]:
    yield from dict(_gates(look)).items()


def _last_switches(look: Look) -> Iterator[Sample]:
    yield from {(one["direction"],): one["at_ms"] / 1000 for one in look.switches}.items()


def _hooks_failed(look: Look) -> Iterator[Sample]:
    yield (), float(sum(bool(one.get("hook_failed")) for one in look.switches))


# What there is

RUN = (
    Described(
        "keyferry_up",
        "gauge",
        "",
        "1 while the run tells how it goes, 0 when its last look is older than 10 s",
        _up,
        always=True,
    ),
    Described(
        "keyferry_status_age_seconds",
        "gauge",
        "seconds",
        "How long ago the run last looked around",
        _age,
        always=True,
    ),
    Described(
        "keyferry_run_info",
        "gauge",
        "",
        "Always 1; its labels say which run this is: migrate or sync, of which version, from where to where",
        _info,
        ("kind", "version", "source", "target"),
        always=True,
    ),
    Described(
        "keyferry_run_start_time_seconds",
        "gauge",
        "Unix seconds",
        "When this process began; an earlier one may have begun the migration",
        _at("started_ms", per=1000),
    ),
    Described(
        "keyferry_stage",
        "gauge",
        "",
        "1 for the stage that it is in, 0 for the others",
        _states(STAGES, lambda look: look.status.get("stage")),
        ("stage",),
    ),
    Described(
        "keyferry_health",
        "gauge",
        "",
        "1 for how it goes, as the dashboard says it, 0 for the others: good, attention, trouble",
        _states(HEALTHS, _health),
        ("health",),
    ),
    Described("keyferry_paused", "gauge", "", "1 while an operator has paused it", _at("paused")),
    Described(
        "keyferry_warnings", "gauge", "warnings", "Warnings of this run that its report will name", _warnings
    ),
)
CARRIED = (
    Described(
        "keyferry_pass_keys",
        "gauge",
        "keys",
        "Keys that the copy or comparison which runs, or ran last, goes over; an estimate while clients write",
        _now("keys_total"),
    ),
    Described(
        "keyferry_pass_done_keys",
        "gauge",
        "keys",
        "Of these the ones that it is done with; begins at 0 with each copy or comparison",
        _now("keys_done"),
    ),
    Described(
        "keyferry_pass_keys_per_second",
        "gauge",
        "keys per second",
        "How fast it goes over them, over the last few seconds",
        _now("keys_per_second"),
    ),
    Described(
        "keyferry_pass_remaining_seconds",
        "gauge",
        "seconds",
        "Expected time until it is through; not served until there is a rate",
        _now("seconds_left"),
    ),
    Described(
        "keyferry_failed_keys",
        "gauge",
        "keys",
        "Keys that could not be carried, and still differ",
        _now("failed"),
    ),
    Described(
        "keyferry_foreign_keys",
        "gauge",
        "keys",
        "Keys on the side that follows which somebody else has written there",
        _now("foreign_keys"),
    ),
)
FOLLOWING = (
    Described(
        "keyferry_feed",
        "gauge",
        "",
        "1 for what tells which keys change, 0 for the others",
        _states(tuple(map(str, FeedKind)), lambda look: look.sync.get("feed")),
        ("feed",),
    ),
    Described(
        "keyferry_feed_generation",
        "gauge",
        "",
        "1, and one more after each gap in what the feed told: then everything is compared again",
        _now("generation"),
    ),
    Described(
        "keyferry_changes_per_second",
        "gauge",
        "changes per second",
        "How often the feed names keys, over the last few seconds",
        _now("changes_per_second"),
    ),
    Described(
        "keyferry_dirty_keys",
        "gauge",
        "keys",
        "Keys that changed and are not yet equal on the side that follows",
        _now("dirty_keys"),
    ),
    Described(
        "keyferry_lag_seconds",
        "gauge",
        "seconds",
        "Age of the oldest dirty key; 0 without one",
        _now("lag_s"),
    ),
    Described(
        "keyferry_settled_keys_total",
        "counter",
        "keys",
        "Dirty keys that became equal, in the direction that is followed now; begins anew after a switch",
        _now("settled_keys"),
    ),
    Described(
        "keyferry_settled_keys_per_second",
        "gauge",
        "keys per second",
        "How fast they become equal, over the last few seconds",
        _now("settled_per_second"),
    ),
    Described(
        "keyferry_expected_wait_seconds",
        "gauge",
        "seconds",
        "How long writers would wait in a switch now for what is dirty; not served until it was measured",
        _now("cutover_s"),
    ),
)
SERVERS = (
    Described(
        "keyferry_server_latency_seconds",
        "gauge",
        "seconds",
        "How long a server of this side takes to answer, the slowest of them",
        _latencies,
        ("side",),
    ),
    Described(
        "keyferry_shards",
        "gauge",
        "servers",
        "Servers among which the keys of the side that is followed are divided",
        _now("shards"),
    ),
    Described(
        "keyferry_throttle",
        "gauge",
        "",
        "1 for what slows it down, 0 for the others: off (no guard), free (guarded, not slowed), slowed (by latency), "
        "limited (by a maximum rate)",
        _states(get_args(ThrottleState), lambda look: look.sync.get("throttle")),
        ("state",),
    ),
    Described(
        "keyferry_limit_keys_per_second",
        "gauge",
        "keys per second",
        "The maximum rate that an operator has set; not served without one",
        _at("limits", "max_rate"),
    ),
    Described(
        "keyferry_limit_added_latency_seconds",
        "gauge",
        "seconds",
        "How much later than at rest servers may answer before it slows down; not served without such a guard",
        _at("limits", "max_latency_ms", per=1000),
    ),
)
MIGRATION = (
    Described(
        "keyferry_phase",
        "gauge",
        "",
        "1 for the phase of the record that counts, 0 for the others",
        _states(tuple(map(str, Phase)), lambda look: look.status.get("phase")),
        ("phase",),
    ),
    Described(
        "keyferry_epoch", "gauge", "", "Number of the phase record that counts", _migrations(_at("epoch"))
    ),
    Described(
        "keyferry_authority",
        "gauge",
        "",
        "1 for the side whose word counts, 0 for the other",
        _migrations(_states(tuple(map(str, Side)), lambda look: look.status.get("authority"))),
        ("side",),
    ),
    Described("keyferry_ready", "gauge", "", "1 while a switch could be made now", _migrations(_at("ready"))),
    Described(
        "keyferry_not_ready_reasons",
        "gauge",
        "reasons",
        "How many things stand in the way of a switch now",
        _migrations(_not_ready),
    ),
    Described(
        "keyferry_writers",
        "gauge",
        "writers",
        "Writers that are registered, by the phase that they have taken (none: no phase taken yet)",
        _migrations(_writers),
        ("phase",),
    ),
    Described(
        "keyferry_writers_behind",
        "gauge",
        "writers",
        "Of these the ones that have not taken the newest record",
        _migrations(_counted_writers(_is_behind)),
    ),
    Described(
        "keyferry_writers_silent",
        "gauge",
        "writers",
        "Of these the ones that should have renewed their lease, by their clocks and this machine's; not known, and "
        "not served, while it waits for a server",
        _migrations(_silent_writers),
    ),
    Described(
        "keyferry_writers_noted",
        "gauge",
        "writers",
        "Of these the ones with a note for the operator, such as that the target is away",
        _migrations(_counted_writers(_has_note)),
    ),
)
VERIFICATION = (
    Described(
        "keyferry_verification_timestamp_seconds",
        "gauge",
        "Unix seconds",
        "When the last verification of all keys was over; not served before the first",
        _at("verification", "at_ms", per=1000),
    ),
    Described(
        "keyferry_verification_compared_keys",
        "gauge",
        "keys",
        "Keys that the last verification compared",
        _at("verification", "compared"),
    ),
    Described(
        "keyferry_verification_different_keys",
        "gauge",
        "keys",
        "Keys that the last verification found different",
        _at("verification", "differences"),
    ),
    Described(
        "keyferry_touched_keys",
        "gauge",
        "keys",
        "Keys that changed since the last verification, and are compared again under the gate",
        _migrations(_at("touched")),
    ),
)
SWITCHES = (
    Described(
        "keyferry_gate_closed",
        "gauge",
        "",
        "1 while the gate of a switch is closed or closing: writes wait",
        _migrations(_gate_closed),
    ),
    Described(
        "keyferry_switches_total",
        "counter",
        "switches",
        "Cutovers and rollbacks that came to an end, also under earlier processes of this migration",
        _migrations(_switch_counts),
        ("direction", "outcome"),
    ),
    Described(
        "keyferry_gate_seconds",
        "histogram",
        "seconds",
        "How long writes waited in each of them whose gate was closed, also when it was undone",
        _migrations(_gates),
        ("direction",),
    ),
    Described(
        "keyferry_last_gate_seconds",
        "gauge",
        "seconds",
        "The same of the newest one",
        _migrations(_last_gates),
        ("direction",),
    ),
    Described(
        "keyferry_last_switch_timestamp_seconds",
        "gauge",
        "Unix seconds",
        "When the newest one began",
        _migrations(_last_switches),
        ("direction",),
    ),
    Described(
        "keyferry_hooks_failed_total",
        "counter",
        "hooks",
        "Hooks after a switch that failed",
        _migrations(_hooks_failed),
    ),
)
GROUPS: Mapping[str, tuple[Described, ...]] = {
    "The run": RUN,
    "What is carried": CARRIED,
    "How it follows": FOLLOWING,
    "The servers": SERVERS,
    "The migration": MIGRATION,
    "Verification": VERIFICATION,
    "Switches": SWITCHES,
}
"""In the order of docs/metrics.md."""
METRICS = tuple(one for group in GROUPS.values() for one in group)
