"""In one process writes to a key reach both servers in one order: as MONITOR of either shows, and by what is there at the end."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from attack_settling import client_of, differences, reported, settle
from attack_writer import drawn

import keyferry
import keyferry.asyncio
from keyferry.model.commands import keys_of, look_up
from keyferry.testing.servers import Server

Pair = tuple[Server, Server]
WRITES = {"set", "rpush", "mset"}
LAST = b"the-end"
COUNT = 60


@pytest.fixture
def pair(flushed: Callable[..., Server]) -> Pair:
    return flushed("redis-7.0"), flushed("redis-7.0", 1)


class Monitor(threading.Thread):
    """What a server was told about each key, in its order."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self._client = client_of(server)
        self._monitor = self._client.monitor()
        self._monitor.__enter__()
        self.said: dict[str, list[str]] = defaultdict(list)

    def run(self) -> None:
        for command in self._monitor.listen():
            name, *words = command["command"].split()
            if words and words[0] == LAST.decode():
                break
            if name.lower() == "mset":
                for key, value in zip(words[::2], words[1::2], strict=True):
                    self.said[key].append(value)
            elif name.lower() in WRITES:
                self.said[words[0]].append(words[1])
        self._monitor.__exit__(None, None, None)
        self._client.close()


@contextmanager
def listening(pair: Pair) -> Iterator[list[Monitor]]:
    monitors = [Monitor(server) for server in pair]
    for monitor in monitors:
        monitor.start()
    yield monitors
    for server in pair:
        with client_of(server) as client:
            client.get(LAST)
    for monitor in monitors:
        monitor.join(10.0)
        assert not monitor.is_alive()


def written(number: int, turn: int) -> tuple[str, ...]:
    """One write; its value is nobody else's."""
    rng = random.Random(f"{number} {turn}")
    value, (one, other) = f"{number}.{turn}", rng.sample(["a", "b", "c"], 2)
    return rng.choice(
        [("SET", one, value), ("RPUSH", f"list-{one}", value), ("MSET", one, value, other, value)]
    )


def by_threads(client: Any, count: int) -> list[threading.Thread]:
    def write(number: int) -> None:
        for turn in range(COUNT):
            if turn % 5 == 4:
                pipe = client.pipeline(transaction=turn % 2 == 0)
                pipe.execute_command(*written(number, turn)).execute_command(
                    *written(number, turn + 1_000)
                ).execute()
            else:
                client.execute_command(*written(number, turn))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    return threads


async def by_tasks(client: Any, count: int) -> None:
    async def write(number: int) -> None:
        for turn in range(COUNT):
            if turn % 5 == 4:
                pipe = client.pipeline(transaction=turn % 2 == 0)
                pipe.execute_command(*written(number, turn)).execute_command(*written(number, turn + 1_000))
                await pipe.execute()
            else:
                await client.execute_command(*written(number, turn))

    await asyncio.gather(*(write(100 + number) for number in range(count)))


def settings(mirror: str, phase: str) -> dict[str, Any]:
    return {"phase": phase, "mirror": mirror, "target_timeout_ms": 20_000}


def judge(pair: Pair, monitors: list[Monitor]) -> None:
    source, target = (monitor.said for monitor in monitors)
    assert len(source) == 6
    for key, values in source.items():
        assert target[key] == values, key
    assert not differences(*pair)
    assert reported(pair[0], "default") == set(), "it was the order, not the settling"


@pytest.mark.parametrize("phase", ["dual", "target-dual"])
@pytest.mark.parametrize("mirror", ["inline", "background"])
def test_threads_write_in_one_order(mirror: str, phase: str, pair: Pair) -> None:
    with listening(pair) as monitors:
        client = keyferry.Redis.from_urls(pair[0].url, pair[1].url, **settings(mirror, phase))
        for thread in by_threads(client, 8):
            thread.join()
        client.close()
    judge(pair, monitors)


@pytest.mark.parametrize("mirror", ["inline", "background"])
def test_tasks_write_in_one_order(mirror: str, pair: Pair) -> None:
    async def run() -> None:
        client = keyferry.asyncio.Redis.from_urls(pair[0].url, pair[1].url, **settings(mirror, "dual"))
        await by_tasks(client, 8)
        await client.aclose()

    with listening(pair) as monitors:
        asyncio.run(run())
    judge(pair, monitors)


def test_threads_and_an_event_loop_beside_them_write_in_one_order(pair: Pair) -> None:
    async def run() -> None:
        client = keyferry.asyncio.Redis.from_urls(pair[0].url, pair[1].url, **settings("inline", "dual"))
        await by_tasks(client, 4)
        await client.aclose()

    with listening(pair) as monitors:
        client = keyferry.Redis.from_urls(pair[0].url, pair[1].url, **settings("inline", "dual"))
        threads = by_threads(client, 4)
        asyncio.run(run())
        for thread in threads:
            thread.join()
        client.close()
    judge(pair, monitors)


def of_one_key(command: Sequence[Any]) -> bool:
    info = look_up(tuple(command))
    return info is not None and len(keys_of(info, tuple(command))) <= 1


@pytest.mark.parametrize("mirror", ["inline", "background"])
def test_whatever_threads_do_at_once_both_sides_are_equal_after_what_they_report(
    mirror: str, pair: Pair
) -> None:
    """Commands of one key, on few keys; nobody follows the servers, so the order and the reports have to be enough.

    RENAME and its like carry what is reported and not yet settled to another key, which only a follower sees.
    """
    client = keyferry.Redis.from_urls(pair[0].url, pair[1].url, **settings(mirror, "dual"))

    def write(number: int) -> None:
        rng = random.Random(number)
        for _ in range(150):
            try:
                if rng.random() < 0.2:
                    pipe = client.pipeline(transaction=rng.random() < 0.5)
                    for _ in range(3):
                        command = drawn(rng)
                        if command[-1] != "0.05" and of_one_key(command):
                            pipe.execute_command(*command)
                    pipe.execute(raise_on_error=False)
                else:
                    command = drawn(rng)
                    if of_one_key(command):
                        client.execute_command(*command)
            except redis.ResponseError:
                pass

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.close()
    settle(*pair, "default")
    assert not differences(*pair)
