"""Client names of the application's connections, so that CLIENT LIST tells a writer with a lease from a plain client.

A cutover has to know who writes without being registered. A name that the application gave stays; where there is
none, ours is set with CLIENT SETNAME. A server that refuses it changes nothing: those connections count as a plain
client's then, which makes a gate stronger, never weaker.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from redis.exceptions import ResponseError

from keyferry.capture.clients._async.ends import End
from keyferry.capture.clients._async.platform import settled

OUR_NAME = "keyferry-app"
_NAMES = "_keyferry_names"  # on a greeting of ours: it is not put around itself


def name_connections(end: End) -> str:
    """Has every connection to this side that is made from now on name itself, those for second legs included.

    Returns:
        The name.
    """
    if end.pool is not None:
        manners: list[Any] = [end.pool.connection_kwargs]
    else:
        nodes = end.cluster.nodes_manager
        manners = [nodes.connection_kwargs]
        manners += [getattr(node, "connection_kwargs", None) for node in list(nodes.startup_nodes.values())]
        manners += [getattr(node, "connection_kwargs", None) for node in list(nodes.nodes_cache.values())]
    manners = [one for one in manners if isinstance(one, dict)]  # a stand-in has anything
    given = next((one["client_name"] for one in manners if one.get("client_name")), None)
    if given is not None:
        return str(given)
    if end.pool is None and hasattr(end.cluster, "user_on_connect_func"):
        # redis-py's cluster client with threads greets by itself, and calls the application's greeting after that.
        end.cluster.user_on_connect_func = _naming(end.cluster.user_on_connect_func, greets=False)
    else:
        for one in manners:
            one["redis_connect_func"] = _naming(one.get("redis_connect_func"), greets=True)
    return OUR_NAME


def _naming(given: Callable[[Any], Any] | None, *, greets: bool) -> Callable[[Any], Any]:
    """The application's greeting of a new connection, or redis-py's, and then the name.

    Args:
        greets: Without a greeting by the application redis-py's own is ours to call.
    """
    if getattr(given, _NAMES, False) is True:
        assert given is not None
        return given

    async def greet(connection: Any) -> None:
        if given is not None:
            await settled(given(connection))
        elif greets:
            await connection.on_connect()
        try:
            await connection.send_command("CLIENT", "SETNAME", OUR_NAME)
            await connection.read_response()
        except ResponseError:
            pass  # see the module

    setattr(greet, _NAMES, True)
    return greet
