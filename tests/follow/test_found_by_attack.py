"""What the attack (torture.py) once found, each with the few commands that it takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from copying import ask, fill
from following import becomes_equal, syncing
from keyferry.capture.watcher import SHAPES_EVERY_S
from keyferry.copy.bigkeys import BigKeyLimits
from keyferry.copy.passes import _look_bytes
from keyferry.copy.replies import ServerBusy
from keyferry.model.address import parse_endpoint
from keyferry.testing.proxy import FaultProxy
from keyferry.testing.servers import Server
from keyferry.verify.passes import _may_range, _refuse_unmeasured

Flushed = Callable[..., Server]


def test_groups_of_a_stream_that_was_gone_for_a_while(flushed: Flushed, tmp_path: Path) -> None:
    """The watcher forgets a stream that it finds gone, and must take it up again."""
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill(source, [("XADD", "s", "1-0", "f", "v"), ("XADD", "other", "1-0", "f", "v")])
    with syncing(source, target, tmp_path) as sync:
        sync.follows()
        becomes_equal(source, target)
        ask(source, "DEL", "s")
        ask(source, "XGROUP", "CREATE", "other", "g", "0")  # has all streams looked at
        becomes_equal(source, target)
        time.sleep(SHAPES_EVERY_S + 1)  # streams are looked at so often, at most
        ask(source, "XADD", "s", "2-0", "f", "v")
        becomes_equal(source, target)
        ask(source, "XGROUP", "CREATE", "s", "g", "0")
        becomes_equal(source, target)


def test_a_cluster_that_is_down_for_a_moment_is_no_refusal(start_server: Flushed) -> None:
    """A node that was restarted says CLUSTERDOWN until it has heard of the others."""
    alone = start_server("redis-7.0", cluster_enabled="yes")
    with alone.session() as session:
        for probe in (
            _may_range,
            _refuse_unmeasured,
            lambda session: _look_bytes(session, BigKeyLimits(1 << 20, 20_000)),
        ):
            with pytest.raises(ServerBusy, match="CLUSTERDOWN"):
                probe(session)


def test_a_value_that_was_being_built_when_the_connection_broke(flushed: Flushed, tmp_path: Path) -> None:
    """It is built by commands, one carry per key at a time; the carry that was cut must not be waited for."""
    source, target = flushed("valkey-9.1"), flushed("redis-8.2")
    fill(source, [("HSET", "h", "f", "v"), ("HPEXPIRE", "h", 10**8, "FIELDS", 1, "f"), ("SET", "other", "1")])
    with (
        FaultProxy("127.0.0.1", target.port) as proxy,
        syncing(source, parse_endpoint(proxy.url), tmp_path) as sync,
    ):
        sync.follows()
        becomes_equal(source, target)
        proxy.stall(True)
        ask(source, "HSET", "h", "g", "w")
        time.sleep(0.5)  # it is under way, and has not arrived
        proxy.cut()
        proxy.stall(False)
        ask(source, "SET", "other", "2")
        becomes_equal(source, target, within_s=15)
