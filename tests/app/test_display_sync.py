"""The displays of sync and verify: readable at 80 and 100 columns, never wider than the terminal, true."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console, RenderableType

from keyferry.app import display_sync, display_verify
from keyferry.app.display_sync import QUIET_S, SyncView
from keyferry.app.display_verify import VerifyView
from keyferry.app.pictures import LINE_S, WIDE
from keyferry.app.screen import PlainScreen
from keyferry.model.keynames import MARKS, NAMES
from keyferry.telemetry.comparing import VerifyProgress
from keyferry.telemetry.following import HotKey, SyncProgress

TITLE = "keyferry sync redis://" + "h" * 70 + " to redis://t"

FOLLOWING = SyncProgress(
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
COPYING = replace(
    FOLLOWING,
    stage="copying",
    keys_done=123_456,
    keys_per_second=311_000.0,
    seconds_left=0.3,
    cutover_s=None,
)
LARGE = replace(
    COPYING,
    feed="notifications",
    generation=1_234,
    stage="waiting for a server",
    keys_total=9_999_999_999,
    keys_done=1_234_567_890,
    keys_per_second=1_234_567.0,
    seconds_left=1_234_567.0,
    changes_per_second=1_234_567.0,
    dirty_keys=5_000_000,
    lag_s=123_456.0,
    settled_keys=123_456_789_012,
    settled_per_second=1_234_567.0,
    cutover_s=123_456.0,
    hottest=tuple(
        HotKey(bytes(range(200)), 15, per_second=123_456.0, size_bytes=10**12, pause_s=3_600.0)
        for _ in range(3)
    ),
    foreign_keys=12_345_678,
    failed=1_234_567,
    elapsed_s=1_234_567.0,
    source_latency_ms=12_345.6,
    target_latency_ms=99.99,
    throttle="slowed",
    shards=500,
)
START = replace(
    FOLLOWING,
    stage="connecting",
    feed="",
    keys_total=0,
    keys_done=0,
    changes_per_second=0.0,
    dirty_keys=0,
    lag_s=0.0,
    settled_keys=0,
    settled_per_second=0.0,
    cutover_s=None,
    throttle="off",
)
VERIFYING = VerifyProgress(
    stage="looking for extra keys",
    database=0,
    keys_total=200_000,
    keys_done=123_456,
    suspects=12,
    round=0,
    rounds=6,
    differences=0,
    elapsed_s=1.5,
    keys_per_second=311_000.0,
    seconds_left=0.3,
    source_latency_ms=0.42,
    target_latency_ms=None,
    throttle="limited",
)
LARGE_VERIFY = replace(
    VERIFYING,
    database=15,
    keys_total=9_999_999_999,
    keys_done=1_234_567_890,
    suspects=12_345_678,
    round=1_000,
    rounds=1_000,
    differences=12_345_678,
    elapsed_s=1_234_567.0,
    keys_per_second=1_234_567.0,
    seconds_left=1_234_567.0,
    source_latency_ms=12_345.6,
    target_latency_ms=99.99,
    throttle="slowed",
)


def drawn(picture: RenderableType, width: int) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width, highlight=False).print(picture)
    return stream.getvalue().splitlines()


def sync_lines(progress: SyncProgress, width: int = 80) -> list[str]:
    return drawn(display_sync.frame(TITLE, progress), width)


def verify_lines(progress: VerifyProgress, width: int = 80) -> list[str]:
    return drawn(display_verify.frame(TITLE, progress), width)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
@pytest.mark.parametrize(
    "progress",
    [FOLLOWING, COPYING, LARGE, START, replace(LARGE, stage="verifying")],
    ids=lambda progress: progress.stage,
)
def test_a_sync_never_folds(progress: SyncProgress, width: int) -> None:
    lines = sync_lines(progress, width)
    assert len(lines) == (9 if width >= WIDE else 15) + len(progress.hottest)
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
@pytest.mark.parametrize("progress", [VERIFYING, LARGE_VERIFY], ids=["small", "large"])
def test_a_comparison_never_folds(progress: VerifyProgress, width: int) -> None:
    lines = verify_lines(progress, width)
    assert len(lines) == (7 if width >= WIDE else 12)
    assert max(map(len, lines)) <= width


def test_a_sync_that_follows_says_how_it_stands() -> None:
    text = "\n".join(sync_lines(FOLLOWING))
    for part in (
        "1,234 keys",
        "30,000/s",
        "200 ms",
        "29,800/s, 1,234,567 in all",
        "would wait 40 ms",
        "source 0.4 ms, target -",
        "tracking, generation 1",
        "on, full speed",
        "12 min 03 s",
    ):
        assert part in text
    assert "200,000" not in text
    assert "hot " not in text


def test_a_sync_that_copies_says_how_far_it_is() -> None:
    text = "\n".join(sync_lines(COPYING))
    for part in ("123,456 of 200,000 keys (61 %), 311,000 keys/s", "0.3 s left", "not known yet"):
        assert part in text


def test_hot_keys_are_named_with_their_cost() -> None:
    hot = HotKey(b"user:\xff", 3, per_second=350.0, size_bytes=12_300_000, pause_s=2.0)
    lines = sync_lines(replace(FOLLOWING, hottest=(hot, replace(hot, size_bytes=0))))
    assert lines[-1] == "hot user:\\xff (db 3): 350.0/s, carried every 2.0 s at most"
    assert lines[-2] == "hot user:\\xff (db 3): 350.0/s, 12.3 MB, carried every 2.0 s at most"


def test_a_line_that_goes_to_a_log_names_keys_only_when_asked() -> None:
    hot = HotKey(b"user:42", 3, per_second=350.0, size_bytes=12_300_000, pause_s=2.0)
    progress = replace(FOLLOWING, hottest=(hot,))
    assert f"hot {MARKS.name(b'user:42')} (db 3): 350.0/s" in SyncView().line(progress)
    assert "user:42" not in SyncView().line(progress)
    assert "hot user:42 (db 3): 350.0/s" in SyncView(NAMES).line(progress)


@pytest.mark.parametrize(
    "troubled", [replace(FOLLOWING, failed=7), replace(FOLLOWING, foreign_keys=7)], ids=["failed", "foreign"]
)
def test_what_should_be_zero_warns_when_it_is_not(troubled: SyncProgress) -> None:
    def coloured(progress: SyncProgress) -> str:
        stream = io.StringIO()
        Console(file=stream, width=80, force_terminal=True, color_system="standard", highlight=False).print(
            display_sync.frame(TITLE, progress)
        )
        return stream.getvalue()

    assert "\x1b[1;31m7" in coloured(troubled)
    assert "\x1b[1;31m" not in coloured(FOLLOWING)


def test_numbers_stay_in_their_columns() -> None:
    first, second = sync_lines(FOLLOWING), sync_lines(replace(FOLLOWING, dirty_keys=9, settled_keys=1))
    assert [text.find("settled") for text in first] == [text.find("settled") for text in second]


def test_the_plain_lines() -> None:
    assert display_sync.line(FOLLOWING) == (
        "following, feed tracking, generation 1, 30,000 changes/s, 1,234 dirty, lag 200 ms, 29,800 settled/s, "
        "cutover would wait 40 ms, source 0.4 ms, target -, guard on, full speed, 0 failed, 0 foreign"
    )
    assert display_sync.line(COPYING).startswith(
        "copying: 123,456 of 200,000 keys (61 %), 311,000 keys/s, 0.3 s left, feed tracking, generation 1, "
    )
    assert display_verify.line(replace(VERIFYING, stage="looking again", round=2, differences=3)) == (
        "looking again, database 0: 123,456 of 200,000 keys (61 %), 311,000 keys/s, 0.3 s left, 12 suspects, "
        "round 2 of 6, 3 differ, source 0.4 ms, target -, guard held to your limit"
    )


class Clock:
    """Stands in for ``time.monotonic`` of the screen."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("keyferry.app.screen.time.monotonic", clock)
    return clock


def test_a_line_for_each_stage_and_few_while_nothing_happens(clock: Clock) -> None:
    stream = io.StringIO()
    screen = PlainScreen(Console(file=stream, width=1000), "title", SyncView())

    def watch(progress: SyncProgress, seconds: float) -> int:
        """The number of lines that are said meanwhile."""
        before = stream.getvalue().count("\n")
        for _ in range(round(seconds * 10)):
            clock.now += 0.1
            screen.observe(progress)
        return stream.getvalue().count("\n") - before

    assert watch(COPYING, 0.1) == 1
    assert watch(COPYING, 2 * LINE_S + 1) == 2
    assert watch(FOLLOWING, 0.1) == 1
    assert watch(FOLLOWING, 3 * QUIET_S + 1) == 3
    assert watch(replace(FOLLOWING, settled_keys=2_000_000), LINE_S) == 1
    assert watch(replace(FOLLOWING, stage="stopping"), 0.1) == 1
    sweeping = replace(FOLLOWING, stage="comparing", feed="sweeps")
    assert watch(sweeping, 0.1) == 1
    assert watch(replace(sweeping, stage="following"), 0.1) == 0


def test_a_comparison_says_a_line_for_each_stage(clock: Clock) -> None:
    view = VerifyView()
    assert view.pause_s(None, VERIFYING) == LINE_S
    assert view.pause_s(VERIFYING, replace(VERIFYING, keys_done=200_000)) == LINE_S
    assert view.pause_s(VERIFYING, replace(VERIFYING, stage="looking again")) == 0


@pytest.mark.parametrize("lines", [sync_lines(COPYING, 60), verify_lines(VERIFYING, 60)])
def test_a_narrow_terminal_cuts_no_value(lines: list[str]) -> None:
    assert max(map(len, lines)) <= 60
    shown = "\n".join(lines)
    assert "latency   source 0.4 ms, target -" in shown
    assert "\nguard     " in shown
    assert "…" not in shown.partition("\n")[2]
