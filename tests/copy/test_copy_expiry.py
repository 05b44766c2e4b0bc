"""Expiries: exact to the millisecond, and no key that was to expire is ever for ever."""

from __future__ import annotations

import threading
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
    compared,
    fill,
    fill_strings,
    wait_until,
)

from keyferry.testing.servers import Server
from keyferry.transfer.config import ExpiryMode, RelayConfig
from keyferry.transfer.relay import Relay, make_relay
from keyferry.wire.resp import Argument


def test_expiries_to_the_millisecond(server_pair: tuple[Server, Server], tmp_path: Path) -> None:
    """PEXPIRETIME and ABSTTL: exact. Before 7.0 TIME and PTTL are two commands, mostly in one millisecond."""
    source, target = server_pair
    count, first_ms = 500, int(time.time() * 1000) + 10**10
    fill(source, [("SET", f"k{i}", "v") for i in range(count)])
    fill(source, [("PEXPIREAT", f"k{i}", first_ms + i) for i in range(count)])
    report = Copying(tmp_path / "state").run(source, target)
    assert report.run.copied == count
    errors = [abs(at - first_ms - i) for i, at in enumerate(expiries(target, count))]
    if source.binary.version >= (7, 0, 0) and target.binary.version >= (7, 0, 0):
        assert max(errors) == 0
    else:
        # A process that is scheduled away between two commands is not our error, but it is nobody's rule either.
        assert sorted(errors)[count // 2] <= 1
        assert max(errors) < 1000


def expiries(server: Server, count: int) -> list[int]:
    """Of the keys k0, k1, ...; Unix milliseconds, by PTTL and TIME where there is no PEXPIRETIME."""
    found: list[int] = []
    with server.session() as session:
        for i in range(count):
            if server.binary.version >= (7, 0, 0):
                (at,) = session.pipeline([("PEXPIRETIME", f"k{i}")])
            else:
                now, left = session.pipeline([("TIME",), ("PTTL", f"k{i}")])
                assert isinstance(now, list) and isinstance(now[0], bytes) and isinstance(now[1], bytes)
                assert isinstance(left, int)
                at = int(now[0]) * 1000 + int(now[1]) // 1000 + left
            assert isinstance(at, int)
            found.append(at)
    return found


@pytest.mark.parametrize("pair", ["redis-6.2 valkey-9.1", "redis-7.0 redis-8.2", "valkey-9.1 redis-6.2"])
@pytest.mark.parametrize("policy", [None, "replace", "skip"])
def test_short_lived_keys_never_become_persistent(
    pair: str, policy: str | None, flushed: Callable[..., Server], tmp_path: Path
) -> None:
    """3,000 keys that expire while they are copied; DUMP with PTTL 0 is among them."""
    source, target = (flushed(name) for name in pair.split())
    fill(source, [("SET", f"k{i}", "v", "PX", 5 + i % 46) for i in range(3000)])
    fill(source, [("SET", f"s{i}", "v", "PX", 5 + i % 46) for i in range(3000)])
    report = Copying(tmp_path / "state").run(source, target, on_conflict=policy)
    assert_consistent(report)
    assert report.run.failed == 0
    time.sleep(0.06)  # the longest life, so that whatever is left now is for ever
    assert keys_without_expiry(target) == []


def keys_without_expiry(server: Server) -> list[bytes]:
    keys = ask(server, "KEYS", "*")
    assert isinstance(keys, list)
    names = [key for key in keys if isinstance(key, bytes)]
    return [key for key in names if ask(server, "PTTL", key) == -1]


def test_expiries_that_begin_in_the_middle(flushed: Callable[..., Server], tmp_path: Path) -> None:
    """No key expires when the copy begins, so expiries are not asked for; then some get one."""
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 30_000)
    copying = Copying(tmp_path / "state")
    expiring: list[tuple[Argument, ...]] = [("PEXPIRE", f"key:{i}", 10_000_000) for i in range(0, 30_000, 10)]

    def expire_some() -> None:
        wait_until(lambda: ask(target, "DBSIZE") not in (0, None), "the copy's first keys")
        fill(source, expiring)

    with Beside(expire_some):
        report = copying.run(source, target, max_rate=20_000)
    assert any("fetching expiries" in sentence for sentence in copying.told)
    assert_consistent(report)
    assert report.run.failed == 0
    # Those settled before their expiry was set are a live source's later changes.
    late = compared(source, target, expiry_tolerance_ms=0).differing_keys
    assert late < 3000
    assert len([1 for i in range(0, 30_000, 10) if ask(target, "PTTL", f"key:{i}") != -1]) >= 1


def test_pages_settle_although_none_expires_and_the_queue_is_never_empty(
    flushed: Callable[..., Server], tmp_path: Path
) -> None:
    source, target = flushed("redis-7.0"), flushed("redis-7.0", 1)
    fill_strings(source, 6_000)
    copying = Copying(tmp_path / "state")
    seen: list[int] = []
    copying.on_progress = lambda progress: seen.append(progress.keys_done)
    copying.run(source, target, max_rate=4_000, batch=500)
    assert any(500 <= done <= 5_000 for done in seen), seen


def test_a_key_that_was_copied_as_if_for_ever_and_then_expired_is_taken_back(
    flushed: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes after INFO said that none expires, is copied, and is gone when INFO is asked again."""
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 3_000)
    copying = Copying(tmp_path / "state")
    short: list[tuple[Argument, ...]] = [("SET", f"short:{i}", "v", "PX", 30) for i in range(500)]
    begun = threading.Event()

    # Between the look at INFO and the first SCAN: the moment at which the relay is made.
    def make(config: RelayConfig) -> Relay:
        if not begun.is_set():
            begun.set()
            assert config.expiry is ExpiryMode.NONE
            fill(source, short)
        return make_relay(config)

    monkeypatch.setattr("keyferry.copy.passes.make_relay", make)
    report = copying.run(source, target)
    assert_consistent(report)
    assert any("fetching expiries" in sentence for sentence in copying.told)
    time.sleep(0.04)  # the longest life
    assert [key for key in keys_without_expiry(target) if key.startswith(b"short:")] == []
    assert_equal(source, target)
