"""What can happen to a copy while a big value is on its way on connections of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from copying import Beside, Copying, ask, assert_consistent, assert_equal, fill, fill_strings, wait_until
from keyferry.model.address import Endpoint
from keyferry.payload.names import TEMPORARY_PREFIX
from keyferry.testing.proxy import FaultProxy
from keyferry.testing.servers import Server
from keyferry.transfer.config import RelayConfig
from keyferry.transfer.relay import Relay, make_relay

Flushed = Callable[..., Server]
Starter = Callable[..., Server]


def fill_giant(server: Server, members: int, key: str = "giant") -> None:
    for begin in range(0, members, 1_000):
        fill(server, [("RPUSH", key, *[b"%08d" % i + b"x" * 92 for i in range(begin, begin + 1_000)])])


def half_built(server: Server) -> object:
    return ask(server, "KEYS", TEMPORARY_PREFIX + b"*")


@pytest.mark.parametrize("pair", ["redis-8.2 valkey-9.1", "valkey-9.1 redis-8.2"])
@pytest.mark.parametrize("in_pieces", [False, True])
def test_a_key_that_comes_twice_is_built_once_at_a_time(
    pair: str, in_pieces: bool, flushed: Flushed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two carries of one key have one temporary name."""
    source, target = (flushed(name) for name in pair.split())
    names = [b"hash:%d" % i for i in range(20)]
    for name in names:
        fields = [f"field {i}" for i in range(20)]
        fill(source, [("HSET", name, *[part for field in fields for part in (field, "value")])])
        fill(source, [("HPEXPIRE", name, 3_600_000, "FIELDS", 2, *fields[:2]), ("PEXPIRE", name, 3_600_000)])

    def make(config: RelayConfig) -> Relay:
        relay = make_relay(config)
        if config.scan_count == 7:
            relay.add_keys(names * 2)
        return relay

    monkeypatch.setattr("keyferry.copy.passes.make_relay", make)
    members = 5 if in_pieces else 20_000
    report = Copying(tmp_path / "state").run(source, target, batch=7, big_key_members=members)
    assert_consistent(report)
    assert report.run.scanned == report.run.copied == 60
    assert_equal(source, target)
    assert half_built(target) == []


def test_connections_that_are_still_meanwhile_are_kept(
    start_server: Starter, flushed: Flushed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source closes what is idle for a second; the giant travels for several."""
    monkeypatch.setattr("keyferry.copy.pipeline.KEEP_ALIVE_S", 0.3)
    monkeypatch.setattr("keyferry.copy.carriers.KEEP_ALIVE_S", 0.3)
    source, target = start_server("redis-7.0", timeout="1"), flushed("valkey-9.1")
    fill_giant(source, 60_000)
    copying = Copying(tmp_path / "state")
    report = copying.run(source, target, max_bandwidth=1_500_000.0)
    assert report.seconds > 3
    assert copying.told == []
    assert_equal(source, target)


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_server_that_falls_silent_under_a_giant(
    side: str, flushed: Flushed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keyferry.copy.pipeline.SILENCE_S_MAX", 1.0)
    # Only the giant's own connections can notice.
    monkeypatch.setattr("keyferry.copy.pipeline.KEEP_ALIVE_S", 60.0)
    servers = {"source": flushed("redis-7.0"), "target": flushed("valkey-9.1")}
    fill_giant(servers["source"], 60_000)
    copying = Copying(tmp_path / "state")
    with FaultProxy("127.0.0.1", servers[side].port) as proxy:
        ends: dict[str, Server | Endpoint] = {**servers, side: Endpoint(host="127.0.0.1", port=proxy.port)}

        def stall() -> None:
            wait_until(lambda: half_built(servers["target"]), "the giant's first pieces")
            proxy.stall(True)
            try:
                wait_until(
                    lambda: any("has not answered" in told for told in copying.told), "somebody notices"
                )
            finally:
                proxy.stall(False)

        with Beside(stall):
            report = copying.run(ends["source"], ends["target"], max_bandwidth=3_000_000.0)
    assert_consistent(report)
    assert_equal(servers["source"], servers["target"])
    assert half_built(servers["target"]) == []


def test_a_second_trouble_long_after_the_first(flushed: Flushed, tmp_path: Path) -> None:
    """A giant settles nothing for longer than a lost server is waited for."""
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_giant(source, 60_000)
    copying = Copying(tmp_path / "state")
    cuts = threading.Event()
    with FaultProxy("127.0.0.1", source.port) as proxy:

        def cut() -> None:
            for _ in range(2):
                wait_until(lambda: half_built(target), "the giant's first pieces")
                cuts.wait(1.5)
                proxy.cut()
            cuts.set()

        with Beside(cut):
            copying.run(
                Endpoint(host="127.0.0.1", port=proxy.port), target, max_bandwidth=2_000_000.0, retry_s=1.0
            )
    assert cuts.is_set()
    assert sum("Trying again" in told for told in copying.told) == 2
    assert_equal(source, target)


def test_what_is_built_when_keys_begin_to_expire_is_not_left(
    flushed: Flushed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pass begins anew, asking for expiries; the key that was half built is gone from the source by then."""
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_giant(source, 40_000)
    fill_strings(source, 4_000)
    pieces: list[float] = []

    def allows_piece(pace: object, now_s: float) -> bool:
        pieces.append(now_s)
        return len(pieces) <= 8

    monkeypatch.setattr("keyferry.copy.pace.Pace.allows_piece", allows_piece)
    copying = Copying(tmp_path / "state")

    def expire() -> None:
        # Not before it stands still: a carrier that asks for more would see that its key is gone, and clean up itself.
        wait_until(lambda: len(pieces) > 8 and half_built(target), "the giant's first pieces")
        fill(source, [("UNLINK", "giant"), ("SET", "late", "x", "PX", 3_600_000)])

    with Beside(expire):
        copying.run(source, target, max_rate=1_000, batch=100)
    assert any("Keys expire" in told for told in copying.told)
    assert any("half-built" in told for told in copying.told)
    assert half_built(target) == []
