"""From samples to verdicts, by numbers that can be checked by hand."""

from __future__ import annotations

import pytest
from bench.figures import goals, limit_shares, median_per_key_us, percentile
from bench.options import BIG_SECTIONS, SECTIONS, parse_options
from bench.rows import KEYFERRY, KEYFERRY_GUARDED, KEYFERRY_PURE, ROW_NAMES, SOURCE_LIMIT, TARGET_LIMIT
from bench.samples import DataResult, Latency, RowResult, Sample, Work

KEYS = 1_000_000


def test_percentiles_are_nearest_ranks() -> None:
    values = list(range(1, 1001))
    assert [percentile(values, share) for share in (0.5, 0.99, 0.999, 1.0)] == [500, 990, 999, 1000]
    assert percentile([7], 0.5) == percentile([7], 0.99) == 7


def test_the_share_is_of_the_slower_limit_of_the_same_round() -> None:
    data = _data(row_s=[4.0, 6.0], source_s=[3.0, 4.5], target_s=[2.0, 5.0])
    row = data.rows[2]
    assert limit_shares(row, data) == pytest.approx([3 / 4, 5 / 6])


def test_cpu_is_per_key_in_microseconds() -> None:
    row = RowResult(KEYFERRY, "", [_sample(3.0, phase_cpu_s=value) for value in (0.5, 0.7, 0.4)])
    assert median_per_key_us(row, "phase") == pytest.approx(0.5)
    assert median_per_key_us(row, "tool") == pytest.approx(1.0)
    row.samples.append(_sample(3.0, phase_cpu_s=None))
    assert median_per_key_us(row, "phase") is None


@pytest.mark.parametrize("reached", [True, False])
def test_goals_are_computed(reached: bool) -> None:
    """Each figure stands just on this side of its goal, or just beyond it."""
    data = _data(row_s=[3.5 if reached else 3.6], source_s=[3.0], target_s=[2.5])
    sample = _sample(
        3.5 if reached else 3.6, phase_cpu_s=0.6 if reached else 0.61, peak_mb=149 if reached else 150
    )
    data.rows[2].samples[:] = [sample]
    data.rows.append(RowResult(KEYFERRY_PURE, "", [_sample(10.0 if reached else 10.1)]))
    latency = Latency([[1_000] * 98 + [9_999 if reached else 10_000, 50_000]], [0.05])
    data.rows.append(RowResult(KEYFERRY_GUARDED, "", [_sample(9.0)], latency))
    assert [goal.reached for goal in goals(data)] == [reached] * 5


def test_goals_without_measurements_are_open() -> None:
    assert [goal.reached for goal in goals(DataResult("strings", "", KEYS, 300, [], []))] == [None] * 5
    failed = RowResult(KEYFERRY, "", [_sample(1.0)], problem="failed: it did", failed=True)
    data = DataResult("strings", "", KEYS, 300, [failed], [])
    assert [goal.reached for goal in goals(data)] == [None] * 5


def test_options() -> None:
    options = parse_options(["--rows", "keyferry,source-limit", "--only", "mix", "--output", "/x/y.md"])
    assert options.rows == (SOURCE_LIMIT, KEYFERRY)
    assert options.sections == ("mix",)
    assert options.command_line == "python -m bench --rows keyferry,source-limit --only mix"
    assert options.keys_of("mix") == 300_000
    assert (options.rounds, options.latency_rounds, options.sample_keys) == (5, 3, 300)
    assert parse_options(["--only", "cluster,big"]).sections == (*BIG_SECTIONS, "cluster")
    assert parse_options([]).sections == SECTIONS
    quick = parse_options(["--quick", "--output=/x/y.md"])
    assert (quick.rounds, quick.keys_of("strings"), quick.rows) == (1, 100_000, ROW_NAMES)
    assert quick.command_line == "python -m bench --quick"


@pytest.mark.parametrize("arguments", [["--rows", "nothing"], ["--rounds", "0"], ["--only", ""]])
def test_bad_options_end_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_options(arguments)
    assert ended.value.code == 2


def _sample(seconds: float, *, phase_cpu_s: float | None = None, peak_mb: int = 40) -> Sample:
    work = Work(KEYS, seconds, seconds + 0.5, 1.0, phase_cpu_s, peak_mb * 1_000_000)
    return Sample(work, 2.0, 1.5)


def _data(row_s: list[float], source_s: list[float], target_s: list[float]) -> DataResult:
    rows = [
        RowResult(name, "", [_sample(value) for value in seconds])
        for name, seconds in ((SOURCE_LIMIT, source_s), (TARGET_LIMIT, target_s), (KEYFERRY, row_s))
    ]
    return DataResult("strings", "", KEYS, 300, rows, [])
