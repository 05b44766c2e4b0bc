"""Asks the servers that have the keys, over connections that block, and follows redirections.

For the few keys that are looked at one by one; the passes have ways of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

from keyferry.copy.connect import Sides
from keyferry.copy.deployment import Deployment
from keyferry.copy.lanes import redirection
from keyferry.copy.redirects import with_asking, without_asking
from keyferry.copy.replies import ServerBusy, Verdict, verdict
from keyferry.model.address import Endpoint
from keyferry.model.errors import ServerAway, Side
from keyferry.payload.names import slot
from keyferry.wire.resp import Argument, Reply, ReplyError, encode_commands
from keyferry.wire.session import Session

Commands = Sequence[tuple[Argument, ...]]
Place = tuple[int, bytes]
"""A key with the source's database."""
TargetDatabase = Callable[[int], int]
"""The target's database, of a source's."""
HOPS_MAX = 5
CONNECTIONS_MAX = 64


class Routes:
    """Sessions to the servers of both sides, dialled when first needed. Use as a context."""

    def __init__(self, sides: Sides) -> None:
        """Args: sides: Open; discovered anew here after a cluster has said MOVED."""
        self._sides = sides
        self._sessions: dict[tuple[Side, str, int], Session] = {}
        self._moved: set[Side] = set()

    def __enter__(self) -> Routes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()

    def look_around(self) -> None:
        """Learns who owns what, if a node has sent us elsewhere since the last time. Raises as ``Sides.session``."""
        while self._moved:
            self._sides.discover(self._moved.pop())

    def shard_of(self, side: Side, key: bytes) -> str:
        """The id of the shard that owns the key, as far as we know."""
        deployment = self._deployment(side)
        if deployment.cluster:
            owner = deployment.topology.owner(slot(key))
            if owner is None:
                raise ServerAway(side, f"Nobody owns the slot {slot(key)} of the {side} now.")
            return owner.id
        return deployment.shards[0].id

    def session(self, side: Side, database: int, shard: str) -> Session:
        """The connection to a shard's database. Raises as ``Sides.session``."""
        try:
            endpoint = self._deployment(side).endpoint(shard)
        except KeyError:
            raise ServerAway(side, f"A node of the {side}'s cluster is not there any more.") from None
        return self._at(endpoint, side, database)

    def ask(
        self,
        side: Side,
        places: Sequence[Place],
        commands: Callable[[bytes], Commands],
        database_of: TargetDatabase = lambda database: database,
    ) -> Iterator[tuple[Place, list[Reply]]]:
        """The replies to each key's commands, wherever it is. Raises as ``exchange``.

        Args:
            places: Source databases and keys, few enough for one exchange.
            database_of: From the source's database to the side's.
        """
        for (database, shard), group in self.by_server(side, places).items():
            asked = [commands(key) for _, key in group]
            replies = self.exchange(side, database_of(database), shard, asked)
            yield from zip(group, replies, strict=True)

    def by_server(self, side: Side, places: Sequence[Place]) -> dict[tuple[int, str], list[Place]]:
        """Keys by source database and by the shard that owns them."""
        found: dict[tuple[int, str], list[Place]] = {}
        for place in places:
            found.setdefault((place[0], self.shard_of(side, place[1])), []).append(place)
        return found

    def exchange(
        self, side: Side, database: int, shard: str, commands: Sequence[Commands]
    ) -> list[list[Reply]]:
        """The replies, in order, errors among them.

        Args:
            shard: Where all keys are thought to be.
            commands: Per key, those that are asked about it.

        Raises:
            ServerBusy: The server asks us to wait, or a key is sent around too often.
            ServerAway: It cannot be reached.
        """
        session = self.session(side, database, shard)
        flat = [command for per_key in commands for command in per_key]
        replies = session.exchange(encode_commands(flat), len(flat))
        found: list[list[Reply]] = []
        at = 0
        for per_key in commands:
            own = replies[at : at + len(per_key)]
            at += len(per_key)
            found.append(self._followed(side, database, session, per_key, own))
        return found

    def _followed(
        self, side: Side, database: int, session: Session, commands: Commands, replies: list[Reply]
    ) -> list[Reply]:
        """The replies of the node that has the key."""
        for _ in range(HOPS_MAX):
            refusal = next((reply for reply in replies if isinstance(reply, ReplyError)), None)
            if refusal is None:
                return replies
            found = redirection(refusal.message)
            if found is None:
                if verdict(refusal.message) is Verdict.WAIT:
                    raise ServerBusy(side, refusal.message)
                return replies
            place = self._deployment(side).reach(found.host or session.endpoint.host, found.port)
            session = self._at(place, side, database)
            if found.ask:
                wrapped = session.exchange(with_asking(list(commands)), 2 * len(commands))
                replies = without_asking(wrapped)
            else:
                self._moved.add(side)
                replies = session.exchange(encode_commands(list(commands)), len(commands))
        raise ServerBusy(side, "A key is sent from node to node")

    def _at(self, endpoint: Endpoint, side: Side, database: int) -> Session:
        place = (side, endpoint.location, database)
        known = self._sessions.get(place)
        if known is None:
            if len(self._sessions) >= CONNECTIONS_MAX:
                self.close()
            known = self._sessions[place] = self._sides.session_at(endpoint, side, database)
        return known

    def _deployment(self, side: Side) -> Deployment:
        return self._sides.source if side == "source" else self._sides.target
