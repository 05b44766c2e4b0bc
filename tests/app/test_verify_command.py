"""``keyferry verify`` as a user runs it, between real servers."""

from __future__ import annotations

import base64
import json
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import keyferry, started

from keyferry.telemetry.comparing import REASONS
from keyferry.testing.dataset import fill
from keyferry.testing.servers import Server

KEYS = 2_000
QUIET = ("--rounds", "0")
"""Nobody writes to these servers: the first look is true."""


@pytest.fixture
def source(flushed: Callable[..., Server]) -> Server:
    server = flushed("redis-6.2")
    with server.session() as session:
        fill(session, KEYS)
    return server


@pytest.fixture
def target(source: Server, flushed: Callable[..., Server], tmp_path: Path) -> Server:
    """Equal to the source."""
    server = flushed("valkey-9.1")
    assert keyferry("copy", source.url, server.url, "--max-latency", "0", cwd=tmp_path).status == 0
    return server


def call(server: Server, *command: str | bytes | int) -> object:
    with server.session() as session:
        return session.call(*command)


def spoil(source: Server, target: Server) -> dict[bytes, str]:
    """Makes five keys differ, each in its own way; their reasons."""
    for server, name in ((source, b"source"), (target, b"target")):
        call(server, "SET", b"old\xff", name)
        call(server, "SET", "due", "v", "PX", 600_000 if server is source else 900_000)
    call(source, "SET", "text", "v")
    call(target, "RPUSH", "text", "v")
    call(source, "HSET", "lost", "f", "v")
    call(target, "SET", "extra", "v")
    return {
        b"old\xff": "stale",
        b"due": "expiry differs",
        b"text": "type clash",
        b"lost": "never copied",
        b"extra": "only on the target",
    }


def test_equal_is_exit_0_and_one_object(source: Server, target: Server, tmp_path: Path) -> None:
    ended = keyferry("verify", source.url, target.url, cwd=tmp_path)
    assert ended.status == 0, ended.out + ended.err
    assert ended.out.startswith("Equal: 2,000 keys compared in ")
    assert ended.err.startswith(f"keyferry verify {source.url} with {target.url}\n")
    ended = keyferry("verify", source.url, target.url, "--json", "--report", "r.json", cwd=tmp_path)
    said = json.loads(ended.out)
    assert (ended.status, json.loads((tmp_path / "r.json").read_text())) == (0, said)
    assert (said["equal"], said["compared"], said["looked_for"]) == (True, KEYS, KEYS)
    assert (said["differences"], said["sampled"]) == (0, False)


def test_nothing_is_written(source: Server, target: Server, tmp_path: Path) -> None:
    spoil(source, target)
    before = [changes(server) for server in (source, target)]
    assert keyferry("verify", source.url, target.url, *QUIET, cwd=tmp_path).status == 1
    assert [changes(server) for server in (source, target)] == before


def changes(server: Server) -> bytes:
    """Changes since the last save, as the server counts them."""
    info = call(server, "INFO", "persistence")
    assert isinstance(info, bytes)
    (line,) = (line for line in info.splitlines() if line.startswith(b"rdb_changes_since_last_save"))
    return line


def test_differences_are_told_with_their_reasons(source: Server, target: Server, tmp_path: Path) -> None:
    reasons = spoil(source, target)
    arguments = ["verify", source.url, target.url, *QUIET, "--differences", "d.jsonl"]
    ended = keyferry(*arguments, cwd=tmp_path)
    assert ended.status == 1
    assert ended.out.startswith("Different: 5 keys differ; ")
    assert all(f" 1 {reason}: " in ended.out for reason in reasons.values())
    assert "old\\xff (db 0, string): stale" in ended.out
    assert "--repair makes them equal" in ended.out
    assert "--delete-extra deletes" in ended.out
    lines = [json.loads(line) for line in (tmp_path / "d.jsonl").read_text().splitlines()]
    assert {base64.b64decode(line["key_base64"]): line["reason"] for line in lines} == reasons
    kinds = {line["key"]: (line["type_source"], line["type_target"]) for line in lines}
    assert kinds["text"] == ("string", "list")
    assert (kinds["lost"], kinds["extra"]) == (("hash", "none"), ("none", "string"))
    assert all(isinstance(line["differs"], list) and line["database"] == 0 for line in lines)
    said = json.loads(keyferry(*arguments, "--json", cwd=tmp_path).out)
    assert said["reasons"] == dict.fromkeys(reasons.values(), 1)
    assert set(said["reasons"]) <= set(REASONS)


def test_each_half_of_the_repair_by_itself(source: Server, target: Server, tmp_path: Path) -> None:
    spoil(source, target)
    deleting = keyferry("verify", source.url, target.url, *QUIET, "--delete-extra", cwd=tmp_path)
    assert (deleting.status, call(target, "EXISTS", "extra"), call(target, "EXISTS", "lost")) == (1, 0, 0)
    call(target, "SET", "extra", "v")
    repairing = keyferry("verify", source.url, target.url, *QUIET, "--repair", "--json", cwd=tmp_path)
    said = json.loads(repairing.out)
    assert (repairing.status, said["repaired"], said["deleted"]) == (1, 4, 0)
    assert said["reasons"] == {"only on the target": 1}
    assert (call(target, "EXISTS", "extra"), call(target, "GET", b"old\xff")) == (1, b"source")
    both = ("--repair", "--delete-extra")
    assert keyferry("verify", source.url, target.url, *QUIET, *both, cwd=tmp_path).status == 0
    assert keyferry("verify", source.url, target.url, *QUIET, cwd=tmp_path).status == 0


def test_the_tolerance_of_expiries(source: Server, target: Server, tmp_path: Path) -> None:
    call(source, "SET", "due", "v", "PX", 600_000)
    call(target, "SET", "due", "v", "PX", 620_000)
    arguments = ["verify", source.url, target.url, *QUIET, "--expiry-tolerance-ms"]
    assert keyferry(*arguments, "5000", cwd=tmp_path).status == 1
    assert keyferry(*arguments, "60000", cwd=tmp_path).status == 0


def test_a_sample_says_that_it_is_one(source: Server, target: Server, tmp_path: Path) -> None:
    ended = keyferry("verify", source.url, target.url, "--sample", "200", cwd=tmp_path)
    assert ended.status == 0, ended.out + ended.err
    assert ", a sample," in ended.out
    said = json.loads(
        keyferry("verify", source.url, target.url, "--sample", "200", "--json", cwd=tmp_path).out
    )
    assert said["sampled"] is True
    assert 100 < said["compared"] < 400


def test_a_choice_of_keys(source: Server, target: Server, tmp_path: Path) -> None:
    call(source, "SET", "mine:1", "a")
    arguments = ["verify", source.url, target.url, *QUIET]
    assert keyferry(*arguments, "--exclude", "mine:*", cwd=tmp_path).status == 0
    assert keyferry(*arguments, "--match", "mine:*", cwd=tmp_path).status == 1


def scans(server: Server) -> int:
    info = call(server, "INFO", "commandstats")
    assert isinstance(info, bytes)
    found = re.search(rb"cmdstat_scan:calls=(\d+)", info)
    return int(found[1]) if found else 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_ends_soon_and_goes_on(
    source: Server, target: Server, tmp_path: Path, number: signal.Signals
) -> None:
    arguments = ["verify", source.url, target.url, "--json"]
    before = scans(source)
    with started([*arguments, "--max-rate", "300", "--batch", "50"], tmp_path) as process:
        while scans(source) < before + 5:
            assert process.poll() is None
            time.sleep(0.05)
        began = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert time.monotonic() - began < 3
    assert b"Interrupted after " in err
    assert b"same command" in err
    assert json.loads(out)["exit_code"] == 130
    ended = keyferry(*arguments, cwd=tmp_path)
    assert ended.status == 0, ended.err
    assert "Going on" in ended.err


def test_a_dead_server_is_exit_3(source: Server, tmp_path: Path) -> None:
    ended = keyferry("verify", source.url, "redis://127.0.0.1:1", "--json", cwd=tmp_path)
    assert ended.status == json.loads(ended.out)["exit_code"] == 3
    assert "The target redis://127.0.0.1:1 cannot be reached" in ended.err
