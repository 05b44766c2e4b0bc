"""RQ: a class of connection that knows the second server, because RQ makes further connections from the class alone.

rq worker --connection-class rq_connection.Connection --url redis://old:6379/0
"""

from __future__ import annotations

from typing import Any

from rq import Queue
from servers import NEW, OLD, PHASE

from keyferry import Redis


class Connection(Redis):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"target": NEW, **PHASE, **kwargs})


# was: queue = Queue(connection=redis.Redis.from_url(OLD))
queue = Queue(connection=Connection.from_url(OLD))
