"""The two ends of a migration as redis-py sees them: a pool of connections, or a cluster client."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Hashable
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from redis.backoff import NoBackoff

from keyferry.capture.clients._async.platform import (
    BaseRedis,
    BlockingConnectionPool,
    ClusterNode,
    ConnectionPool,
    RedisCluster,
    Retry,
    SentinelConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
    parse_url,
    settled,
)
from keyferry.model.phases import Side

CLUSTER_SCHEMES = {"redis+cluster://": "redis://", "rediss+cluster://": "rediss://"}
# What a target takes over from the source's arguments when its own URL does not say otherwise: how to talk, never where to.
_MANNERS = frozenset(
    [
        "db",
        "socket_timeout",
        "socket_connect_timeout",
        "socket_read_size",
        "socket_keepalive",
        "socket_keepalive_options",
        "encoding",
        "encoding_errors",
        "decode_responses",
        "retry",
        "retry_on_error",
        "retry_on_timeout",
        "health_check_interval",
        "client_name",
        "lib_name",
        "lib_version",
        "driver_info",
        "protocol",
        "legacy_responses",
        "parser_class",
    ]
)
_SHAPES = {"protocol": None, "legacy_responses": True, "decode_responses": False}
_TCP_ONLY = frozenset(["socket_connect_timeout", "socket_keepalive", "socket_keepalive_options"])
# Kept by a pool for its own connections; another pool must not share them.
_POOLS_OWN = frozenset(
    [
        "maint_notifications_pool_handler",
        "orig_host_address",
        "orig_socket_timeout",
        "orig_socket_connect_timeout",
        "oss_cluster_maint_notifications_handler",
        "himport_registry",
        "cache",
        "cache_config",
        "event_dispatcher",
    ]
)
_WANTS_NAME = "command_name" in (
    parameters := inspect.signature(ConnectionPool.get_connection).parameters
) and (parameters["command_name"].default is inspect.Parameter.empty)


# Kept as they are when we are loaded: somebody who watches or replaces them means the application's own pools.
_DISCONNECT: dict[Any, Any] = {
    kind: kind.disconnect for kind in (ConnectionPool, BlockingConnectionPool, SentinelConnectionPool)
}


async def close_pool(pool: ConnectionPool) -> None:
    """Ends the connections of a pool of our own."""
    await _DISCONNECT.get(type(pool), type(pool).disconnect)(pool)


def encoder_of(pool: ConnectionPool) -> Any:
    """The pool's own encoder; redis-py's where a stand-in for a pool has none that gives bytes."""
    encoder = pool.get_encoder()
    return encoder if isinstance(encoder.encode(""), bytes) else ConnectionPool().get_encoder()


async def get_connection(pool: ConnectionPool) -> Any:
    """A connection of the pool; redis-py before 5.3 asks for a command's name."""
    if _WANTS_NAME:
        return await pool.get_connection("_")
    return await pool.get_connection()


async def node_pool(end: End, shard_channel: bytes | None = None) -> ConnectionPool:
    """Connections to a node of a side that is a cluster: what is published to one reaches all.

    Args:
        shard_channel: of which only its slot's owner speaks.
    """
    cluster = end.cluster
    if hasattr(cluster, "initialize"):
        await cluster.initialize()
    node = cluster.get_random_node() if shard_channel is None else cluster.get_node_from_key(shard_channel)
    if hasattr(node, "connection_kwargs"):
        return ConnectionPool(connection_class=node.connection_class, **node.connection_kwargs)
    return cluster.get_redis_connection(node).connection_pool


class End:
    """One side, as one client reaches it.

    Attributes:
        side: which side it is.
        pool: the connections of a standalone server; None for a cluster.
        cluster: the cluster client; None for a standalone server.
        owned: made by us, so closed by us.
    """

    __slots__ = ("cluster", "owned", "pool", "side")

    def __init__(
        self, side: Side, *, pool: ConnectionPool | None = None, cluster: Any = None, owned: bool = False
    ) -> None:
        self.side = side
        self.pool = pool
        self.cluster = cluster
        self.owned = owned

    @property
    def place(self) -> Hashable:
        """What is the same for two clients of the same server and database."""
        if self.pool is None:
            nodes = self.cluster.nodes_manager.startup_nodes
            return ("cluster", *sorted(str(name) for name in nodes))
        known = self.pool.connection_kwargs
        return tuple(
            known.get(name) if isinstance(known.get(name), Hashable) else str(known.get(name))
            for name in ("host", "port", "path", "service_name", "db", "username")
        )

    @property
    def encoding(self) -> Hashable:
        """How text becomes bytes."""
        known = {} if self.pool is None else self.pool.connection_kwargs
        return known.get("encoding", "utf-8"), known.get("encoding_errors", "strict")

    @property
    def database(self) -> int:
        """The database's number; 0 in a cluster."""
        return 0 if self.pool is None else int(self.pool.connection_kwargs.get("db") or 0)

    async def close(self) -> None:
        """Closes what is ours."""
        if not self.owned:
            return
        if self.pool is not None:
            await close_pool(self.pool)
        else:
            await self.cluster.aclose()


def end_of(side: Side, given: Any, source_pool: ConnectionPool | None) -> End:
    """The end that an argument `source=` or `target=` names.

    Args:
        side: which side.
        given: a URL (redis://, rediss://, unix://, redis+cluster://), any redis-py client, or a pool.
        source_pool: whose manners (encoding, time-outs, retries, ...) a URL takes over; None for the defaults.

    Raises:
        ValueError: neither of these.
    """
    if isinstance(given, str):
        return _end_of_url(side, given, source_pool)
    if isinstance(given, RedisCluster):
        return End(side, cluster=given)
    if isinstance(given, BaseRedis):
        return End(side, pool=given.connection_pool)
    if isinstance(given, ConnectionPool):
        return End(side, pool=given)
    raise ValueError(
        f"{side}= takes a URL, a redis-py client or a connection pool, not {type(given).__name__}"
    )


def check_alike(source: End, target: End) -> None:
    """Two clients that were given must shape replies alike: an application cannot follow a change of shape at a switch.

    Raises:
        ValueError: they do not, in one sentence.
    """
    if source.pool is None or target.pool is None:
        return
    one: Any = source.pool.connection_kwargs
    other: Any = target.pool.connection_kwargs
    if not isinstance(one, dict) or not isinstance(other, dict):  # a stand-in for a pool
        return
    for name, default in _SHAPES.items():
        values = [default if known.get(name) is None else known[name] for known in (one, other)]
        if str(values[0]) != str(values[1]):
            raise ValueError(
                f"source and target must have the same {name}=, or replies change their shape at the switch; "
                f"got {values[0]!r} and {values[1]!r}"
            )


def _end_of_url(side: Side, url: str, source_pool: ConnectionPool | None) -> End:
    manners = {
        name: copy.deepcopy(value) if name == "retry" else value
        for name, value in (source_pool.connection_kwargs if source_pool is not None else {}).items()
        if name in _MANNERS
    }
    for scheme, plain in CLUSTER_SCHEMES.items():
        if url.startswith(scheme):
            for name in ("db", "retry", "retry_on_error", "retry_on_timeout", "parser_class"):
                manners.pop(name, None)
            return End(side, cluster=_cluster_of(plain + url[len(scheme) :], manners), owned=True)
    told = parse_url(url)
    connection_class = told.get("connection_class")
    if connection_class is not None and issubclass(connection_class, UnixDomainSocketConnection):
        manners = {name: value for name, value in manners.items() if name not in _TCP_ONLY}
    return End(side, pool=_pool_like(source_pool, {**manners, **told}), owned=True)


def _cluster_of(url: str, manners: dict[str, Any]) -> Any:
    """A cluster client from a URL that may name several nodes, one behind the other with commas."""
    parts = urlsplit(url)
    login, at, hosts = parts.netloc.rpartition("@")
    first, *others = hosts.split(",")
    told: dict[str, Any] = dict(parse_url(urlunsplit(parts._replace(netloc=login + at + first))))
    if told.get("db"):
        raise ValueError(f"a cluster has only database 0, and the URL names {told['db']}")
    told.pop("db", None)
    kind: Any = told.pop("connection_class", None)
    if kind is not None and issubclass(kind, SSLConnection):
        told["ssl"] = True
    nodes = [ClusterNode(told.pop("host", "localhost"), told.pop("port", 6379))]
    for place in others:
        host, _, port = place.rpartition(":")
        nodes.append(ClusterNode(host.strip("[]"), int(port)))
    return RedisCluster(startup_nodes=nodes, **manners, **told)


def _pool_like(pool: ConnectionPool | None, arguments: dict[str, Any]) -> ConnectionPool:
    if pool is None:
        return ConnectionPool(**arguments)
    if type(pool) is BlockingConnectionPool:
        return BlockingConnectionPool(max_connections=pool.max_connections, timeout=pool.timeout, **arguments)
    bound = getattr(pool, "max_connections", None)
    if isinstance(bound, int):  # not in a stand-in for a pool
        arguments["max_connections"] = bound
    return ConnectionPool(**arguments)


def mirror_pool(
    pool: ConnectionPool, timeout_seconds: float, on_connect: Callable[[Any], Any] | None
) -> ConnectionPool:
    """A pool beside another, for second legs: short time-outs, nothing sent twice, replies as bytes.

    Args:
        pool: the application's own pool of that side.
        timeout_seconds: for connecting and for a reply.
        on_connect: called with each new connection before its first use, after its own greeting.
    """
    arguments = _hurried(pool.connection_class, pool.connection_kwargs, timeout_seconds, on_connect)
    if isinstance(pool, SentinelConnectionPool):
        arguments.pop("connection_pool", None)
        return SentinelConnectionPool(
            pool.service_name,
            pool.sentinel_manager,
            connection_class=pool.connection_class,
            is_master=pool.is_master,
            check_connection=pool.check_connection,
            **arguments,
        )
    return ConnectionPool(connection_class=pool.connection_class, **arguments)


def mirror_node_pool(
    cluster: Any, node: Any, timeout_seconds: float, on_connect: Callable[[Any], Any] | None
) -> ConnectionPool:
    """The same for a node of a cluster."""
    kind, known = node_manners(cluster, node)
    return ConnectionPool(connection_class=kind, **_hurried(kind, known, timeout_seconds, on_connect))


def node_manners(cluster: Any, node: Any) -> tuple[Any, dict[str, Any]]:
    """How a cluster client connects to one of its nodes: the class, and its arguments."""
    if hasattr(node, "connection_kwargs"):
        return node.connection_class, dict(node.connection_kwargs)
    pool = cluster.get_redis_connection(node).connection_pool
    return pool.connection_class, dict(pool.connection_kwargs)


def _hurried(
    kind: Any, known: dict[str, Any], timeout_seconds: float, on_connect: Callable[[Any], Any] | None
) -> dict[str, Any]:
    arguments = {name: value for name, value in known.items() if name not in _POOLS_OWN}
    quiet = arguments.get("maint_notifications_config")
    if quiet is not None:
        quiet = copy.copy(quiet)
        quiet.enabled = False
        arguments["maint_notifications_config"] = quiet
    arguments.update(
        socket_timeout=timeout_seconds,
        retry=Retry(NoBackoff(), 0),
        retry_on_error=[],
        decode_responses=False,
        health_check_interval=0,
    )
    arguments.pop("retry_on_timeout", None)
    if not issubclass(kind, UnixDomainSocketConnection):
        arguments["socket_connect_timeout"] = timeout_seconds
    if on_connect is not None:
        arguments["redis_connect_func"] = _greeting(arguments.get("redis_connect_func"), on_connect)
    return arguments


def _greeting(given: Callable[[Any], Any] | None, on_connect: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The application's own greeting of a new connection, or redis-py's, and then ours."""

    async def greet(connection: Any) -> None:
        if given is None:
            await connection.on_connect()
        else:
            await settled(given(connection))
        await on_connect(connection)

    return greet
