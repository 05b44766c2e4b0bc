"""Errors that an application sees from the clients; redis-py's own otherwise.

All are redis-py errors, so that code which is prepared for those is prepared for these.
"""

from __future__ import annotations

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError


class HoldTimeoutError(RedisTimeoutError):
    """The gate of a cutover stayed closed longer than a write may wait. Nothing was written."""


class OutcomeUnknownError(RedisConnectionError):
    """A command was sent and whether it counts is not known, as after a lost connection."""


class RefusedError(RedisError):
    """A command that would break the migration. Nothing was done."""


class MirrorError(RedisError):
    """A second leg failed, and the client was made with on_target_error="raise". The first leg has succeeded."""


class LookAgain(Exception):
    """The phase is another one than when the operation began; never seen by an application.

    Not a redis-py error, so that redis-py does not take it as a reason to send a command again.
    """


class TakenBack(Exception):
    """A blocked command was taken back, or its slice of time is over, and nothing came; never seen by an application.

    Args:
        reply: what it answered, as redis-py shapes it: nothing came.
    """

    def __init__(self, reply: object) -> None:
        super().__init__()
        self.reply = reply
