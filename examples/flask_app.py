"""Flask-Caching: one setting, and the few lines that it names.

flask --app flask_app run
"""

from __future__ import annotations

import time
from typing import Any

from flask import Flask
from flask_caching import Cache
from flask_caching.backends.rediscache import RedisCache
from servers import NEW, OLD, PHASE

from keyferry import Redis


def dual_cache(app: Flask, config: dict[str, Any], args: list[Any], kwargs: dict[str, Any]) -> RedisCache:
    both = Redis.from_urls(OLD, NEW, **PHASE)
    return RedisCache(both, *args, key_prefix=config["CACHE_KEY_PREFIX"], **kwargs)


app = Flask(__name__)
app.config["CACHE_TYPE"] = "flask_app.dual_cache"  # was: "RedisCache", with CACHE_REDIS_URL = OLD
app.config["CACHE_KEY_PREFIX"] = "flask:"
cache = Cache(app)


@app.get("/slow")
@cache.cached(timeout=60)
def slow() -> str:
    return f"computed at {time.time()}"
