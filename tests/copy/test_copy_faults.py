"""What breaks on the way: cut connections, servers that go and come, servers that say no."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from copying import (
    Beside,
    Copying,
    ask,
    assert_consistent,
    assert_equal,
    fill,
    fill_strings,
    keys_of,
    wait_until,
)
from keyferry.model.address import Endpoint
from keyferry.model.errors import ExitCode, InterruptedRun, ServerError
from keyferry.model.selection import Selection
from keyferry.testing.proxy import Direction, FaultProxy
from keyferry.testing.servers import Server
from keyferry.wire.resp import ProtocolError
from keyferry.wire.session import Session

Flushed = Callable[..., Server]
Starter = Callable[..., Server]


def through(proxy: FaultProxy) -> Endpoint:
    return Endpoint(host="127.0.0.1", port=proxy.port)


def fill_mixed(server: Server, count: int) -> None:
    fill_strings(server, count)
    fill(server, [("RPUSH", f"list{i}", *(f"element {j}" for j in range(20))) for i in range(count // 10)])
    fill(server, [("SADD", f"set{i}", "a", "b", i) for i in range(count // 10)])
    fill(server, [("PEXPIRE", f"set{i}", 10**7) for i in range(count // 10)])


@pytest.mark.parametrize("direction", ["to_client", "to_server"])
@pytest.mark.parametrize("side", ["source", "target"])
def test_cut_at_many_places(side: str, direction: Direction, flushed: Flushed, tmp_path: Path) -> None:
    """In the middle of commands and replies, of payloads and of line ends; 8.2 to 6.2, so that every way is cut."""
    servers = {"source": flushed("redis-8.2"), "target": flushed("redis-6.2")}
    fill_mixed(servers["source"], 3_000)
    chance = random.Random(3)
    copying = Copying(tmp_path / "state")
    with FaultProxy("127.0.0.1", servers[side].port) as proxy:
        # Every other connection is a pipeline's, the rest look and probe: all of them are cut.
        for _ in range(24):
            proxy.cut_after(int(20 * 1.6 ** chance.uniform(0, 22)), direction)
        ends: dict[str, Server | Endpoint] = {**servers, side: through(proxy)}
        # The first look is not repeated: it is to fail at once.
        for _ in range(12):
            try:
                report = copying.run(ends["source"], ends["target"], batch=100, max_rate=20_000)
                break
            except ServerError as error:
                assert error.side == side
                assert not any("Trying" in sentence for sentence in copying.told[-1:])
        else:
            pytest.fail("twelve first looks failed")
    assert_consistent(report)
    assert report.total.scanned == report.total.copied == 3_600
    assert_equal(servers["source"], servers["target"])


@pytest.mark.parametrize("side", ["source", "target"])
def test_cut_again_and_again_while_it_copies(side: str, flushed: Flushed, tmp_path: Path) -> None:
    servers = {"source": flushed("redis-7.0"), "target": flushed("valkey-9.1")}
    fill_mixed(servers["source"], 10_000)
    with FaultProxy("127.0.0.1", servers[side].port) as proxy:
        ends: dict[str, Server | Endpoint] = {**servers, side: through(proxy)}
        copying = Copying(tmp_path / "state")

        def cut() -> None:
            for more in range(1, 6):
                wait_until(lambda: keys_of(servers["target"]) >= more * 1_500, "some more keys")  # noqa: B023
                proxy.cut()

        with Beside(cut):
            report = copying.run(ends["source"], ends["target"], batch=100, max_rate=8_000)
    assert sum("Trying again" in sentence for sentence in copying.told) >= 4
    assert not any("comparison" in sentence for sentence in copying.told)
    assert_consistent(report)
    assert report.run.scanned == report.run.copied == 12_000
    assert_equal(servers["source"], servers["target"])


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_server_that_refuses_for_a_while(side: str, flushed: Flushed, tmp_path: Path) -> None:
    servers = {"source": flushed("redis-7.0"), "target": flushed("valkey-9.1")}
    fill_strings(servers["source"], 5_000)
    with FaultProxy("127.0.0.1", servers[side].port) as proxy:
        ends: dict[str, Server | Endpoint] = {**servers, side: through(proxy)}

        def refuse() -> None:
            wait_until(lambda: keys_of(servers["target"]) > 500, "the first keys")
            proxy.refuse(True)
            proxy.cut()
            time.sleep(1.0)  # the outage itself
            proxy.refuse(False)

        copying = Copying(tmp_path / "state")
        with Beside(refuse):
            report = copying.run(ends["source"], ends["target"], batch=100, max_rate=5_000)
    assert report.run.copied == 5_000
    assert_equal(servers["source"], servers["target"])


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_network_that_stalls_and_goes_on(side: str, flushed: Flushed, tmp_path: Path) -> None:
    servers = {"source": flushed("redis-7.0"), "target": flushed("valkey-9.1")}
    fill_strings(servers["source"], 5_000)
    with FaultProxy("127.0.0.1", servers[side].port) as proxy:
        ends: dict[str, Server | Endpoint] = {**servers, side: through(proxy)}

        def stall() -> None:
            wait_until(lambda: keys_of(servers["target"]) > 500, "the first keys")
            proxy.stall(True)
            time.sleep(0.7)  # the stall itself
            proxy.stall(False)

        copying = Copying(tmp_path / "state")
        with Beside(stall):
            report = copying.run(ends["source"], ends["target"], batch=100, max_rate=5_000)
    assert copying.told == []
    assert report.run.copied == 5_000
    assert_equal(servers["source"], servers["target"])


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_network_that_stalls_for_good(
    side: str, flushed: Flushed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that never breaks and never answers is given up, and so is the server behind it."""
    monkeypatch.setattr("keyferry.copy.pipeline.SILENCE_S_MAX", 0.5)
    monkeypatch.setitem(Session.__init__.__kwdefaults__ or {}, "connect_timeout_s", 0.5)
    servers = {"source": flushed("redis-7.0"), "target": flushed("valkey-9.1")}
    fill_strings(servers["source"], 5_000)
    with FaultProxy("127.0.0.1", servers[side].port) as proxy:
        ends: dict[str, Server | Endpoint] = {**servers, side: through(proxy)}

        def stall() -> None:
            wait_until(lambda: keys_of(servers["target"]) > 500, "the first keys")
            proxy.stall(True)

        with Beside(stall), pytest.raises(ServerError, match="not come back for 1 s") as lost:
            Copying(tmp_path / "state").run(
                ends["source"], ends["target"], batch=100, max_rate=5_000, retry_s=1.0
            )
        assert lost.value.side == side
        assert "same command" in lost.value.hint
        proxy.stall(False)
        report = Copying(tmp_path / "state").run(ends["source"], ends["target"])
    assert report.resumed
    assert report.total.copied == 5_000


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_server_gone_for_good(side: str, start_server: Starter, tmp_path: Path) -> None:
    servers = {"source": start_server("redis-7.0"), "target": start_server("valkey-9.1")}
    fill_strings(servers["source"], 5_000)

    def kill() -> None:
        wait_until(lambda: keys_of(servers["target"]) > 500, "the first keys")
        servers[side].kill()

    began_s = time.monotonic()
    with Beside(kill), pytest.raises(ServerError, match="not come back for 2 s") as lost:
        Copying(tmp_path / "state").run(
            servers["source"], servers["target"], batch=100, max_rate=5_000, retry_s=2.0
        )
    assert time.monotonic() - began_s < 10
    assert lost.value.exit_code is ExitCode.SERVER
    assert lost.value.side == side


@pytest.mark.parametrize("keep_data", [True, False])
@pytest.mark.parametrize("side", ["source", "target"])
def test_a_server_that_restarts(side: str, keep_data: bool, start_server: Starter, tmp_path: Path) -> None:
    """Another process: every cursor is void, databases that were done are gone over again."""
    if side == "source" and not keep_data:
        pytest.skip("an empty source is an empty source")
    servers = {"source": start_server("redis-7.0"), "target": start_server("redis-8.2")}
    fill_strings(servers["source"], 2_000, db=1)
    fill_strings(servers["source"], 5_000, db=2)
    fill(servers["source"], [("PEXPIRE", "key:1", 10**7)], db=1)

    def restart() -> None:
        wait_until(lambda: keys_of(servers["target"], 2) > 500, "keys of the second database")
        servers[side].restart(keep_data=keep_data)

    copying = Copying(tmp_path / "state")
    with Beside(restart):
        report = copying.run(
            servers["source"],
            servers["target"],
            batch=100,
            max_rate=5_000,
            selection=Selection(databases=(1, 2)),
        )
    assert any(f"The {side} is another process" in sentence for sentence in copying.told)
    assert_consistent(report)
    for db in (1, 2):
        assert_equal(servers["source"], servers["target"], source_db=db, target_db=db)


def test_a_restart_between_two_runs(start_server: Starter, tmp_path: Path) -> None:
    """What has changed since is written again; what is equal is not."""
    source, target = start_server("redis-6.2"), start_server("valkey-9.1")
    fill_strings(source, 3_000)
    fill(source, [("SADD", f"set{i}", "a", "b") for i in range(300)])
    first = Copying(tmp_path / "state")
    first.on_progress = lambda progress: first.stop.request() if progress.keys_done > 1_500 else None
    with pytest.raises(InterruptedRun):
        first.run(source, target, batch=100, max_rate=5_000)
    source.restart(keep_data=True)
    fill(source, [("SET", f"key:{i}", "changed") for i in range(0, 3_000, 3)])
    before = ask(target, "INFO", "commandstats")
    report = (second := Copying(tmp_path / "state")).run(source, target)
    assert report.resumed
    assert any("comparison" in sentence for sentence in second.told)
    assert_equal(source, target)
    assert isinstance(before, bytes)
    assert report.run.scanned == 3_300
    restores = restored(target) - int(before.split(b"cmdstat_restore:calls=")[1].split(b",")[0])
    assert restores < 3_300  # those that were there and equal were left alone


def restored(server: Server) -> int:
    stats = ask(server, "INFO", "commandstats")
    assert isinstance(stats, bytes)
    return int(stats.split(b"cmdstat_restore:calls=")[1].split(b",")[0])


def test_a_target_that_is_a_replica_for_a_moment(start_server: Starter, tmp_path: Path) -> None:
    source, target = start_server("redis-7.0"), start_server("valkey-9.1")
    fill_strings(source, 5_000)

    def demote() -> None:
        wait_until(lambda: keys_of(target) > 500, "the first keys")
        ask(target, "REPLICAOF", "127.0.0.1", 1)
        time.sleep(1.0)  # so long it is one
        ask(target, "REPLICAOF", "NO", "ONE")

    copying = Copying(tmp_path / "state")
    with Beside(demote):
        report = copying.run(source, target, batch=100, max_rate=5_000)
    assert any("READONLY" in sentence for sentence in copying.told)
    assert report.run.failed == 0
    assert_equal(source, target)


def test_a_source_that_is_busy_with_a_script(start_server: Starter, tmp_path: Path) -> None:
    """It answers nobody, not even INFO: the copy waits, and takes it for no other server."""
    source, target = start_server("redis-6.2", lua_time_limit="50"), start_server("valkey-9.1")
    fill_strings(source, 5_000)

    def occupy() -> None:
        wait_until(lambda: keys_of(target) > 500, "the first keys")
        with (
            source.session(timeout_s=10) as session,
            source.session() as other,
            Beside(lambda: kill_script(other)),
        ):
            session.call("EVAL", "while true do end", 0)

    def kill_script(session: Session) -> None:
        time.sleep(1.0)  # so long it is busy
        assert session.call("SCRIPT", "KILL") == b"OK"

    copying = Copying(tmp_path / "state")
    with Beside(occupy):
        report = copying.run(source, target, batch=100, max_rate=5_000)
    assert any("BUSY" in sentence for sentence in copying.told)
    assert not any("comparison" in sentence for sentence in copying.told)
    assert (report.run.copied, report.run.failed) == (5_000, 0)
    assert_equal(source, target)


def test_a_source_that_is_loading(start_server: Starter, tmp_path: Path) -> None:
    """Restarted, and slow to read its data."""
    source, target = start_server("redis-7.0", key_load_delay="300"), start_server("valkey-9.1")
    fill_strings(source, 10_000)  # 300 us each: 3 s

    def restart() -> None:
        wait_until(lambda: keys_of(target) > 500, "the first keys")
        ask(source, "SAVE")
        source.kill()
        source.start()

    copying = Copying(tmp_path / "state")
    with Beside(restart):
        report = copying.run(source, target, batch=100, max_rate=10_000, retry_s=40.0)
    assert any("LOADING" in sentence or "lost" in sentence for sentence in copying.told)
    assert report.run.failed == 0
    assert_equal(source, target)


@pytest.mark.parametrize("name", ["redis-6.2", "redis-7.0"])
@pytest.mark.parametrize("side", ["source", "target"])
def test_a_right_taken_away_in_the_middle(
    side: str, name: str, start_server: Starter, tmp_path: Path
) -> None:
    servers = {"source": start_server(name), "target": start_server(name)}
    fill_strings(servers["source"], 5_000)
    fill(servers["source"], [("PEXPIRE", "key:1", 10**7)])
    ask(servers[side], "ACL", "SETUSER", "ferry", "on", ">secret", "~*", "&*", "+@all")
    port = servers[side].port
    user = Endpoint(host="127.0.0.1", port=port, username="ferry", password="secret")
    ends: dict[str, Server | Endpoint] = {**servers, side: user}
    command = "dump" if side == "source" else "restore"

    def forbid() -> None:
        wait_until(lambda: keys_of(servers["target"]) > 500, "the first keys")
        ask(servers[side], "ACL", "SETUSER", "ferry", "-@all" if side == "source" else f"-{command}")

    with Beside(forbid), pytest.raises(ServerError, match="NOPERM") as refused:
        Copying(tmp_path / "state").run(ends["source"], ends["target"], batch=100, max_rate=5_000)
    assert refused.value.side == side
    assert "right" in refused.value.hint
    assert "secret" not in str(refused.value)
    ask(servers[side], "ACL", "SETUSER", "ferry", "+@all")
    report = Copying(tmp_path / "state").run(ends["source"], ends["target"])
    assert report.resumed
    assert report.total.copied == 5_000
    assert report.total.failed == 0


def test_a_target_out_of_memory_and_then_given_more(start_server: Starter, tmp_path: Path) -> None:
    source = start_server("redis-7.0")
    target = start_server("valkey-9.1", maxmemory="6mb", maxmemory_policy="noeviction")
    fill_strings(source, 30_000, size=400)
    with pytest.raises(ServerError, match="OOM") as refused:
        Copying(tmp_path / "state").run(source, target)
    assert refused.value.side == "target"
    assert "maxmemory" in refused.value.hint
    stopped_at = keys_of(target)
    assert 0 < stopped_at < 30_000
    ask(target, "CONFIG", "SET", "maxmemory", 0)
    report = Copying(tmp_path / "state").run(source, target)
    assert report.resumed
    assert report.total.copied == 30_000
    assert report.total.failed == 0
    assert_equal(source, target)


def test_evictions_stop_the_copy_and_the_next_run_mends_them(start_server: Starter, tmp_path: Path) -> None:
    source = start_server("redis-7.0")
    target = start_server("valkey-9.1", maxmemory="6mb", maxmemory_policy="allkeys-lru")
    fill_strings(source, 30_000, size=400)
    with pytest.raises(ServerError, match="begun to evict") as stopped:
        Copying(tmp_path / "state").run(source, target)
    assert stopped.value.side == "target"
    ask(target, "CONFIG", "SET", "maxmemory", 0)
    again = Copying(tmp_path / "state")
    report = again.run(source, target)
    assert report.resumed
    assert any("evicted keys" in sentence for sentence in again.told)
    assert_consistent(report)
    assert_equal(source, target)


def test_a_first_connection_that_nobody_answers_fails_in_5_s(flushed: Flushed, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        nobody = Endpoint(host="127.0.0.1", port=silent.getsockname()[1])
        began_s = time.monotonic()
        with pytest.raises(ServerError) as failed:
            Copying(tmp_path / "state").run(flushed("redis-7.0"), nobody)
        assert time.monotonic() - began_s < 6
        assert failed.value.side == "target"
        assert failed.value.exit_code is ExitCode.SERVER


def test_a_peer_that_speaks_something_else(flushed: Flushed, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"220 mail.example ESMTP\r\n")
                connection.recv(100)

        with Beside(greet), pytest.raises(ProtocolError, match="Redis-compatible"):
            other = Endpoint(host="127.0.0.1", port=listener.getsockname()[1])
            Copying(tmp_path / "state").run(other, flushed("redis-7.0"))
