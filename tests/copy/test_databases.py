"""Which databases go into a cluster."""

from __future__ import annotations

import pytest

from keyferry.copy.databases import refuse_databases
from keyferry.model.errors import RefusedError
from keyferry.model.selection import Selection


@pytest.mark.parametrize(("databases", "mapped"), [([0], {}), ([3], {3: 0}), ([], {})])
def test_one_database_goes_into_database_0(databases: list[int], mapped: dict[int, int]) -> None:
    refuse_databases(databases, Selection(database_map=mapped), True)


@pytest.mark.parametrize(
    ("databases", "mapped", "reason"),
    [
        ([0, 3], {}, r"Databases 0, 3 cannot go into a cluster.*--db N --db-map N:0"),
        ([0, 3], {3: 0}, r"Databases 0, 3 cannot go into a cluster"),
        ([3], {}, r"Database 3 cannot go into database 3 of a cluster.*--db 3 --db-map 3:0"),
        ([0], {0: 1}, r"Database 0 cannot go into database 1 of a cluster"),
    ],
)
def test_others_are_refused(databases: list[int], mapped: dict[int, int], reason: str) -> None:
    selection = Selection(database_map=mapped)
    with pytest.raises(RefusedError, match=reason):
        refuse_databases(databases, selection, True)
    refuse_databases(databases, selection, False)
