"""What a careful user writes with redis-py, one page at a time, pipelined:
``redis_py_loop.py SOURCE_PORT TARGET_PORT PAGE_KEYS``
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from typing import cast

import redis


def main(source_port: int, target_port: int, page_keys: int) -> None:
    source, target = redis.Redis(port=source_port), redis.Redis(port=target_port)
    begun = time.perf_counter()
    page: list[bytes] = []
    for key in cast(Iterable[bytes], source.scan_iter(count=page_keys)):
        page.append(key)
        if len(page) == page_keys:
            copy(source, target, page)
            page = []
    copy(source, target, page)
    print(json.dumps({"seconds": time.perf_counter() - begun}))
    source.close()
    target.close()


def copy(source: redis.Redis, target: redis.Redis, keys: list[bytes]) -> None:
    reads = source.pipeline(transaction=False)
    for key in keys:
        reads.dump(key)
        reads.pttl(key)
    replies = reads.execute()
    writes = target.pipeline(transaction=False)
    for key, payload, ttl in zip(keys, replies[::2], replies[1::2], strict=True):
        if payload is not None:
            writes.restore(key, 0 if ttl == -1 else max(ttl, 1), payload, replace=True)
    writes.execute()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
