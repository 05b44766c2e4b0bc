"""Ended at any moment, the same command goes on; what was told is not told twice, and nothing is left out."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from keyferry.model.errors import InterruptedRun, RefusedError, ServerError
from keyferry.telemetry.comparing import VerifyProgress, VerifyReport
from keyferry.testing.proxy import FaultProxy
from keyferry.testing.servers import Server
from keyferry.verify import rounds as verify_rounds
from keyferry.verify import run as verify_run
from verifying import Verifying, ask, fill, lines_of, strings

Flushed = Callable[..., Server]
StartServer = Callable[..., Server]
KEYS = 10_000


def interrupt_when(verifying: Verifying, condition: Callable[[VerifyProgress], bool]) -> None:
    def look(progress: VerifyProgress) -> None:
        if condition(progress):
            verifying.stop.request()

    verifying.on_progress = look


def differ(source: Server, target: Server) -> int:
    """100 keys differ, 50 are extra."""
    for server in (source, target):
        fill(server, strings(KEYS))
    fill(target, [("SET", f"k{i * 100}", "other") for i in range(100)])
    fill(target, strings(50, "extra"))
    return 150


def assert_all_told(report: VerifyReport, path: Path, count: int) -> None:
    assert report.differences == count
    assert report.compared == KEYS
    assert report.looked_for == KEYS + 50
    keys = [line["key"] for line in lines_of(path)]
    assert len(keys) == len(set(keys)) == count


@pytest.mark.parametrize("keys", [1000, 9000, 15_000])
def test_going_on_after_a_wish_to_stop(keys: int, flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    count = differ(source, target)
    path = tmp_path / "differences"
    first = Verifying(tmp_path / "state")
    interrupt_when(first, lambda progress: progress.keys_done >= keys)
    with pytest.raises(InterruptedRun) as interrupted:
        first.run(source, target, copy={"max_rate": 20_000, "batch": 100}, differences_file=path)
    assert "same command" in interrupted.value.hint
    assert first.leftovers
    again = Verifying(tmp_path / "state")
    report = again.run(source, target, differences_file=path)
    assert any("Going on with an earlier run" in sentence for sentence in again.told)
    assert_all_told(report, path, count)
    assert report.suspects == count
    assert again.leftovers == []


def test_going_on_after_a_stop_while_suspects_are_looked_at(
    flushed: Flushed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Groups of suspects: some have been told, some are being looked at, the others were not found yet."""
    monkeypatch.setattr(verify_run, "SUSPECTS_AT_ONCE", 30)
    monkeypatch.setattr(verify_rounds, "QUIET_S", 1000.0)
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    count = differ(source, target)
    path = tmp_path / "differences"
    told = 0
    for _ in range(3):
        verifying = Verifying(tmp_path / "state")
        interrupt_when(verifying, functools.partial(_has_told_more_than, told))
        with pytest.raises(InterruptedRun):
            verifying.run(source, target, differences_file=path, rounds=3, copy={"batch": 100})
        before, told = told, len(lines_of(path))
        assert told > before
    with path.open("a") as file:
        file.write('{"key": "of a run that was killed before its checkpoint"}\n')
    report = Verifying(tmp_path / "state").run(
        source, target, differences_file=path, rounds=1, copy={"batch": 100}
    )
    assert_all_told(report, path, count)


def _has_told_more_than(count: int, progress: VerifyProgress) -> bool:
    return progress.stage == "looking again" and progress.differences > count


def test_another_question_begins_anew(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    differ(source, target)
    first = Verifying(tmp_path)
    interrupt_when(first, lambda progress: progress.keys_done >= 3000)
    with pytest.raises(InterruptedRun):
        first.run(source, target, copy={"max_rate": 20_000, "batch": 100})
    for given in ({"expiry_tolerance_ms": 5}, {"sample": 100}):
        other = Verifying(tmp_path)
        other.run(source, target, **given)  # type: ignore[arg-type]
        assert not other.told
    assert first.leftovers
    anew = Verifying(tmp_path)
    assert anew.run(source, target, copy={"restart": True}).compared == KEYS
    assert not anew.told


def test_a_second_one_is_refused_while_the_first_lives(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    differ(source, target)
    first = Verifying(tmp_path)
    refused: list[RefusedError] = []

    def second(progress: VerifyProgress) -> None:
        if not refused:
            with pytest.raises(RefusedError, match="comparison is alive") as caught:
                Verifying(tmp_path).run(source, target)
            refused.append(caught.value)

    first.on_progress = second
    first.run(source, target)
    assert refused


@pytest.mark.parametrize("side", ["source", "target"])
def test_connections_that_break(
    side: str, flushed: Flushed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_rounds, "QUIET_S", 1000.0)
    servers = {"source": flushed("redis-7.0"), "target": flushed("valkey-9.1")}
    count = differ(servers["source"], servers["target"])
    path = tmp_path / "differences"
    with FaultProxy("127.0.0.1", servers[side].port) as proxy:
        ends = {name: server.endpoint for name, server in servers.items()}
        ends[side] = ends[side].at("127.0.0.1", proxy.port)
        verifying = Verifying(tmp_path / "state")
        cuts: list[str] = []

        def cut(progress: VerifyProgress) -> None:
            moments = (
                ("compare", progress.keys_done >= 2000),
                ("extras", progress.stage == "looking for extra keys"),
                ("looks", progress.stage == "looking again"),
            )
            for name, has_come in moments:
                if has_come and name not in cuts:
                    cuts.append(name)
                    proxy.cut()

        verifying.on_progress = cut
        report = verifying.run(
            ends["source"], ends["target"], copy={"max_rate": 30_000, "batch": 100}, differences_file=path
        )
    assert len(cuts) == 3
    assert sum("Trying again" in sentence for sentence in verifying.told) >= 3
    assert_all_told(report, path, count)


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_server_that_is_another_process_than_before(
    side: str, start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its keys are gone over again; those that have been told are not told twice."""
    monkeypatch.setattr(verify_run, "SUSPECTS_AT_ONCE", 30)
    servers = {"source": start_server("redis-7.0"), "target": start_server("valkey-9.1")}
    count = differ(servers["source"], servers["target"])
    path = tmp_path / "differences"
    verifying = Verifying(tmp_path / "state")
    restarted: list[float] = []

    def restart(progress: VerifyProgress) -> None:
        late = progress.keys_done >= (6000 if side == "source" else 16_000)
        if late and progress.differences > 30 and not restarted:
            restarted.append(time.monotonic())
            servers[side].restart(keep_data=True)

    verifying.on_progress = restart
    report = verifying.run(
        servers["source"], servers["target"], copy={"max_rate": 20_000, "batch": 100}, differences_file=path
    )
    assert restarted
    assert any(f"The {side} is another process" in sentence for sentence in verifying.told)
    assert_all_told(report, path, count)


def test_a_server_that_does_not_come_back(
    start_server: StartServer, flushed: Flushed, tmp_path: Path
) -> None:
    source, target = start_server("redis-7.0"), flushed("valkey-9.1")
    differ(source, target)
    verifying = Verifying(tmp_path)
    verifying.on_progress = lambda progress: source.kill() if progress.keys_done >= 1000 else None
    with pytest.raises(ServerError, match="has not come back") as error:
        verifying.run(source, target, copy={"max_rate": 20_000, "batch": 100, "retry_s": 1.0})
    assert error.value.side == "source"
    assert verifying.leftovers
    assert ask(target, "DBSIZE") == KEYS + 50
