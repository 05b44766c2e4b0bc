"""Which keys, from which databases into which."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from copying import Copying, ask, assert_consistent, assert_equal, fill, fill_strings, keys_of
from keyferry.model.errors import InterruptedRun, RefusedError, ServerError, UsageError
from keyferry.model.glob import compile_glob
from keyferry.model.selection import Selection
from keyferry.testing.servers import Server

Flushed = Callable[..., Server]

NAMES = [
    b"",
    b"a",
    b"ab",
    b"abc",
    b"a]c",
    b"a[c",
    b"a-c",
    b"a\\c",
    b"a*c",
    b"a?c",
    b"^",
    b"-",
    b"]",
    b"\\",
    b"aaaa",
    b"b\n",
    b"a\x00b",
    b"\xff\xfe",
    b"a\xffb",
    b"z^a",
]
pieces = st.sampled_from(
    [
        b"*",
        b"?",
        b"[",
        b"]",
        b"^",
        b"-",
        b"\\",
        b"a",
        b"b",
        b"c",
        b"\x00",
        b"\xff",
        b"[^",
        b"[a-c]",
        b"[c-a]",
        b"\n",
    ]
)
patterns = st.lists(pieces, max_size=8).map(b"".join)


def names_in(server: Server, db: int = 0) -> set[bytes]:
    keys = ask(server, "KEYS", "*", db=db)
    assert isinstance(keys, list)
    return {key for key in keys if isinstance(key, bytes)}


def test_globs_are_the_servers_own(server: Server) -> None:
    """Held against KEYS; every pattern, however broken."""
    fill(server, [("SET", name, "x") for name in NAMES])
    with server.session() as session:

        @settings(
            max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
        )
        @given(patterns)
        def agree(pattern: bytes) -> None:
            keys = session.call("KEYS", pattern)
            assert isinstance(keys, list)
            matches = compile_glob(pattern)
            assert {name for name in NAMES if matches(name)} == set(keys)

        agree()


def test_a_glob_of_many_stars_does_not_take_for_ever() -> None:
    assert not compile_glob(b"*a*a*a*a*a*a*a*a*b")(b"a" * 5_000)


GLOBS: list[tuple[tuple[bytes, ...], tuple[bytes, ...]]] = [
    ((b"user:*",), ()),
    ((b"user:*", b"order:?"), ()),
    ((), (b"user:*",)),
    ((b"*",), (b"*1", b"order:*")),
    ((b"user:[12]",), (b"user:2",)),
    ((b"\xff*",), ()),
    ((b"",), ()),
    ((b"nothing",), ()),
]


@pytest.mark.parametrize(("match", "exclude"), GLOBS)
def test_match_and_exclude(
    match: tuple[bytes, ...], exclude: tuple[bytes, ...], flushed: Flushed, tmp_path: Path
) -> None:
    source, target = flushed("redis-6.2"), flushed("valkey-9.1")
    names = {b"%b:%d" % (kind, i) for kind in (b"user", b"order") for i in range(20)} | {
        b"",
        b"\xff\x00",
        b"x",
    }
    fill(source, [("SET", name, "v") for name in names])
    report = Copying(tmp_path / "state").run(
        source, target, selection=Selection(match=match, exclude=exclude)
    )
    wanted = {
        name
        for name in names
        if (not match or any(compile_glob(glob)(name) for glob in match))
        and not any(compile_glob(glob)(name) for glob in exclude)
    }
    assert names_in(target) == wanted
    assert report.run.scanned == report.run.copied == len(wanted)


@pytest.mark.parametrize("types", [("hash",), ("stream",), ("string", "zset"), ("list", "set", "hash")])
def test_types(types: tuple[str, ...], flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-8.2"), flushed("redis-6.2")
    fill_strings(source, 30, prefix=b"string")
    fill(source, [("RPUSH", f"list{i}", "x") for i in range(30)])
    fill(source, [("SADD", f"set{i}", "x") for i in range(30)])
    fill(source, [("ZADD", f"zset{i}", 1, "x") for i in range(30)])
    fill(source, [("HSET", f"hash{i}", "x", "y") for i in range(30)])
    fill(source, [("XADD", f"stream{i}", "*", "x", "y") for i in range(30)])
    report = Copying(tmp_path / "state").run(source, target, selection=Selection(types=types))
    assert_consistent(report)
    assert report.run.scanned == report.run.copied == 30 * len(types)
    assert names_in(target) == {b"%b%d" % (name.encode(), i) for name in types for i in range(30)}


def test_several_databases_each_in_its_own(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    for db, count in ((0, 100), (3, 2_000), (15, 7)):
        fill_strings(source, count, db=db, prefix=b"db%d:" % db)
    report = Copying(tmp_path / "state").run(source, target, selection=Selection(databases=(3, 15)))
    assert report.run.copied == 2_007
    assert (keys_of(target), keys_of(target, 3), keys_of(target, 15)) == (0, 2_000, 7)
    for db in (3, 15):
        assert_equal(source, target, source_db=db, target_db=db)


def test_all_databases(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-6.2"), flushed("redis-8.2")
    for db in (0, 1, 9):
        fill_strings(source, 50 + db, db=db)
    fill(source, [("PEXPIRE", "key:1", 10**7)], db=9)
    report = Copying(tmp_path / "state").run(source, target, selection=Selection(databases=None))
    assert report.run.copied == 160
    for db in (0, 1, 9):
        assert_equal(source, target, source_db=db, target_db=db)


def test_a_database_into_another(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 100, db=3)
    fill_strings(source, 50, db=4)
    fill(target, [("SET", "theirs", "x")], db=3)
    selection = Selection(databases=(3, 4), database_map={3: 0})
    report = Copying(tmp_path / "state").run(source, target, selection=selection)
    assert report.run.copied == 150
    assert_equal(source, target, source_db=3, target_db=0)
    assert_equal(source, target, source_db=4, target_db=4)
    assert keys_of(target, 3) == 1


def test_two_databases_into_one_are_refused(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    for db in (0, 3):
        fill_strings(source, 10, db=db)
    selection = Selection(databases=None, database_map={3: 0})
    with pytest.raises(UsageError, match="both go into"):
        Copying(tmp_path / "state").run(source, target, selection=selection, on_conflict="replace")
    assert keys_of(target) == 0


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_database_that_a_server_lacks(
    side: str, flushed: Flushed, start_server: Callable[..., Server], tmp_path: Path
) -> None:
    few = start_server("redis-7.0", databases="4")
    many = flushed("valkey-9.1")
    source, target = (few, many) if side == "source" else (many, few)
    if side == "target":
        fill_strings(many, 10, db=9)
    with pytest.raises(ServerError, match="database 9") as refused:
        Copying(tmp_path / "state").run(source, target, selection=Selection(databases=(9,)))
    assert refused.value.side == side


def test_a_database_that_comes_into_use_between_two_runs_is_looked_at(
    flushed: Flushed, tmp_path: Path
) -> None:
    """Its place on the target may hold foreign keys, which the first run had no reason to look for."""
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill_strings(source, 3_000)
    fill(target, [("SET", "key:1", "theirs")], db=5)
    copying = Copying(tmp_path / "state")
    copying.on_progress = lambda progress: copying.stop.request() if progress.keys_done > 200 else None
    with pytest.raises(InterruptedRun):
        copying.run(source, target, selection=Selection(databases=None), max_rate=2_000, batch=50)
    fill_strings(source, 10, db=5)
    with pytest.raises(RefusedError, match="1 key "):
        Copying(tmp_path / "state").run(source, target, selection=Selection(databases=None))
    assert ask(target, "GET", "key:1", db=5) == b"theirs"
