"""Keyferry moves the data of a live Redis-compatible server to another one without downtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyferry.capture.clients._sync.client import Redis as Redis

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    # redis-py is loaded only by those who use the client.
    if name == "Redis":
        from keyferry.capture.clients._sync.client import Redis

        return Redis
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
