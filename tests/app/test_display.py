"""The live display: readable at 80 columns, of steady height, true."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from keyferry.app.display import CopyView, frame, line
from keyferry.app.pictures import LINE_S
from keyferry.app.screen import PlainScreen
from keyferry.model.words import duration, share, size
from keyferry.telemetry.progress import Progress

CALM = Progress(
    stage="copying",
    database=0,
    keys_total=200_000,
    keys_done=123_456,
    copied=123_400,
    skipped=6,
    vanished=50,
    failed=0,
    bytes_done=10_000_000,
    elapsed_s=1.5,
    keys_per_second=311_000.0,
    bytes_per_second=24_100_000.0,
    seconds_left=0.3,
    source_latency_ms=0.42,
    target_latency_ms=None,
    throttle="free",
)
LARGE = replace(
    CALM,
    keys_total=9_999_999_999,
    keys_done=1_234_567_890,
    copied=1_234_567_000,
    failed=123_456,
    keys_per_second=1_234_567.0,
    bytes_per_second=1.2e9,
    elapsed_s=123_456.0,
    seconds_left=1_234_567.0,
    source_latency_ms=1234.5,
    target_latency_ms=99.99,
    throttle="slowed",
)
EMPTY = replace(CALM, keys_total=0, keys_done=0, keys_per_second=0.0, seconds_left=None, throttle="off")


def drawn(progress: Progress, width: int = 80) -> list[str]:
    stream = io.StringIO()
    console = Console(file=stream, width=width, highlight=False)
    console.print(frame("keyferry copy redis://" + "h" * 70 + " to redis://t", progress))
    return stream.getvalue().splitlines()


@pytest.mark.parametrize("progress", [CALM, LARGE, EMPTY], ids=["calm", "large", "empty"])
def test_a_frame_is_seven_lines_of_80_columns(progress: Progress) -> None:
    lines = drawn(progress)
    assert len(lines) == 7
    assert max(map(len, lines)) <= 80


def test_a_frame_says_what_is_so() -> None:
    text = "\n".join(drawn(CALM))
    for part in (
        "123,456 of 200,000",
        "311,000 keys/s, 24.1 MB/s",
        "61 %",
        "0.3 s left",
        "source 0.4 ms, target -",
    ):
        assert part in text


def test_numbers_stay_in_their_columns() -> None:
    first, second = drawn(CALM), drawn(replace(CALM, keys_done=9, copied=9, keys_per_second=1.0))
    assert [text.find("rate") for text in first] == [text.find("rate") for text in second]


def test_the_plain_line() -> None:
    assert line(CALM) == (
        "copying, database 0: 123,456 of 200,000 keys (61 %), 311,000 keys/s, 24.1 MB/s, 0.3 s left, "
        "source 0.4 ms, target -, guard on, full speed, 0 failed"
    )


def test_plain_lines_come_every_few_seconds_only(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("keyferry.app.screen.time.monotonic", lambda: now)
    stream = io.StringIO()
    display = PlainScreen(Console(file=stream, width=1000), "title", CopyView())
    with display:
        for _ in range(30):
            now += LINE_S / 10
            display.observe(CALM)
    assert stream.getvalue().splitlines() == ["title", *[line(CALM)] * 3]
    assert display.last is CALM


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (99.4, "99 s"),
        (100, "1 min 40 s"),
        (3599.4, "59 min 59 s"),
        (3600, "1 h 00 min"),
        (7260, "2 h 01 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (999_960, "1.0 MB"), (5e12, "5000.0 GB")],
)
def test_sizes(number: float, text: str) -> None:
    assert size(number) == text


def test_a_share_is_whole_only_when_all_is_done() -> None:
    assert [share(0, 0), share(0, 3), share(199_999, 200_000), share(3, 3), share(5, 3)] == [
        None,
        0,
        99,
        100,
        100,
    ]
