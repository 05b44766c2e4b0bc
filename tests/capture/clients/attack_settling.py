"""What `keyferry sync` does with the ledger, by plain commands: each key that writers named is carried over anew."""

from __future__ import annotations

from typing import Any

import redis

from keyferry.capture.ledger_format import ledger_keys, split_member, unpack
from keyferry.testing.compare import Difference, compare_databases
from keyferry.testing.servers import Server

DATABASES = (0, 1)
UNSETTLED = ("consumers",)
"""A consumer that was only made by asking for entries is in no reply: it is made again by its next question."""


def client_of(server: Server, database: int = 0) -> Any:
    return redis.Redis.from_url(server.url, db=database)


def reported(authority: Server, name: str, *, opened: bool = False) -> set[tuple[int, bytes]] | None:
    """Takes the ledger off the server: databases and keys; None is everything.

    Args:
        opened: Entries under way count as well: whoever wrote them is gone.
    """
    keys = ledger_keys(name)
    members: set[bytes] = set()
    full = False
    for database in DATABASES:  # SWAPDB takes the ledger along
        with client_of(authority, database) as client:
            full |= bool(client.exists(keys.full))
            members.update(client.smembers(keys.dirty))
            if opened:
                for packed in client.hvals(keys.open):
                    its = unpack(packed)
                    full |= its is None
                    members.update(its or ())
            client.delete(keys.full, keys.dirty, *([keys.open] if opened else []))
    return None if full else {split_member(one) for one in members}


def settle(authority: Server, mirror: Server, name: str, *, opened: bool = False) -> int:
    """Carries what the ledger names, and says how many keys that were; -1 is everything."""
    named = reported(authority, name, opened=opened)
    if named is None:
        copy_all(authority, mirror)
        return -1
    for database in {database for database, _ in named}:
        carry_over(authority, mirror, database, [key for at, key in named if at == database])
    return len(named)


def copy_all(authority: Server, mirror: Server) -> None:
    """Everything but our own keys, after the mirror side was emptied of the like."""
    for database in DATABASES:
        with client_of(authority, database) as source, client_of(mirror, database) as target:
            keys = {
                key for side in (source, target) for key in side.keys("*") if not key.startswith(b"keyferry:")
            }
        carry_over(authority, mirror, database, list(keys))


def carry_over(authority: Server, mirror: Server, database: int, keys: list[bytes]) -> None:
    with client_of(authority, database) as source, client_of(mirror, database) as target:
        now_ms = _now_ms(source)
        for key in keys:
            payload, left_ms = source.pipeline().dump(key).pttl(key).execute()
            if payload is None:
                target.delete(key)
            else:
                at_ms = now_ms + left_ms if left_ms > 0 else 0
                target.restore(key, at_ms, payload, replace=True, absttl=bool(at_ms))


def _now_ms(client: Any) -> int:
    seconds, micros = client.time()
    return int(seconds * 1000 + micros // 1000)


def differences(
    one: Server, other: Server, *, ignore: tuple[str, ...] = UNSETTLED, tolerance_ms: int = 2_000
) -> list[tuple[int, Difference]]:
    """All that differs in any of the databases, as an independent comparison finds it."""
    found: list[tuple[int, Difference]] = []
    with one.session() as left, other.session(side="target") as right:
        for database in DATABASES:
            compared = compare_databases(
                left,
                right,
                source_db=database,
                target_db=database,
                expiry_tolerance_ms=tolerance_ms,
                ignore=ignore,
            )
            found += [(database, difference) for difference in compared.differences]
    return found
