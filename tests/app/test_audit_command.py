"""``keyferry audit`` as a user runs it."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import keyferry, started

from keyferry.capture.counters import Counters
from keyferry.testing.cluster import Cluster
from keyferry.testing.servers import Server
from keyferry.wire.session import Session

FEW = ("--seconds", "1")


@pytest.fixture
def source(flushed: Callable[..., Server]) -> Server:
    server = flushed("redis-7.0")
    with server.session() as session:
        session.pipeline(
            [("CONFIG", "RESETSTAT"), ("SADD", "s", "a"), ("SPOP", "s"), ("EVAL", "return 1", 0)]
        )
    return server


def test_it_says_how_each_command_goes(source: Server, tmp_path: Path) -> None:
    ended = keyferry("audit", source.url, *FEW, cwd=tmp_path)
    assert ended.status == 0, ended.out + ended.err
    assert ended.err.startswith(f"keyferry audit {source.url}\n")
    lines = ended.out.splitlines()
    assert re.fullmatch(r"Looked for \d+\.\d s: 0 calls of 0 commands\.", lines[0])
    assert any(line.split() == ["rewritten", "SPOP", "0.0", "1"] for line in lines)
    assert any(line.split() == ["reported", "EVAL", "0.0", "1"] for line in lines)
    assert lines[-1] == "Nothing seen has to be changed before the phase dual."
    assert lines == [line.rstrip() for line in lines]


def test_one_object_for_machines(source: Server, tmp_path: Path) -> None:
    ended = keyferry("audit", source.url, *FEW, "--json", "--report", "r.json", cwd=tmp_path)
    said = json.loads(ended.out)
    assert json.loads((tmp_path / "r.json").read_text()) == said
    assert {one["command"]: one["way"] for one in said["commands"]}["SPOP"] == "rewritten"
    assert (said["servers"], said["exit_code"], said["monitor"]) == (1, 0, None)


def test_a_cluster_as_target(source: Server, cluster: Callable[..., Cluster], tmp_path: Path) -> None:
    target = cluster("redis-7.0")
    with source.session() as session:
        session.call("MSET", "secret:a", "hush", "secret:b", "hush")
        session.call("SELECT", 5)
        session.call("SET", "k", "v")
    ended = keyferry("audit", source.url, *FEW, "--target", target.url, cwd=tmp_path)
    assert ended.status == 4
    assert "to change: The databases 0, 5 are in use" in ended.out
    assert ended.out.splitlines()[-1] == "Change 1 thing in the application before the phase dual."
    assert "MSET may name keys of several slots" in ended.out


def test_keys_are_shown_when_asked_for_and_values_never(source: Server, tmp_path: Path) -> None:
    arguments = ["audit", source.url, "--seconds", "2", "--monitor", "--max-latency", "0"]
    for more in ([], ["--show-keys"]):
        with started([*arguments, *more], tmp_path) as process, source.session() as session:
            while process.poll() is None:
                session.call("SPOP", "secret:\xff")
                session.call("SET", "secret:k", "hush")
                time.sleep(0.01)
            out, err = process.communicate()
        assert process.returncode == 0, err
        assert (b"secret:" in out) is bool(more)
        assert b"hush" not in out + err
        assert b"note: MONITOR makes the source send us every command" in err
        assert b"MONITOR: " in out


def infos(session: Session) -> int:
    """Calls of INFO so far, this one left out."""
    reply = session.call("INFO", "commandstats")
    assert isinstance(reply, bytes)
    return Counters.of(reply).calls.get("info", 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_prints_what_was_seen(source: Server, tmp_path: Path, number: signal.Signals) -> None:
    with started(["audit", source.url, "--seconds", "60"], tmp_path) as process, source.session() as session:
        asked = 0
        while infos(session) - asked < 4:  # one on the way, and three to look
            asked += 1
            time.sleep(0.05)
        session.call("GETDEL", "x")
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
    assert process.returncode == 130, err
    assert out.startswith(b"Interrupted after ")
    assert b"GETDEL" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--show-keys"], "--show-keys is given without --monitor"),
        (["--seconds", "0"], "0"),
        (["--target-insecure"], "Options for the target are given without --target"),
        (
            ["--target", "redis://127.0.0.1:1", "--report", "no/such/r"],
            "--report no/such/r cannot be written",
        ),
    ],
)
def test_bad_usage(arguments: list[str], sentence: str, tmp_path: Path) -> None:
    ended = keyferry("audit", "redis://127.0.0.1:1", *arguments, cwd=tmp_path)
    assert (ended.status, ended.out) == (2, "")
    assert sentence in ended.err


def test_a_dead_source_and_a_dead_target(source: Server, tmp_path: Path) -> None:
    ended = keyferry("audit", "redis://127.0.0.1:1", "--json", cwd=tmp_path)
    assert ended.status == json.loads(ended.out)["exit_code"] == 3
    ended = keyferry("audit", source.url, "--target", "redis://127.0.0.1:1", cwd=tmp_path)
    assert ended.status == 3
    assert "The target redis://127.0.0.1:1 cannot be reached" in ended.err
