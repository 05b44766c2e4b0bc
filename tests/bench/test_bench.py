"""The benchmark runs, has every row, and its figures agree with each other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from bench.catalogue import all_rows
from bench.rows import ROW_NAMES, SOURCE_LIMIT, TARGET_LIMIT

PROJECT = Path(__file__).parents[2]
KEYS = 2_000
ARGUMENTS = ("--quick", "--keys", str(KEYS), "--only", "strings,mix")
DATA_TITLES = ("strings of 64 bytes", "keys of all types")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a run with few keys; every row that can run here did, and was found correct."""
    output = tmp_path_factory.mktemp("bench") / "page.md"
    result = subprocess.run(
        [sys.executable, "-m", "bench", *ARGUMENTS, "--output", str(output)],
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stderr.decode("utf-8", "replace")
    return output.read_text(encoding="utf-8")


def test_every_row_is_there_or_says_why_not(page: str) -> None:
    runnable = {name for name, row in all_rows().items() if not row.unavailable()}
    assert {SOURCE_LIMIT, TARGET_LIMIT, "replication", "redis-py", "keyferry-pure"} <= runnable
    for title in DATA_TITLES:
        section = _section(page, title)
        speeds = _rows(section, "speed")
        for name in ROW_NAMES:
            row = all_rows()[name]
            if name in runnable:
                assert any(row.title in cells[0] for cells in speeds), f"{name} is missing"
            else:
                assert f"- {row.title}: {row.unavailable()}" in section


def test_speeds_are_plausible(page: str) -> None:
    for title in DATA_TITLES:
        speeds = _rows(_section(page, title), "speed")
        limits = [_number(cells[1]) for cells in speeds if "own limit" in cells[0]]
        assert len(limits) == 2
        for _, keys_per_s, span, share, seconds, process_s in speeds:
            low, high = (_number(value) for value in span.split(" – "))
            assert 0 < low <= _number(keys_per_s) <= high
            expected_percent = 100 * _number(keys_per_s) / min(limits)
            assert float(share.rstrip("%")) == pytest.approx(expected_percent, abs=0.1)
            assert process_s == "–" or float(process_s) >= float(seconds) > 0 or float(seconds) < 0.01


def test_tools_show_what_they_cost(page: str) -> None:
    for title in DATA_TITLES:
        costs = _rows(_section(page, title), "CPU per key, us")
        for row_title, _, process_us, source_us, target_us, peak_mb in costs:
            if "keyferry copy" in row_title or "redis-py" in row_title:
                assert _number(process_us) > 0
                assert _number(source_us) > 0
                assert _number(target_us) > 0
                assert 5 < _number(peak_mb) < 1_000


def test_latency_is_ordered(page: str) -> None:
    found = _rows(_section(page, DATA_TITLES[0]), "light client on the source meanwhile, ms")
    assert found[0][0] == "nothing else"
    assert len(found) > len(ROW_NAMES) // 2
    for _, *percentiles, requests, _ in found:
        values = [float(value) for value in percentiles]
        assert values == sorted(values)
        assert values[0] > 0
        assert _number(requests) > 0


def test_the_page_says_that_it_is_small_and_shows_no_path(page: str) -> None:
    assert "A run with few keys" in page
    assert f"`python -m bench {' '.join(ARGUMENTS)}`" in page
    assert str(PROJECT) not in page
    assert os.uname().nodename not in page


def _section(page: str, title: str) -> str:
    found = re.search(rf"^## [\d,]+ {title}.*?(?=^<!-- )", page, re.MULTILINE | re.DOTALL)
    assert found, f"no section for {title}"
    return found[0]


def _rows(section: str, head: str) -> list[list[str]]:
    """The cells below the line that begins with ``head``."""
    lines = section.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {head} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def _number(text: str) -> float:
    return float(text.replace(",", ""))
