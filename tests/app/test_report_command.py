"""``keyferry report``: while a migration runs, when it was killed, and when it has ended."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import keyferry
from migration_process import STATE, running

from keyferry.app.reporting import report_so_far
from keyferry.journal.ended import ended_journals
from keyferry.journal.migration import MigrationJournal
from keyferry.model.errors import RefusedError
from keyferry.telemetry.migrating import EventKind, FactKey
from keyferry.testing.dataset import fill
from keyferry.testing.servers import Server

PAGE = "shop-report.html"


def end_one(directory: Path, how: str, at_ms: int) -> None:
    journal = MigrationJournal(directory / STATE, "shop", clock_ms=lambda: at_ms)
    journal.claim("id", "old:1", "new:1")
    journal.event(EventKind.STARTED)
    journal.set(FactKey.PHASE, {"phase": "source", "epoch": 2, "authority": "source"})
    journal.set(FactKey.ENDED, {"how": how, "at_ms": at_ms, "advice": [f"Ended at {at_ms}."]})
    journal.close(finished=True)


def test_at_any_time_of_a_migration(flushed: Callable[..., Server], tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    with source.session() as session:
        fill(session, 200)
    given = ["migrate", source.url, target.url, "--name", "shop", "--gate", "none"]
    with running(tmp_path, given) as migration:
        migration.wait_until("ready", lambda status: bool(status.get("ready")))
        asked = migration.ask("report")
        assert asked.facts["running"] and asked.facts["verifications"], asked.sentence
        made = keyferry("report", "shop", cwd=tmp_path)
        assert made.status == 0, made.err
        assert made.out.startswith("Under way: shop, begun ") and made.out.endswith(
            f"The page is in {PAGE}\n"
        )
        assert 'data-tone="running"' in (tmp_path / PAGE).read_text()
        migration.process.kill()
        migration.process.wait()
    said = json.loads(keyferry("report", "shop", "--json", "--html", PAGE, cwd=tmp_path).out)
    assert (said["running"], said["ended"], said["starts"]) == (False, "", 1)
    assert "following" in [span["stage"] for span in said["timeline"]]
    assert "No process leads it now." in (tmp_path / PAGE).read_text()
    with running(tmp_path, [*given, "--report", "r.html"]) as again:
        again.wait_until("ready", lambda status: bool(status.get("ready")))
        assert again.ask("cutover", yes=True).exit_code == 0
        again.wait_until("the way back", lambda status: status.get("authority") == "target")
        assert again.ask("finish", yes=True).exit_code == 0
        code, out, err = again.end()
    assert code == 0, out + err
    left = (tmp_path / "r.html").read_text()
    assert 'data-tone="good"' in left and "writes waited" in left
    made = keyferry("report", "shop", cwd=tmp_path)
    assert made.out.startswith(f"Finished: shop is on the target {target.endpoint.location}")
    report = json.loads(keyferry("report", "shop", "--json", cwd=tmp_path).out)
    times = [(span["from_ms"], span["to_ms"]) for span in report["timeline"]]
    assert times == sorted(times) and report["began_ms"] <= times[0][0]
    assert f"{report['switches'][0]['gate_ms']:,.1f} ms" in (tmp_path / PAGE).read_text()


def test_of_one_name_the_unfinished_else_the_newest(tmp_path: Path) -> None:
    end_one(tmp_path, "aborted", 1_700_000_000_000)
    end_one(tmp_path, "finished", 1_700_000_100_000)
    assert keyferry("report", "shop", cwd=tmp_path).out.startswith("Finished: shop")
    second = json.loads(keyferry("report", "shop", "--ended", "2", "--json", cwd=tmp_path).out)
    assert (second["ended"], second["seen_ms"]) == ("aborted", 1_700_000_000_000)
    with MigrationJournal(tmp_path / STATE, "shop") as journal:
        journal.claim("id", "old:1", "newer:1")
        journal.event(EventKind.STARTED)
        journal.set(FactKey.STOPPED, {"error": "It is lost.", "hint": "", "exit_code": 3, "at_ms": 1 << 45})
    made = keyferry("report", "shop", cwd=tmp_path)
    assert made.out.startswith("Not finished: shop")
    assert "  stopped      It is lost.\n" in made.out
    assert 'data-tone="trouble"' in (tmp_path / PAGE).read_text()
    listed = keyferry("report", "shop", "--list", cwd=tmp_path).out.splitlines()
    assert listed[0] == "shop: not finished"
    assert [line.partition(":")[0] for line in listed[1:]] == ["--ended 1", "--ended 2"]
    assert "aborted, old:1 to new:1" in listed[2]


def test_nobody_makes_a_report_beside_a_closed_gate(tmp_path: Path) -> None:
    with MigrationJournal(tmp_path, "shop") as journal:
        journal.set(FactKey.SWITCH, {"begun": ["prepare"], "done": []})
        assert report_so_far("shop", tmp_path)["running"]
        journal.set(FactKey.SWITCH, {"begun": ["prepare", "hold"], "done": ["prepare"]})
        with pytest.raises(RefusedError, match="after it"):
            report_so_far("shop", tmp_path)
        journal.set(FactKey.SWITCH, {"begun": ["hold", "open", "hook"], "done": ["hold", "open"]})
        assert report_so_far("shop", tmp_path)["running"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["report", "other"], "knows no migration other."),
        (["report", "shop", "--ended", "2"], "1 ended ones are kept"),
        (["report", "shop", "--html", "missing/r.html"], "cannot be written"),
        (["report", "shop"], "is no report of ours"),
    ],
)
def test_what_cannot_be_is_told(given: list[str], said: str, tmp_path: Path) -> None:
    end_one(tmp_path, "finished", 1_700_000_000_000)
    (tmp_path / PAGE).write_text("mine")
    ended = keyferry(*given, cwd=tmp_path)
    assert ended.status == 2
    assert said in ended.err
    assert (tmp_path / PAGE).read_text() == "mine"
    assert len(ended_journals(tmp_path / STATE, "shop")) == 1
