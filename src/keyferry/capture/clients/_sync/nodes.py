# Written by `make generate` from _async/nodes.py: change that one.
"""Second legs to a cluster: each command to the node that has its keys, one packet per node.

The application's cluster client knows the map; connections, time-outs and registration are our own. A command that is
sent elsewhere (MOVED, ASK) has not been carried out: its keys are reported, and the map is read again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from redis.exceptions import AskError, ClusterDownError, RedisClusterException, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError

from keyferry.capture.clients._sync.ends import close_pool, mirror_node_pool
from keyferry.capture.clients._sync.platform import ConnectionPool

Exchange = Callable[[ConnectionPool, Sequence[Sequence[Any]]], Any]
_ELSEWHERE = (AskError, ClusterDownError, TryAgainError)  # MovedError is an AskError


class Nodes:
    """The nodes of a cluster as second legs reach them.

    Args:
        cluster: the application's client, or one made from its URL.
        timeout_seconds: for connecting and for a reply.
        on_connect: made for a node's name ("host:port"): called with each new connection to it.
    """

    def __init__(
        self, cluster: Any, timeout_seconds: float, on_connect: Callable[[str], Callable[[Any], Any] | None]
    ) -> None:
        self._cluster = cluster
        self._timeout_seconds = timeout_seconds
        self._on_connect = on_connect
        self._pools: dict[str, ConnectionPool] = {}
        self._stale = True

    def send(
        self, commands: Sequence[Sequence[Any]], keys: Sequence[Sequence[bytes]], exchange: Exchange
    ) -> list[Any]:
        """Sends commands in their order, as far as they go to one node; one without keys to every primary.

        Returns:
            A reply, or an error of the server, for each.

        Raises:
            RedisConnectionError: a node is away, or the map does not say whose a slot is.
        """
        try:
            if self._stale:
                self._read_map()
            parts: dict[str, list[int]] = {}
            for index, its in enumerate(keys):
                nodes = [self._cluster.get_node_from_key(its[0])] if its else self._cluster.get_primaries()
                for node in nodes:
                    if node is None:
                        raise RedisClusterException("a slot has no node")
                    name = f"{node.host}:{node.port}"
                    if name not in self._pools:
                        self._pools[name] = mirror_node_pool(
                            self._cluster, node, self._timeout_seconds, self._on_connect(name)
                        )
                    parts.setdefault(name, []).append(index)
        except RedisClusterException as error:
            self._stale = True
            raise RedisConnectionError(f"the cluster's map does not tell: {error}") from error
        replies: list[Any] = [None] * len(commands)
        for name, indexes in parts.items():
            said = exchange(self._pools[name], [commands[index] for index in indexes])
            for index, reply in zip(indexes, said, strict=True):
                if not isinstance(replies[index], Exception):
                    replies[index] = reply
        if any(isinstance(reply, _ELSEWHERE) for reply in replies):
            self._stale = True
        return replies

    def _read_map(self) -> None:
        self._cluster.nodes_manager.initialize()
        self._stale = False

    def close(self) -> None:
        """Closes all connections."""
        for pool in self._pools.values():
            close_pool(pool)
