"""Celery's results: one setting, and the few lines that it names. The broker keeps its own connections.

celery -A celery_app worker
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.backends.redis import RedisBackend
from servers import NEW, OLD, PHASE

from keyferry import Redis


class DualRedisBackend(RedisBackend):
    def _create_client(self, **params: Any) -> Redis:
        return Redis(connection_pool=self._get_pool(**params), target=NEW, **PHASE)


app = Celery("celery_app", broker=os.environ.get("BROKER", OLD))
# was: app.conf.result_backend = OLD
app.conf.result_backend = f"celery_app:DualRedisBackend+{OLD}"


@app.task
def add(a: int, b: int) -> int:
    return a + b
