"""A server or a cluster with a fault proxy before each of its nodes: the way by which a tool under test comes."""

from __future__ import annotations

import contextlib
from types import TracebackType

from keyferry.model.errors import Side
from keyferry.testing.cluster import Cluster
from keyferry.testing.deployment import Deployment
from keyferry.testing.proxy_process import ProxyProcess
from keyferry.testing.servers import HOST


class ProxiedSide:
    """The proxies live as long as the block.

    Attributes:
        proxies: One for each node, in the order of ``deployment.nodes``.
    """

    def __init__(self, side: Side, deployment: Deployment) -> None:
        self.side: Side = side
        self.deployment = deployment
        self.proxies: list[ProxyProcess] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> ProxiedSide:
        for node in self.deployment.nodes:
            self.proxies.append(self._stack.enter_context(ProxyProcess(HOST, node.port)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def clustered(self) -> bool:
        return isinstance(self.deployment, Cluster)

    @property
    def url(self) -> str:
        """The first node's, by its proxy."""
        return self.proxies[0].url

    @property
    def options(self) -> list[str]:
        """What tells the command line to reach every node by its proxy."""
        if not self.clustered:
            return []
        return [
            word
            for node, proxy in zip(self.deployment.nodes, self.proxies, strict=True)
            for word in (f"--{self.side}-map", f"{HOST}:{node.port}={HOST}:{proxy.port}")
        ]
