"""The metrics of real runs: each is on the page that describes them, and says what the status says."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import isnan
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from copying import ask, endpoint_of, fill_strings, wait_until
from following import settings_of, syncing
from keyferry.app.dashboard import live, metric_table
from keyferry.app.dashboard.metric_table import GROUPS, METRICS, STAGES, Described
from keyferry.app.dashboard.metrics import exposition
from keyferry.capture.clients.metrics import NAMES, ClientCollector
from keyferry.copy.stop import StopFlag
from keyferry.cutover.conductor import run_migration
from keyferry.cutover.desk import QueueDesk
from keyferry.cutover.phase_report import writer_dict
from keyferry.cutover.plan import Gate
from keyferry.cutover.requests import End, Request
from keyferry.cutover.settings import MigrationSettings
from keyferry.follow.showing import sync_status_of
from keyferry.journal.migration import MigrationJournal
from keyferry.model.errors import InterruptedRun
from keyferry.model.keynames import KeyNames
from keyferry.model.phases import Phase
from keyferry.model.writers import WriterEntry, WriterFacts
from keyferry.telemetry.following import SyncProgress
from keyferry.telemetry.migrating import SwitchReport
from keyferry.testing.servers import Server

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(keyferry_\w+)` \| (\w+) \| (.*?) \| (.*?) \| (.*) \|$", re.MULTILINE)
DOCUMENTED = {
    name: (kind, tuple(re.findall(r"`(\w+)`", labels)), unit, meaning)
    for name, kind, labels, unit, meaning in ROW.findall(PAGE)
}
NAME = "shop"
WITHIN_S = 60.0
NOW_MS = 1_800_000_000_000.0
UNITS = {"_seconds": ("seconds", "Unix seconds"), "_keys": ("keys",), "_per_second": ("keys per second",)}
ALWAYS = {one.name for one in METRICS if one.always}


def served(status: Mapping[str, Any] | None, age_s: float | None = 0.2) -> dict[str, Metric]:
    """The page, read as Prometheus reads it, by the names of the table. What is wrong with any page is found here."""
    body, content_type = exposition(status, age_s, name=NAME, now_ms=NOW_MS)
    assert content_type.startswith("text/plain; version=")
    families = {full_name(one): one for one in text_string_to_metric_families(body.decode())}
    assert list(families) == [one.name for one in METRICS]
    for one in METRICS:
        is_as_described(families[one.name], one)
    return families


def full_name(family: Metric) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name


def is_as_described(family: Metric, one: Described) -> None:
    assert (family.type, family.documentation) == (one.kind, f"{one.meaning}.")
    own = {"le"} if one.kind == "histogram" else set()
    seen = set()
    for sample in family.samples:
        assert set(sample.labels) - own <= {"migration", *one.labels}, sample
        assert sample.labels["migration"] == NAME
        assert not isnan(sample.value)
        seen.add((sample.name, *sorted(sample.labels.items())))
    assert len(seen) == len(family.samples), "two samples of one series"


def value(families: Mapping[str, Metric], name: str, **labels: str) -> float | None:
    """Of a series; None where it is not served."""
    wanted = {"migration": NAME, **labels}
    found = [sample.value for sample in families[name].samples if sample.labels == wanted]
    return found[0] if found else None


def state(families: Mapping[str, Metric], name: str, label: str) -> list[str]:
    """What is 1 of a state."""
    return [sample.labels[label] for sample in families[name].samples if sample.value == 1]


def silent(families: Mapping[str, Metric], metrics: Iterable[Described]) -> bool:
    return not any(families[one.name].samples for one in metrics)


class Migration:
    """One that runs in a thread, asked over its desk."""

    def __init__(self, settings: MigrationSettings) -> None:
        self.desk, self.stop = QueueDesk(), StopFlag()
        self._settings = settings
        self._error: Exception | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        settings = self._settings
        try:
            with MigrationJournal(settings.sync.copy.state_dir, settings.name) as journal:
                run_migration(
                    settings,
                    journal,
                    observe=lambda _: None,
                    tell=lambda _: None,
                    stop=self.stop,
                    desk=self.desk,
                )
        except InterruptedRun:
            return
        except Exception as error:  # noqa: BLE001 - for the test to look at
            self._error = error

    def is_in(self, stage: str) -> dict[str, Any]:
        """The status, once it is there and ready."""

        found: list[Mapping[str, Any]] = []

        def there() -> bool:
            assert self._error is None, self._error
            status = self.desk.status()
            found.append(status)
            return status["stage"] == stage and bool(status["ready"])

        wait_until(there, f"it is {stage}", WITHIN_S)
        # By way of JSON, as the dashboard gets it.
        status: dict[str, Any] = json.loads(json.dumps(found[-1]))
        return status

    def switch(self, command: str) -> None:
        """A look at being ready may be a moment old when the switch is asked for."""
        until_s = time.monotonic() + WITHIN_S
        while (end := self._ask(command)).exit_code:
            assert time.monotonic() < until_s, end
            time.sleep(0.05)

    def _ask(self, command: str) -> End:
        events = list(self.desk.ask(Request(command, {"yes": True})).events(WITHIN_S))
        assert isinstance(events[-1], End), events
        return events[-1]


@contextmanager
def migrating(source: Server, target: Server, state_dir: Path) -> Iterator[Migration]:
    sync = settings_of(source, target, state_dir, name=NAME, lag_target_s=5.0)
    migration = Migration(
        MigrationSettings(sync, NAME, gate=Gate.NONE, timeout_s=10.0, prepare_timeout_s=10.0)
    )
    try:
        yield migration
    finally:
        migration.stop.request()
        migration.thread.join(WITHIN_S)
        assert not migration.thread.is_alive()


def test_a_migration_there_and_back(flushed: Any, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 300)
    with migrating(source, target, tmp_path) as migration:
        status = migration.is_in("following")
        page = served(status)
        assert value(page, "keyferry_up") == 1
        assert state(page, "keyferry_stage", "stage") == ["following"]
        assert state(page, "keyferry_authority", "side") == ["source"]
        assert state(page, "keyferry_phase", "phase") == [status["phase"]]
        assert state(page, "keyferry_feed", "feed") == ["tracking"]
        assert len(state(page, "keyferry_health", "health")) == 1
        assert value(page, "keyferry_ready") == 1
        assert value(page, "keyferry_failed_keys") == 0
        assert value(page, "keyferry_lag_seconds") == status["progress"]["lag_s"]
        assert value(page, "keyferry_verification_compared_keys") == status["verification"]["compared"]
        assert value(page, "keyferry_verification_different_keys") == 0
        assert value(page, "keyferry_switches_total", direction="cutover", outcome="done") == 0
        assert value(page, "keyferry_last_gate_seconds", direction="cutover") is None
        assert value(page, "keyferry_run_start_time_seconds") == status["started_ms"] / 1000
        (info,) = page["keyferry_run_info"].samples
        assert info.labels == {
            "migration": NAME,
            **{label: status[label] for label in ("kind", "version", "source", "target")},
        }

        migration.switch("cutover")
        page = served(migration.is_in("following back"))
        assert state(page, "keyferry_authority", "side") == ["target"]
        assert state(page, "keyferry_phase", "phase") == ["target"]
        assert value(page, "keyferry_gate_closed") == 0
        assert value(page, "keyferry_switches_total", direction="cutover", outcome="done") == 1
        at_s = value(page, "keyferry_last_switch_timestamp_seconds", direction="cutover")
        assert at_s is not None
        assert 0 <= time.time() - at_s < WITHIN_S

        migration.switch("rollback")
        page = served(migration.is_in("following"))
        assert value(page, "keyferry_switches_total", direction="rollback", outcome="done") == 1
        assert value(page, "keyferry_epoch") == migration.desk.status()["epoch"]


def follows(seen: Iterable[SyncProgress]) -> list[SyncProgress]:
    return [one for one in seen if one.stage == "following" and one.settled_keys]


def test_a_sync_has_what_is_not_a_migrations(flushed: Any, tmp_path: Path) -> None:
    source, target = flushed("redis-6.2"), flushed("redis-7.0")
    fill_strings(source, 200)
    with syncing(source, target, tmp_path) as sync:
        sync.follows()
        ask(source, "SET", "a-name-of-a-key", "1")
        wait_until(lambda: follows(sync.seen), "the change is settled")
        ends = [endpoint_of(one).location for one in (source, target)]
        status = sync_status_of(
            follows(sync.seen)[-1],
            name=NAME,
            source=ends[0],
            target=ends[1],
            pid=1,
            started_ms=int(NOW_MS) - 1000,
            limits={"max_rate": 500.0, "max_latency_ms": 2.0},
            names=KeyNames(),
        )
    page = served(status)
    assert state(page, "keyferry_stage", "stage") == ["following"]
    assert value(page, "keyferry_settled_keys_total") == status["progress"]["settled_keys"] > 0
    assert value(page, "keyferry_limit_keys_per_second") == 500
    assert value(page, "keyferry_limit_added_latency_seconds") == pytest.approx(0.002)
    assert silent(page, (*GROUPS["The migration"], *GROUPS["Verification"], *GROUPS["Switches"]))


STATUS: dict[str, Any] = {
    "kind": "migrate",
    "name": NAME,
    "source": "old:6379",
    "target": "new:6379",
    "version": "1.0",
    "stage": "switching",
    "step": "settle",
    "authority": "source",
    "phase": "hold",
    "epoch": 7,
    "writers": [],
    "switches": [],
    "progress": {"lag_s": 0.25, "target_latency_ms": 3.5, "hottest": [{"key": "a-name-of-a-key"}]},
}


def writer(phase: Phase | None, **given: Any) -> dict[str, Any]:
    facts = WriterFacts("web1", 12, "gunicorn")
    return writer_dict("w", WriterEntry(facts, lease_ms=15_000, phase=phase, **given))


def test_writers_by_phase_and_those_to_look_at() -> None:
    now_ms = int(NOW_MS)
    writers = [
        writer(Phase.DUAL, epoch=7, seen_ms=now_ms - 1000),
        writer(Phase.DUAL, epoch=6, seen_ms=now_ms - 1000),
        writer(Phase.HOLD, epoch=7, seen_ms=now_ms - 60_000, note="the target is away"),
        writer(None, epoch=0, seen_ms=now_ms),
    ]
    page = served({**STATUS, "writers": writers})
    found = {sample.labels["phase"]: sample.value for sample in page["keyferry_writers"].samples}
    assert {phase: count for phase, count in found.items() if count} == {"dual": 2, "hold": 1, "none": 1}
    assert value(page, "keyferry_writers_behind") == 2
    assert value(page, "keyferry_writers_silent") == 1
    assert value(page, "keyferry_writers_noted") == 1
    assert value(page, "keyferry_gate_closed") == 1
    # Nobody has looked at them since the server went away: what was seen last makes none of them silent.
    away = served({**STATUS, "stage": "waiting for a server", "writers": writers})
    assert not away["keyferry_writers_silent"].samples


def test_gates_of_switches() -> None:
    switches = [
        SwitchReport("cutover", 1000, outcome="undone", gate_ms=2000.0),
        SwitchReport("cutover", 2000, outcome="done", gate_ms=40.0, hook_failed=True),
        SwitchReport("rollback", 3000, outcome="put off"),
    ]
    page = served({**STATUS, "switches": [one.as_dict() for one in switches]})
    assert value(page, "keyferry_switches_total", direction="rollback", outcome="put off") == 1
    assert value(page, "keyferry_last_gate_seconds", direction="cutover") == pytest.approx(0.04)
    assert value(page, "keyferry_last_gate_seconds", direction="rollback") is None
    assert value(page, "keyferry_hooks_failed_total") == 1
    buckets = {
        one.labels["le"]: one.value
        for one in page["keyferry_gate_seconds"].samples
        if one.name.endswith("_bucket") and one.labels["direction"] == "cutover"
    }
    assert [buckets[limit] for limit in ("0.025", "0.05", "1.0", "2.5", "+Inf")] == [0, 1, 1, 2, 2]
    sums = [one.value for one in page["keyferry_gate_seconds"].samples if one.name.endswith("_sum")]
    assert sums == [pytest.approx(2.04)]


def test_nothing_old_is_served_as_new() -> None:
    assert metric_table.OLD_S == live.OLD_S, "up and /healthz judge alike"
    page = served(STATUS, metric_table.OLD_S + 0.1)
    assert {name for name, family in page.items() if family.samples} == ALWAYS
    assert value(page, "keyferry_up") == 0
    assert value(page, "keyferry_status_age_seconds") == pytest.approx(10.1)
    page = served(None, None)
    assert {name for name, family in page.items() if family.samples} == {"keyferry_up"}
    page = served({"stage": "connecting"})
    assert state(page, "keyferry_stage", "stage") == ["connecting"]


def test_series_stay_few_and_without_names_of_keys() -> None:
    writers = [writer(phase, epoch=epoch) for phase in Phase for epoch in range(50)]
    switches = [
        SwitchReport(direction, 1, outcome="done", gate_ms=float(number)).as_dict()
        for direction in ("cutover", "rollback")
        for number in range(50)
    ]
    status = {**STATUS, "writers": writers, "switches": switches}
    assert sum(len(family.samples) for family in served(status).values()) < 200
    assert b"a-name-of-a-key" not in exposition(status, 0.0)[0]


def test_latencies_are_seconds_of_a_side() -> None:
    page = served(STATUS)
    assert value(page, "keyferry_server_latency_seconds", side="target") == pytest.approx(0.0035)
    assert value(page, "keyferry_server_latency_seconds", side="source") is None


def test_a_run_that_follows_nothing_has_no_lag() -> None:
    assert value(served(STATUS), "keyferry_lag_seconds") == 0.25
    assert value(served({**STATUS, "stage": "switched"}), "keyferry_lag_seconds") is None


@pytest.mark.parametrize("one", METRICS, ids=lambda one: one.name)
def test_names_and_units_follow_the_conventions(one: Described) -> None:
    assert re.fullmatch(r"keyferry(_[a-z]+)+", one.name)
    assert one.name.endswith("_total") == (one.kind == "counter")
    assert not one.name.endswith(("_count", "_sum", "_bucket"))
    assert not re.search(r"_(ms|millis|milliseconds|minutes|percent|kb|gauge|counter)(_|$)", one.name)
    assert not any(label in ("le", "quantile", "migration", "instance", "job") for label in one.labels)
    for end, units in UNITS.items():
        if one.name.endswith(end) and not (end == "_seconds" and one.name.endswith("_per_second")):
            assert one.unit in units or end == "_per_second"
    if "seconds" in one.unit:
        assert one.name.endswith("_seconds")
    assert not one.meaning.endswith(".")


def test_the_page_describes_what_is_served() -> None:
    ours = {name: row for name, row in DOCUMENTED.items() if not name.startswith("keyferry_client_")}
    assert ours == {one.name: (one.kind, one.labels, one.unit, one.meaning) for one in METRICS}
    assert len(STAGES) == len(set(STAGES))


def test_the_page_describes_the_clients() -> None:
    theirs = {name: row[:2] for name, row in DOCUMENTED.items() if name.startswith("keyferry_client_")}
    kinds = {full_name(one): one.type for one in ClientCollector().collect()}
    labels = [labels for _, _, labels in NAMES]
    assert theirs == {name: (kind, its) for (name, kind), its in zip(kinds.items(), labels, strict=True)}
