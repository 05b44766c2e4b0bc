"""Whole switches with an application that knows nothing of Keyferry, alone and beside one that does.

Keyferry has a user of its own on both servers, the application has another one. What was acknowledged is there on the
side that counts, and who writes on the other side is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conducting import Counting, Migration, migrating
from plain_application import (
    APP,
    PASSWORD,
    Writer,
    acknowledged,
    all_refused,
    all_write,
    apart,
    counted,
    users_of,
    writing,
)

from copying import fill_strings, wait_until
from keyferry.testing.servers import Server

PAIRS = [("redis-6.2", "valkey-9.1"), ("redis-7.0", "redis-8.2"), ("valkey-9.1", "redis-7.0")]
StartServer = Callable[..., Server]


@pytest.fixture(params=PAIRS, ids="->".join)
def own_pair(request: pytest.FixtureRequest, start_server: StartServer) -> tuple[Server, Server]:
    """Of the test alone: the bar takes the rights of every user but ours."""
    source, target = request.param
    return start_server(source), start_server(target)


def test_plain_clients_there_and_back(own_pair: tuple[Server, Server], tmp_path: Path) -> None:
    source, target = own_pair
    fill_strings(source, 1000)
    with apart(source) as (from_ours, from_app), apart(target) as (to_ours, to_app):
        with source.session() as one, target.session() as other:
            before = users_of(one), users_of(other)
        with migrating(from_ours, to_ours, tmp_path) as migration:  # type: ignore[arg-type]
            with writing(from_app) as writers:
                migration.is_ready()
                end = migration.switch("cutover")
                assert end.facts["gate"] == "pause", end
                all_refused(writers)
                assert acknowledged(writers) == counted(target, writers) == counted(source, writers)
                with Counting(source, target, threads=1, username=APP, password=PASSWORD) as late:
                    wait_until(lambda: late.writes() > 5 or late.failures, "who comes late finds the target")
                assert not late.failures
                with writing(to_app, "moved") as moved:
                    all_write(moved, {})
                    migration.is_ready()
                    assert migration.switch("rollback").facts["gate"] in ("pause", "both")
                    all_refused(moved)
                    assert acknowledged(moved) == counted(source, moved) == counted(target, moved)
                all_write(writers, counted(target, writers))
                migration.is_ready()
                migration.switch("cutover")
                all_refused(writers)
                assert acknowledged(writers) == counted(target, writers)
                assert {writer.surprise for writer in [*writers, *moved]} == {None}
            with source.session() as one, target.session() as other:
                assert users_of(one) != before[0]
                assert users_of(other) == before[1]
            assert migration.ask("finish", yes=True).exit_code == 0
            migration.end()
        assert migration.report is not None
        assert [switch.outcome for switch in migration.report.switches] == ["done"] * 3


def test_beside_writers_that_follow_the_record(own_pair: tuple[Server, Server], tmp_path: Path) -> None:
    """Both use the application's user: the bar hits those that follow the record as well, and they do not notice."""
    source, target = own_pair
    fill_strings(source, 1000)
    with (
        apart(source) as (from_ours, from_app),
        apart(target) as (to_ours, _),
        migrating(from_ours, to_ours, tmp_path) as migration,  # type: ignore[arg-type]
        writing(from_app) as writers,
    ):
        migration.is_ready()
        with Counting(source, target, username=APP, password=PASSWORD) as following:
            there_and_back(migration, following, writers, target)
        assert not following.failures
        with target.session() as session:
            replies = session.pipeline([("GET", key) for key in following.acknowledged])
        assert [int(str(reply, "ascii")) for reply in replies] == list(following.acknowledged.values())  # type: ignore[arg-type]


def there_and_back(migration: Migration, following: Counting, writers: list[Writer], target: Server) -> None:
    for command in ("cutover", "rollback", "cutover"):
        migration.is_ready(writers=1)
        end = migration.switch(command, gate="both")
        following.goes_on()
        if command == "cutover":
            all_refused(writers)
            assert acknowledged(writers) == counted(target, writers)
        else:
            all_write(writers, counted(target, writers))
        assert end.facts["gate"] == "both"
