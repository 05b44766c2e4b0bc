"""Settling what differs: only what was asked for, the source wins, and what is still different is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keyferry.model.address import parse_endpoint
from keyferry.model.selection import Selection
from keyferry.payload.names import temporary_name
from keyferry.testing.compare import compare_databases
from keyferry.testing.proxy import FaultProxy
from keyferry.testing.servers import Server
from keyferry.verify.naming import verify_name
from keyferry.verify.repair import settle_keys
from keyferry.verify.settings import VerifySettings
from verifying import Verifying, ask, fill, forget_writes, lines_of, reasons, strings, told_keys, writes_seen

Flushed = Callable[..., Server]


def differ(source: Server, target: Server) -> None:
    for server in (source, target):
        fill(server, strings(300))
    fill(
        source, [("SET", "k1", "new"), ("PEXPIRE", "k2", 10**7), ("HSET", "h", "f", "v"), ("SET", "lack", 1)]
    )
    fill(target, [("SET", "h", "v"), ("SET", "extra1", 1), ("SET", "extra2", 1)])


def assert_equal(source: Server, target: Server) -> None:
    with source.session() as here, target.session(side="target") as there:
        comparison = compare_databases(here, there)
    assert comparison.equal, comparison.differences[:10]


def test_repair_and_delete(server_pair: tuple[Server, Server], tmp_path: Path) -> None:
    source, target = server_pair
    differ(source, target)
    verifying = Verifying(tmp_path / "state")
    path = tmp_path / "differences"
    report = verifying.run(source, target, repair=True, delete_extra=True, differences_file=path)
    assert (report.repaired, report.deleted, report.differences) == (4, 2, 0)
    assert report.equal
    assert [line["repaired"] for line in lines_of(path)] == [True] * 6
    assert_equal(source, target)
    assert verifying.leftovers == []
    assert verifying.run(source, target).suspects == 0


def test_each_does_only_its_own(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    differ(source, target)
    deleting = Verifying(tmp_path).run(source, target, delete_extra=True)
    assert (deleting.repaired, deleting.deleted) == (0, 2)
    assert set(told_keys(deleting)) == {b"k1", b"k2", b"h", b"lack"}
    fill(target, [("SET", "extra", 1)])
    repairing = Verifying(tmp_path).run(source, target, repair=True)
    assert (repairing.repaired, repairing.deleted) == (4, 0)
    assert told_keys(repairing) == {b"extra": "only on the target"}
    assert ask(target, "EXISTS", "extra") == 1


def test_deleting_writes_nothing_else(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    differ(source, target)
    forget_writes(target)
    forget_writes(source)
    Verifying(tmp_path).run(source, target, delete_extra=True)
    assert writes_seen(target) == {"unlink": 2}
    assert writes_seen(source) == {}


def test_databases_are_mapped(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill(source, [("SET", "k", "new")], db=3)
    fill(target, [("SET", "k", "old"), ("SET", "extra", 1)], db=5)
    fill(target, [("SET", "k", "other"), ("SET", "extra", 1)], db=3)
    selection = Selection(databases=(3,), database_map={3: 5})
    report = Verifying(tmp_path).run(
        source, target, repair=True, delete_extra=True, copy={"selection": selection}
    )
    assert (report.repaired, report.deleted, report.differences) == (1, 1, 0)
    assert ask(target, "GET", "k", db=5) == b"new"
    assert ask(target, "DBSIZE", db=5) == 1
    assert ask(target, "GET", "k", db=3) == b"other"
    assert ask(target, "EXISTS", "extra", db=3) == 1


def test_what_cannot_be_repaired_stays_a_difference(flushed: Flushed, tmp_path: Path) -> None:
    """Fields that expire, to a server that knows no such thing."""
    source, target = flushed("redis-8.2"), flushed("redis-7.0")
    fill(source, [("HSET", "h", "f", "v"), ("HPEXPIRE", "h", 10**7, "FIELDS", 1, "f"), ("SET", "k", "v")])
    verifying = Verifying(tmp_path)
    report = verifying.run(source, target, repair=True)
    assert report.repaired == 1
    assert reasons(report) == {"never copied": 1}
    assert any("could not be repaired" in sentence for sentence in verifying.told)
    dropped = verifying.run(source, target, repair=True, copy={"drop_field_expiry": True})
    assert (dropped.repaired, dropped.differences) == (1, 0)


def test_half_built_values_of_a_repair_that_was_cut_are_removed(
    flushed: Flushed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1. The repair of k is cut half way; 2. k goes on the source; 3. the repair goes on, and k is none of its keys."""
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    differ(source, target)
    verifying = Verifying(tmp_path)
    cuts: list[bytes] = []
    with FaultProxy("127.0.0.1", target.port) as proxy:
        through = parse_endpoint(proxy.url)
        owner = verify_name(VerifySettings(verifying.settings(source, through), repair=True)).encode()

        def settle(*given: Any, **named: Any) -> Any:
            if not cuts:
                cuts.append(temporary_name(b"gone meanwhile", owner))
                fill(target, [("SET", cuts[0], "half")])
                proxy.cut()
            return settle_keys(*given, **named)

        monkeypatch.setattr("keyferry.verify.judging.settle_keys", settle)
        report = verifying.run(source, through, repair=True, delete_extra=True)
    assert cuts
    assert any("Trying again" in sentence for sentence in verifying.told)
    assert (report.repaired, report.deleted, report.differences) == (4, 2, 0)
    assert ask(target, "EXISTS", cuts[0]) == 0
    assert_equal(source, target)
