"""What measures must itself be right: waits are not hidden, peaks are the tool's own."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from bench.child import run_tool
from bench.datasets import DATA_SETS, load
from bench.latency import Watcher
from bench.samples import BenchError

from keyferry.testing.servers import Server

PAUSE_S = 0.4


def test_a_pause_of_the_server_shows_in_every_due_request(start_server: Callable[..., Server]) -> None:
    server = start_server("redis-6.2")
    load(server, DATA_SETS["strings"], 100)
    with Watcher(server.port) as watcher:
        time.sleep(0.2)
        server.pause()
        time.sleep(PAUSE_S)
        server.resume()
        time.sleep(0.2)
    waits = sorted(watcher.seen.latencies_us)
    assert waits[-1] >= PAUSE_S * 1e6 * 0.95
    # One request per millisecond was due, each waited for what was left: half of them half of it or more.
    waited_long = sum(wait >= PAUSE_S * 1e6 / 2 for wait in waits)
    assert waited_long == pytest.approx(PAUSE_S * 1000 / 2, rel=0.3)
    assert len(waits) == pytest.approx((PAUSE_S + 0.4) * 1000, rel=0.25)


def test_the_peak_is_not_that_of_the_benchmark(tmp_path: Path) -> None:
    ballast = bytearray(b"x") * 200_000_000
    ended = run_tool(["true"], tmp_path, 30)
    assert ended.peak_bytes < 30_000_000 < len(ballast)


def test_the_peak_and_the_cpu_are_those_of_the_tool(tmp_path: Path) -> None:
    program = (
        "import time; held = bytearray(b'x') * 100_000_000\nwhile time.process_time() < 0.3: pass\nprint(1)"
    )
    ended = run_tool([sys.executable, "-c", program], tmp_path, 30)
    assert ended.output == b"1\n"
    assert 100_000_000 < ended.peak_bytes < 150_000_000
    assert 0.3 <= ended.cpu_s < 2
    assert ended.seconds >= 0.3


def test_a_tool_that_does_not_end_is_ended(tmp_path: Path) -> None:
    marker = tmp_path / "alive"
    program = f"while :; do touch '{marker}'; sleep 0.05; done"
    begun = time.monotonic()
    with pytest.raises(BenchError, match="not done"):
        run_tool(["sh", "-c", program], tmp_path, 0.5)
    assert time.monotonic() - begun < 5
    marker.unlink()
    time.sleep(0.3)
    assert not marker.exists()


def test_a_tool_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="exit code 3: no luck"):
        run_tool(["sh", "-c", "echo no luck >&2; exit 3"], tmp_path, 30)


def test_a_tool_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"could not be started.*no-such-tool"):
        run_tool(["no-such-tool"], tmp_path, 30)
