# Written by `make generate` from _async/cluster_leg.py: change that one.
"""A side that is a cluster, asked as if it were one server."""

from __future__ import annotations

from typing import Any

from keyferry.capture.clients._sync.heard import KEY
from keyferry.capture.clients.shaped import Shaped

_NODE_BITS = 16


class ClusterLeg:
    """redis-py's cluster client finds the node; its replies come shaped.

    Args:
        cluster: redis-py's.
    """

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """As the cluster client's own; but SCAN goes from node to node under one cursor, which is a number."""
        operation = options.pop(KEY, None)
        if operation is not None:
            operation.attempt()
            if operation.ahead is not None:
                self._cluster.execute_command(*operation.ahead)
        if args[0] == "SCAN" and "target_nodes" not in options:
            return self._scan(args, options)
        reply = self._cluster.execute_command(*args, **options)
        if operation is not None:
            operation.reply = Shaped(reply)
        return reply

    def _scan(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """A page of one node. The cursor is the node's own, and after it the number of the node."""
        if hasattr(self._cluster, "initialize"):
            self._cluster.initialize()
        nodes = sorted(self._cluster.get_primaries(), key=lambda node: str(node.name))
        cursor, number = divmod(int(args[1]), 1 << _NODE_BITS)
        if number >= len(nodes):
            return 0, []  # there are fewer nodes now than when the iteration began
        cursors, keys = self._cluster.execute_command(
            "SCAN", cursor, *args[2:], **options, target_nodes=nodes[number]
        )
        cursor = next(iter(cursors.values())) if isinstance(cursors, dict) else cursors
        if not cursor:
            number += 1
        done = not cursor and number == len(nodes)
        return (0 if done else (cursor << _NODE_BITS) | number), keys

    def close(self) -> None:
        """Its owner closes it."""
