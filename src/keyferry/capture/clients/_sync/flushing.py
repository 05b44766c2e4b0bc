# Written by `make generate` from _async/flushing.py: change that one.
"""FLUSHDB and FLUSHALL while a migration's record stands on the server: everything goes but the record.

    WATCH record, writers -> read them -> MULTI, flush, write them back, "everything" into the ledger, EXEC

Whoever renews a lease or takes a step in between makes EXEC answer nil, and it is tried again. The mirror side, whose own
record must stay as well, is not flushed by a second leg: "everything" leads whoever settles to compare all, and what
the authority no longer has is deleted there. SWAPDB would carry the record away, and in a pipeline there is no place to read
it: these are refused.
"""

from __future__ import annotations

from typing import Any

from redis.client import NEVER_DECODE
from redis.exceptions import WatchError

from keyferry.capture.clients._sync.ends import End
from keyferry.capture.clients._sync.platform import BaseRedis
from keyferry.capture.clients.errors import RefusedError
from keyferry.capture.ledger_format import ledger_keys
from keyferry.model.record import record_key, writers_key

TRIES = 20
_RAW: dict[str, Any] = {NEVER_DECODE: []}  # also for a client that decodes: keys stand in the ledger
TAKES_THE_RECORD = frozenset({"FLUSHDB", "FLUSHALL", "SWAPDB"})
"""Commands that would take the record with them."""


def refuse(name: str, why: str) -> RefusedError:
    """The error for one of them that cannot be done while a migration's record stands."""
    return RefusedError(
        f"{name} {why} while the application follows a migration's record, which it would take away"
    )


def flush(end: End, migration: str, args: tuple[Any, ...]) -> Any:
    """Flushes a side and keeps the record; gives what redis-py gives for it.

    Args:
        end: the side with authority.
        migration: whose record.
        args: FLUSHDB or FLUSHALL, with its options.

    Raises:
        RefusedError: it cannot be done there.
        redis.exceptions.RedisError: as redis-py itself.
    """
    if end.pool is None:
        raise refuse(str(args[0]), "is not done on a cluster")
    record, writers, ledger = record_key(migration), writers_key(migration), ledger_keys(migration)
    client = BaseRedis(connection_pool=end.pool)
    for _ in range(TRIES):
        pipe = client.pipeline(transaction=True)
        try:
            pipe.watch(record, writers, ledger.open, ledger.modes)
            kept: dict[bytes, Any] = {}
            for key in (record, writers, ledger.open):
                kept[key] = pipe.execute_command("HGETALL", key, **_RAW)
            modes = pipe.execute_command("SMEMBERS", ledger.modes, **_RAW)
            pipe.multi()
            pipe.execute_command(*args)
            for key, fields in kept.items():
                if fields:
                    pipe.hset(key, mapping=fields)
            if modes:
                pipe.sadd(ledger.modes, *modes)
            pipe.set(ledger.full, 1)
            return (pipe.execute())[0]
        except WatchError:
            continue
        finally:
            pipe.reset()
    raise refuse(str(args[0]), "did not get through: the record changed all the time")
