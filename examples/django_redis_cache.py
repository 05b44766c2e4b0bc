"""django-redis: two settings."""

from __future__ import annotations

from servers import NEW, OLD, PHASE

CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": OLD,
        "OPTIONS": {
            "REDIS_CLIENT_CLASS": "keyferry.Redis",
            "REDIS_CLIENT_KWARGS": {"target": NEW, **PHASE},
        },
    },
}
