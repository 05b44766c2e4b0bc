# Written by `make generate` from _async/record_line.py: change that one.
"""A connection of our own to the server that holds a side's phase record.

Not one of the application's: it has short time-outs, sends nothing twice, speaks RESP2 (a message is an array then,
whatever redis-py version), and its replies are taken as bytes.
"""

from __future__ import annotations

from typing import Any

from redis.backoff import NoBackoff
from redis.exceptions import AskError, ClusterDownError, RedisClusterException, ResponseError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError

from keyferry.capture.clients._sync.ends import End, node_manners
from keyferry.capture.clients._sync.platform import (
    Retry,
    UnixDomainSocketConnection,
    arrival,
    drop,
    interrupt,
)

REDIRECTIONS_MAX = 3
# Of a pool's or a cluster client's own; a connection beside it must not share them.
_NOT_OURS = frozenset(
    (
        "cache",
        "cache_config",
        "event_dispatcher",
        "himport_registry",
        "maint_notifications_config",
        "maint_notifications_pool_handler",
        "orig_host_address",
        "orig_socket_connect_timeout",
        "orig_socket_timeout",
        "oss_cluster_maint_notifications_handler",
        "retry_on_timeout",
    )
)

Reply = Any
Command = tuple[bytes | int, ...]


class SideAccess:
    """How a side is reached for its record.

    Args:
        end: The side, as the application's clients reach it.
        timeout_s: For connecting, and for each reply.
    """

    def __init__(self, end: End, timeout_s: float) -> None:
        self._end = end
        self._timeout_s = timeout_s

    def connect(self, key: bytes, *, anew: bool = False) -> Any:
        """A connection to the server that holds the key.

        Args:
            anew: A cluster is asked again which node that is.

        Raises:
            RedisError: It cannot be had.
        """
        try:
            kind, arguments = self._place(key, anew)
        except RedisClusterException as error:
            raise RedisConnectionError(
                f"the cluster does not say where the phase record is: {error}"
            ) from error
        arguments = {name: value for name, value in arguments.items() if name not in _NOT_OURS}
        arguments.update(
            socket_timeout=self._timeout_s,
            retry=Retry(NoBackoff(), 0),
            retry_on_error=[],
            decode_responses=False,
            health_check_interval=0,
            protocol=2,
        )
        if not issubclass(kind, UnixDomainSocketConnection):
            arguments["socket_connect_timeout"] = self._timeout_s
        connection = kind(**arguments)
        try:
            connection.connect()
        except BaseException:
            drop(connection)
            raise
        return connection

    def _place(self, key: bytes, anew: bool) -> tuple[Any, dict[str, Any]]:
        pool = self._end.pool
        if pool is None:
            cluster = self._end.cluster
            if anew:
                cluster.nodes_manager.initialize()
            elif hasattr(cluster, "initialize"):
                cluster.initialize()
            node = cluster.get_node_from_key(key)
            if node is None:
                raise ClusterDownError("no node serves the slot of the phase record")
            return node_manners(cluster, node)
        return pool.connection_class, dict(pool.connection_kwargs)


class RecordLine:
    """One connection, made when it is needed; any trouble closes it. Not for two users at once.

    Args:
        access: How the side is reached.
        key: The record's key, which says to which node of a cluster.
    """

    def __init__(self, access: SideAccess, key: bytes) -> None:
        self._access = access
        self._key = key
        self._connection: Any = None
        self._stale = False

    def exchange(self, *commands: Command, again: bool = False) -> list[Reply]:
        """Sends commands in one go, and takes all replies; a refusal is a reply (ResponseError).

        Args:
            again: They may be carried out twice. An old connection that turns out to be broken (a server closes what
                was idle for long) is replaced once then.

        Raises:
            RedisError: There was no connection, or it broke; what was sent may or may not have been carried out.
        """
        for _ in range(REDIRECTIONS_MAX):
            used = self._connection
            try:
                replies = self._exchange(commands)
            except RedisConnectionError:
                if not again or used is None:
                    raise
                replies = self._exchange(commands)
            sent_away = [reply for reply in replies if isinstance(reply, (AskError, TryAgainError))]
            if not sent_away:
                return replies
            self._stale = True
            self.close()
        raise RedisConnectionError(f"the phase record is on its way to another node: {sent_away[0]}")

    def subscribe(self, channel: bytes) -> None:
        """Listens to a channel from now on; the line is good for nothing else then. Raises as ``exchange``."""
        (reply,) = self._exchange([(b"SUBSCRIBE", channel)])
        if isinstance(reply, ResponseError):
            self.close()
            raise reply

    def message(self, timeout_s: float) -> Reply:
        """What comes next on a line that listens: ``[b"message", channel, data]``, ``[b"pong", b""]``, or None when
        nothing comes in the time. Raises as ``exchange``."""
        if self._connection is None:
            raise RedisConnectionError("the subscription is not there any more")
        try:
            return arrival(self._connection, timeout_s)
        except BaseException:
            self.close()
            raise

    def ping(self) -> None:
        """Asks a line that listens for a sign of life. Raises as ``exchange``."""
        if self._connection is None:
            raise RedisConnectionError("the subscription is not there any more")
        try:
            self._connection.send_packed_command(self._connection.pack_command(b"PING"), False)
        except BaseException:
            self.close()
            raise

    def interrupt(self) -> None:
        """Ends a ``message`` that another thread waits for."""
        if self._connection is not None:
            interrupt(self._connection)

    def close(self) -> None:
        """Closes the connection; the next use opens another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            drop(connection)

    def abandon(self) -> Any:
        """Forgets the connection without touching it: it is another process's. The caller keeps what is returned."""
        connection, self._connection = self._connection, None
        return connection

    def _exchange(self, commands: Any) -> list[Reply]:
        if self._connection is None:
            self._connection = self._access.connect(self._key, anew=self._stale)
            self._stale = False
        connection = self._connection
        try:
            connection.send_packed_command(connection.pack_commands(commands), False)
            replies: list[Reply] = []
            for _ in commands:
                try:
                    replies.append(connection.read_response(disable_decoding=True))
                except ResponseError as error:
                    replies.append(error)
            return replies
        except BaseException:
            # A cluster's node that went away may have been replaced.
            self._stale = True
            self.close()
            raise
