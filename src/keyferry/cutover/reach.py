"""The primaries of one side as a switch reaches them: one kept connection each, all asked at the same time.

A pause or a bar that is not on every primary is none, and each millisecond that a cluster's nodes are asked one
after the other is a millisecond in which writes wait. So commands go out to all first, and their replies are taken
then. What one primary does not answer is kept apart from what the others say: only who asked knows whether a step
may be undone, tried again, or left.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal

from keyferry.copy.deployment import Deployment, discover
from keyferry.model.address import Endpoint
from keyferry.model.announced import DIRECT, AddressMap
from keyferry.model.errors import ServerAway, ServerError
from keyferry.model.phases import Side
from keyferry.wire.dial import OnWait, no_wait_ends
from keyferry.wire.resp import Argument, Reply, ReplyError
from keyferry.wire.session import ConnectionLost, Session

REPLY_TIMEOUT_S = 5.0
AWAY_CODES = frozenset(("LOADING", "MASTERDOWN", "CLUSTERDOWN", "BUSY"))
"""Errors that pass by themselves."""

Commands = list[tuple[Argument, ...]]


@dataclass(frozen=True, slots=True)
class Primary:
    """One server of a side.

    Attributes:
        id: The node's id; of a server that is no cluster ``model.topology.STANDALONE_ID``.
        place: ``host:port`` or a socket's path, for people.
    """

    id: str
    place: str


@dataclass(frozen=True, slots=True)
class Answers:
    """What was said by whom.

    Attributes:
        replies: Of each primary that answered, in the order of its commands.
        failures: Of each that did not: whether its commands were run is not known.
    """

    replies: Mapping[Primary, list[Reply]] = field(default_factory=dict)
    failures: Mapping[Primary, ServerError] = field(default_factory=dict)

    def all(self) -> Mapping[Primary, list[Reply]]:
        """The replies when everyone has answered. Raises the first failure."""
        for failure in self.failures.values():
            raise failure
        return self.replies


class Reach:
    """One side's primaries. A context manager; its connections are made when they are first needed.

    Args:
        address_map: Where a cluster's nodes are reached that announce something else.
        on_wait: Called a few times a second during a wait; ends it by raising.
        timeout_s: Longest wait for a reply.
    """

    def __init__(
        self,
        side: Side,
        endpoint: Endpoint,
        address_map: AddressMap = DIRECT,
        on_wait: OnWait = no_wait_ends,
        timeout_s: float = REPLY_TIMEOUT_S,
    ) -> None:
        self.side = side
        self._endpoint, self._address_map = endpoint, address_map
        self._on_wait, self._timeout_s = on_wait, timeout_s
        self._deployment: Deployment | None = None
        self._sessions: dict[Primary, Session] = {}

    def __enter__(self) -> Reach:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.forget()

    @property
    def wire_side(self) -> Literal["source", "target"]:
        return "source" if self.side is Side.SOURCE else "target"

    @property
    def cluster(self) -> bool:
        """Whether the side is a cluster. Raises as ``primaries``."""
        return self._found().cluster

    def primaries(self) -> tuple[Primary, ...]:
        """Those that own slots, as they were found last, in a stable order.

        Raises:
            ServerAway: They cannot all be reached now.
            ServerError: One refuses us.
        """
        found = self._found()
        return tuple(Primary(shard.id, found.endpoint(shard.id).location) for shard in found.shards)

    def prepare(self) -> None:
        """Dials every primary ahead of the moment in which time counts. Raises as ``primaries``."""
        for primary in self.primaries():
            self._session(primary)

    def forget(self) -> None:
        """Ends all connections and forgets who the primaries are: they are found anew."""
        for primary in list(self._sessions):
            self._drop(primary)
        self._deployment = None

    def renew(self) -> None:
        """Before a look that counts: a cluster's primaries are found anew, which may have failed over or grown."""
        if self._deployment is not None and self._deployment.cluster:
            self.forget()

    def ask(self, primary: Primary, commands: Commands, *, again: bool = True) -> list[Reply]:
        """Replies of one primary, in order.

        Args:
            again: The commands may be sent once more when the kept connection turns out to be dead.

        Raises:
            ServerAway: It does not answer; whether the commands were run is not known.
            ServerError: It refuses us.
        """
        return self.exchange({primary: commands}, again=again).all()[primary]

    def ask_all(self, commands: Commands, *, again: bool = True) -> Answers:
        """The same commands to every primary at once. Raises as ``primaries``; arguments as ``ask``."""
        return self.exchange(dict.fromkeys(self.primaries(), commands), again=again)

    def exchange(self, batches: Mapping[Primary, Commands], *, again: bool = True) -> Answers:
        """Each primary's own commands, all sent before the first reply is waited for."""
        replies: dict[Primary, list[Reply]] = {}
        failures: dict[Primary, ServerError] = {}
        kept = frozenset(self._sessions)
        waiting: list[Primary] = []
        try:
            # Dialling one that is away takes seconds: whom we have a connection to is not to wait for that.
            for primary in sorted(batches, key=lambda one: one not in kept):
                try:
                    self._session(primary).send(batches[primary])
                except ServerError as error:
                    self._drop(primary)
                    failures[primary] = error
                else:
                    waiting.append(primary)
            while waiting:
                primary = waiting[0]
                try:
                    replies[primary] = self._sessions[primary].receive(len(batches[primary]))
                except ServerError as error:
                    self._drop(primary)
                    failures[primary] = error
                waiting.pop(0)
        finally:
            # A wait that was ended from outside leaves replies behind that nobody will take.
            for primary in waiting:
                self._drop(primary)
        if again:
            self._ask_again(batches, kept, replies, failures)
        return Answers(replies, failures)

    def _ask_again(
        self,
        batches: Mapping[Primary, Commands],
        kept: frozenset[Primary],
        replies: dict[Primary, list[Reply]],
        failures: dict[Primary, ServerError],
    ) -> None:
        """Those whose kept connection had died, each on a new one."""
        for primary in [one for one, error in failures.items() if isinstance(error, ConnectionLost)]:
            if primary in kept:
                try:
                    replies[primary] = self._session(primary).pipeline(batches[primary])
                    del failures[primary]
                except ServerError as error:
                    self._drop(primary)
                    failures[primary] = error

    def refusal(self, primary: Primary, what: str, reply: ReplyError, hint: str = "") -> ServerError:
        """The error for a primary that refuses ``what``, which continues "refuses ..."."""
        kind = ServerAway if reply.code in AWAY_CODES else ServerError
        return kind(
            self.wire_side,
            f"{self.name(primary)} refuses {what}: {reply.message.rstrip('.')}.",
            hint,
        )

    def name(self, primary: Primary) -> str:
        """For the beginning of a sentence: the side, and which of its nodes where there are several."""
        return f"The {self.side}'s node {primary.place}" if self.cluster else f"The {self.side}"

    def _found(self) -> Deployment:
        if self._deployment is None:
            self._deployment = discover(self._endpoint, self.wire_side, self._address_map, self._on_wait)
        return self._deployment

    def _session(self, primary: Primary) -> Session:
        session = self._sessions.get(primary)
        if session is None:
            try:
                endpoint = self._found().endpoint(primary.id)
            except KeyError:
                raise ServerAway(
                    self.wire_side,
                    f"The node {primary.place} of the {self.side}'s cluster is not there any more.",
                ) from None
            session = self._sessions[primary] = Session(
                endpoint, self.wire_side, timeout_s=self._timeout_s, db=0, on_wait=self._on_wait
            )
        return session

    def _drop(self, primary: Primary) -> None:
        session = self._sessions.pop(primary, None)
        if session is not None:
            with contextlib.suppress(OSError):
                session.close()
