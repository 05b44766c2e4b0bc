"""The ACL rules that the page about addresses gives for migrations are enough for all that a migration does."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from migration_process import Running, running

from keyferry.testing.dataset import fill
from keyferry.testing.servers import Server
from keyferry.wire.resp import ReplyError

PAGE = Path(__file__).parents[2] / "docs" / "addresses-and-passwords.md"
RULE = re.compile(r"^    ACL SETUSER ferry-migrate (.*)$", re.MULTILINE)
BAR_RULE = re.compile(r"^    (\+client\|pause .*)$", re.MULTILINE)
READ_ONLY_RULE = re.compile(r"^    (\+replicaof .*)$", re.MULTILINE)
PAIRS = [("redis-6.2", "valkey-9.1"), ("redis-8.2", "redis-7.0")]


def as_ferry(server: Server, *more: re.Pattern[str]) -> str:
    """The address with a user that has the documented rights."""
    page = PAGE.read_text(encoding="utf-8")
    rules = [rule for pattern in (RULE, *more) for (rule,) in [pattern.findall(page)]]
    with server.session() as session:
        assert session.call("ACL", "SETUSER", "ferry", *" ".join(rules).split()) == b"OK"
    return server.url.replace("//", "//ferry:password@")


def write(server: Server) -> object:
    """What an application's own write is answered; it has the user ``default``."""
    with server.session() as session:
        reply = session.call("INCR", "count")
        return reply.code if isinstance(reply, ReplyError) else reply


def when_ready(migration: Running, command: str, **options: object) -> None:
    migration.wait_until("ready", lambda status: bool(status.get("ready")))
    end = migration.ask(command, yes=True, **options)
    assert end.exit_code == 0, end


def lacks(said: str) -> list[str]:
    """What was refused on the way. The check before it warns of what it cannot look at, and nothing more."""
    return [line for line in said.splitlines() if "NOPERM" in line and "warning" not in line]


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_they_are_enough_with_a_pause(
    start_server: Callable[..., Server], tmp_path: Path, old: str, new: str
) -> None:
    source, target = start_server(old), start_server(new)
    with source.session() as session:
        fill(session, 300)
    urls = [as_ferry(server, BAR_RULE) for server in (source, target)]
    given = ["migrate", *urls, "--name", "shop", "--gate", "pause", "--drop-field-expiry"]
    with running(tmp_path, given) as migration:
        assert write(source) == 1
        when_ready(migration, "cutover")
        assert (write(source), write(target)) == ("NOPERM", 2)
        when_ready(migration, "rollback")
        assert (write(source), write(target)) == (3, "NOPERM")
        when_ready(migration, "cutover")
        assert (write(source), write(target)) == ("NOPERM", 4)
        finished = migration.ask("finish", yes=True)
        assert finished.exit_code == 0, finished
        code, out, err = migration.end()
    assert code == 0, err
    assert lacks(out + err) == []
    assert "On the source default cannot write any more." in out


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_they_are_enough_without_a_way_back(
    start_server: Callable[..., Server], tmp_path: Path, old: str, new: str
) -> None:
    source, target = start_server(old), start_server(new)
    with source.session() as session:
        fill(session, 300)
    urls = [as_ferry(source, READ_ONLY_RULE), as_ferry(target)]
    given = ["migrate", *urls, "--name", "shop", "--gate", "none", "--no-rollback", "--drop-field-expiry"]
    with running(tmp_path, given) as migration:
        when_ready(migration, "cutover")
        assert (write(source), write(target)) == ("READONLY", 1)
        with source.session() as session:
            assert session.call("DBSIZE") == 302  # The phase record, and who leads.
        finished = migration.ask("finish", yes=True)
        assert finished.exit_code == 0, finished
        code, out, err = migration.end()
    assert code == 0, err
    assert lacks(out + err) == []
    assert "The source is read-only, with its data." in out
    with source.session() as session:
        assert session.call("DBSIZE") == 302  # It takes no deletion any more either.
