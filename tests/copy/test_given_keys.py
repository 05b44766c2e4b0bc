"""A pass over given keys: each is carried as it is now, and what the source does not have goes."""

from __future__ import annotations

import time
from collections.abc import Callable

from keyferry.copy.connect import Sides
from keyferry.copy.crew import Crew
from keyferry.copy.passes import PassContext, Task
from keyferry.copy.settings import CopySettings
from keyferry.copy.settled import SettledPages
from keyferry.copy.watch import Watch
from keyferry.testing.servers import Server


def test_given_keys_are_carried_and_the_absent_ones_deleted(
    flushed: Callable[[str], Server], tmp_path: object
) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    with source.session() as session:
        session.pipeline([("SET", "a", "1"), ("SADD", "b", "1", "2"), ("SET", "c", "3")])
    with target.session() as session:
        session.pipeline([("SET", "a", "old"), ("SET", "gone", "x"), ("SET", "stays", "y")])
    settings = CopySettings(source.endpoint, target.endpoint, on_conflict="replace", max_latency_ms=0)
    sides = Sides(settings)
    sides.open()
    settled: list[SettledPages] = []
    watch = Watch(settings, lambda progress: None)
    context = PassContext(
        settings=settings,
        sides=sides,
        pace=watch.pace,
        ask_expiry=True,
        is_foreign=lambda database, key: False,
        on_source_moved=lambda slot: None,
        on_target_met=lambda shard, run_id: None,
        owner=b"t",
    )
    done: list[Task] = []
    deadline = time.monotonic() + 10

    def turn() -> None:
        assert time.monotonic() < deadline

    with Crew(
        context,
        watch,
        [],
        on_settled=lambda task, pages: settled.append(pages),
        on_done=done.append,
        on_turn=turn,
    ) as crew:
        crew.run([Task(sides.source.shards[0].id, 0, keys=(b"a", b"b", b"gone"))])
    assert len(done) == 1
    assert [sum(column) for column in zip(*(page.settled.outcomes for page in settled), strict=True)] == [
        2,
        0,
        1,
        0,
        0,
    ]
    with target.session() as session:
        assert session.pipeline(
            [("GET", "a"), ("SCARD", "b"), ("EXISTS", "c"), ("EXISTS", "gone"), ("GET", "stays")]
        ) == [b"1", 2, 0, 0, b"y"]
