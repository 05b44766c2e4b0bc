"""What must hold before the first write: two different servers, and no foreign key overwritten without a word."""

from __future__ import annotations

from collections.abc import Iterator

from keyferry.copy.info import info_text, parse_info
from keyferry.copy.settings import ConflictPolicy
from keyferry.model.errors import RefusedError, ServerError, UsageError
from keyferry.model.keys import is_reserved
from keyferry.model.selection import Selection
from keyferry.model.topology import STANDALONE_ID
from keyferry.wire.resp import Reply, ReplyError
from keyferry.wire.session import Session

SCAN_COUNT = 1000
EXACT_KEYS_MAX = 10_000
"""Up to so many keys a database's content is counted key by key, so that our own are left out."""


def refuse_same_server(source_run_ids: dict[str, str], target_run_ids: dict[str, str]) -> None:
    """Raises RefusedError when a process, or a node of a cluster, is on both sides.

    Args: run ids by shard; empty ones say nothing, but the ids of a cluster's nodes do.
    """
    both = set(source_run_ids.values()) & set(target_run_ids.values()) - {""}
    if both or source_run_ids.keys() & target_run_ids.keys() - {STANDALONE_ID}:
        cluster = len(source_run_ids) > 1 or len(target_run_ids) > 1
        raise RefusedError(
            "Source and target are the same cluster."
            if cluster
            else "Source and target are the same server.",
            "Name another target; nothing was written.",
        )


def refuse_merged(databases: list[int], selection: Selection) -> None:
    """Raises UsageError when two databases would go into one, where equal names overwrite each other in silence."""
    places: dict[int, int] = {}
    for database in databases:
        place = selection.target_database(database)
        if place in places:
            raise UsageError(
                f"Databases {places[place]} and {database} would both go into the target's {place}.",
                "Copy them one after the other, the second with --on-conflict to say what equal names mean.",
            )
        places[place] = database


def refuse_other_policy(earlier: ConflictPolicy | None, now: ConflictPolicy | None) -> None:
    """Raises RefusedError when an unfinished run treated the target's own keys in another way.

    ``earlier`` None: there were none to treat.
    """
    if earlier in (None, now):
        return
    raise RefusedError(
        f"An earlier, unfinished run of this copy was given --on-conflict {earlier}.",
        f"Give --on-conflict {earlier} again to go on, or --restart to begin anew.",
    )


def foreign_keys(session: Session, databases: list[int]) -> int:
    """How many keys the target's databases hold, without ours under the reserved prefix.

    A database with many keys is not scanned: its DBSIZE counts, once a first foreign key is found.
    """
    total = 0
    for database in databases:
        _expect(session, session.call("SELECT", database), f"does not give us database {database}")
        size = session.call("DBSIZE")
        if not isinstance(size, int) or size == 0:
            continue
        own = foreign = 0
        for keys in _pages(session):
            reserved = sum(map(is_reserved, keys))
            own, foreign = own + reserved, foreign + len(keys) - reserved
            if foreign and size > EXACT_KEYS_MAX:
                break
        total += foreign if size <= EXACT_KEYS_MAX else size - own if foreign else 0
    return total


def all_keys(session: Session, database: int) -> Iterator[list[bytes]]:
    """Pages of a database's keys without the reserved ones."""
    _expect(session, session.call("SELECT", database), f"does not give us database {database}")
    for keys in _pages(session):
        yield [key for key in keys if not is_reserved(key)]


def refuse_read_only(session: Session) -> None:
    """Raises RefusedError for a replica that takes no writes. Where INFO is forbidden, the first write shows it."""
    reply = session.call("INFO", "replication")
    info = parse_info(reply) if isinstance(reply, bytes) else {}
    if (
        info_text(info, "replication", "role") == "slave"
        and info_text(info, "replication", "slave_read_only") != "0"
    ):
        host, port = (info_text(info, "replication", f"master_{name}") for name in ("host", "port"))
        raise RefusedError(
            f"The {session.side} is a replica of {host}:{port}.",
            f"Name {host}:{port} instead, or make it a master first: REPLICAOF NO ONE on the {session.side}.",
        )


def refuse_foreign(count: int) -> None:
    """Raises RefusedError with the choices when the target holds foreign keys."""
    if count:
        raise RefusedError(
            f"The target already holds {count:,} {'key' if count == 1 else 'keys'} that this copy did not write.",
            "Choose --on-conflict replace (the source wins), skip (the target wins) or fail (such keys fail one by one), or name an empty target.",
        )


def _pages(session: Session) -> Iterator[list[bytes]]:
    cursor = b"0"
    while True:
        reply = _expect(
            session, session.call("SCAN", cursor, "COUNT", SCAN_COUNT), "does not let us scan its keys"
        )
        if not (
            isinstance(reply, list)
            and len(reply) == 2
            and isinstance(reply[0], bytes)
            and isinstance(reply[1], list)
        ):
            raise ServerError(session.side, f"The {session.side} answered SCAN with something else.")
        cursor = reply[0]
        yield [key for key in reply[1] if isinstance(key, bytes)]
        if cursor == b"0":
            return


def _expect(session: Session, reply: Reply, problem: str) -> Reply:
    if isinstance(reply, ReplyError):
        raise ServerError(session.side, f"The {session.side} {session.endpoint} {problem}: {reply.message}.")
    return reply
