"""What travels besides values: eviction hints, function libraries, values of modules."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from copying import Copying, ask, assert_equal, fill, fill_strings, keys_of
from keyferry.model.errors import ServerError
from keyferry.model.selection import Selection
from keyferry.testing.servers import Server

Flushed = Callable[..., Server]
Starter = Callable[..., Server]

LIBRARY = "#!lua name={name}\nredis.register_function('{name}_f', function() return '{result}' end)"


def idle_time(server: Server, key: bytes) -> int:
    reply = ask(server, "OBJECT", "IDLETIME", key)
    assert isinstance(reply, int)
    return reply


def frequency(server: Server, key: str) -> int:
    reply = ask(server, "OBJECT", "FREQ", key)
    assert isinstance(reply, int)
    return reply


@pytest.mark.parametrize("pair", ["redis-6.2 redis-8.2", "redis-8.2 redis-6.2"])
def test_idle_times(pair: str, start_server: Starter, tmp_path: Path) -> None:
    """As they are, and of values that are converted on the way (small sets to 6.2)."""
    first, second = pair.split()
    source = start_server(first, maxmemory_policy="allkeys-lru", maxmemory="1gb")
    target = start_server(second, maxmemory_policy="allkeys-lru", maxmemory="1gb")
    idle: dict[bytes, int] = {}
    for i in range(60):
        key, seconds = b"k%d" % i, 1_000 + 500 * i
        value = [("SET", key, "v"), ("SADD", key, "a", "b"), ("PSETEX", key, 10**7, "v")][i % 3]
        fill(source, [value])
        payload, left = ask(source, "DUMP", key), ask(source, "PTTL", key)
        assert isinstance(payload, bytes)
        assert isinstance(left, int)
        ask(source, "RESTORE", key, max(0, left), payload, "REPLACE", "IDLETIME", seconds)
        idle[key] = seconds
    assert Copying(tmp_path / "state").run(source, target, keep_eviction_hints=True).run.copied == 60
    for server in (source, target):
        kept = [key for key, seconds in idle.items() if abs(idle_time(server, key) - seconds) <= 20]
        if server is target:
            # Before 7.2 a look at a source's key touches it: a few, when we ask who it is.
            assert len(kept) == 60 if source.binary.version >= (7, 2, 0) else len(kept) >= 55
        elif source.binary.version >= (7, 2, 0):
            assert len(kept) == 60
    assert_equal(source, target)


def test_frequencies(start_server: Starter, tmp_path: Path) -> None:
    source = start_server("redis-7.0", maxmemory_policy="allkeys-lfu", maxmemory="1gb")
    target = start_server("valkey-9.1", maxmemory_policy="allkeys-lfu", maxmemory="1gb")
    fill(source, [("SET", f"k{i}", "v") for i in range(10)])
    for i in range(10):
        payload = ask(source, "DUMP", f"k{i}")
        assert isinstance(payload, bytes)
        ask(source, "RESTORE", f"k{i}", 0, payload, "REPLACE", "FREQ", 20 * i + 10)
    Copying(tmp_path / "state").run(source, target, keep_eviction_hints=True)
    for i in range(10):
        assert abs(frequency(target, f"k{i}") - (20 * i + 10)) <= 2


def test_without_the_option_no_hint_travels(start_server: Starter, tmp_path: Path) -> None:
    source = start_server("redis-7.0", maxmemory_policy="allkeys-lru", maxmemory="1gb")
    target = start_server("redis-7.0", maxmemory_policy="allkeys-lru", maxmemory="1gb")
    fill(source, [("SET", "k", "v")])
    payload = ask(source, "DUMP", "k")
    assert isinstance(payload, bytes)
    ask(source, "RESTORE", "k", 0, payload, "REPLACE", "IDLETIME", 5_000)
    Copying(tmp_path / "state").run(source, target)
    assert idle_time(target, b"k") < 100


def load(server: Server, name: str, result: str) -> None:
    ask(server, "FUNCTION", "LOAD", LIBRARY.format(name=name, result=result))


def called(server: Server, name: str) -> object:
    return ask(server, "FCALL", f"{name}_f", 0)


@pytest.mark.parametrize("pair", ["redis-7.0 valkey-9.1", "valkey-9.1 redis-7.0", "redis-8.2 redis-7.0"])
def test_functions(pair: str, flushed: Flushed, tmp_path: Path) -> None:
    source, target = (flushed(name) for name in pair.split())
    load(source, "one", "1")
    load(source, "two", "2")
    load(target, "theirs", "3")
    fill_strings(source, 10)
    copying = Copying(tmp_path / "state")
    report = copying.run(source, target, functions=True)
    assert (report.functions, report.run.copied) == (2, 10)
    assert [called(target, name) for name in ("one", "two", "theirs")] == [b"1", b"2", b"3"]


def test_functions_of_the_same_name(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    load(source, "one", "source")
    load(target, "one", "target")
    fill_strings(source, 10)
    with pytest.raises(ServerError, match="functions") as refused:
        Copying(tmp_path / "state").run(source, target, functions=True)
    assert "--on-conflict replace" in refused.value.hint
    assert called(target, "one") == b"target"
    report = Copying(tmp_path / "state").run(source, target, functions=True, on_conflict="replace")
    assert called(target, "one") == b"source"
    assert (report.resumed, report.run.copied, report.total.copied) == (True, 0, 10)


@pytest.mark.parametrize("pair", ["redis-6.2 redis-7.0", "redis-7.0 redis-6.2"])
def test_a_server_without_functions(pair: str, flushed: Flushed, tmp_path: Path) -> None:
    source, target = (flushed(name) for name in pair.split())
    if source.binary.version >= (7, 0, 0):
        load(source, "one", "1")
    with pytest.raises(ServerError, match="functions") as refused:
        Copying(tmp_path / "state").run(source, target, functions=True)
    assert "--functions" in refused.value.hint


def test_values_of_a_module(flushed: Flushed, start_server: Starter, tmp_path: Path) -> None:
    """Redis 8 brings one: vector sets. A target that has the module takes them; another fails by the module's name."""
    source = flushed("redis-8.2")
    fill(source, [("VADD", f"v{i}", "VALUES", 3, "1", "2", i, "element") for i in range(5)])
    fill(source, [("PEXPIRE", "v1", 10**8)])
    fill_strings(source, 10)
    same = flushed("redis-8.2", 1)
    report = Copying(tmp_path / "same").run(source, same)
    assert (report.run.copied, report.run.failed) == (15, 0)
    assert ask(same, "VEMB", "v3", "element") == ask(source, "VEMB", "v3", "element")
    assert ask(same, "PEXPIRETIME", "v1") == ask(source, "PEXPIRETIME", "v1")

    failures = tmp_path / "failures.jsonl"
    report = Copying(tmp_path / "other").run(source, other := flushed("valkey-9.1"), failures_file=failures)
    assert (report.run.copied, report.run.failed) == (10, 5)
    reasons = {json.loads(line)["reason"] for line in failures.read_text().splitlines()}
    assert all("vectorset" in reason for reason in reasons)
    assert keys_of(other) == 10


def test_a_modules_type_can_be_selected(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-8.2"), flushed("redis-8.2", 1)
    fill(source, [("VADD", f"v{i}", "VALUES", 3, "1", "2", i, "element") for i in range(5)])
    fill_strings(source, 10)
    fill(source, [("RPUSH", "list", "x")])
    for types in (("vectorset",), ("vectorset", "list")):
        selection = Selection(types=types)
        report = Copying(tmp_path / "-".join(types)).run(
            source, target, selection=selection, on_conflict="replace"
        )
        assert report.run.scanned == report.run.copied == (5 if len(types) == 1 else 6)
