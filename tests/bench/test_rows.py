"""Rows that the quick run cannot show everywhere, and rows that must not pass."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from bench.arena import Arena, choose_binary, key_count
from bench.catalogue import all_rows
from bench.datasets import DATA_SETS, load
from bench.prepare import record
from bench.rows import REDISSHAKE_VARIABLE, Context
from bench.samples import BenchError, RowResult, Work
from bench.schedule import Runner
from bench.tool_rows import RedisShake
from bench.tools import HERE

KEYS = 500
# Reads what RedisShake would read, then copies by the redis-py loop.
STAND_IN = """#!{python}
import runpy, sys, tomllib
settings = tomllib.load(open(sys.argv[1], "rb"))
assert settings["scan_reader"]["scan"] and not settings["scan_reader"]["ksn"]
ports = [settings[part]["address"].rpartition(":")[2] for part in ("scan_reader", "redis_writer")]
sys.argv[1:] = [*ports, "1000"]
runpy.run_path({loop!r}, run_name="__main__")
"""


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    binary, _ = choose_binary()
    with Arena(binary) as arena:
        keys = load(arena.source, DATA_SETS["strings"], KEYS)
        arena.fresh_target()
        yield Context(arena, record(arena), keys, 20, tmp_path)


def test_redisshake_joins_when_the_environment_names_it(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = RedisShake()
    monkeypatch.delenv(REDISSHAKE_VARIABLE, raising=False)
    assert "names no binary" in row.unavailable()
    program = tmp_path / "stand-in"
    monkeypatch.setenv(REDISSHAKE_VARIABLE, str(program))
    assert "names no program" in row.unavailable()
    program.write_text(STAND_IN.format(python=sys.executable, loop=str(HERE / "redis_py_loop.py")))
    program.chmod(0o755)
    assert row.unavailable() == ""
    work = row.run(context)
    assert work.keys == key_count(context.arena.target) == KEYS + 100
    assert work.seconds == work.process_seconds


class LosesKeys:
    """A tool that says it is done, and is not."""

    name = "loses-keys"
    title = "loses keys"
    forks_source = False

    def unavailable(self) -> str:
        return ""

    def arriving(self, context: Context) -> int:
        return context.keys

    def run(self, context: Context) -> Work:
        with context.arena.session(context.arena.target) as target:
            target.call("SET", "one", "of many")
        return Work(context.keys, 0.001)


def test_a_row_that_loses_keys_fails_and_the_others_go_on(context: Context) -> None:
    rows = {**all_rows(), LosesKeys.name: LosesKeys()}
    results = [RowResult(name, rows[name].title) for name in (LosesKeys.name, "target-limit")]
    runner = Runner(context.arena, context, rows, "test")
    runner.round(results, 0, 2, watched=False)
    runner.round(results, 1, 2, watched=False)
    assert results[0].failed
    assert results[0].problem == f"failed: the target holds 1 keys instead of {KEYS + 100}"
    assert results[0].samples == []
    assert not results[1].failed
    assert len(results[1].samples) == 2


def test_a_failing_row_raises_with_the_tools_words(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REDISSHAKE_VARIABLE, "false")
    with pytest.raises(BenchError, match=r"exit code"):
        RedisShake().run(context)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing_behind(tmp_path: Path, ending: signal.Signals) -> None:
    command = [sys.executable, "-m", "bench", "--keys", "1000", "--rows", "replication", "--only", "strings"]
    with subprocess.Popen(
        [*command, "--output", str(tmp_path / "page.md")],
        cwd=HERE.parent,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        # The first round of this row takes five seconds from here on.
        while b"recording" not in process.stderr.readline():
            assert process.poll() is None
        time.sleep(1)
        assert list(tmp_path.iterdir())
        started = psutil.Process(process.pid).children(recursive=True)
        assert any("redis-server" in child.name() for child in started)
        process.send_signal(ending)
        assert process.wait(20) == 128 + ending
    assert list(tmp_path.iterdir()) == []
    _, alive = psutil.wait_procs(started, timeout=5)
    assert alive == []
