"""The report of a migration, put together from what its processes noted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from keyferry.journal.migration import MigrationJournal
from keyferry.telemetry.migrating import (
    WARNINGS_MAX,
    EventKind,
    FactKey,
    MigrationProgress,
    MigrationReport,
    StageTimes,
    SwitchReport,
    Verified,
    report_of,
)


def switch(**more: object) -> SwitchReport:
    report = SwitchReport("cutover", 1000, gate="writers", outcome="done", gate_ms=12.3456)
    report.steps = [("hold", 0.0012), ("commit", 0.0003)]
    for name, value in more.items():
        setattr(report, name, value)
    return report


def test_a_switch_survives_json() -> None:
    one = switch(warnings=["w"], hook="it ended with 1", hook_failed=True, reason="")
    there = SwitchReport.of_dict(json.loads(json.dumps(one.as_dict())))
    assert there.steps == one.steps
    assert there.gate_ms == 12.346
    assert there.as_dict() == one.as_dict()
    with pytest.raises(TypeError):
        SwitchReport.of_dict({**one.as_dict(), "unheard_of": 1})


def test_a_report_is_made_of_what_several_processes_noted(tmp_path: Path) -> None:
    for start in range(2):
        with MigrationJournal(tmp_path, "shop") as journal:
            journal.event(EventKind.STARTED, pid=start)
            journal.event(EventKind.TOLD, text="not for the report")
            journal.event(EventKind.WARNING, text="one user for both")
            journal.event(EventKind.VERIFICATION, **Verified(5, 100, start).as_dict())
            journal.event(EventKind.MOVED, direction="source to target", failed=2 - start)
            journal.event(EventKind.SWITCH, **switch(warnings=[f"of {start}"]).as_dict())
            journal.event("of another version", much=1)
            journal.claim("id", "a:1", "b:1")
            journal.set(FactKey.STAGES, {"copying": 1.5, "following": 2.0})
            journal.set(FactKey.PHASE, {"phase": "target-dual", "epoch": 7, "authority": "target"})
            journal.set(FactKey.ENDED, {"how": "finished", "at_ms": 1, "advice": ["Switch off a:1."]})
    with MigrationJournal(tmp_path, "shop") as journal:
        report = report_of("shop", journal.facts(), journal.events())
    assert (report.source, report.target, report.starts, report.ended) == ("a:1", "b:1", 2, "finished")
    assert report.warnings == ["one user for both", "of 0", "of 1"]
    assert [one.differences for one in report.verifications] == [0, 1]
    assert report.failed == 1
    assert not report.clean
    said = json.loads(json.dumps(report.as_dict()))
    assert said["seconds"] == 3.5
    assert said["advice"] == ["Switch off a:1."]
    assert said["switches"][1]["steps"][0] == {"step": "hold", "seconds": 0.0012}


def test_a_journal_that_knows_nothing_yet_makes_a_report() -> None:
    report = report_of("shop", {}, [])
    assert report == MigrationReport("shop", "", "")
    assert not report.clean
    json.dumps(report.as_dict())


def test_a_hook_that_failed_and_a_key_that_failed_are_not_clean() -> None:
    assert MigrationReport("n", "a", "b", ended="finished").clean
    assert not MigrationReport("n", "a", "b", ended="aborted").clean
    assert not MigrationReport("n", "a", "b", ended="finished", switches=[switch(hook_failed=True)]).clean
    moved = [{"direction": "source to target", "failed": 3}]
    assert not MigrationReport("n", "a", "b", ended="finished", moved=moved).clean


def test_warnings_are_said_once_and_are_bounded() -> None:
    events = [(0, EventKind.WARNING, {"text": f"{number}"}) for number in (*range(WARNINGS_MAX + 5), 7, 8)]
    warnings = report_of("shop", {}, events).warnings
    assert len(warnings) == WARNINGS_MAX
    assert warnings[-1] == str(WARNINGS_MAX + 4)


def test_stages_add_up_over_processes_and_waits_between_them_do_not_count() -> None:
    first = StageTimes()
    assert first.enter("copying", 100.0)
    assert not first.enter("copying", 101.0)
    assert first.enter("following", 103.0)
    kept = first.as_dict(104.0)
    assert kept == {"copying": 3.0, "following": 1.0}
    second = StageTimes(kept)
    second.enter("comparing", 5000.0)
    second.enter("following", 5001.0)
    assert second.as_dict(5002.0) == {"copying": 3.0, "following": 2.0, "comparing": 1.0}
    assert second.as_dict(5002.5) == {"copying": 3.0, "following": 2.5, "comparing": 1.0}
    assert second.stage == "following"


def test_ready_is_only_what_follows_and_has_nothing_against_it() -> None:
    assert MigrationProgress(None, "following").ready
    assert MigrationProgress(None, "following back").ready
    assert not MigrationProgress(None, "copying").ready
    assert not MigrationProgress(None, "following", not_ready=("The lag is 3 s.",)).ready
