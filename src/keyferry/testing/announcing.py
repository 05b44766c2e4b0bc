"""Clusters whose nodes announce addresses that are not where they listen, as behind NAT, in containers, or
behind a fault proxy each.

Only what clients are told changes: ports of clients, and names instead of addresses. The nodes' own bus keeps
address and port, for a node that cannot be reached by the others has left the cluster. (That is why no foreign
IP address can be announced: the bus would dial it, too.) Replicas find their primary by the announced port, so
it is for clusters without replicas, or where something forwards it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from keyferry.model.errors import KeyferryError
from keyferry.model.identity import Family
from keyferry.testing.cluster import Cluster
from keyferry.testing.proxy import FaultProxy
from keyferry.testing.servers import HOST


def announce_ports(cluster: Cluster, ports: Sequence[int]) -> None:
    """Node ``i`` tells clients and other nodes that it listens on ``ports[i]``; 0 is the truth again.

    Returns when all nodes tell so of each other; takes two seconds before Redis 7.0, else a few pings.

    Raises:
        KeyferryError: The nodes refuse it, or do not pass it on in time.
    """
    with cluster.agreeing():
        for node, port in zip(cluster.nodes, ports, strict=True):
            cluster.configure("cluster-announce-port", port, only=node)
            node.configure("cluster-announce-port", str(port))
        if _is_before_7(cluster):
            # It tells the others at once, but its own clients only what it knew at its start.
            cluster.restart(*range(len(ports)), keep_data=True)
        wanted = {
            cluster.node_id(i): f"{HOST}:{port or node.port}"
            for i, (node, port) in enumerate(zip(cluster.nodes, ports, strict=True))
        }
        cluster.wait_for_views(lambda view: {node.node_id: node.address for node in view} == wanted)


def announce_names(cluster: Cluster, names: Sequence[str]) -> None:
    """Node ``i`` is ``names[i]`` in CLUSTER SLOTS, CLUSTER SHARDS and redirections, instead of its address.

    Raises:
        KeyferryError: The server is older than 7.0 and has no names, or as ``announce_ports``.
    """
    if _is_before_7(cluster):
        raise KeyferryError(f"{cluster.binary} cannot announce names.")
    with cluster.agreeing():
        cluster.configure("cluster-preferred-endpoint-type", "hostname")
        for node, name in zip(cluster.nodes, names, strict=True):
            cluster.configure("cluster-announce-hostname", name, only=node)
        wanted = {cluster.node_id(i): name for i, name in enumerate(names)}
        cluster.wait_for_views(lambda view: {node.node_id: node.hostname for node in view} == wanted)


@contextlib.contextmanager
def behind_proxies(cluster: Cluster) -> Iterator[list[FaultProxy]]:
    """A fault proxy before each node, in the order of ``nodes``, which announces it until the block ends."""
    with contextlib.ExitStack() as stack:
        proxies = [stack.enter_context(FaultProxy(HOST, node.port)) for node in cluster.nodes]
        announce_ports(cluster, [proxy.port for proxy in proxies])
        try:
            yield proxies
        finally:
            announce_ports(cluster, [0] * len(proxies))


def _is_before_7(cluster: Cluster) -> bool:
    return cluster.binary.family is Family.REDIS and cluster.binary.version < (7, 0, 0)
