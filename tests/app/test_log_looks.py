"""What of a run is worth a line, how important it is, and how seldom the lines of progress come."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import RenderableType
from rich.text import Text

from keyferry.app import log_screen
from keyferry.app.log import Level, LogEvent, LogWishes, RunLog
from keyferry.app.log_looks import CopyLooks, MigrationLooks, SyncLooks, VerifyLooks
from keyferry.app.log_requests import RequestLog
from keyferry.app.log_screen import Both, LogScreen, logged_screen
from keyferry.app.screen import PlainScreen
from keyferry.cutover.desk import QueueDesk
from keyferry.cutover.directions import told_by
from keyferry.cutover.requests import Request
from keyferry.model.keynames import KeyNames
from keyferry.model.phases import Side
from keyferry.telemetry.comparing import VerifyProgress
from keyferry.telemetry.following import HotKey, SyncProgress
from keyferry.telemetry.glance import MigrationGlances, SyncGlances
from keyferry.telemetry.migrating import MigrationProgress, SwitchReport, Verified
from keyferry.telemetry.progress import Alert, Progress

SYNC = SyncProgress(
    stage="following",
    feed="tracking",
    generation=1,
    keys_total=100,
    keys_done=100,
    keys_per_second=10.0,
    seconds_left=None,
    changes_per_second=5.0,
    dirty_keys=2,
    lag_s=0.01,
    settled_keys=7,
    settled_per_second=5.0,
    cutover_s=0.001,
    hottest=(HotKey(b"cart:\n17", 0, 9.0, 100, 0.0),),
    foreign_keys=0,
    failed=0,
    elapsed_s=60.0,
    source_latency_ms=0.5,
    target_latency_ms=0.25,
    throttle="free",
)
MIGRATION = MigrationProgress(SYNC, "following", phase="dual", epoch=2, not_ready=("Nothing is verified.",))
COPY = Progress(
    "copying",
    0,
    100,
    50,
    48,
    0,
    0,
    2,
    5000,
    1.0,
    50.0,
    5000.0,
    1.0,
    0.5,
    None,
    "free",
    shards=1,
    slowest=None,
)
VERIFY = VerifyProgress("comparing", 0, 100, 50, 1, 0, 6, 0, 1.0, 50.0, 1.0, 0.5, 0.5, "free")


def migration(show: bool = False) -> MigrationLooks:
    return MigrationLooks(KeyNames(show), MigrationGlances(1.0))


def said(events: Iterator[LogEvent]) -> list[tuple[str, Level]]:
    return [(event.event, event.level) for event in events]


def test_what_changes_in_a_migration_is_an_event_once() -> None:
    looks = migration()
    first = said(looks.changes(None, MIGRATION, 0.0))
    assert first == [("stage_changed", Level.INFO), ("phase_changed", Level.INFO)]
    assert said(looks.changes(MIGRATION, MIGRATION, 1.0)) == []
    clean = replace(MIGRATION, verified=Verified(1, 100, 0))
    assert said(looks.changes(MIGRATION, clean, 2.0)) == [("verification", Level.INFO)]
    differs = replace(clean, verified=Verified(2, 100, 3))
    assert said(looks.changes(clean, differs, 3.0)) == [
        ("verification", Level.WARNING),
        ("health_changed", Level.ERROR),
    ]
    switch = SwitchReport("cutover", 5, gate="writers", outcome="done", gate_ms=9.0, steps=[("hold", 0.001)])
    switched = replace(
        clean, stage="following back", authority=Side.TARGET, phase="target", last_switch=switch
    )
    events = list(looks.changes(differs, switched, 4.0))
    assert said(iter(events))[0] == ("stage_changed", Level.INFO)
    ended = next(event for event in events if event.event == "switch_ended")
    assert (ended.level, ended.fields["gate_ms"], ended.fields["steps"]) == (Level.INFO, 9.0, "hold=0.001000")
    undone = replace(switched, last_switch=replace(switch, at_ms=6, outcome="undone", reason="Late."))
    assert ("switch_ended", Level.WARNING) in said(looks.changes(switched, undone, 5.0))


def test_switches_of_an_earlier_process_are_not_said_again() -> None:
    before = replace(MIGRATION, last_switch=SwitchReport("cutover", 5, outcome="done"))
    assert "switch_ended" not in dict(said(migration().changes(None, before, 0.0)))


def test_sweeps_do_not_change_the_stage() -> None:
    sweeping = replace(SYNC, feed="sweeps", stage="comparing")
    looks = SyncLooks(KeyNames(), SyncGlances(1.0))
    assert said(looks.changes(sweeping, replace(sweeping, stage="following"), 1.0)) == []


@pytest.mark.parametrize("show", [False, True])
def test_a_key_is_named_only_when_asked_for(show: bool) -> None:
    for event in (
        migration(show).standing(MIGRATION),
        SyncLooks(KeyNames(show), SyncGlances(1.0)).standing(SYNC),
    ):
        assert ("cart" in f"{event}") is show
        assert event.fields["hottest_per_second"] == 9.0


def test_latencies_are_by_the_migrations_sides() -> None:
    back = migration().standing(replace(MIGRATION, authority=Side.TARGET, stage="following back"))
    assert (back.fields["source_latency_ms"], back.fields["target_latency_ms"]) == (0.25, 0.5)


def test_failed_and_differing_keys_are_concerns_when_they_become_more() -> None:
    assert said(CopyLooks().concerns(None, COPY)) == [("keys_failed", Level.WARNING)]
    assert said(CopyLooks().concerns(COPY, COPY)) == []
    differs = replace(VERIFY, differences=1)
    assert said(VerifyLooks().concerns(VERIFY, differs)) == [("keys_differ", Level.WARNING)]
    assert said(VerifyLooks().concerns(differs, differs)) == []


class Clock:
    """Stands in for time.monotonic; moved by hand."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@contextmanager
def logged(path: Path, level: Level = Level.INFO) -> Iterator[RunLog]:
    with RunLog(LogWishes(path, level=level)) as log:
        yield log


def events_in(path: Path) -> list[str]:
    lines = path.read_text().splitlines() if path.exists() else []
    return [" ".join(line.split(" ")[1:3]).replace("level=", "").replace("event=", "") for line in lines]


@pytest.mark.parametrize(
    ("level", "progress", "lines"),
    [
        (Level.INFO, MIGRATION, {"info progress": 10}),
        (Level.INFO, replace(MIGRATION, sync=replace(SYNC, stage="copying")), {"info progress": 20}),
        (Level.WARNING, MIGRATION, {}),
        (Level.DEBUG, MIGRATION, {"info progress": 10, "debug progress": 290}),
    ],
    ids=["waiting", "copying", "warning", "debug"],
)
def test_ten_minutes_of_an_idle_run_are_a_few_lines(
    level: Level,
    progress: MigrationProgress,
    lines: dict[str, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr(log_screen, "time", clock)
    path = tmp_path / "run.log"
    with logged(path, level) as log, LogScreen(log, migration()) as screen:
        for _ in range(4801):
            screen.observe(progress)
            clock.now_s += 0.125
    found = events_in(path)
    progress_lines = [line for line in found if line.endswith("progress")]
    counts = {line: progress_lines.count(line) for line in set(progress_lines)}
    assert counts == lines
    assert len(found) - len(progress_lines) <= 2


def test_sentences_have_the_level_that_they_were_told_with(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    with logged(path) as log, LogScreen(log, migration()) as screen:
        screen.tell("Going on.")
        screen.tell(Alert("The source does not answer. Trying again."))
    assert events_in(path) == ["info said", "warning warning"]


def test_an_alert_stays_one_on_the_way_back() -> None:
    told: list[str] = []
    told_by(Side.TARGET, told.append)(Alert("The source is away."))
    told_by(Side.TARGET, told.append)("Changes of the source are followed.")
    assert told == ["The target is away.", "Changes of the target are followed."]
    assert [isinstance(sentence, Alert) for sentence in told] == [True, False]


def test_a_sentence_told_again_and_again_is_a_line_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(log_screen, "time", clock)
    path = tmp_path / "run.log"
    with logged(path) as log, LogScreen(log, migration()) as screen:
        for _ in range(13):
            screen.tell(Alert("Not ready for a cutover any more."))
            clock.now_s += 10.0
        screen.tell("Going on.")
    assert events_in(path) == ["warning warning"] * 3 + ["info said"]
    assert [line.count("repeated=5") for line in path.read_text().splitlines()] == [0, 1, 1, 0]


class Views:
    """A display of numbers."""

    def frame(self, title: str, progress: int) -> RenderableType:
        return Text(f"{title} {progress}")

    def line(self, progress: int) -> str:
        return f"{progress}"

    def pause_s(self, said: int | None, progress: int) -> float:
        return 0.0


class Numbers:
    """Logs every look."""

    def changes(self, before: int | None, now: int, now_s: float) -> Iterator[LogEvent]:
        yield LogEvent("number", Level.INFO, f"{now}", {})

    def concerns(self, before: int | None, now: int) -> Iterator[LogEvent]:
        return iter(())

    def standing(self, now: int) -> LogEvent:
        return LogEvent("progress", Level.INFO, f"{now}", {})

    def waits(self, now: int) -> bool:
        return True


def test_the_display_and_the_log_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.log"
    with logged(path) as log:
        screen = logged_screen(log, "a title", Views(), Numbers())
        assert isinstance(screen, Both)
        with screen:
            screen.observe(7)
            screen.tell("A sentence.")
        assert screen.last == 7
    assert capsys.readouterr().err == "a title\n7\nnote: A sentence.\n"
    assert events_in(path) == ["info number", "info said"]
    with RunLog(LogWishes()) as nothing:
        assert isinstance(logged_screen(nothing, "a title", Views(), Numbers()), PlainScreen)


def test_what_is_asked_is_noted_with_its_answer_and_without_shell_commands(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    with logged(path) as log:
        desk = QueueDesk(clerk=RequestLog(log))
        desk.ask(Request("pause"), 4711)
        taken = desk.take()
        assert taken is not None
        taken[1].end(0, "Paused.")
        desk.ask(Request("cutover", {"yes": True, "on_cutover": "curl -H token"}))
        desk.close()
    assert events_in(path) == ["info requested", "info answered", "info requested", "warning answered"]
    text = path.read_text()
    assert "command=pause by_process=4711" in text
    assert "yes=true on_cutover=true" in text
    assert "curl" not in text
