"""The two users of the demo: Keyferry's own, and the service's, whose write rights a switch can take away."""

from __future__ import annotations

from dataclasses import replace

from keyferry.model.address import Endpoint
from keyferry.model.errors import KeyferryError
from keyferry.testing.servers import HOST, Server

KEYFERRY_USER, SERVICE_USER = "keyferry", "shop"
PASSWORD = "demo"
TIMEOUT_S = 10.0


def make_users(server: Server) -> None:
    """Raises KeyferryError when the server refuses."""
    with server.session(timeout_s=TIMEOUT_S) as session:
        for user in (KEYFERRY_USER, SERVICE_USER):
            reply = session.call("ACL", "SETUSER", user, "on", f">{PASSWORD}", "~*", "&*", "+@all")
            if reply != b"OK":
                raise KeyferryError(f"{server.binary} makes no user: {reply!r}")


def as_user(server: Server, user: str) -> Endpoint:
    return replace(server.endpoint, username=user, password=PASSWORD)


def service_url(server: Server) -> str:
    """For the clients of the service."""
    return f"redis://{SERVICE_USER}:{PASSWORD}@{HOST}:{server.port}"
