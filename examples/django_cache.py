"""Django's own Redis cache: one setting, and the few lines below that it names."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

from django.core.cache.backends.redis import RedisCache, RedisCacheClient
from servers import NEW, OLD, PHASE

from keyferry import Redis


class DualCacheClient(RedisCacheClient):
    """Django makes a client for every call, from its pool: one for each pool is enough."""

    def __init__(self, servers: list[str], *, keyferry: dict[str, Any], **options: Any) -> None:
        super().__init__(servers, **options)
        self._client = cache(partial(Redis, **keyferry))


class DualRedisCache(RedisCache):
    def __init__(self, server: str | list[str], params: dict[str, Any]) -> None:
        super().__init__(server, params)
        self._class = DualCacheClient


CACHES = {
    "default": {
        "BACKEND": "django_cache.DualRedisCache",  # was: "django.core.cache.backends.redis.RedisCache"
        "LOCATION": OLD,
        "OPTIONS": {"keyferry": {"target": NEW, **PHASE}},
    },
}
