"""What an address leads to: one server, or the primaries of a cluster and where each is reached from here.

Any node of a cluster tells of all others, also a replica; the picture is put together from what every primary
says of itself (``model.topology``).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from keyferry.copy.info import info_number, parse_info
from keyferry.model.address import Endpoint
from keyferry.model.announced import DIRECT, AddressMap
from keyferry.model.errors import ServerAway, ServerError, Side, UsageError
from keyferry.model.topology import (
    Shard,
    Topology,
    View,
    merge,
    parse_nodes,
    parse_places,
    parse_slots,
    slots_text,
    standalone,
)
from keyferry.wire.dial import OnWait, no_wait_ends
from keyferry.wire.resp import ReplyError
from keyferry.wire.session import Session

REPLY_TIMEOUT_S = 10.0
AWAY_MAX = 3
"""Primaries that are waited for in vain before the look ends."""
IDLE_TIMEOUT_S = 1.0
IDLE_S_MAX = 5.0
"""For all primaries without slots together: nothing depends on them but a slot that they have just been given."""
NODES_MAX = 1000
"""The cluster specification recommends no more."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """One side as it is now.

    Attributes:
        cluster: Whether it is a cluster, also one of a single shard.
        start: The endpoint that answered; its credentials and TLS files serve for every node.
    """

    side: Side
    cluster: bool
    topology: Topology
    start: Endpoint
    address_map: AddressMap = DIRECT

    @property
    def shards(self) -> tuple[Shard, ...]:
        """Primaries that own slots, in a stable order."""
        return self.topology.shards

    def endpoint(self, shard_id: str) -> Endpoint:
        """Where this shard is reached. Raises KeyError when there is no such shard (any more)."""
        for shard in (*self.topology.shards, *self.topology.idle):
            if shard.id == shard_id:
                return self.reach(shard.host, shard.port) if self.cluster else self.start
        raise KeyError(shard_id)

    def reach(self, host: str, port: int) -> Endpoint:
        """Where the node that announces this address is reached, as a redirection names it."""
        return self.start.at(*self.address_map.reach(host, port))


def discover(
    endpoint: Endpoint,
    side: Side,
    address_map: AddressMap = DIRECT,
    on_wait: OnWait = no_wait_ends,
    known: Iterable[Endpoint] = (),
) -> Deployment:
    """Asks one of the endpoint's nodes what it belongs to, then every primary for its own view.

    Args:
        address_map: Where nodes are reached that announce something else.
        on_wait: Called a few times a second while a server lets us wait; ends that by raising.
        known: Nodes of the same cluster from an earlier look, asked when none that the endpoint names is there.

    Raises:
        UsageError: The address says that it is a cluster, and it is none.
        ServerAway: No named node, or not every primary, can be reached now; or slots have no owner now.
        ServerError: A server refuses us, or says what we cannot read.
    """
    with _first_session(endpoint, side, on_wait, known) as session:
        start = session.endpoint
        if not _is_cluster(session):
            if endpoint.cluster:
                raise UsageError(
                    f"The {side} {endpoint} is no cluster.",
                    f"Write {start} with one host, in place of the +cluster address.",
                )
            return Deployment(side, False, standalone(start.host, start.port), start, address_map)
        view = _view(session)
    topology = _Explorer(start, side, address_map, on_wait).topology(view)
    return Deployment(side, True, topology, start, address_map)


def _first_session(
    endpoint: Endpoint, side: Side, on_wait: OnWait, known: Iterable[Endpoint] = ()
) -> Session:
    away: list[ServerAway] = []
    for seed in dict.fromkeys((*endpoint.seeds(), *known)):
        try:
            return Session(seed, side, timeout_s=REPLY_TIMEOUT_S, db=0, on_wait=on_wait)
        except ServerAway as error:
            away.append(error)
    if len(away) == 1:
        raise away[0]
    raise ServerAway(
        side,
        f"None of the nodes of the {side} {endpoint} can be reached; the last one: {away[-1].message}",
        away[-1].hint,
    )


def _is_cluster(session: Session) -> bool:
    reply = session.call("INFO", "cluster")
    if isinstance(reply, bytes):
        return bool(info_number(parse_info(reply), "cluster", "cluster_enabled"))
    # Without the right to INFO; a server that is no cluster refuses every CLUSTER command.
    return isinstance(session.call("CLUSTER", "INFO"), bytes)


def _view(session: Session) -> View:
    """What this node says. Where NODES is forbidden, epochs and open slots stay unknown; where SLOTS is, NODES does."""
    slots, nodes, name = session.pipeline([("CLUSTER", "SLOTS"), ("CLUSTER", "NODES"), ("CLUSTER", "MYID")])
    asked_host = session.endpoint.host or "127.0.0.1"
    try:
        if isinstance(nodes, bytes):
            view = parse_nodes(nodes, asked_host)
            return view if isinstance(slots, ReplyError) else view.at(parse_places(slots, asked_host))
        if not isinstance(slots, ReplyError):
            myself = name.decode() if isinstance(name, bytes) else ""
            return replace(parse_slots(slots, asked_host), myself=myself)
    except ValueError as error:
        raise ServerError(
            session.side, f"The {session.side} {session.endpoint} cannot be understood: {error}."
        ) from None
    raise ServerError(
        session.side,
        f"The {session.side} {session.endpoint} is a cluster and does not say of which nodes: {slots.message}.",
        "Give the user the rights to CLUSTER SLOTS and CLUSTER NODES.",
    )


@dataclass(frozen=True, slots=True)
class _Explorer:
    """Asks the nodes of one cluster."""

    start: Endpoint
    side: Side
    address_map: AddressMap
    on_wait: OnWait

    def topology(self, first: View) -> Topology:
        """The merged views of every primary that any of them names.

        One that is away ends this only if it owns slots when all others were asked: a node that fell behind
        may still name the primary of before a failover.
        """
        views, away = [first], dict[str, ServerAway]()
        waiting, known = _owners(first), set[str]()
        while waiting:
            shard = waiting.pop()
            if shard.id in known:
                continue
            known.add(shard.id)
            if len(known) > NODES_MAX:
                raise ServerError(
                    self.side, f"The {self.side} {self.start} names more than {NODES_MAX} primaries."
                )
            try:
                view = self._view_of(shard)
            except ServerAway as error:
                away[shard.id] = error
                if len(away) == AWAY_MAX:
                    raise
                continue
            views.append(view)
            waiting += _owners(view)
        views += self._idle_views(views, known)
        topology = merge(views)
        for shard in topology.shards:
            if shard.id in away:
                raise away[shard.id]
        if topology.uncovered:
            raise ServerAway(
                self.side,
                f"Nobody owns the slots {slots_text(topology.uncovered)} of the {self.side} {self.start}.",
                "Mend the cluster (redis-cli --cluster check HOST:PORT tells more), then give the same command again.",
            )
        return topology

    def _view_of(self, shard: Shard) -> View:
        node = self._node(shard)
        side = self.side
        hint = f"say where it is reached from here: --{side}-map {shard}=HOST:PORT."
        try:
            with Session(node, side, timeout_s=REPLY_TIMEOUT_S, on_wait=self.on_wait) as session:
                view = _view(session)
        except ServerAway as error:
            raise ServerAway(
                side,
                f"A node of the {side}'s cluster announces {shard}. {error.message}",
                f"If it runs, {hint}",
            ) from None
        if view.myself and view.myself != shard.id:
            raise ServerError(
                side,
                f"At {node.location} another node of the {side}'s cluster answers than the one that announces {shard}.",
                f"If that is not meant, {hint}",
            )
        return view

    def _idle_views(self, views: list[View], known: set[str]) -> list[View]:
        """Of primaries without slots, for what they were given a moment ago; who does not answer is left out."""
        found: list[View] = []
        failing = frozenset[str]().union(*(view.failing for view in views))
        until_s = time.monotonic() + IDLE_S_MAX
        for shard in {shard.id: shard for view in views for shard in view.primaries}.values():
            if shard.id in known or shard.id in failing or time.monotonic() > until_s:
                continue
            try:
                with Session(
                    self._node(shard),
                    self.side,
                    timeout_s=IDLE_TIMEOUT_S,
                    connect_timeout_s=IDLE_TIMEOUT_S,
                    on_wait=self.on_wait,
                ) as session:
                    view = _view(session)
            except ServerError:
                continue
            if view.myself in ("", shard.id):
                found.append(view)
        return found

    def _node(self, shard: Shard) -> Endpoint:
        return self.start.at(*self.address_map.reach(shard.host, shard.port))


def _owners(view: View) -> list[Shard]:
    return [shard for shard in view.primaries if shard.slots]
