"""One process of a service, as a program: calls through the drop-in clients, by the clock, each with its times kept.

    python -m keyferry.testing.service_process '{"source": URL, "target": URL, "migration": NAME, "number": 0, ...}'

It prints ``ready``, works from a line on standard input to the next one, prints ``stopped`` when the times of its
calls are written, and then counts its ledger on the server that it is given, one line of JSON for each line ``audit
URL``. It ends with its standard input. Clients are made without retries: what fails is seen.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

import keyferry
import keyferry.asyncio
from keyferry.capture.clients.errors import HoldTimeoutError
from keyferry.model.address import parse_endpoint
from keyferry.testing.ledger import audit
from keyferry.testing.service import Call, Outcome, Worker
from keyferry.testing.service_board import FAILED, READS, STALE, UNKNOWN, WRITES, Board
from keyferry.testing.service_job import Job
from keyferry.testing.workload_ops import Command
from keyferry.wire.resp import Reply, ReplyError
from keyferry.wire.session import Session

FIRST_ERRORS_MAX = 5
AUDIT_TIMEOUT_S = 60.0


class Client(Protocol):
    """Sends what belongs together; a failed command's reply is a ``redis.ResponseError``."""

    def send(self, commands: Sequence[Command]) -> list[Any]: ...

    def close(self) -> None: ...


Connect = Callable[[Job, Board], Client]


class Counting:
    """Keeps what became of each call."""

    def __init__(self, job: Job, board: Board) -> None:
        self._number, self._board = job.number, board
        self._times = array("q")
        self.first_errors: list[str] = []

    def note(self, call: Call, begun_ns: int, came: list[Any] | redis.RedisError) -> None:
        """To be called as soon as the replies or the error are there."""
        ended_ns = time.monotonic_ns()
        outcome = self._outcome(call, came)
        self._times.extend((begun_ns, ended_ns, call.kind + 8 * outcome))

    def save(self, file: Path) -> None:
        with file.open("wb") as opened:
            self._times.tofile(opened)

    def _outcome(self, call: Call, came: list[Any] | redis.RedisError) -> Outcome:
        if isinstance(came, redis.RedisError):
            self._keep(came)
            failed = isinstance(came, (HoldTimeoutError, redis.ResponseError))
            self._board.add(self._number, FAILED if failed else UNKNOWN, 1)
            call.unknown()
            return Outcome.FAILED if failed else Outcome.UNKNOWN
        refused = [reply for reply in came if isinstance(reply, redis.RedisError)]
        if refused:
            self._keep(refused[0])
            self._board.add(self._number, FAILED, len(refused))
        well = call.note([_plain(reply) for reply in came])
        if not well:
            self._board.add(self._number, STALE, 1)
        if call.writes:
            self._board.add(self._number, WRITES, call.writes - len(refused))
        else:
            self._board.add(self._number, READS, 1)
        return Outcome.DONE if well else Outcome.STALE

    def _keep(self, error: Exception) -> None:
        if len(self.first_errors) < FIRST_ERRORS_MAX:
            self.first_errors.append(f"{type(error).__name__}: {error}")


class DropIn:
    """``keyferry.Redis``, following the migration's record."""

    def __init__(self, job: Job, board: Board) -> None:
        self._client = keyferry.Redis.from_urls(
            job.source, job.target, migration=job.migration, retry=Retry(NoBackoff(), 0), **job.settings
        )

    def send(self, commands: Sequence[Command]) -> list[Any]:
        if len(commands) == 1:
            return [self._client.execute_command(*commands[0])]
        with self._client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            return list(pipeline.execute(raise_on_error=False))

    def close(self) -> None:
        self._client.close()


def main(text: str, connect: Connect = DropIn) -> None:
    """The program. Its standard input is read by a thread of its own, so that a stop is heard at once."""
    job = Job.of_json(text)
    with Board(job.board_file) as board:
        worker = Worker(job.number, job.workers, job.habits, board, job.seed)
        counting = Counting(job, board)
        stop = threading.Event()
        if job.kind == "asyncio":
            asyncio.run(_run_async(job, worker, counting, stop))
        else:
            _run(job, connect(job, board), worker, counting, stop)
        counting.save(job.calls_file)
        print("stopped", flush=True)
    for line in sys.stdin:
        print(json.dumps(_audit(line.split()[-1], worker, counting)), flush=True)


def _run(job: Job, client: Client, worker: Worker, counting: Counting, stop: threading.Event) -> None:
    def send(call: Call) -> None:
        begun_ns = time.monotonic_ns()
        try:
            came: list[Any] | redis.RedisError = client.send(call.commands)
        except redis.RedisError as error:
            came = error
        counting.note(call, begun_ns, came)

    client.send(_FIRST)
    _begin(stop)
    due_s = time.monotonic() + job.number / job.workers / job.habits.ticks_per_s
    while not stop.wait(max(0.0, due_s - time.monotonic())):
        for call in worker.tick():
            send(call)
        due_s = max(due_s + 1 / job.habits.ticks_per_s, time.monotonic())
    for call in worker.last():
        send(call)
    client.close()


async def _run_async(job: Job, worker: Worker, counting: Counting, stop: threading.Event) -> None:
    client = keyferry.asyncio.Redis.from_urls(
        job.source, job.target, migration=job.migration, retry=AsyncRetry(NoBackoff(), 0), **job.settings
    )

    async def send(call: Call) -> None:
        begun_ns = time.monotonic_ns()
        try:
            came: list[Any] | redis.RedisError = await _send_async(client, call.commands)
        except redis.RedisError as error:
            came = error
        counting.note(call, begun_ns, came)

    await _send_async(client, _FIRST)
    await asyncio.to_thread(_begin, stop)
    due_s = time.monotonic() + job.number / job.workers / job.habits.ticks_per_s
    while not stop.is_set():
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        for call in worker.tick():
            await send(call)
        due_s = max(due_s + 1 / job.habits.ticks_per_s, time.monotonic())
    for call in worker.last():
        await send(call)
    await client.aclose()


async def _send_async(client: Any, commands: Sequence[Command]) -> list[Any]:
    if len(commands) == 1:
        return [await client.execute_command(*commands[0])]
    async with client.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)
        return list(await pipeline.execute(raise_on_error=False))


def _begin(stop: threading.Event) -> None:
    """Says that we are ready, waits for the word, and listens for the next one."""
    print("ready", flush=True)
    sys.stdin.readline()

    def listen() -> None:
        sys.stdin.readline()
        stop.set()

    threading.Thread(target=listen, name="listen", daemon=True).start()


def _audit(url: str, worker: Worker, counting: Counting) -> dict[str, Any]:
    with Session(parse_endpoint(url), "target", timeout_s=AUDIT_TIMEOUT_S) as session:
        found = audit(session, [worker.ledger])
    doubtful = sum(1 for account in worker.ledger.accounts.values() if account.doubtful)
    return {**asdict(found), "doubtful": doubtful, "first_errors": counting.first_errors}


def _plain(reply: Any) -> Reply:
    """A command's own error as the ledger knows it."""
    return ReplyError(str(reply)) if isinstance(reply, redis.RedisError) else reply


_FIRST: Sequence[Command] = [("GET", b"beacon:0")]
"""Connects, registers, and shows that there is a record, before anybody counts on us."""


if __name__ == "__main__":
    main(sys.argv[1])
