"""What the workers of rq_connection.py run; each job in a process that its worker has forked."""

from __future__ import annotations

from rq_connection import Connection
from servers import OLD

r = Connection.from_url(OLD)


def count_words(text: str) -> int:
    with r.pipeline() as pipe:
        for word in text.split():
            pipe.zincrby("words", 1, word)
        pipe.incr("texts")
        pipe.execute()
    return len(text.split())
