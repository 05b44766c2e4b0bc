"""Small things that are done whenever the servers are met."""

from __future__ import annotations

import contextlib

from keyferry.capture.counters import Counters, movement
from keyferry.copy.connect import Sides, node_and_run
from keyferry.copy.probe import Probe
from keyferry.model.errors import ServerAway, Side
from keyferry.wire.session import Session

PROBED_AT_ONCE = 8
"""With more servers than this each is asked less often: the probes are not to become the load."""


def open_probes(sides: Sides, *, guarded: bool) -> list[Probe]:
    """One for each server. Raises as ``Sides.session``. Args: guarded: The latency guard looks at them."""
    names: tuple[Side, Side] = ("source", "target")
    servers = [
        (side, shard.id)
        for side in names
        for shard in (sides.source if side == "source" else sides.target).shards
    ]
    every_s = (0.01 if guarded else 0.2) * max(1.0, len(servers) / PROBED_AT_ONCE)
    found: list[Probe] = []
    with contextlib.ExitStack() as stack:
        for side, shard in servers:
            session = sides.session(side, shard=shard)
            stack.callback(session.close)
            asks_nodes = side == "source" and sides.source.cluster
            found.append(Probe(session, every_s, shard=shard, cluster=asks_nodes))
        stack.pop_all()
    return found


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
