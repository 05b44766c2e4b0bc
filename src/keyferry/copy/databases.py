"""Which databases a cluster can take: one. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from keyferry.model.errors import RefusedError
from keyferry.model.selection import Selection


def refuse_databases(databases: Sequence[int], selection: Selection, target_is_cluster: bool) -> None:
    """Refuses what a cluster has no place for; equal names from several databases would meet there in silence.

    Args:
        databases: Of the source, that are to be copied.

    Raises:
        RefusedError: The target is a cluster, and something else than its database 0 is asked for.
    """
    problem = cluster_problem(databases, selection) if target_is_cluster else None
    if problem is not None:
        raise RefusedError(*problem)


def cluster_problem(databases: Sequence[int], selection: Selection) -> tuple[str, str] | None:
    """Why these databases do not go into a cluster, and what to do; None when they do."""
    if len(databases) > 1:
        names = ", ".join(map(str, databases))
        return (
            f"Databases {names} cannot go into a cluster: it has one database, where equal names would meet.",
            "Copy them one at a time, with --db N --db-map N:0 each; from the second on, --on-conflict fail names "
            "the keys that are there already.",
        )
    for database in databases:
        place = selection.target_database(database)
        if place:
            return (
                f"Database {database} cannot go into database {place} of a cluster: it has only database 0.",
                f"Use --db {database} --db-map {database}:0.",
            )
    return None
