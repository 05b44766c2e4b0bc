"""What operations will need on the side that may gain authority, made ready before anybody waits for it.

To dial takes a client library milliseconds of its own; with twenty processes that do it in the same moment, the first
writes after a switch would wait for it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisClusterException, RedisError

from keyferry.capture.clients._async.ends import get_connection
from keyferry.model.phases import Side

if TYPE_CHECKING:
    from keyferry.capture.clients._async.crossing import Crossing

log = logging.getLogger("keyferry.clients")

CONNECTIONS_MAX = 64
"""Dialled ahead per process; a process that needs more dials the rest when it needs them."""
_KEEPS = ("_available_connections", "_in_use_connections", "_connections")
"""Where redis-py's pools keep theirs: the first two, or with threads the last one in a pool that blocks."""


async def prepare(crossing: Crossing, side: Side) -> None:
    """Dials as many connections to a side as its operations use on the other one now.

    What cannot be done is left to be done when it is needed. Where second legs go to that side now, they go to the
    other one then: connections for them are dialled and registered as well, and used by nobody before.
    """
    gaining, home = crossing.ends[side], crossing.ends[side.other]
    try:
        if crossing.state.mirror is side:
            await crossing.mirrors[side.other].dial()
        if gaining.pool is None:
            if hasattr(gaining.cluster, "initialize"):
                await gaining.cluster.initialize()
            return
        await _fill(gaining.pool, 1 if home.pool is None else _count(home.pool))
    except (RedisError, RedisClusterException, OSError) as error:
        log.debug("the %s is not ready yet: %s", side, error, extra=crossing.facts(side=str(side)))


async def _fill(pool: Any, count: int) -> None:
    taken: list[Any] = []
    try:
        while len(taken) < min(count, CONNECTIONS_MAX):
            taken.append(await get_connection(pool))
    finally:
        for connection in taken:
            await pool.release(connection)


def _count(pool: Any) -> int:
    """How many connections a pool has; 1 for a stand-in that does not say."""
    known = (getattr(pool, name, ()) for name in _KEEPS)
    counts = [len(its) for its in known if isinstance(its, (list, set, tuple))]
    return max(1, sum(counts))
