"""What the drop-in clients cost, beside redis-py itself: CPU per call in interleaved pairs, calls per second, latency."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import redis
import redis.asyncio

import keyferry
import keyferry.asyncio
from bench.arena import Arena
from keyferry.testing.servers import ServerBinary

SINGLE_CALLS, PIPELINES = 200, 4
"""Of one batch; a pair is a batch of redis-py and a batch of ours."""
PIPELINE_COMMANDS = 100
VALUE = b"v" * 64
BACKGROUND_PAUSE_S = 0.02
"""After a batch with a background mirror: what is queued is sent, and counts."""


@dataclass(slots=True)
class Batch:
    """Attributes: calls; process_s and thread_s of CPU; nanoseconds of each call."""

    calls: int
    process_s: float
    thread_s: float
    latency_ns: list[int]


@dataclass(slots=True)
class PairRow:
    """One kind of call in one phase, and what it is compared with.

    Attributes:
        kind: "threads" or "asyncio".
        call: "GET", "SET", or "pipeline".
        phase: as the client was made, "dual, background" included.
        base: what redis-py does meanwhile: "redis-py", or "redis-py twice" (both servers, one after the other).
    """

    kind: str
    call: str
    phase: str
    base: str
    pairs: list[tuple[Batch, Batch]] = field(default_factory=list)


Call = Callable[[], Any]
Plan = tuple[PairRow, Call, Call, int]

PHASES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("source", {"phase": "source"}),
    ("dual", {"phase": "dual"}),
    ("dual, background", {"phase": "dual", "mirror": "background"}),
    ("shadow", {"phase": "shadow"}),
    ("target-dual", {"phase": "target-dual"}),
    ("target", {"phase": "target"}),
)


def measure_clients(binary: ServerBinary, rounds: int, say: Callable[[str], None]) -> list[PairRow]:
    """Every pair in turn, round by round.

    Args:
        rounds: pairs of batches per row.

    Raises:
        KeyferryError: a server does not start.
    """
    with Arena(binary) as arena:
        arena.fresh_target()
        urls = (arena.source.url, arena.target.url)
        plans = list(_sync_plans(*urls))
        for number in range(rounds):
            for row, base, ours, calls in plans:
                row.pairs.append(_in_turn(number, base, ours, calls, _batch))
            say(f"threads: round {number + 1}/{rounds}")
        return [plan[0] for plan in plans] + asyncio.run(_measure_async(urls, rounds, say))


def _in_turn(
    number: int, base: Call, ours: Call, calls: int, batch: Callable[[Call, int], Batch]
) -> tuple[Batch, Batch]:
    if number % 2:
        second = batch(ours, calls)
        return batch(base, calls), second
    first = batch(base, calls)
    return first, batch(ours, calls)


def _batch(call: Call, calls: int) -> Batch:
    waits: list[int] = []
    process_s, thread_s = time.process_time(), time.thread_time()
    for _ in range(calls):
        begun = time.perf_counter_ns()
        call()
        waits.append(time.perf_counter_ns() - begun)
    thread_s = time.thread_time() - thread_s
    time.sleep(BACKGROUND_PAUSE_S)
    return Batch(calls, time.process_time() - process_s, thread_s, waits)


async def _async_batch(call: Callable[[], Awaitable[Any]], calls: int) -> Batch:
    waits: list[int] = []
    process_s, thread_s = time.process_time(), time.thread_time()
    for _ in range(calls):
        begun = time.perf_counter_ns()
        await call()
        waits.append(time.perf_counter_ns() - begun)
    thread_s = time.thread_time() - thread_s
    await asyncio.sleep(BACKGROUND_PAUSE_S)
    return Batch(calls, time.process_time() - process_s, thread_s, waits)


def _sync_plans(source: str, target: str) -> Iterator[Plan]:
    one, other = redis.Redis.from_url(source), redis.Redis.from_url(target)

    def pipeline(client: Any) -> None:
        pipe = client.pipeline(transaction=False)
        for number in range(PIPELINE_COMMANDS):
            pipe.set(f"key:{number}", VALUE)
        pipe.execute()

    def both(call: Callable[[Any], Any]) -> Call:
        def twice() -> None:
            call(one)
            call(other)

        return twice

    for phase, settings in PHASES:
        ours = keyferry.Redis.from_urls(source, target, **settings)
        yield from _plans("threads", phase, one, other, ours, both, pipeline)


def _plans(
    kind: str,
    phase: str,
    one: Any,
    other: Any,
    ours: Any,
    both: Callable[[Callable[[Any], Any]], Call],
    pipeline: Callable[[Any], Any],
) -> Iterator[Plan]:
    """GET, SET and a pipeline of SETs in one phase; compared with what redis-py has to do for the same."""
    home = other if phase.startswith("target") else one
    mirrored = phase not in {"source", "target"}
    yield (
        PairRow(kind, "GET", phase, "redis-py"),
        lambda: home.get("key:1"),
        lambda: ours.get("key:1"),
        SINGLE_CALLS,
    )
    if mirrored and phase != "dual, background":
        base, name = both(lambda client: client.set("key:1", VALUE)), "redis-py twice"
    else:
        base, name = (lambda: home.set("key:1", VALUE)), "redis-py"
    yield PairRow(kind, "SET", phase, name), base, lambda: ours.set("key:1", VALUE), SINGLE_CALLS
    if mirrored:
        base, name = both(pipeline), "redis-py twice"
    else:
        base, name = (lambda: pipeline(home)), "redis-py"
    yield PairRow(kind, "pipeline", phase, name), base, lambda: pipeline(ours), PIPELINES


async def _measure_async(urls: tuple[str, str], rounds: int, say: Callable[[str], None]) -> list[PairRow]:
    source, target = urls
    one, other = redis.asyncio.Redis.from_url(source), redis.asyncio.Redis.from_url(target)

    async def pipeline(client: Any) -> None:
        pipe = client.pipeline(transaction=False)
        for number in range(PIPELINE_COMMANDS):
            pipe.set(f"key:{number}", VALUE)
        await pipe.execute()

    def both(call: Callable[[Any], Any]) -> Call:
        async def twice() -> None:
            await call(one)
            await call(other)

        return twice

    clients = {phase: keyferry.asyncio.Redis.from_urls(source, target, **given) for phase, given in PHASES}
    plans = [
        plan
        for phase, ours in clients.items()
        for plan in _plans("asyncio", phase, one, other, ours, both, pipeline)
    ]
    for number in range(rounds):
        for row, base, ours, calls in plans:
            if number % 2:
                second = await _async_batch(ours, calls)
                row.pairs.append((await _async_batch(base, calls), second))
            else:
                first = await _async_batch(base, calls)
                row.pairs.append((first, await _async_batch(ours, calls)))
        say(f"asyncio: round {number + 1}/{rounds}")
    for client in (one, other, *clients.values()):
        await client.aclose()
    return [plan[0] for plan in plans]
