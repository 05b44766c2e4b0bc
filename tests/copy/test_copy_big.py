"""Values that no DUMP should carry: in pieces, within bounded memory, or refused by name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from copying import Copying, Process, ask, assert_equal, fill, fill_strings, keys_of, wait_until
from keyferry.model.selection import Selection
from keyferry.testing.servers import Server

Flushed = Callable[..., Server]
Starter = Callable[..., Server]
MEMORY_BYTES_MAX = 150 << 20
BIG = 600 << 20


def big_hash(server: Server, key: str, total: int, *, field_bytes: int = 10_000) -> None:
    """A hash of about ``total`` bytes that do not compress."""
    noise = os.urandom(1 << 20)
    values = [noise[at : at + field_bytes] for at in range(0, len(noise) - field_bytes, 997)]
    fields = total // field_bytes
    with server.session(timeout_s=120) as session:
        for first in range(0, fields, 1_000):
            pairs = [
                part
                for i in range(first, min(fields, first + 1_000))
                for part in (i, values[i % len(values)])
            ]
            assert isinstance(session.call("HSET", key, *pairs), int)


def big_string(server: Server, key: str, total: int) -> None:
    piece = 16 << 20
    with server.session(timeout_s=120) as session:
        for at in range(0, total, piece):
            assert session.call("SETRANGE", key, at, os.urandom(1 << 16) * (min(piece, total - at) >> 16))


def digest(server: Server, key: str) -> object:
    with server.session(timeout_s=120) as session:
        return session.call("DEBUG", "DIGEST-VALUE", key)


@pytest.mark.parametrize("pair", ["redis-7.0 valkey-9.1", "redis-8.2 redis-6.2"])
def test_40_mb_in_pieces(pair: str, flushed: Flushed, tmp_path: Path) -> None:
    source, target = (flushed(name) for name in pair.split())
    big_hash(source, "hash", 40 << 20)
    big_string(source, "string", 40 << 20)
    fill(source, [("PEXPIREAT", "string", 4_102_444_800_123)])
    fill_strings(source, 2_000)
    report = Copying(tmp_path / "state").run(source, target, on_conflict="replace")
    assert report.run.copied == 2_002
    assert report.run.methods[3] == 2
    assert report.run.bytes > 80 << 20
    assert ask(target, "KEYS", "keyferry:*") == []
    assert_equal(source, target)


def test_a_target_that_takes_little_at_once(start_server: Starter, flushed: Flushed, tmp_path: Path) -> None:
    """proto-max-bulk-len bounds a RESTORE: what is larger goes in pieces, what cannot go fails naming it."""
    source = flushed("redis-7.0")
    target = start_server("redis-7.0", proto_max_bulk_len="1mb")
    big_hash(source, "hash", 5 << 20)
    big_string(source, "string", 2 << 20)
    fill_strings(source, 100)
    failures = tmp_path / "failures.jsonl"
    report = Copying(tmp_path / "state").run(source, target, failures_file=failures)
    assert (report.run.copied, report.run.failed) == (101, 1)
    (line,) = failures.read_text().splitlines()
    assert json.loads(line)["key"] == "string"
    assert "proto-max-bulk-len" in json.loads(line)["reason"]
    assert ask(target, "HLEN", "hash") == ask(source, "HLEN", "hash")


@pytest.mark.parametrize("policy", ["skip", "fail"])
def test_a_conflict_over_a_giant(policy: str, flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    big_hash(source, "hash", 40 << 20)
    fill(target, [("SET", "hash", "theirs")])
    report = Copying(tmp_path / "state").run(source, target, on_conflict=policy)
    assert report.run.skipped + report.run.failed == 1
    assert ask(target, "GET", "hash") == b"theirs"


def test_giants_of_another_type_are_left_alone(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    big_hash(source, "hash", 40 << 20)
    fill_strings(source, 10)
    selection = Selection(types=("string", "list"))
    report = Copying(tmp_path / "state").run(source, target, selection=selection)
    assert (report.run.scanned, report.run.copied) == (10, 10)
    assert ask(target, "EXISTS", "hash") == 0


def test_small_keys_do_not_pile_up_behind_a_giant(
    flushed: Flushed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a page waits for its giant, only so many names are remembered behind it."""
    monkeypatch.setattr("keyferry.copy.pipeline.UNSETTLED_KEYS_MAX", 2_000)
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    for i in range(4):  # wherever SCAN meets them, one comes early
        big_hash(source, f"hash{i}", 40 << 20)
    fill_strings(source, 30_000)
    ahead: list[int] = []
    copying = Copying(tmp_path / "state")
    copying.on_progress = lambda progress: ahead.append(keys_of(target) - progress.keys_done)
    report = copying.run(source, target, batch=100)
    assert report.run.copied == 30_004
    assert max(ahead) < 4_000, ahead


@pytest.mark.slow
def test_a_hash_of_600_mb(start_server: Starter, tmp_path: Path) -> None:
    source, target = start_server("redis-7.0"), start_server("valkey-9.1")
    fill_strings(source, 1_000)
    big_hash(source, "big", BIG)
    status, report = copied_in_bounded_memory(source, target, tmp_path)
    assert (status, report["copied"], report["failed"]) == (0, 1_001, 0)
    assert digest(source, "big") == digest(target, "big")


@pytest.mark.slow
def test_a_string_of_600_mb(start_server: Starter, tmp_path: Path) -> None:
    """Where the target's proto-max-bulk-len is the default it fails naming it; where it is raised it arrives."""
    source, target = start_server("redis-7.0", proto_max_bulk_len="1gb"), start_server("valkey-9.1")
    fill_strings(source, 1_000)
    big_string(source, "big", BIG)
    status, report = copied_in_bounded_memory(source, target, tmp_path, "--failures", "failures.jsonl")
    assert (status, report["copied"], report["failed"]) == (1, 1_000, 1)
    assert "proto-max-bulk-len" in (tmp_path / "failures.jsonl").read_text()
    ask(target, "CONFIG", "SET", "proto-max-bulk-len", 1 << 30)
    status, report = copied_in_bounded_memory(source, target, tmp_path, "--on-conflict", "replace")
    assert (status, report["copied"], report["failed"]) == (0, 1_001, 0)
    assert digest(source, "big") == digest(target, "big")


def copied_in_bounded_memory(
    source: Server, target: Server, cwd: Path, *options: str
) -> tuple[int, dict[str, Any]]:
    """Through the command itself, whose memory is watched."""
    with Process(source.url, target.url, cwd, *options) as running:
        peak = 0

        def ended() -> bool:
            nonlocal peak
            peak = max(peak, running.rss_bytes_max())
            return running.process.poll() is not None

        wait_until(ended, "the end of the copy", timeout_s=180)
        status, report, said = running.end()
    assert 0 < peak < MEMORY_BYTES_MAX
    print(said)  # shown when the test fails
    return status, report
