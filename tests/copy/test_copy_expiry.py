"""Expiries: exact to the millisecond, and no key that was to expire is ever for ever."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from copying import (
    Beside,
    Copying,
    Process,
    ask,
    assert_consistent,
    assert_equal,
    compared,
    fill,
    fill_strings,
    keys_of,
    wait_until,
)
from keyferry.model.selection import Selection
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
    keys = ask(server, "keys", "*")
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
    # On a slow machine those with the shortest life are gone before any is copied, so there is nothing to tell.
    for life_ms in (30, 100, 300, 1000):
        source, target = flushed("redis-7.0"), flushed("valkey-9.1")
        fill_strings(source, 3_000)
        copying = Copying(tmp_path / str(life_ms))
        fill_before_the_first_scan(source, life_ms, monkeypatch)
        assert_consistent(copying.run(source, target))
        time.sleep(1.3 * life_ms / 1000)
        assert [key for key in keys_without_expiry(target) if key.startswith(b"short:")] == []
        assert_equal(source, target)
        if any("fetching expiries" in sentence for sentence in copying.told):
            return
    pytest.fail("no short-lived key was ever copied")


def fill_before_the_first_scan(source: Server, life_ms: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at INFO and the first SCAN: the moment at which the relay is made."""
    short: list[tuple[Argument, ...]] = [("SET", f"short:{i}", "v", "PX", life_ms) for i in range(500)]
    begun = threading.Event()

    def make(config: RelayConfig) -> Relay:
        if not begun.is_set():
            begun.set()
            assert config.expiry is ExpiryMode.NONE
            fill(source, short)
        return make_relay(config)

    monkeypatch.setattr("keyferry.copy.passes.make_relay", make)


def test_killed_while_keys_begin_to_expire_none_is_for_ever(
    flushed: Callable[..., Server], tmp_path: Path
) -> None:
    """SIGKILL gives no time to mend anything: what was not proven must never have been written."""
    count = 12_000  # at this rate the copy outlasts what we do meanwhile, however slowly we do it
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, count)
    with Process(source.url, target.url, tmp_path, "--max-rate", "1000", "--batch", "100") as process:
        wait_until(lambda: keys_of(target) > 200, "some keys")
        # Some are on their way at this moment: they were proven before, or they are not written.
        fill(source, [("PEXPIRE", f"key:{i}", 600) for i in range(0, count, 2)])
        wait_until(lambda: keys_of(target) > 400, "some more keys")
        process.process.send_signal(signal.SIGSTOP)  # while we look
        early = set(keys_without_expiry(target))
        process.process.kill()
        process.process.wait()
    wait_until(lambda: keys_of(source) == count // 2, "the end of every second key")
    with Process(source.url, target.url, tmp_path) as process:
        status, counts, _ = process.end()
    assert status == 0
    assert counts["resumed"]
    # Those that were there before they got an expiry are what a single pass leaves to the next step.
    late = {key for key in keys_without_expiry(target) if int(key.removeprefix(b"key:")) % 2 == 0} - early
    assert late == set()


def test_what_is_not_selected_is_left_alone_when_expiries_begin(
    flushed: Callable[..., Server], tmp_path: Path
) -> None:
    """With two types the pages hold all of them: the others on the target are not ours to touch."""
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 1_000)
    lists: list[tuple[Argument, ...]] = [("RPUSH", f"list:{i}", "theirs") for i in range(1_000)]
    fill(source, lists)
    fill(target, lists)
    disturbed = threading.Event()

    def disturb() -> None:
        wait_until(lambda: keys_of(target) > 1_200, "the first keys")
        fill(source, [("PEXPIRE", f"list:{i}", 20) for i in range(0, 1_000, 2)])
        fill(source, [("UNLINK", f"list:{i}") for i in range(1, 1_000, 2)])
        disturbed.set()

    selection = Selection(types=("string", "hash"))
    with Beside(disturb):
        Copying(tmp_path / "state").run(
            source, target, selection=selection, on_conflict="replace", max_rate=1_000, batch=100
        )
    assert disturbed.is_set()
    with target.session() as session:
        kept = session.pipeline([("PTTL", f"list:{i}") for i in range(1_000)])
    assert set(kept) == {-1}
