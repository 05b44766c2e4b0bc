"""The sections about big keys, their guard and clusters: every row runs, and a page keeps what was not measured."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from bench.big import BUSY_PROCESSES, OVER_OLD_VALUES, TITLES
from bench.clusters import ROWS
from bench.page import parse

PROJECT = Path(__file__).parents[2]
ARGUMENTS = ("--quick", "--keys", "2000", "--only", "guard,big-zset,cluster")
BEFORE = """\
# Benchmark

## Goals

| section | goal | measured |  |
| --- | --- | --- | --- |
| [Strings](#strings) | quick | yes | reached |
| [Old clusters](#old-clusters) | quick | no | **not reached** |

<!-- section: strings -->
## Strings

Measured long ago.

<!-- section: cluster -->
## Old clusters

Measured long ago too.

<!-- end of sections -->
## How to read this
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    output = tmp_path_factory.mktemp("bench") / "page.md"
    output.write_text(BEFORE)
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


def test_only_what_was_asked_for_is_measured(page: str) -> None:
    sections = parse(page)
    assert list(sections) == ["strings", "guard", "big-zset", "cluster"]
    assert sections["strings"].text == "## Strings\n\nMeasured long ago."
    assert sections["strings"].goals == ("| [Strings](#strings) | quick | yes | reached |",)
    assert "Old clusters" not in page
    for name in ("guard", "big-zset", "cluster"):
        assert f"Measured by `python -m bench {' '.join(ARGUMENTS)}` on " in sections[name].text
        assert "A run with few keys" in sections[name].text
        assert "1 round" in sections[name].text
        assert "commit" in sections[name].text


def test_every_big_row_has_its_waits(page: str) -> None:
    section = parse(page)["big-zset"]
    rows = _rows(section.text, "ways, and another client's waits meanwhile, ms")
    expected = [
        "*nothing else, servers idle*",
        f"*nothing else, {BUSY_PROCESSES} processes keep the cores busy*",
    ]
    expected += [title for name, title in TITLES.items() if name != "redisshake"]
    expected += [f"{TITLES[name]}, over old values" for name in OVER_OLD_VALUES]
    assert [row[0] for row in rows if not row[0].startswith("RedisShake")] == expected
    for row in rows:
        _, took, _, source_p99, source_worst, target_p99, target_worst, _ = row
        assert float(took) > 0
        assert 0 < float(source_p99) <= float(source_worst)
        assert 0 < float(target_p99) <= float(target_worst)
    for row in rows[2:]:
        # Of 3 keys of 30,000 members, by seconds that are rounded.
        seconds, members_per_s = float(row[1]), float(row[2].replace(",", ""))
        assert 90_000 / (seconds + 0.006) <= members_per_s <= 90_000 / max(seconds - 0.006, 1e-3)
    assert len(section.goals) == 1


def test_the_guard_is_compared_on_both_data_sets(page: str) -> None:
    text = parse(page)["guard"].text
    for data in ("2,100 strings of 64 bytes, 30 % with expiry:", "2,100 keys of all types, 16 B to 4 KiB:"):
        assert data in text
    ratios = [line for line in text.splitlines() if " : " in line]
    assert ratios[0].startswith("| compiled, with the guard : compiled, without |") or "not available" in text
    assert any(line.startswith("| pure Python, with the guard : pure Python, without |") for line in ratios)


def test_clusters_are_compared_with_one_server(page: str) -> None:
    section = parse(page)["cluster"]
    titles = [title for title, _, _ in ROWS.values()]
    rows = _rows(section.text, "")
    assert [row[0] for row in rows] == titles
    for row in rows:
        assert all(float(cell.replace(",", "")) > 0 for cell in (row[1], *row[3:]))
    ratios = _rows(section.text, "ratios, round by round")
    assert [row[0] for row in ratios] == [f"{title} : {titles[0]}" for title in titles[1:]]
    base, *others = rows
    for row, ratio in zip(others, ratios, strict=True):
        expected = float(row[1].replace(",", "")) / float(base[1].replace(",", ""))
        assert float(ratio[1]) == pytest.approx(expected, abs=0.02)
    assert len(section.goals) == len(others)


def test_what_was_measured_before_a_cut_stays(tmp_path: Path) -> None:
    output = tmp_path / "page.md"
    output.write_text(BEFORE)
    arguments = ("--quick", "--keys", "500", "--rows", "source-limit", "--only", "strings,cluster")
    with subprocess.Popen(
        [sys.executable, "-m", "bench", *arguments, "--output", str(output)],
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        while not process.stderr.readline().startswith(b"cluster: loading"):
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM
    sections = parse(output.read_text())
    assert "source's own limit" in sections["strings"].text
    assert sections["cluster"].text == "## Old clusters\n\nMeasured long ago too."
    assert list(tmp_path.iterdir()) == [output]


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
