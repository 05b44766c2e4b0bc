"""A plain client of a cluster: as ``Session``, but every command goes to the node that has its key's slot.

For filling and comparing, not for speed: one node is asked after the other. Nodes are told apart by their ids,
so it works whatever addresses they announce.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import defaultdict
from types import TracebackType
from typing import TYPE_CHECKING

from keyferry.model.errors import KeyferryError, Side
from keyferry.testing.deployment import Client
from keyferry.testing.routing import Place, RoutedCommand, merged, routed
from keyferry.testing.servers import Server
from keyferry.testing.topology import Node, hash_slot, owners
from keyferry.wire.resp import Argument, Reply, ReplyError, encode_command, encode_commands
from keyferry.wire.session import Session

if TYPE_CHECKING:
    from keyferry.testing.cluster import Cluster

FOLLOW_TIMEOUT_S = 10.0
FOLLOW_EVERY_S = 0.01
_ELSEWHERE = ("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN")


class ClusterClient:
    """Commands with a key go to the owner of the (first) key's slot, others to one primary or to all.

    MOVED and ASK are followed, TRYAGAIN and CLUSTERDOWN waited for, ``FOLLOW_TIMEOUT_S`` long. Of the commands
    without a key FLUSHALL, CONFIG, FUNCTION and the like go to all primaries; DBSIZE is the sum, KEYS and INFO
    are what all say. Commands of one key keep their order.

    Args:
        cluster: Has to run while the client lives.
        timeout_s: Longest wait for a reply.
    """

    def __init__(self, cluster: Cluster, *, side: Side = "source", timeout_s: float = 30.0) -> None:
        self.side: Side = side
        self._cluster = cluster
        self._timeout_s = timeout_s
        self._stack = contextlib.ExitStack()
        self._sessions: dict[Server, Session] = {}
        self._view: list[Node] = []
        self._owners: dict[int, Server] = {}
        self.refresh()

    def __enter__(self) -> ClusterClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()

    def refresh(self) -> None:
        """Asks again who has which slot."""
        self._view = self._cluster.view()
        by_id = {node.node_id: self._cluster.node_by_id(node.node_id) for node in self._view}
        self._owners = {slot: by_id[node_id] for slot, node_id in owners(self._view).items()}

    def place(self, key: bytes) -> int:
        """The index of the key's owner among the cluster's nodes."""
        return self._cluster.nodes.index(self.owner(key))

    def owner(self, key: bytes) -> Server:
        """The node that the key belongs to, as of the last answer."""
        return self._owner(hash_slot(key))

    def session_of(self, key: bytes) -> Session:
        """The connection to the key's owner, for what is said to one node: MULTI, WATCH, ASKING."""
        return self._session(self.owner(key))

    def parts(self) -> list[tuple[Server, Session]]:
        """Every primary that runs."""
        return [(node, self._session(node)) for node in self._cluster.primaries]

    def call(self, *args: Argument) -> Reply:
        """Sends one command. Raises as ``Session.call``, and KeyferryError for one that has to go to one node."""
        return self.exchange(encode_command(*args), 1)[0]

    def pipeline(self, commands: list[tuple[Argument, ...]]) -> list[Reply]:
        """Sends all commands; replies in their order. Raises as ``call``."""
        return self.exchange(encode_commands(commands), len(commands))

    def exchange(self, commands: bytes, count: int) -> list[Reply]:
        """As ``pipeline``, for ``count`` commands that are encoded already."""
        parts = list(routed(commands))
        if len(parts) != count:
            raise KeyferryError(f"{len(parts)} commands were given as {count}.")
        by_node: defaultdict[Server, list[int]] = defaultdict(list)
        for at, part in enumerate(parts):
            for node in self._nodes(part):
                by_node[node].append(at)
        replies: list[list[Reply]] = [[] for _ in parts]
        for node, positions in by_node.items():
            data = b"".join([parts[at].data for at in positions])
            for at, reply in zip(positions, self._session(node).exchange(data, len(positions)), strict=True):
                replies[at].append(reply)
        return [
            one[0] if len(one) == 1 and not isinstance(one[0], ReplyError) else self._settled(part, one)
            for part, one in zip(parts, replies, strict=True)
        ]

    def exchange_raw(self, commands: bytes) -> bytes:
        """As ``Session.exchange_raw``; MOVED and ASK are not followed. Best with the keys of a node together."""
        runs = itertools.groupby(routed(commands), lambda part: self._nodes(part)[0])
        return b"".join(
            [self._session(node).exchange_raw(b"".join([part.data for part in run])) for node, run in runs]
        )

    def _session(self, node: Server) -> Session:
        session = self._sessions.get(node)
        if session is None:
            session = self._stack.enter_context(node.session(side=self.side, timeout_s=self._timeout_s))
            self._sessions[node] = session
        return session

    def _owner(self, slot: int) -> Server:
        owner = self._owners.get(slot)
        if owner is None:
            raise KeyferryError(f"Slot {slot} of the {self.side} has no owner.")
        return owner

    def _nodes(self, command: RoutedCommand) -> list[Server]:
        if isinstance(command.where, int):
            return [self._owner(command.where)]
        primaries = list(dict.fromkeys(self._owners.values()))
        return primaries if command.where is Place.EVERYWHERE else primaries[:1]

    def _settled(self, command: RoutedCommand, replies: list[Reply]) -> Reply:
        """The one reply of several nodes, or of the node that has the key, if this one sends us there."""
        reply = merged(command.words, replies)
        deadline_s = time.monotonic() + FOLLOW_TIMEOUT_S
        while isinstance(reply, ReplyError) and reply.code in _ELSEWHERE and time.monotonic() < deadline_s:
            if reply.code == "ASK":
                asked = self._session(self._announced_at(reply.message.split(" ")[2]))
                reply = asked.exchange(encode_command("ASKING") + command.data, 2)[1]
                continue
            if reply.code != "MOVED":
                time.sleep(FOLLOW_EVERY_S)
            self.refresh()
            reply = self._session(self._nodes(command)[0]).exchange(command.data, 1)[0]
        return reply

    def _announced_at(self, address: str) -> Server:
        """By port: the host may be a name, or left out."""
        port = address.rpartition(":")[2]
        for node in self._view:
            if node.address.rpartition(":")[2] == port:
                return self._cluster.node_by_id(node.node_id)
        raise KeyferryError(f"The {self.side} sends us to {address}, where no node of it is.")


def gathered(keys: list[bytes], *clients: Client) -> list[bytes]:
    """The keys with those of one node next to each other, on all the clients' sides."""
    for client in clients:
        if isinstance(client, ClusterClient):
            keys = sorted(keys, key=client.place)
    return keys
