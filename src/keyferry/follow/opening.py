"""Small things that are done whenever the servers are met."""

from __future__ import annotations

from keyferry.capture.counters import Counters, movement
from keyferry.copy.connect import Sides, node_and_run
from keyferry.copy.house import open_probes
from keyferry.model.errors import ServerAway
from keyferry.wire.session import Session


def check_processes(sides: Sides, flushes: dict[str, Counters]) -> None:
    """Between the look at the servers and the last connection to them one may have been started anew, empty.

    Args: flushes: Gets the counters of the target's primaries that are met for the first time.

    Raises:
        ServerAway: One was.
    """
    for shard in sides.source.shards:
        with sides.session("source", shard=shard.id) as session:
            run_id = node_and_run(session)[1]
        if run_id != sides.source_run_ids.get(shard.id):
            raise ServerAway("source", "The source was started anew.")
    for shard in sides.target.shards:
        with sides.session("target", shard=shard.id) as session:
            run_id = node_and_run(session)[1]
            flushes.setdefault(shard.id, counters_of(session))
        if run_id != sides.target_run_ids.get(shard.id):
            raise ServerAway("target", "The target was started anew.")


def counters_of(session: Session) -> Counters:
    """How often each command was called. Raises ConnectionLost."""
    info = session.call("INFO", "commandstats")
    return Counters.of(info) if isinstance(info, bytes) else Counters()


def was_flushed(sides: Sides, flushes: dict[str, Counters]) -> bool:
    """Whether somebody has emptied the target during the first copy, when its feed is not heard yet."""
    for shard in sides.target.shards:
        with sides.session("target", shard=shard.id) as session:
            moved = movement(flushes.get(shard.id, Counters()), counters_of(session))
        if moved.flushed or moved.swapped:
            return True
    return False


__all__ = ["check_processes", "counters_of", "open_probes", "was_flushed"]
