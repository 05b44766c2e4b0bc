"""The sections about sync and verify: they run on real servers, and their figures can be checked by hand."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.arena import Arena, choose_binary, key_count
from bench.aside import Aside
from bench.copying import GUARDED, GUARDS, UNGUARDED
from bench.datasets import DATA_SETS, load
from bench.following import Following, Snapshot
from bench.load import HOT_SHARE, Load, Written, batches, key_name, loading, written
from bench.page import parse
from bench.samples import BenchError, DataResult, RowResult, Sample, Work
from bench.sync_data import HOT, LOADS, UNIFORM, Backlog, Followed, Plain, SyncResult, SyncRow, SyncSize
from bench.sync_report import dirty_growth, settle_shares, sync_goals, sync_section
from bench.verifying import COPY, DIFFERENT, EQUAL, TITLES, make_different, row_name, verify_section

from keyferry.wire.session import Session

PROJECT = Path(__file__).parents[2]
ARGUMENTS = ("--quick", "--keys", "2000", "--only", "sync,verify")
SIZE = SyncSize(1_000, 1_000, 1.0, 10, 500, 5_000)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
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


@pytest.fixture
def arena() -> Iterator[Arena]:
    with Arena(choose_binary()[0]) as arena:
        arena.fresh_target()
        yield arena


def test_a_sync_is_measured_under_each_guard_and_load(page: str) -> None:
    text = parse(page)["sync"].text
    titles = [title for title, _ in GUARDS.values()]
    lags = _rows(text, "lag, ms")
    assert len(lags) == len(titles) * len(LOADS)
    for title, *figures in lags:
        assert title.split(", ")[0] in titles
        p50, p99, most = map(_number, figures[:3])
        assert 0 < p50 <= p99 <= most
        assert sum(_number(figure) for figure in figures[3:6]) >= 0
    costs = _rows(text, "CPU, in cores")
    assert len(costs) == len(LOADS) + len(lags)
    for _, writes, *figures in costs:
        assert 0.5 * 2_000 < _number(writes) < 1.2 * 2_000
        assert _number(figures[3]) > 0
    for _, seconds, settled, _, copied, share, _, _ in _rows(text, "backlog of 1,500"):
        assert 1_500 / (_number(seconds) + 0.006) <= _number(settled) <= 1_500 / (_number(seconds) - 0.006)
        percent = float(share.partition("%")[0])
        assert percent == pytest.approx(100 * _number(settled) / _number(copied), abs=0.6)


def test_both_comparisons_are_held_against_the_copy(page: str) -> None:
    text = parse(page)["verify"].text
    for data in ("2,100 strings of 64 bytes, 30 % with expiry:", "2,100 keys of all types, 16 B to 4 KiB:"):
        part = text.partition(data)[2]
        rows = _rows(part, "")
        titles = [f"{TITLES[kind]}, {title}" for kind in TITLES for title, _ in GUARDS.values()]
        assert [row[0] for row in rows] == titles
        speeds = {row[0]: _number(row[1]) for row in rows}
        for name, ratio, *_ in _rows(part, "ratios, round by round"):
            mine, _, base = name.partition(" : ")
            assert base == f"{TITLES[COPY]}, {mine.rpartition(', ')[2]}"
            assert _number(ratio) == pytest.approx(speeds[mine] / speeds[base], abs=0.011)
    assert len(parse(page)["verify"].goals) == 8


def test_what_a_verify_must_find_is_what_was_made_to_differ(arena: Arena) -> None:
    load(arena.target, DATA_SETS["mix"], 3_000)
    with arena.target.session() as session:
        before = _content(session)
        different = make_different(arena.target)
        after = _content(session)
    changed = {name for name in before.keys() & after.keys() if before[name] != after[name]}
    gone, added = before.keys() - after.keys(), after.keys() - before.keys()
    assert len(changed) + len(gone) + len(added) == different
    assert different == pytest.approx(0.01 * len(before), rel=0.3)
    assert changed and gone and added


@pytest.mark.parametrize("hot_keys", [0, 10])
def test_a_load_is_what_was_asked_for(arena: Arena, hot_keys: int) -> None:
    asked = Load(writes=1_500, rate=3_000, keys=1_000, hot_keys=hot_keys)
    names = _names(asked)
    assert len(names) == asked.writes
    hot = sum(count for name, count in Counter(names).items() if name in {key_name(at) for at in range(10)})
    expected = HOT_SHARE + (1 - HOT_SHARE) / 100 if hot_keys else 0.01
    assert hot / len(names) == pytest.approx(expected, abs=0.02)
    with loading(arena.source.port, asked) as aside:
        pass
    came = written(aside)
    assert came.writes == asked.writes
    # The last batch goes off a tick before the end.
    assert 0.5 - 0.01 <= came.seconds < 5
    assert key_count(arena.source) == len(set(names))


def test_a_distinct_load_names_each_key_once() -> None:
    names = _names(Load(writes=1_000, rate=3_000, keys=1_000, distinct=True))
    assert sorted(names) == sorted(key_name(at) for at in range(1_000))
    assert names != [key_name(at) for at in range(1_000)]


def test_stamps_show_how_late_the_target_is(arena: Arena) -> None:
    """A pause of the target shows in the stamps that were written meanwhile."""
    with arena.target.session() as session:
        assert session.call("REPLICAOF", "127.0.0.1", arena.source.port) == b"OK"
        deadline = time.monotonic() + 20
        while session.call("ROLE")[3] != b"connected":  # type: ignore[index]
            assert time.monotonic() < deadline
            time.sleep(0.05)
    stamps = Aside("bench.stamps", [str(arena.source.port), str(arena.target.port)])
    with stamps:
        time.sleep(0.5)
        arena.target.pause()
        time.sleep(0.5)
        arena.target.resume()
        time.sleep(0.5)
    lags_us = stamps.found["lags_us"]
    assert len(lags_us) > 10
    assert max(lags_us) > 400_000
    assert min(lags_us) < 200_000


def test_a_sync_that_ends_is_noticed(arena: Arena, tmp_path: Path) -> None:
    with (
        pytest.raises(BenchError, match="the sync ended"),
        Following("redis://127.0.0.1:1", arena.target.url, tmp_path) as sync,
    ):
        sync.wait("never", lambda _: False, 20)


def test_a_sync_that_compares_anew_is_no_measurement(arena: Arena, tmp_path: Path) -> None:
    with arena.source.session() as session:
        assert session.call("SET", "key", "value") == b"OK"
        with Following(arena.source.url, arena.target.url, tmp_path) as sync:
            sync.wait("following", lambda one: one.stage == "following", 20)
            with pytest.raises(BenchError, match="another generation"):
                assert session.call("SWAPDB", 0, 1) == b"OK"
                sync.wait("never", lambda one: one.generation > 1, 20)


@pytest.mark.parametrize(
    ("lag_us", "age_s", "reached"), [(999_000, 0.9, True), (1_000_000, 0.9, False), (5_000, 1.1, False)]
)
def test_the_lag_goal_takes_the_worse_of_both_views(lag_us: int, age_s: float, reached: bool) -> None:
    result = _result([_followed(lag_us, [_shot(at, 100, age_s) for at in range(4)])])
    goals = {goal.text: goal.reached for goal in sync_goals(result)}
    assert goals["default guard, to all keys: lag under 1 s at p99"] is reached


@pytest.mark.parametrize(
    ("dirty", "growth"),
    [([10, 10, 10, 10], 1.0), ([10, 20, 40, 50], 3.0), ([0, 0, 5, 5], 5.0), ([0] * 4, 1.0)],
)
def test_growth_of_the_dirty_keys(dirty: list[int], growth: float) -> None:
    shots = [_shot(at, keys, 0.1) for at, keys in enumerate(dirty)]
    assert dirty_growth(_followed(1_000, shots)) == pytest.approx(growth)


@pytest.mark.parametrize(
    ("dirty", "reached"), [([10] * 4, True), ([10, 10, 20, 20], False), ([1_000] * 4, False)]
)
def test_dirty_keys_are_to_be_few_and_stable(dirty: list[int], reached: bool) -> None:
    result = _result([_followed(1_000, [_shot(at, keys, 0.1) for at, keys in enumerate(dirty)])])
    goals = [goal for goal in sync_goals(result) if "to all keys: dirty keys stable" in goal.text]
    assert [goal.reached for goal in goals] == [reached]


@pytest.mark.parametrize(
    ("seconds", "memory", "settled", "small"), [(1.0, 210_000, True, True), (1.7, 211_001, False, False)]
)
def test_a_backlog_is_held_against_the_copy(seconds: float, memory: int, settled: bool, small: bool) -> None:
    """1,000 keys with names of 10 bytes; the copy carried 1,000 keys/s."""
    result = _result(
        [_followed(1_000, [_shot(at, 1, 0.1) for at in range(4)])],
        Backlog(1_000, seconds, 0.1, memory, 10_000),
    )
    row = result.rows[0]
    assert settle_shares(row) == pytest.approx([1 / seconds])
    goals = {goal.text: goal.reached for goal in sync_goals(result)}
    assert goals["default guard: a backlog is settled at no less than 60% of the copy's rate"] is settled
    assert goals["default guard: at most 200 bytes per dirty key, besides its name"] is small


def test_what_a_sync_adds_to_the_source_is_what_the_load_alone_does_not_use() -> None:
    body = sync_section(_result([_followed(1_000, [_shot(at, 1, 0.1) for at in range(4)])])).body
    (row,) = [row for row in _rows(body, "CPU, in cores") if row[0] == "default guard, to all keys"]
    # Of 0.5 cores 0.2 are the load's; 0.3 s of the tool's CPU in 3 s; 300 keys settled in these.
    assert row[1:] == ["1,000", "100", "0.10", "1000.00", "0.50", "0.30", "0.25", "0.04"]


def test_a_row_that_failed_reaches_nothing() -> None:
    result = _result([_followed(1_000, [_shot(at, 1, 0.1) for at in range(4)])])
    result.rows[0].failed, result.rows[0].problem = True, "failed: no luck"
    assert not any(goal.reached for goal in sync_goals(result) if goal.text.startswith("default guard"))
    assert "- default guard: failed: no luck" in sync_section(result).body


@pytest.mark.parametrize(("seconds", "reached"), [(1.42, True), (1.44, False)])
def test_the_verify_goal_is_the_median_share_of_the_copy(seconds: float, reached: bool) -> None:
    rows = []
    for guard in (GUARDED, UNGUARDED):
        rows.append(RowResult(row_name(COPY, guard), "copy", [_sample(1.0)] * 3))
        rows.append(RowResult(row_name(EQUAL, guard), "equal", [_sample(one) for one in (0.1, seconds, 9.0)]))
        rows.append(RowResult(row_name(DIFFERENT, guard), "different", problem="failed: so", failed=True))
    section = verify_section([DataResult("strings", "strings", 1_000, 0, rows, [])])
    assert [goal.reached for goal in section.goals] == [reached, reached, None, None]


def _result(rounds: list[Followed], backlog: Backlog | None = None) -> SyncResult:
    """One guard, one load that was measured."""
    row = SyncRow(GUARDED, "default guard", (), copies=[_sample(1.0)])
    row.loads[UNIFORM] = rounds
    row.backlogs = [backlog] if backlog else []
    plain = [Plain(Written(1_000, 0.0, 1.0, 0.03), 0.2)]
    return SyncResult(SIZE, {UNIFORM: plain, HOT: []}, [row])


def _followed(lag_us: int, shots: list[Snapshot]) -> Followed:
    return Followed(Written(1_000, 0.0, 1.0, 0.04), [lag_us], shots, 0.5, 0.25)


def _shot(at: int, dirty: int, lag_s: float) -> Snapshot:
    return Snapshot(float(at), 0.1 * at, 1_000_000, "following", 1, float(at), dirty, lag_s, 100 * at)


def _sample(seconds: float) -> Sample:
    return Sample(Work(1_000, seconds, seconds, 1.0, 0.5), 1.0, 1.0)


def _names(asked: Load) -> list[bytes]:
    """The keys of a load, in the order of its writes."""
    made = b"".join(commands for commands, _ in batches(asked))
    return [one.split(b"\r\n", 3)[1] for one in made.split(b"$3\r\nSET\r\n")[1:]]


def _content(session: Session) -> dict[bytes, object]:
    names = session.call("KEYS", "*")
    assert isinstance(names, list)
    dumps = session.pipeline([("DUMP", name) for name in names])  # type: ignore[misc]
    return dict(zip(names, dumps, strict=True))  # type: ignore[arg-type]


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
