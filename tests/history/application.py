"""An application in a process of its own: it draws operations, records them, and runs them without retries.

    python -m tests.history.application PLAN

It begins with the dice of its plan (a JSON object, see ``Plan``), and ends when its time is over or at SIGTERM, after
the operations that are under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from keyferry.capture.clients import clock

from .drawing import Drawer
from .events import Op, Outcome, Recorder

Form = Literal["threads", "tasks", "plain"]
LATE_S = 10.0
"""How long a call may take at most beyond what the gate allows; after that a process is killed by who waits."""
PLAIN_LOOKS_S = 0.003
SOCKET_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Plan:
    """One process.

    Attributes:
        form: ``threads`` and ``tasks`` are our clients, ``plain`` is redis-py's own, which knows one server at a time:
            the one that the file ``place`` names.
        urls: Of both sides.
        rate: Operations a second of the process.
        clock_rate: Seconds of the lease's clock per second, ``clock_ahead_s`` what it begins with.
    """

    worker: int
    workers: int
    form: Form
    urls: dict[str, str]
    migration: str
    path: str
    seconds: float
    threads: int = 2
    rate: float = 200.0
    seed: int = 1
    place: str = ""
    without: tuple[str, ...] = ()
    clock_rate: float = 1.0
    clock_ahead_s: float = 0.0
    settings: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> str:
        return json.dumps(asdict(self))


def outcome_of(error: BaseException) -> Outcome:
    """Unknown unless the server, or the client before it sent anything, said no."""
    name = type(error).__name__
    if name == "HoldTimeoutError" or isinstance(error, redis.WatchError):
        return Outcome.FAILED
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return Outcome.UNKNOWN
    if isinstance(error, redis.ResponseError):
        return Outcome.FAILED
    return Outcome.UNKNOWN


def flat(reply: Any) -> list[str]:
    """Everything that is in a reply, as texts; nothing for nil."""
    if reply is None:
        return []
    if isinstance(reply, bytes):
        return [reply.decode("latin-1")]
    if isinstance(reply, dict):
        return [text for pair in reply.items() for part in pair for text in flat(part)]
    if isinstance(reply, list | tuple | set | frozenset):
        return [text for part in reply for text in flat(part)]
    if isinstance(reply, bool):
        return ["1" if reply else "0"]
    if isinstance(reply, float) and reply.is_integer():
        return [str(int(reply))]
    return [str(reply)]


def no_retries(kind: type[Any], url: str) -> dict[str, Any]:
    """Of a client; that of a cluster, made of a URL, takes none: what it sends again after a lost reply may count twice."""
    if url.startswith("redis+cluster"):
        return {}
    return {"retry": kind(NoBackoff(), 0), "socket_timeout": SOCKET_TIMEOUT_S}


class Stop:
    """When to end."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds
        self._asked = False
        signal.signal(signal.SIGTERM, lambda *_: self._ask())

    def _ask(self) -> None:
        self._asked = True

    def __bool__(self) -> bool:
        return self._asked or time.monotonic() >= self._at


class Pace:
    """How long one of several threads rests between two operations."""

    def __init__(self, plan: Plan, number: int) -> None:
        self._pause_s = plan.threads / plan.rate
        self._rng = random.Random(f"pace {plan.seed} {plan.worker} {number}")

    def rest_s(self) -> float:
        return self._pause_s * self._rng.uniform(0.3, 1.7)


class Thread(threading.Thread):
    """One of an application's threads, with our client or a plain one."""

    def __init__(self, plan: Plan, number: int, client: Any, recorder: Recorder, stop: Stop) -> None:
        super().__init__(daemon=True)
        self._drawer = Drawer(plan.worker, number, plan.workers, plan.seed, plan.without)
        self._pace = Pace(plan, number)
        self._client, self._recorder, self._stop_when = client, recorder, stop

    def run(self) -> None:
        while not self._stop_when:
            op = self._drawer.next()
            number = self._recorder.begin(op)
            outcome, reply, error = self._attempt(op)
            self._recorder.end(number, outcome, reply, error)
            self._drawer.learn(op, outcome, reply)
            time.sleep(self._pace.rest_s())

    def _attempt(self, op: Op) -> tuple[Outcome, list[str], str]:
        try:
            return Outcome.DONE, flat(self._carry_out(op)), ""
        except (redis.RedisError, OSError) as error:
            return outcome_of(error), [], f"{type(error).__name__}: {error}"

    def _carry_out(self, op: Op) -> Any:
        if op.commands[0][0] == "CAS":
            return _raised_in_threads(self._client, op.commands[0][1])
        if len(op.commands) == 1:
            return self._client.execute_command(*op.commands[0])
        with self._client.pipeline(transaction=True) as pipe:
            for words in op.commands:
                pipe.execute_command(*words)
            return pipe.execute()


def _raised_in_threads(client: Any, key: str) -> int:
    """Reads and sets under WATCH, once; a WatchError is a no."""
    with client.pipeline() as pipe:
        pipe.watch(key)
        value = int(pipe.get(key) or 0) + 1
        pipe.multi()
        pipe.set(key, value)
        pipe.execute()
        return value


async def _raised_in_tasks(client: Any, key: str) -> int:
    async with client.pipeline() as pipe:
        await pipe.watch(key)
        value = int(await pipe.get(key) or 0) + 1
        pipe.multi()
        pipe.set(key, value)
        await pipe.execute()
        return value


class PlainClient:
    """redis-py's own client for the server that a file names, as a service that a hook reconfigures.

    Args:
        place: A file that holds ``source`` or ``target``.
    """

    def __init__(self, urls: dict[str, str], place: Path) -> None:
        self._clients = {
            side: redis.Redis.from_url(url, **no_retries(Retry, url)) for side, url in urls.items()
        }
        self._place = place

    def execute_command(self, *words: str) -> Any:
        return self._refused_again(lambda client: client.execute_command(*words))

    def pipeline(self, transaction: bool = True) -> Any:
        return self._clients[self._side()].pipeline(transaction=transaction)

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def _refused_again(self, does: Any) -> Any:
        """Again while it is refused for want of rights: nothing was done then, and they come back, or the place moves."""
        deadline = time.monotonic() + LATE_S
        while True:
            try:
                return does(self._clients[self._side()])
            except (redis.exceptions.NoPermissionError, redis.exceptions.ReadOnlyError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(PLAIN_LOOKS_S)

    def _side(self) -> str:
        return self._place.read_text().strip() or "source"


def _with_threads(plan: Plan, recorder: Recorder, stop: Stop) -> None:
    import keyferry

    client: Any
    if plan.form == "plain":
        client = PlainClient(plan.urls, Path(plan.place))
    else:
        client = keyferry.Redis.from_urls(
            plan.urls["source"],
            plan.urls["target"],
            migration=plan.migration,
            **no_retries(Retry, plan.urls["source"]),
            **plan.settings,
        )
    threads = [Thread(plan, number, client, recorder, stop) for number in range(plan.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.close()


async def _with_tasks(plan: Plan, recorder: Recorder, stop: Stop) -> None:
    from keyferry.asyncio import Redis as AsyncRedis

    client = AsyncRedis.from_urls(
        plan.urls["source"],
        plan.urls["target"],
        migration=plan.migration,
        **no_retries(AsyncRetry, plan.urls["source"]),
        **plan.settings,
    )
    await asyncio.gather(*(_task(plan, number, client, recorder, stop) for number in range(plan.threads)))
    await client.aclose()


async def _task(plan: Plan, thread: int, client: Any, recorder: Recorder, stop: Stop) -> None:
    drawer, pace = Drawer(plan.worker, thread, plan.workers, plan.seed, plan.without), Pace(plan, thread)
    while not stop:
        op = drawer.next()
        number = recorder.begin(op)
        outcome, reply, said = Outcome.DONE, [], ""
        try:
            reply = flat(await _carried_out(client, op))
        except (redis.RedisError, OSError) as error:
            outcome, said = outcome_of(error), f"{type(error).__name__}: {error}"
        recorder.end(number, outcome, reply, said)
        drawer.learn(op, outcome, reply)
        await asyncio.sleep(pace.rest_s())


async def _carried_out(client: Any, op: Op) -> Any:
    if op.commands[0][0] == "CAS":
        return await _raised_in_tasks(client, op.commands[0][1])
    if len(op.commands) == 1:
        return await client.execute_command(*op.commands[0])
    async with client.pipeline(transaction=True) as pipe:
        for words in op.commands:
            pipe.execute_command(*words)
        return await pipe.execute()


def _skew(plan: Plan) -> None:
    """Before the clients are imported: leases then go by a clock that is fast or slow, and stands elsewhere."""
    real, began = clock.now_s, clock.now_s()
    if plan.clock_rate != 1.0 or plan.clock_ahead_s:
        clock.now_s = lambda: began + plan.clock_ahead_s + (real() - began) * plan.clock_rate


def main(arguments: Iterable[str]) -> None:
    given = json.loads(next(iter(arguments)))
    plan = Plan(**given | {"without": tuple(given["without"])})
    _skew(plan)
    stop = Stop(plan.seconds)
    recorder = Recorder(Path(plan.path))
    if plan.form == "tasks":
        asyncio.run(_with_tasks(plan, recorder, stop))
    else:
        _with_threads(plan, recorder, stop)
    # The interpreter's end takes handlers away: being asked to end is then no other end.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(sys.argv[1:])
