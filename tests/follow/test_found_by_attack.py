"""What the attack (torture.py) once found, each with the few commands that it takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from following import becomes_equal, syncing
from tests.copy.copying import ask, fill

from keyferry.capture.watcher import SHAPES_EVERY_S
from keyferry.testing.servers import Server

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
