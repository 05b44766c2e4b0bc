# Written by `make generate` from _async/client.py: change that one.
"""The drop-in client: redis-py's own, and every write also on the other server."""

from __future__ import annotations

import inspect
from typing import Any, Self

from keyferry.capture.clients._sync.carrying import carry
from keyferry.capture.clients._sync.cluster_leg import ClusterLeg
from keyferry.capture.clients._sync.crossing import Crossing, crossing_of
from keyferry.capture.clients._sync.ends import CLUSTER_SCHEMES, End, check_alike, end_of
from keyferry.capture.clients._sync.heard import KEY, Heard
from keyferry.capture.clients._sync.naming import name_connections
from keyferry.capture.clients._sync.pipeline import Pipeline
from keyferry.capture.clients._sync.platform import BasePubSub, BaseRedis
from keyferry.capture.clients._sync.pubsub import PubSub
from keyferry.capture.clients.migration import Migration
from keyferry.capture.clients.options import OURS, ClientOptions, signature, take_options
from keyferry.model.phases import Side

_DISPATCHES = "event_dispatcher" in inspect.signature(BasePubSub.__init__).parameters
_TAG = "_keyferry"  # on a pool of ours: what clients made from that pool alone go on with


class Attempts:
    """How a command is sent by redis-py, with our look before each attempt and the reply remembered."""

    def _send_command_parse_response(self, conn: Any, command_name: Any, *args: Any, **options: Any) -> Any:
        operation = options.pop(KEY, None)
        if operation is None:
            return super()._send_command_parse_response(conn, command_name, *args, **options)  # type: ignore[misc]
        operation.attempt()
        if not operation.hears and operation.ahead is None:
            return super()._send_command_parse_response(conn, command_name, *args, **options)  # type: ignore[misc]
        if not operation.blocks:
            if operation.ahead is not None:
                operation.send(conn, args, options)
            else:
                conn.send_command(*args, **options)
            return self.parse_response(Heard(conn, operation), command_name, **options)  # type: ignore[attr-defined]
        try:
            operation.send(conn, args, options)
            return self.parse_response(Heard(conn, operation), command_name, **options)  # type: ignore[attr-defined]
        finally:
            operation.let_go()


class Leg(Attempts, BaseRedis):
    """The side that a client was not made for, with the client's response callbacks."""


class Redis(Attempts, BaseRedis):
    """redis-py's client with a second server.

    It takes every argument of redis-py's own, which mean the source, and:

    Args:
        source: instead of redis-py's own arguments: a URL or any redis-py client.
        target: the other server: a URL (redis://, rediss://, unix://, redis+cluster://) or any redis-py client.
        phase: a phase fixed in code: source, dual, shadow, target-dual, target.
        migration: the name of a migration; its shared record names the phase, also while the program runs.
        mirror, mirror_queue_max, mirror_scripts, target_timeout_ms, on_target_error, ledger, ledger_name,
            ledger_keys_max, shadow_share, hold_timeout_ms, lease_ms: see `keyferry.capture.clients.options`.

    Raises:
        ValueError: arguments that make no sense together, in one sentence.
    """

    _crossing: Crossing | None = None
    _home: Side = Side.SOURCE
    _owns_ends = _single = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        ours = {name: kwargs.pop(name) for name in OURS & kwargs.keys()}
        if not ours:
            super().__init__(*args, **kwargs)
            inherited = getattr(self.connection_pool, _TAG, None)
            if isinstance(inherited, tuple):  # a stand-in for a pool has every attribute
                self._join(*inherited, single=bool(kwargs.get("single_connection_client")))
            return
        single = kwargs.pop("single_connection_client", False)
        source = ours.pop("source", None)
        source_end = None
        if source is not None:
            if args or kwargs.get("connection_pool") is not None or "host" in kwargs:
                raise ValueError("give either source= or redis-py's own arguments for it, not both")
            source_end = end_of(Side.SOURCE, source, None)
            if source_end.pool is not None:
                kwargs["connection_pool"] = source_end.pool
        super().__init__(*args, **kwargs)
        if isinstance(source, BaseRedis):
            self.response_callbacks = source.response_callbacks
        self._adopt(ours, source_end, single=single)

    def _adopt(self, ours: dict[str, Any], source_end: End | None, *, single: bool) -> None:
        """Takes the other server in."""
        target = ours.pop("target", None)
        options = take_options(ours)
        if target is None:
            raise ValueError("a second server is missing: give target= (a URL or a redis-py client)")
        if options is None or (options.phase is None and options.migration is None):
            raise ValueError(
                "say which phase: phase= (fixed in code) or migration= (follows the shared record)"
            )
        if source_end is None:
            source_end = End(Side.SOURCE, pool=self.connection_pool)
        target_end = end_of(Side.TARGET, target, source_end.pool)
        check_alike(source_end, target_end)
        self._join(options, {Side.SOURCE: source_end, Side.TARGET: target_end}, single=single)
        self._owns_ends = True
        assert self._crossing is not None
        self._crossing.users += 1
        if single:
            closes, callbacks = self.auto_close_connection_pool, self.response_callbacks
            super().__init__(connection_pool=self.connection_pool, single_connection_client=True)
            self.auto_close_connection_pool, self.response_callbacks = closes, callbacks

    def _join(self, options: ClientOptions, ends: dict[Side, End], *, single: bool) -> None:
        self._ends, self._single = ends, single
        self._legs: dict[Side, Any] = {}
        self._own_pool = self.connection_pool
        for end in ends.values():
            if end.pool is not None:
                setattr(end.pool, _TAG, (options, ends))
        # Before the crossing is made: its own connections are made like the application's.
        names = [name_connections(end) for end in ends.values() if options.migration is not None]
        self._crossing = crossing_of(options, ends)
        self._crossing.add_names(names)
        state = self._crossing.state
        if single and state.dynamic:
            # Its connection stays where it was made; the other side gets one of its own.
            self._home = next((side for side, end in ends.items() if end.pool is self._own_pool), Side.SOURCE)
            return
        self.move(state.authority)
        if state.dynamic:
            self._crossing.add_client(self)

    def move(self, side: Side) -> None:
        """Makes the side with authority the one whose pool others find at `connection_pool`.

        A command that is on its way meanwhile looks at the phase before it is sent, and begins again.
        """
        pool = self._ends[side].pool
        if pool is not None:
            self.connection_pool = pool
            self._home = side

    @classmethod
    def from_urls(cls, source: str, target: str, **kwargs: Any) -> Self:
        """A client of two servers.

        Args:
            source: URL of the server that is being left.
            target: URL of the server that is being moved to.
            kwargs: `phase=` or `migration=`, our other settings, and redis-py's own.
        """
        return cls.from_url(source, target=target, **kwargs)

    @classmethod
    def from_url(cls, url: str, **kwargs: Any) -> Self:
        """As redis-py's own; with `target=` and a phase, a client of two servers."""
        ours = {name: kwargs.pop(name) for name in OURS & kwargs.keys()}
        if not ours:
            return super().from_url(url, **kwargs)
        if url.startswith(tuple(CLUSTER_SCHEMES)):
            if kwargs:
                raise ValueError(
                    f"a URL of a cluster as the source takes no {', '.join(sorted(kwargs))}: "
                    "make a redis.cluster.RedisCluster with it, and give that as source="
                )
            return cls(source=url, **ours)
        single = kwargs.pop("single_connection_client", False)
        client = super().from_url(url, **kwargs)
        assert isinstance(client, cls)
        client._adopt(ours, None, single=single)
        return client

    # Commands

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """As redis-py's own: the reply is the authority's."""
        crossing = self._crossing
        # Not super(): this is the way of every command, and there is nobody in between.
        if crossing is None or crossing.state.plain:
            return BaseRedis.execute_command(self, *args, **options)
        return carry(crossing, self._first_leg, args, options, self._nothing)

    def _nothing(self, name: str, options: dict[str, Any]) -> Any:
        """What redis-py makes of a blocking command that came back empty."""
        callback = self.response_callbacks.get(name)
        options = {key: value for key, value in options.items() if key not in ("keys", KEY)}
        return None if callback is None else callback(None, **options)

    def _first_leg(self, side: Side, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if side is self._home and self._ends[side].pool is not None:
            return BaseRedis.execute_command(self, *args, **options)
        return self._leg(side).execute_command(*args, **options)

    def _leg(self, side: Side) -> Any:
        leg = self._legs.get(side)
        if leg is None:
            end = self._ends[side]
            if end.pool is None:
                leg = ClusterLeg(end.cluster)
            else:
                leg = Leg(connection_pool=end.pool, single_connection_client=self._single)
                leg.response_callbacks = self.response_callbacks
            leg = self._legs.setdefault(side, leg)
        return leg

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Any:
        """As redis-py's own; its writes go to both servers, in one packet each."""
        crossing = self._crossing
        if crossing is None:
            return super().pipeline(transaction, shard_hint)
        return Pipeline(self, crossing, self._ends, transaction, shard_hint)

    def pubsub(self, **kwargs: Any) -> Any:
        """As redis-py's own; it listens where the authority is, and moves with it without losing a message."""
        crossing = self._crossing
        if crossing is None:
            return super().pubsub(**kwargs)
        if crossing.state.dynamic:
            if _DISPATCHES:
                kwargs.setdefault("event_dispatcher", self._event_dispatcher)
            return PubSub(self, crossing, self._ends, **kwargs)
        home = self._ends[self._home]
        return super().pubsub(**kwargs) if home.pool is not None else home.cluster.pubsub(**kwargs)

    def monitor(self) -> Any:
        """As redis-py's own: of the side that has authority now."""
        crossing = self._crossing
        end = None if crossing is None else self._ends[crossing.state.authority]
        return super().monitor() if end is None or end.pool is not None else end.cluster.monitor()

    def client(self) -> Self:
        """As redis-py's own: a client with one connection of its own, and the same two servers."""
        return super().client()

    @property
    def migration(self) -> Migration | None:
        """What this client knows of the migration, and has done in it; None for a client with one server."""
        return None if self._crossing is None else self._crossing.migration

    def __del__(self) -> None:
        # Whoever forgot this client must not wait, wherever its end comes: what is queued goes out by its workers.
        if self._owns_ends:
            self._owns_ends = False
            if self._crossing is not None:
                self._crossing.users -= 1
        super().__del__()

    def close(self, *args: Any, **kwargs: Any) -> None:
        """As redis-py's own. Second legs that wait in the background are sent first, within a bound."""
        if self._owns_ends:
            self._owns_ends = False
            assert self._crossing is not None
            self._crossing.leave_user()
            for side, end in self._ends.items():
                if end.owned or (side is not self._home and self.auto_close_connection_pool):
                    end.close()
        if self._crossing is None:
            super().close(*args, **kwargs)
            return
        for leg in self._legs.values():
            leg.close()
        connection, self.connection = self.connection, None
        if connection is not None:
            self.connection_pool.release(connection)
        # What redis-py closes with a client is the pool that came with it, wherever authority is now.
        pool, self.connection_pool = self.connection_pool, self._own_pool
        try:
            super().close(*args, **kwargs)
        finally:
            self.connection_pool = pool


Redis.__init__.__signature__ = signature(BaseRedis.__init__)  # type: ignore[attr-defined]
