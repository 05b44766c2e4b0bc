"""The drop-in client for `redis.asyncio.Redis`."""

from keyferry.capture.clients._async.client import Redis

__all__ = ["Redis"]
