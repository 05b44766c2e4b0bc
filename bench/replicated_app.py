"""A process of a service that is switched by a script: redis-py on one server, on the other when the script says so.

As good as such an application can be: it hears of the switch without a round trip, from memory that it shares with
the script, and a write that the old server refuses because it has become a replica is repeated on the new one.
``python -m bench.replicated_app JOB``, as ``keyferry.testing.service_process``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from keyferry.testing.service_board import Board
from keyferry.testing.service_job import Job
from keyferry.testing.service_process import main
from keyferry.testing.workload_ops import Command

ATTEMPTS_MAX = 1_000
"""Of one call; each is a round trip, made only after a refusal."""


class Switched:
    """Two redis-py clients, of which the board's lead says which one is meant: 0 the source, 1 the target."""

    def __init__(self, job: Job, board: Board) -> None:
        self._board = board
        urls = (job.source, job.target)
        self._clients = [redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0)) for url in urls]
        for client in self._clients:
            client.ping()

    def send(self, commands: Sequence[Command]) -> list[Any]:
        replies: list[Any] = []
        for _ in range(ATTEMPTS_MAX):
            left = commands[len(replies) :]
            came = self._send(self._clients[self._board.lead], left)
            refused = next((at for at, one in enumerate(came) if _is_refused(one)), len(came))
            replies += came[:refused]
            if len(replies) == len(commands):
                break
        return replies

    def close(self) -> None:
        for client in self._clients:
            client.close()

    @staticmethod
    def _send(client: redis.Redis, commands: Sequence[Command]) -> list[Any]:
        with client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            return list(pipeline.execute(raise_on_error=False))


def _is_refused(reply: object) -> bool:
    """By a replica; nothing was done."""
    return isinstance(reply, redis.exceptions.ReadOnlyError)


if __name__ == "__main__":
    main(sys.argv[1], Switched)
