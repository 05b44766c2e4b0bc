"""What is true of a cluster, from what is true of its primaries: the sum, or the worst. Pure.

Of one server it is what is true of that server.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from keyferry.copy.facts import MemoryFacts, NodeFacts, ReplicationFacts, Right, RightState
from keyferry.copy.info import Keyspace
from keyferry.model.errors import Side
from keyferry.model.identity import ServerIdentity

_SEVERITY: dict[RightState, int] = {"allowed": 0, "unclear": 1, "key": 2, "command": 3, "missing": 4}


def identity(side: Side, nodes: Sequence[NodeFacts]) -> ServerIdentity:
    """Of a source the newest, whose values are the hardest to carry; of a target the oldest, which takes the least."""
    found = [node.identity for node in nodes]
    pick = max if side == "source" else min
    return pick(found, key=lambda one: (one.rdb_version, one.version))


def memory(nodes: Sequence[NodeFacts]) -> MemoryFacts:
    """Sums; ``maxmemory`` is only limited where every node is; the memory of a machine counts once."""
    facts = [node.memory for node in nodes]
    limits = [one.maxmemory for one in facts]
    machines = {node.place.rpartition(":")[0]: node.memory.system for node in nodes}
    evicting = (one.policy for one in facts if one.maxmemory and one.policy != "noeviction")
    return MemoryFacts(
        used=_sum(one.used for one in facts),
        data=_sum(one.data for one in facts),
        maxmemory=_sum(limits) if all(limits) else None if None in limits else 0,
        system=_sum(machines.values()),
        policy=next(evicting, facts[0].policy),
        evicted_keys=_sum(one.evicted_keys for one in facts),
    )


def replication(nodes: Sequence[NodeFacts]) -> ReplicationFacts:
    """Of a node that is no master, if there is one."""
    found = [node.replication for node in nodes]
    return next((one for one in found if one.role != "master"), found[0])


def keyspaces(found: Sequence[dict[int, Keyspace] | None]) -> dict[int, Keyspace] | None:
    """Keys by database, summed; None when one node does not say."""
    total: dict[int, Keyspace] = {}
    for spaces in found:
        if spaces is None:
            return None
        for database, space in spaces.items():
            before = total.get(database, Keyspace(0, 0))
            total[database] = Keyspace(before.keys + space.keys, before.expires + space.expires)
    return total


def calls(found: Sequence[dict[str, int] | None]) -> dict[str, int] | None:
    """Calls by command, summed; None when one node does not say."""
    total: dict[str, int] = {}
    for counts in found:
        if counts is None:
            return None
        for name, count in counts.items():
            total[name] = total.get(name, 0) + count
    return total


def rights(nodes: Sequence[NodeFacts]) -> tuple[Right, ...]:
    """The worst answer to each; with the nodes that gave it, where others gave a better one."""
    worst: dict[str, Right] = {}
    for node in nodes:
        for right in node.rights:
            known = worst.get(right.token)
            if known is None or _SEVERITY[right.state] > _SEVERITY[known.state]:
                worst[right.token] = right
    found = []
    for token, right in worst.items():
        asked = [node for node in nodes if any(one.token == token for one in node.rights)]
        agreeing = [node.place for node in asked if (token, right.state) in _answers(node)]
        found.append(right if len(agreeing) == len(asked) else replace(right, places=tuple(agreeing)))
    return tuple(found)


def _answers(node: NodeFacts) -> set[tuple[str, RightState]]:
    return {(right.token, right.state) for right in node.rights}


def _sum(numbers: Iterable[int | None]) -> int | None:
    found = list(numbers)
    known = [number for number in found if number is not None]
    return sum(known) if len(known) == len(found) else None
