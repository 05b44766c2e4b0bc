"""What a running migration looks like, and what it says at its end."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from rich.console import Console, RenderableType

from keyferry.app import display_migrate
from keyferry.app.display_migrate import WAITING_S, MigrateView
from keyferry.app.pictures import LINE_S, WIDE
from keyferry.app.summary_migrate import SWITCHES_SHOWN, of_migration
from keyferry.model.phases import Side
from keyferry.telemetry.following import HotKey, SyncProgress
from keyferry.telemetry.migrating import (
    STATIONS,
    MigrationProgress,
    MigrationReport,
    SwitchReport,
    Verified,
)

TITLE = "keyferry migrate redis://" + "h" * 70 + " to redis://t, shop"
SYNC = SyncProgress(
    stage="following",
    feed="tracking",
    generation=1,
    keys_total=200_000,
    keys_done=200_000,
    keys_per_second=0.0,
    seconds_left=None,
    changes_per_second=30_000.0,
    dirty_keys=1_234,
    lag_s=0.2,
    settled_keys=1_234_567,
    settled_per_second=29_800.0,
    cutover_s=0.04,
    hottest=(),
    foreign_keys=0,
    failed=0,
    elapsed_s=723.0,
    source_latency_ms=0.42,
    target_latency_ms=None,
    throttle="free",
)
SWITCH = SwitchReport(
    "cutover", 1_700_000_000_000, gate="writers", outcome="done", gate_ms=12.34, compared=37
)
READY = MigrationProgress(
    SYNC, "following", phase="dual", epoch=3, writers=20, verified=Verified(1, 1_000_000, 0), elapsed_s=9.0
)
NOT_READY = replace(READY, not_ready=("The target is 3.0 s behind.", "It is paused."), verified=None)
COPYING = replace(
    NOT_READY, sync=replace(SYNC, stage="copying", keys_done=123_456, seconds_left=9.0), stage="copying"
)
SWITCHING = replace(READY, stage="switching", step="settle", phase="hold")
BACK = replace(READY, stage="following back", authority=Side.TARGET, phase="target-dual", last_switch=SWITCH)
AWAY = replace(
    NOT_READY, stage="waiting for a server", sync=replace(SYNC, stage="waiting for a server", shards=500)
)
PAUSED = replace(NOT_READY, paused=True)
HOT = replace(READY, sync=replace(SYNC, hottest=(HotKey(b"k" * 99, 0, 9.0, 10**9, 3.0),)))
ALL = [READY, NOT_READY, COPYING, SWITCHING, BACK, AWAY, PAUSED, HOT]


def drawn(picture: RenderableType, width: int = 80) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width, highlight=False).print(picture)
    return stream.getvalue().splitlines()


def frame(progress: MigrationProgress, width: int = 80, *, state_dir: str = ".keyferry") -> list[str]:
    return drawn(MigrateView("shop", Path(state_dir)).frame(TITLE, progress), width)


def way(progress: MigrationProgress) -> str:
    """The station in brackets."""
    return frame(progress)[1].partition("[")[2].partition("]")[0]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
@pytest.mark.parametrize("progress", ALL, ids=lambda progress: progress.stage)
def test_it_never_folds_and_nothing_jumps(progress: MigrationProgress, width: int) -> None:
    lines = frame(progress, width)
    hottest = len(progress.sync.hottest) if progress.sync else 0
    assert len(lines) == (13 if width >= WIDE else 20) + hottest
    assert max(map(len, lines)) <= width


def test_before_there_is_anything_to_show() -> None:
    lines = frame(MigrationProgress(None, "connecting"))
    assert lines[1].startswith("[copy] > follow")
    assert lines[-1] == "next: keyferry status --name shop"
    line = display_migrate.line(MigrationProgress(None, "connecting"))
    assert line == "connecting, 0 writers"


@pytest.mark.parametrize(
    ("progress", "station"),
    [
        (COPYING, "copy"),
        (replace(COPYING, stage="comparing"), "copy"),
        (NOT_READY, "follow"),
        (replace(NOT_READY, stage="verifying"), "verify"),
        (READY, "ready"),
        (SWITCHING, "cut over"),
        (replace(BACK, stage="switched"), "cut over"),
        (BACK, "follow back"),
        (replace(BACK, stage="copying"), "follow back"),
    ],
)
def test_the_station_on_the_way(progress: MigrationProgress, station: str) -> None:
    assert way(progress) == station


def test_a_server_that_is_away_does_not_change_the_station() -> None:
    view = MigrateView("shop", Path(".keyferry"))
    drawn(view.frame(TITLE, READY))
    assert "[ready]" in drawn(view.frame(TITLE, AWAY))[1]
    assert "[" not in drawn(view.frame(TITLE, replace(BACK, stage="finished")))[1]
    assert len(STATIONS) == 6


def test_what_to_type_next() -> None:
    def said(progress: MigrationProgress, state_dir: str = ".keyferry") -> str:
        return frame(progress, 120, state_dir=state_dir)[12].rstrip()

    assert said(READY) == "next: keyferry cutover --name shop"
    assert said(READY, "/my state") == "next: keyferry cutover --name shop --state-dir '/my state'"
    assert said(NOT_READY) == "next: keyferry status --name shop"
    assert said(PAUSED) == "next: keyferry unpause --name shop"
    assert said(SWITCHING) == ""
    assert said(BACK) == "next: keyferry finish|rollback --name shop"
    assert said(replace(BACK, stage="switched")) == "next: keyferry finish --name shop"


def test_what_speaks_against_a_cutover_is_named() -> None:
    assert "not ready: The target is 3.0 s behind. (and 1 more)" in frame(NOT_READY)
    assert "ready to be switched to the target" in frame(READY)
    assert "ready to be switched to the source" in frame(BACK)
    assert "paused" in frame(PAUSED)[1]


def test_numbers_of_the_way_back_are_in_our_words() -> None:
    assert "source 0.4 ms, target -" in "\n".join(frame(READY))
    text = "\n".join(frame(BACK))
    assert "source -, target 0.4 ms" in text
    assert "cutover done: writes waited 12.3 ms" in text


def test_a_switch_shows_its_step() -> None:
    assert frame(SWITCHING)[2] == "switching: settle"
    assert display_migrate.line(SWITCHING) == "switching (settle), phase hold, 20 writers"


def test_the_plain_lines() -> None:
    assert display_migrate.line(READY).startswith(
        "following, ready, phase dual, 20 writers, feed tracking, generation 1, 30,000 changes/s, 1,234 dirty"
    )
    assert display_migrate.line(replace(PAUSED, writers=1)).startswith(
        "following, paused, not ready (The target is 3.0 s behind), phase dual, 1 writer, "
    )
    assert display_migrate.line(COPYING).startswith(
        "copying: 123,456 of 200,000 keys (61 %), 0 keys/s, 9.0 s left, phase dual, 20 writers, feed tracking, "
    )


def test_lines_come_seldom_while_it_waits_and_at_once_when_something_changes() -> None:
    view = MigrateView("shop", Path(".keyferry"))
    assert view.pause_s(None, READY) == 0.0
    busy = replace(READY, sync=replace(SYNC, settled_keys=2_000_000))
    assert view.pause_s(READY, busy) == WAITING_S
    assert view.pause_s(COPYING, replace(COPYING, elapsed_s=99.0)) == LINE_S
    for other in (COPYING, PAUSED, SWITCHING, BACK, replace(READY, phase="shadow")):
        assert view.pause_s(READY, other) == 0.0
    flapping = replace(READY, not_ready=("The target is 1.1 s behind.",))
    assert view.pause_s(READY, flapping) == WAITING_S


def test_sweeps_come_and_go_without_a_line_for_each() -> None:
    def swept(stage: Literal["following", "comparing"]) -> MigrationProgress:
        sync = replace(SYNC, feed="sweeps", stage=stage)
        return replace(READY, sync=sync, stage=stage)

    view = MigrateView("shop", Path(".keyferry"))
    assert view.pause_s(swept("following"), swept("comparing")) > 0.0


MOVED = {
    "direction": "source to target",
    "copied": {"copied": 1_000, "bytes": 2_000_000},
    "settled": 17,
    "failed": 0,
}
REPORT = MigrationReport(
    "shop",
    "old:6379",
    "new:6379",
    ended="finished",
    phase="target",
    authority="target",
    stages={"copying": 3.0, "following": 90.0, "connecting": 0.01},
    moved=[MOVED, MOVED],
    switches=[SWITCH],
    verifications=[Verified(1, 1_000, 0)],
    writers=20,
    starts=1,
    barred="The user app may not write on the source any more.",
    advice=["The source old:6379 may be switched off."],
)


def test_the_end_of_a_migration() -> None:
    lines = of_migration(REPORT).plain.splitlines()
    assert lines[0] == "Finished: shop is on the target new:6379, after 93 s."
    assert lines[1:4] == [
        "  moved        source to target: 2,000 keys copied (4.0 MB), 34 changes settled",
        "  time         copying 3.0 s, following 90 s",
        f"  switched     {lines[3].split()[1]} {lines[3].split()[2]} cutover done: writes waited 12.3 ms "
        "(gate writers, 37 keys compared under it)",
    ]
    assert lines[4:] == [
        "  verified     1 time; at last equal, 1,000 keys",
        "  writers      20 at most",
        "  barred       The user app may not write on the source any more.",
        "The source old:6379 may be switched off.",
    ]


def test_what_went_wrong_is_said() -> None:
    undone = replace(SWITCH, outcome="undone", reason="2 writers did not answer.")
    put_off = replace(undone, outcome="put off", gate_ms=None)
    hook = replace(SWITCH, hook="The command ended with 3.", hook_failed=True)
    report = replace(
        REPORT,
        ended="aborted",
        authority="source",
        switches=[undone, put_off, hook],
        moved=[{**MOVED, "failed": 2}],
        warnings=["One user for both."],
        verifications=[Verified(1, 1_000, 3)],
        starts=3,
    )
    text = of_migration(report).plain
    assert text.startswith("Aborted: shop is given up after 93 s; the source has authority.")
    assert "cutover undone, writes waited 12.3 ms: 2 writers did not answer.\n" in text
    assert "cutover put off, nobody waited: 2 writers did not answer.\n" in text
    for part in (
        "\n  hook         The command ended with 3.",
        "\n  failed       2 keys could not be carried",
        "\n  warning      One user for both.",
        "\n  started      3 times",
        "at last 3 of 1,000 differ",
    ):
        assert part in text


def test_many_switches_do_not_fill_the_screen() -> None:
    report = replace(REPORT, switches=[SWITCH] * (SWITCHES_SHOWN + 5))
    text = of_migration(report).plain
    assert text.count("cutover done") == SWITCHES_SHOWN
    assert "5 earlier times" in text
