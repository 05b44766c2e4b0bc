"""The phase records as an operator's tool reads and writes them: by our own sessions, one side at a time.

Every change is WATCH, a look, MULTI, HSET, PUBLISH, EXEC: a compare-and-set that no other operator, writer or dead
coordinator can get in between of. No scripts: EVAL may be forbidden. In a cluster all keys of a migration are in one
slot, so it is one node's affair.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

from keyferry.copy.client_list import parse_client_list
from keyferry.copy.deployment import Deployment, discover
from keyferry.copy.info import info_number, keyspace, parse_info
from keyferry.copy.predecessors import is_writer_name
from keyferry.model.address import Endpoint, parse_place
from keyferry.model.announced import DIRECT, AddressMap
from keyferry.model.errors import ServerAway, ServerError
from keyferry.model.phases import Side
from keyferry.model.record import (
    PhaseRecord,
    RecordUnreadable,
    Write,
    channel,
    check_write,
    decode,
    encode,
    leader_key,
    record_key,
    telling,
    writers_key,
)
from keyferry.model.writers import WriterEntry, decode_entry
from keyferry.payload.names import slot
from keyferry.wire.dial import OnWait, no_wait_ends
from keyferry.wire.resp import Argument, Reply, ReplyError
from keyferry.wire.session import ConnectionLost, Session

REPLY_TIMEOUT_S = 5.0
REDIRECTIONS_MAX = 3
REPLICA_TIMEOUT_MS = 1000
RIGHTS = (
    "~keyferry:* &keyferry:* +ping +info +hgetall +hmget +hset +hdel +watch +unwatch +multi +exec +publish +exists +wait "
    "+client|kill +client|setname, and in a cluster +cluster|nodes +cluster|slots +cluster|myid"
)

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class SideLook:
    """What a side says.

    Attributes:
        record: None: it has none.
        writers: By id.
        sent_s: Before it was asked, by the caller's clock.
        heard_s: When the answer was there.
    """

    record: PhaseRecord | None
    writers: Mapping[str, WriterEntry]
    sent_s: float
    heard_s: float


@dataclass(frozen=True, slots=True)
class Replicas:
    """How many replicas the server of a record has, and how many have confirmed the last write."""

    connected: int
    confirmed: int


class RecordStore:
    """Both sides of one migration. A context manager: it keeps one connection per side.

    Args:
        name: The migration's.
        endpoints: The database of each is where the records are.
        maps: Where a cluster's nodes are reached that announce something else.
        clock: Monotonic seconds.
        on_wait: Called a few times a second during a wait; ends it by raising.
    """

    def __init__(
        self,
        name: str,
        endpoints: Mapping[Side, Endpoint],
        maps: Mapping[Side, AddressMap],
        clock: Clock = time.monotonic,
        on_wait: OnWait = no_wait_ends,
    ) -> None:
        self.name = name
        self._endpoints, self._maps = endpoints, maps
        self._clock, self._on_wait = clock, on_wait
        self._key, self._writers, self._leader = record_key(name), writers_key(name), leader_key(name)
        self._deployments: dict[Side, Deployment] = {}
        self._sessions: dict[Side, Session] = {}

    def __enter__(self) -> RecordStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for side in list(self._sessions):
            self._drop(side)

    def look(self, side: Side) -> SideLook:
        """The record and the writers of a side, read together.

        Raises:
            ServerAway: It cannot be asked now.
            ServerError: It refuses us.
            RecordUnreadable: What stands there is not ours.
        """
        sent_s = self._clock()
        replies = self._call(
            side, [("MULTI",), ("HGETALL", self._key), ("HGETALL", self._writers), ("EXEC",)], again=True
        )
        record, writers = self._executed(side, replies)
        heard_s = self._clock()
        texts = {
            name.decode("utf-8", "backslashreplace"): value
            for name, value in self._pairs(side, writers).items()
        }
        found = {name: decode_entry(name, value) for name, value in texts.items()}
        return SideLook(decode(side, self._pairs(side, record)), found, sent_s, heard_s)

    def compare_and_set(self, write: Write) -> bool:
        """Makes the write if the record is still as it expects; the writers are told in the same transaction.

        Returns:
            False: It is not, or somebody changed it in the same moment.

        Raises:
            RefusedError: The write may never be made.
            ServerAway, ServerError, RecordUnreadable: As ``look``; after ServerAway it may have been made.
        """
        check_write(write)
        steps = self._steps(write)
        for _ in range(REDIRECTIONS_MAX):
            if not self._watches(write):
                return False
            try:
                # On the very connection that watches.
                replies = self._sessions[write.side].pipeline(steps)
            except ConnectionLost as error:
                return self._made_after_all(write, error)
            if not any(_is_elsewhere(reply) for reply in replies):
                if replies[-1] is None:
                    return False
                for answer in self._executed(write.side, replies):
                    self._check(write.side, answer)
                return True
            self._lose_way(write.side)
        raise self._sent_around(write.side)

    def commit(self, lost: Write, mark: Write) -> tuple[bool, bool]:
        """Makes the commit, and its mark right behind it: writers wake up by the first and look for the second.

        What the mark expects is watched before, so that only its transaction is left when the commit is made.

        Returns:
            Whether the commit was made, and whether the mark was; that one may still be missing for any reason, or
            have been made by a writer, and is looked at then.

        Raises:
            As ``compare_and_set``, of the commit.
        """
        check_write(mark)
        steps = self._steps(mark)
        watched = self._watches(mark)
        made = False
        try:
            made = self.compare_and_set(lost)
        finally:
            if not made:
                self._drop(mark.side)  # it watches still: the next look on it could come to nothing
        if not made:
            return False, False
        if not watched:
            return True, False
        try:
            replies = self._sessions[mark.side].pipeline(steps)
        except ServerError:
            self._drop(mark.side)
            return True, False
        return True, isinstance(replies[-1], list) and not any(
            isinstance(one, ReplyError) for one in replies[-1]
        )

    def _steps(self, write: Write) -> list[tuple[Argument, ...]]:
        fields = [part for pair in encode(write.becomes).items() for part in pair]
        return [
            ("MULTI",),
            ("HSET", self._key, *fields),
            ("PUBLISH", channel(self.name), telling(write.becomes)),
            ("EXEC",),
        ]

    def _watches(self, write: Write) -> bool:
        """Whether the record is as expected, and watched."""
        watched, reply = self._call(write.side, [("WATCH", self._key), ("HGETALL", self._key)], again=True)
        self._check(write.side, watched)
        now = decode(write.side, self._pairs(write.side, reply))
        if write.expected is None if now is None else now.same_as(write.expected):
            return True
        self._call(write.side, [("UNWATCH",)], again=True)
        return False

    def _made_after_all(self, write: Write, error: ConnectionLost) -> bool:
        """Whether a write whose reply was lost was made; a sentence where that cannot be known yet."""
        self._drop(write.side)
        if self.look(write.side).record == write.becomes:
            return True
        raise ServerAway(
            error.side,
            f"{error.message} Whether the phase record was changed is not known.",
            "Look with: keyferry phase show.",
        )

    def confirm(self, side: Side) -> Replicas:
        """Waits a moment until the replicas of the record's server have what was written on this connection.

        A failover to one that had not would forget it (https://redis.io/docs/latest/commands/wait/).
        """
        (info,) = self._call(side, [("INFO", "replication")])
        connected = 0
        if isinstance(info, bytes):
            connected = info_number(parse_info(info), "replication", "connected_slaves") or 0
        if not connected:
            return Replicas(0, 0)
        (confirmed,) = self._call(side, [("WAIT", connected, REPLICA_TIMEOUT_MS)])
        return Replicas(connected, confirmed if isinstance(confirmed, int) else 0)

    def kill(self, side: Side, connections: Iterable[str]) -> None:
        """Ends connections of writers that are gone (PROTOCOL.md, rule 11); those that have ended do not matter.

        Args:
            connections: As in ``WriterEntry.connections``.

        Raises:
            ServerAway: A node cannot be asked now.
            ServerError: It refuses.
        """
        by_node: dict[str, list[str]] = {}
        for name in connections:
            number, _, node = name.partition("@")
            by_node.setdefault(node, []).append(number)
        for node, numbers in by_node.items():
            commands: list[tuple[Argument, ...]] = [
                ("CLIENT", "KILL", "ID", number) for number in numbers if number.isdigit()
            ]
            if node and self._deployment(side).cluster:
                host, port = parse_place(node)
                place = self._deployment(side).reach(host, port or self._endpoints[side].port)
                with self._session_at(side, place, 0) as session:
                    replies = session.pipeline(commands)
            else:
                replies = self._call(side, commands, again=True)
            for reply in replies:
                self._check(side, reply)

    def forget(self, side: Side, writers: Iterable[str]) -> None:
        """Takes entries off whose lease is over. One that lives after all enters itself again before it writes."""
        names = [name.encode() for name in writers]
        if names:
            for reply in self._call(side, [("HDEL", self._writers, *names)], again=True):
                self._check(side, reply)

    def elsewhere(self, side: Side) -> list[int]:
        """Other databases of the side that have a record of this name; none in a cluster."""
        if self._deployment(side).cluster:
            return []
        endpoint = self._deployment(side).start
        with self._session_at(side, endpoint, 0) as session:
            reply = session.call("INFO", "keyspace")
            others = sorted(keyspace(parse_info(reply))) if isinstance(reply, bytes) else []
            found = []
            for database in others:
                if database != self._endpoints[side].db:
                    replies = session.pipeline([("SELECT", database), ("EXISTS", self._key)])
                    found += [database] if replies[-1] == 1 else []
            return found

    def take_lead(self, side: Side, leader: str, by: str) -> None:
        """From now on this process leads; whoever led before finds another id here. Raises as ``look``.

        A process that stands still knows nothing of its successor. So it looks here after it has dialled and before
        it writes, and its successor ends all its connections after it has written this (PROTOCOL.md, rule 16).
        """
        for reply in self._call(side, [("HSET", self._leader, "id", leader, "by", by)], again=True):
            self._check(side, reply)

    def leader(self, side: Side) -> tuple[str, str]:
        """The id of the process that leads, and who it is; empty where nobody does. Raises as ``look``."""
        (reply,) = self._call(side, [("HMGET", self._leader, "id", "by")], again=True)
        self._check(side, reply)
        found = reply if isinstance(reply, list) else []
        texts = [
            part.decode("utf-8", "backslashreplace") if isinstance(part, bytes) else "" for part in found
        ]
        return (texts[0], texts[1]) if len(texts) == 2 else ("", "")

    def is_written_to(self, side: Side) -> bool:
        """Whether a copy, a sync or a migration carries data there now; False also where we may not look."""
        (reply,) = self._call(side, [("CLIENT", "LIST")], again=True)
        lines = parse_client_list(reply) if isinstance(reply, bytes) else ()
        return any(is_writer_name(line.name) for line in lines)

    # Sessions

    def _call(self, side: Side, commands: list[tuple[Argument, ...]], *, again: bool = False) -> list[Reply]:
        """Replies in order. ``again``: may be sent once more when a kept connection turns out to be dead."""
        for _ in range(REDIRECTIONS_MAX):
            kept = side in self._sessions
            try:
                replies = self._session(side).pipeline(commands)
            except ConnectionLost:
                self._drop(side)
                if again and kept:
                    continue
                raise
            if not any(_is_elsewhere(reply) for reply in replies):
                return replies
            self._lose_way(side)
        raise self._sent_around(side)

    def _session(self, side: Side) -> Session:
        session = self._sessions.get(side)
        if session is None:
            deployment = self._deployment(side)
            endpoint, database = deployment.start, self._endpoints[side].db
            if deployment.cluster:
                shard = deployment.topology.owner(slot(self._key))
                if shard is None:
                    raise ServerAway(
                        _wire(side), f"No node of the {side} serves the slot of the phase record."
                    )
                endpoint, database = deployment.reach(shard.host, shard.port), 0
            try:
                session = self._sessions[side] = self._session_at(side, endpoint, database)
            except ServerAway:
                self._lose_way(side)  # another node may have taken its slots over
                raise
        return session

    def _session_at(self, side: Side, endpoint: Endpoint, database: int) -> Session:
        return Session(endpoint, _wire(side), timeout_s=REPLY_TIMEOUT_S, db=database, on_wait=self._on_wait)

    def _deployment(self, side: Side) -> Deployment:
        if side not in self._deployments:
            self._deployments[side] = discover(
                self._endpoints[side], _wire(side), self._maps.get(side, DIRECT), self._on_wait
            )
        return self._deployments[side]

    def _drop(self, side: Side) -> None:
        session = self._sessions.pop(side, None)
        if session is not None:
            session.close()

    def _lose_way(self, side: Side) -> None:
        """The cluster has another picture of itself now."""
        self._drop(side)
        self._deployments.pop(side, None)

    @staticmethod
    def _sent_around(side: Side) -> ServerAway:
        return ServerAway(
            _wire(side),
            f"The {side}'s nodes send us to and fro for the phase record.",
            "Its slot is being moved; try again when that is done.",
        )

    # Replies

    def _executed(self, side: Side, replies: list[Reply]) -> list[Reply]:
        """What EXEC brought."""
        last = replies[-1]
        if isinstance(last, list):
            return last
        refusal = next((reply for reply in replies if isinstance(reply, ReplyError)), None)
        self._check(side, refusal or last)
        raise ServerError(_wire(side), f"The {side} answers to EXEC what we do not understand.")

    def _pairs(self, side: Side, reply: Reply) -> dict[bytes, bytes]:
        self._check(side, reply)
        if not isinstance(reply, list) or not all(isinstance(part, bytes) for part in reply):
            raise ServerError(_wire(side), f"The {side} answers to HGETALL what we do not understand.")
        parts = [part for part in reply if isinstance(part, bytes)]
        return dict(zip(parts[::2], parts[1::2], strict=True))

    def _check(self, side: Side, reply: Reply) -> None:
        """Raises for an error reply."""
        if not isinstance(reply, ReplyError):
            return
        if reply.code == "WRONGTYPE":
            raise RecordUnreadable(
                f"On the {side}, something else than a phase record has the name {self._key.decode()}.",
                "Choose another name for the migration, or delete that key.",
            )
        hints = {
            "NOPERM": f"The user needs: {RIGHTS}.",
            "READONLY": "That is a replica; give the address of its primary.",
            "OOM": "Give it memory; until then its phase cannot be changed.",
        }
        kind = ServerAway if reply.code in ("LOADING", "MASTERDOWN", "CLUSTERDOWN", "BUSY") else ServerError
        raise kind(
            _wire(side),
            f"The {side} refuses a command on the phase record: {reply.message.rstrip('.')}.",
            hints.get(reply.code, ""),
        )


def _wire(side: Side) -> Literal["source", "target"]:
    return "source" if side is Side.SOURCE else "target"


def _is_elsewhere(reply: Reply) -> bool:
    return isinstance(reply, ReplyError) and reply.code in ("MOVED", "ASK", "TRYAGAIN")
