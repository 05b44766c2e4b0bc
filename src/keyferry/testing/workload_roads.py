"""Where a workload's commands go: a connection per database of a server, or per node of a cluster.

Its own, and simpler than ``ClusterClient``: nothing is sent twice, so a command that a node does not serve is
refused, and the next one goes to where the slot is then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from keyferry.model.address import Endpoint
from keyferry.model.errors import KeyferryError
from keyferry.testing.routing import where
from keyferry.testing.topology import owners, parse_nodes
from keyferry.testing.workload_ops import Command
from keyferry.testing.workload_owned import Task
from keyferry.wire.session import Session

CLIENT_NAME = "workload"
TIMEOUT_S = 60.0


class Road:
    """One connection, dialled when it is first used, and again after ``close``."""

    def __init__(self, endpoint: Endpoint, db: int) -> None:
        self.db = db
        self._endpoint = endpoint
        self._session: Session | None = None

    def session(self) -> Session:
        """Raises ServerAway when it cannot be reached."""
        if self._session is None:
            self._session = Session(self._endpoint, "source", db=self.db, timeout_s=TIMEOUT_S)
            self._session.call("CLIENT", "SETNAME", CLIENT_NAME)
        return self._session

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None


class Roads:
    """All connections of one writer.

    Args:
        endpoints: The server, or all primaries of a cluster.
    """

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = endpoints
        self._roads: dict[tuple[int, int], Road] = {}
        reply = self._road(0, 0).session().call("INFO", "cluster")
        self.clustered = isinstance(reply, bytes) and b"cluster_enabled:1" in reply
        self._owners: dict[int, int] = {}
        if self.clustered:
            self._ask_owners()

    def again(self) -> Roads:
        """The same servers, with connections of its own."""
        return Roads(self._endpoints)

    def close(self) -> None:
        for road in self._roads.values():
            road.close()

    def known(self, names: Iterable[str]) -> set[str]:
        """Those of the commands that the server has."""
        wanted = sorted(set(names))
        reply = self._road(0, 0).session().call("COMMAND", "INFO", *wanted)
        if not isinstance(reply, list):
            raise KeyferryError(f"The source does not say which commands it has: {reply!r}.")
        return {name for name, said in zip(wanted, reply, strict=True) if said}

    def road(self, db: int, commands: Sequence[Command]) -> Road:
        """The one for commands that share a slot."""
        if not self.clustered:
            return self._road(0, db)
        words = next(command for command in commands if command[0] != "MULTI")
        if words[0] == "BLMPOP":
            words = words[2:]
        slot = where([part if isinstance(part, bytes) else str(part).encode() for part in words])
        return self._road(self._owners[slot] if isinstance(slot, int) else 0, 0)

    def sorted(self, batch: Iterable[tuple[int, Task]]) -> dict[Road, list[Task]]:
        """By road, in the order that they have."""
        parts: dict[Road, list[Task]] = {}
        for db, task in batch:
            parts.setdefault(self.road(db, task.commands), []).append(task)
        return parts

    def _road(self, node: int, db: int) -> Road:
        road = self._roads.get((node, db))
        if road is None:
            road = self._roads[node, db] = Road(self._endpoints[node], db)
        return road

    def _ask_owners(self) -> None:
        reply = self._road(0, 0).session().call("CLUSTER", "NODES")
        nodes = parse_nodes(reply if isinstance(reply, bytes) else b"")
        ports = {node.node_id: node.address.rpartition(":")[2] for node in nodes}
        at = {str(endpoint.port): index for index, endpoint in enumerate(self._endpoints)}
        self._owners = {slot: at[ports[node_id]] for slot, node_id in owners(nodes).items()}
