"""What `keyferry status` shows: everything in full, on 80 columns, from the status as JSON says it."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console, RenderableType
from test_display_migrate import ALL, BACK, NOT_READY, READY, SWITCH

from keyferry.app.display_status import WRITERS_SHOWN, frame, line, progress_of
from keyferry.cutover.showing import status_of, writers_late
from keyferry.model.phases import Phase
from keyferry.model.writers import WriterEntry, WriterFacts
from keyferry.telemetry.migrating import MigrationProgress, Verified

NOW_MS = 1_700_000_100_000
WHERE = "--name shop"
WRITER = WriterEntry(
    WriterFacts("web1", 1203, "gunicorn", "keyferry 0.1"),
    phase=Phase.DUAL,
    epoch=3,
    lease_ms=10_000,
    renewals=7,
    since_ms=NOW_MS - 60_000,
    seen_ms=NOW_MS - 2_000,
)


def status(progress: MigrationProgress, **more: Any) -> dict[str, Any]:
    """What the socket brings: through JSON, once."""
    given: dict[str, Any] = {
        "name": "shop",
        "source": "old:6379",
        "target": "new:6379",
        "pid": 7,
        "limits": {"max_rate": None, "max_latency_ms": 5.0},
        "touched": 0,
        "writers": {},
        "switches": [],
        "barred": "",
        "warnings": [],
        "events": [],
        **more,
    }
    said: dict[str, Any] = json.loads(json.dumps(status_of(progress, **given), default=str))
    return said


def drawn(picture: RenderableType, width: int = 80, *, terminal: bool = True) -> list[str]:
    stream = io.StringIO()
    console = Console(
        file=stream,
        width=width,
        highlight=False,
        force_terminal=terminal,
        color_system=None,
        soft_wrap=not terminal,
    )
    console.print(picture)
    return stream.getvalue().splitlines()


def shown(said: dict[str, Any], width: int = 80, *, terminal: bool = True) -> str:
    return "\n".join(drawn(frame(said, WHERE, NOW_MS), width, terminal=terminal))


@pytest.mark.parametrize("progress", ALL, ids=lambda progress: progress.stage)
def test_the_look_that_a_status_was_made_of_comes_back(progress: MigrationProgress) -> None:
    said = progress_of(status(progress, switches=[progress.last_switch] if progress.last_switch else []))
    assert said.sync is not None and progress.sync is not None
    sync = replace(progress.sync, stage=said.sync.stage, hottest=(), elapsed_s=9.0)
    assert said.sync.stage == progress.stage
    assert replace(said, sync=None, writers=0) == replace(progress, sync=None, writers=0)
    assert replace(said.sync, source_latency_ms=0.42) == sync


@pytest.mark.parametrize("width", [40, 80, 100])
@pytest.mark.parametrize("progress", ALL, ids=lambda progress: progress.stage)
def test_nothing_is_wider_than_the_terminal(progress: MigrationProgress, width: int) -> None:
    said = status(
        progress,
        writers={str(number): WRITER for number in range(20)},
        switches=[SWITCH],
        barred="The source's users " + "u" * 90 + " cannot write any more.",
        warnings=["w " * 100],
        events=[(NOW_MS, "Changes are followed by tracking. " * 5)],
    )
    assert max(map(len, drawn(frame(said, WHERE, NOW_MS), width))) <= width


def test_what_is_not_ready_is_all_there() -> None:
    reason = "The source has no user that may write but default, which Keyferry uses: give it one of its own."
    text = shown(status(replace(NOT_READY, not_ready=(reason,))), terminal=False)
    assert f"not ready {reason}" in text
    said = status(NOT_READY)
    assert all(f"{reason}" in shown(said).replace("\n          ", " ") for reason in NOT_READY.not_ready)


def test_writers_that_need_a_look_come_first() -> None:
    writers = {str(number): WRITER for number in range(20)}
    writers["late"] = replace(WRITER, facts=replace(WRITER.facts, host="zulu"), epoch=2)
    writers["gone"] = replace(WRITER, facts=replace(WRITER.facts, host="yard"), seen_ms=NOW_MS - 60_000)
    text = shown(status(READY, writers=writers), terminal=False)
    rows = [row for row in text.splitlines() if "gunicorn" in row]
    assert len(rows) == WRITERS_SHOWN
    assert "on yard" in rows[0] and "silent for 60 s" in rows[0]
    assert "on zulu" in rows[1] and "still at epoch 2" in rows[1]
    assert "silent" not in rows[2] and "still" not in rows[2]
    assert f"and {22 - WRITERS_SHOWN} more writers" in text
    # Nobody looks at them while a server is away: an old look makes none of them silent.
    away = replace(READY, stage="waiting for a server")
    assert "silent" not in shown(status(away, writers=writers))


def test_the_rest_of_it() -> None:
    said = status(
        replace(BACK, verified=Verified(NOW_MS - 130_000, 1_000_000, 0)),
        limits={"max_rate": 20_000.0, "max_latency_ms": 0.0},
        touched=37,
        switches=[SWITCH],
        barred="The source is barred.",
        warnings=["The source has no replica."],
        events=[(NOW_MS, "The cutover is made.")],
    )
    text = shown(said)
    for part in (
        "shop: old:6379 to new:6379",
        "[follow back]",
        "equal, 1,000,000 keys, 2 min 10 s ago; 37 keys changed since",
        "20,000 keys/s, latency guard off",
        "cutover done: writes waited 12.3 ms",
        "The source is barred.",
        "The source has no replica.",
        "The cutover is made.",
        "keyferry finish|rollback --name shop",
    ):
        assert part in text, part


def test_plain_output_ends_its_lines_where_they_end() -> None:
    said = status(READY, warnings=["w " * 100], events=[(NOW_MS, "Short.")])
    details = shown(said, terminal=False).splitlines()[-3:]
    assert all(row == row.rstrip() for row in details)


def test_before_anything_is_known() -> None:
    said = {"name": "shop", "source": "old", "target": "new", "pid": 7, "stage": "connecting"}
    assert "shop: old to new" in shown(said)
    assert line(said) == "connecting, 0 writers"


def test_an_old_look_is_said_to_be_old() -> None:
    assert "It looked around" not in shown({**status(READY), "age_seconds": 0.4})
    assert "It looked around 12 s ago" in shown({**status(READY), "age_seconds": 12.0})


def test_what_is_the_matter_and_what_to_do_now() -> None:
    text = shown(status(replace(READY, verified=Verified(NOW_MS, 10, 3))), width=200)
    assert "trouble   The last verification found 3 keys that differ." in text
    assert "what now  Look into that first." in text
    assert "what now" not in shown({**status(READY), "glance": None})


def test_latencies_are_those_of_the_migrations_source_and_target() -> None:
    assert READY.sync is not None
    back = replace(BACK, sync=replace(READY.sync, source_latency_ms=7.0, target_latency_ms=3.0))
    said = status(back)
    assert said["progress"]["source_latency_ms"] == 3.0
    assert "source 3.0 ms, target 7.0 ms" in shown(said)


def test_a_writer_is_late_until_it_has_taken_the_phase() -> None:
    late, troubled = replace(WRITER, epoch=2), replace(WRITER, note="The target is away.")
    assert writers_late({"a": WRITER, "b": late, "c": troubled}, epoch=3) == 2
