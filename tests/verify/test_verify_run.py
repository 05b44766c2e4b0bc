"""A whole comparison of two servers: what is equal, what differs and why, what is chosen, and that nothing is written."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from keyferry.model.errors import RefusedError, ServerError, UsageError
from keyferry.model.selection import Selection
from keyferry.testing.cases import build, cases_for
from keyferry.testing.servers import Server
from verifying import (
    Verifying,
    ask,
    fill,
    forget_writes,
    lines_of,
    reasons,
    strings,
    told_keys,
    writes_seen,
)

Flushed = Callable[..., Server]
StartServer = Callable[..., Server]


def build_cases(server: Server) -> int:
    cases = cases_for(server.binary.version, server.binary.family)
    with server.session() as session:
        build(session, cases)
    return len(cases)


def test_every_value_is_equal_after_a_copy(server_pair: tuple[Server, Server], tmp_path: Path) -> None:
    source, target = server_pair
    count = build_cases(source)
    verifying = Verifying(tmp_path)
    verifying.copy(source, target, drop_field_expiry=True)
    forget_writes(target)
    forget_writes(source)
    report = verifying.run(source, target, copy={"drop_field_expiry": True})
    assert report.equal, report.first
    assert report.compared == report.looked_for == count
    assert writes_seen(target) == writes_seen(source) == {}
    assert verifying.leftovers == []


def test_every_kind_of_difference(server_pair: tuple[Server, Server], tmp_path: Path) -> None:
    source, target = server_pair
    fill(
        source,
        [
            *strings(2000),
            ("SET", "gone", 1),
            ("SET", "older", "new value"),
            ("SET", "forever", 1),
            ("SET", "sooner", 1, "PX", 10**8),
            ("HSET", "clash", "f", "v"),
            ("HSET", "hash", "f", "v", "g", "w"),
            ("XADD", "stream", "1-1", "f", "v"),
            ("XGROUP", "CREATE", "stream", "g", "0"),
        ],
    )
    verifying = Verifying(tmp_path / "state")
    verifying.copy(source, target)
    fill(
        target,
        [
            ("UNLINK", "gone"),
            ("SET", "older", "old value"),
            ("PEXPIRE", "forever", 10**7),
            ("PEXPIRE", "sooner", 10**7),
            ("DEL", "clash"),
            ("SET", "clash", "v"),
            ("HSET", "hash", "f", "x", "h", "y"),
            ("HDEL", "hash", "g"),
            ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "stream", ">"),
            ("SET", b"extra\xff", 1),
        ],
    )
    forget_writes(target)
    path = tmp_path / "differences"
    report = verifying.run(source, target, differences_file=path)
    assert told_keys(report) == {
        b"gone": "never copied",
        b"older": "stale",
        b"forever": "expiry differs",
        b"sooner": "expiry differs",
        b"clash": "type clash",
        b"hash": "stale",
        b"stream": "stale",
        b"extra\xff": "only on the target",
    }
    assert report.differences == report.suspects == 8
    assert not report.equal
    assert writes_seen(target) == {}
    assert path.stat().st_mode & 0o777 == 0o600
    lines = {line["key"]: line for line in lines_of(path)}
    assert len(lines) == 8
    assert base64.b64decode(lines["extra\\xff"]["key_base64"]) == b"extra\xff"
    assert lines["hash"]["differs"] == [
        {"what": "field", "name": "f", "how": "differs"},
        {"what": "field", "name": "g", "how": "missing"},
        {"what": "field", "name": "h", "how": "extra"},
    ]
    pending = {"what": "pending entry", "group": "g", "id": "1-1", "how": "extra"}
    assert pending in lines["stream"]["differs"]
    assert lines["clash"]["differs"] == [{"what": "type", "source": "hash", "target": "string"}]
    assert lines["forever"]["differs"][0]["source_ms"] is None
    assert b"old value" not in path.read_bytes()


def test_field_expiry(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-8.2"), flushed("valkey-9.1")
    far_ms = int(time.time() * 1000) + 10**7
    for server, at_ms in ((source, far_ms), (target, far_ms + 900)):
        fill(
            server,
            [
                ("HSET", "h", "f", "v", "g", "w"),
                ("HPEXPIREAT", "h", at_ms, "FIELDS", 1, "f"),
                ("HSET", "far", "f", "v"),
                ("HPEXPIREAT", "far", at_ms if server is source else at_ms + 9000, "FIELDS", 1, "f"),
                ("HSET", "one", "f", "v"),
            ],
        )
    ask(source, "HPEXPIREAT", "one", far_ms, "FIELDS", 1, "f")
    report = Verifying(tmp_path).run(source, target)
    assert told_keys(report).keys() == {b"far", b"one"}
    assert {one.differs[0]["what"] for one in report.first} == {"field expiry"}
    strict = Verifying(tmp_path).run(source, target, expiry_tolerance_ms=100)
    assert told_keys(strict).keys() == {b"far", b"one", b"h"}


def test_the_tolerance_of_expiries(server_pair: tuple[Server, Server], tmp_path: Path) -> None:
    source, target = server_pair
    far_ms = int(time.time() * 1000) + 10**7
    for i, late_ms in enumerate((0, 500, 900, 1500, 60_000)):
        for server, at_ms in ((source, far_ms), (target, far_ms + late_ms)):
            fill(server, [("SET", f"k{i}", "v"), ("PEXPIREAT", f"k{i}", at_ms)])
    verifying = Verifying(tmp_path)
    assert told_keys(verifying.run(source, target)).keys() == {b"k3", b"k4"}
    assert told_keys(verifying.run(source, target, expiry_tolerance_ms=10_000)).keys() == {b"k4"}
    assert verifying.run(source, target, expiry_tolerance_ms=100_000).equal


def test_evicted_on_the_target(flushed: Flushed, start_server: StartServer, tmp_path: Path) -> None:
    source = flushed("redis-7.0")
    target = start_server("valkey-9.1", maxmemory="4mb", maxmemory_policy="allkeys-random")
    fill(source, [("SET", f"k{i}", "v" * 1000) for i in range(5000)])
    fill(target, [("SET", f"k{i}", "v" * 1000) for i in range(5000)])
    # Or the buffers of our own connections have it evict more.
    ask(target, "CONFIG", "SET", "maxmemory", "0")
    left = ask(target, "DBSIZE")
    assert isinstance(left, int)
    assert left < 5000
    report = Verifying(tmp_path).run(source, target)
    assert reasons(report) == {"evicted on the target": 5000 - left}


# What is chosen


def test_match_type_and_databases(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill(source, [("SET", "a:1", 1), ("SET", "b:1", 1), ("HSET", "a:h", "f", 1)], db=3)
    fill(target, [("SET", "a:1", 2), ("SET", "b:1", 2), ("HSET", "a:h", "f", 2), ("SET", "a:extra", 1)], db=5)
    fill(target, [("SET", "elsewhere", 2)], db=3)

    def differing(**selection: object) -> set[bytes]:
        chosen = Selection(databases=(3,), database_map={3: 5}, **selection)  # type: ignore[arg-type]
        report = Verifying(tmp_path).run(source, target, copy={"selection": chosen})
        assert {one.database for one in report.first} <= {3}
        return set(told_keys(report))

    assert differing() == {b"a:1", b"b:1", b"a:h", b"a:extra"}
    assert differing(match=(b"a:*",)) == {b"a:1", b"a:h", b"a:extra"}
    assert differing(exclude=(b"a:*",)) == {b"b:1"}
    assert differing(types=("hash",)) == {b"a:h"}
    assert differing(types=("string",)) == {b"a:1", b"b:1", b"a:extra"}


def test_all_databases_are_those_of_both(flushed: Flushed, tmp_path: Path) -> None:
    """The source has emptied one since the copy."""
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    fill(source, [("SET", "k", 1)], db=2)
    fill(target, [("SET", "k", 1)], db=2)
    fill(target, [("SET", "left", 1)], db=4)
    report = Verifying(tmp_path).run(source, target, copy={"selection": Selection(databases=None)})
    assert [(one.key, one.database, one.reason) for one in report.first] == [
        (b"left", 4, "only on the target")
    ]
    mapped = Selection(databases=None, database_map={2: 4})
    report = Verifying(tmp_path).run(source, target, copy={"selection": mapped})
    assert {(one.key, one.database) for one in report.first} == {(b"k", 2), (b"left", 2)}


def test_a_sample_is_the_same_in_both_directions(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    for server in (source, target):
        fill(server, strings(10_000))
    fill(source, strings(5000, "missing"))
    report = Verifying(tmp_path).run(source, target, sample=1500)
    assert report.sampled
    assert 1200 < report.compared < 1800
    assert set(reasons(report)) == {"never copied"}
    assert 380 < report.differences < 620
    # Extra keys are found by the same choice.
    other = Verifying(tmp_path).run(target, source, sample=1500)
    assert set(reasons(other)) == {"only on the target"}
    assert Verifying(tmp_path).run(source, target, sample=10**9).differences == 5000


# Big values


def test_big_values_are_compared_in_pieces(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    for server in (source, target):
        fill(
            server,
            [
                *[
                    ("HSET", "h", *(part for i in range(500) for part in (f"f{n + i}", "v" * 50)))
                    for n in range(0, 5000, 500)
                ],
                *[("RPUSH", "l", *(f"element {n + i}" * 5 for i in range(500))) for n in range(0, 5000, 500)],
                ("SET", "s", "x" * 300_000),
                ("SET", "small", "x"),
                *[("XADD", "x", f"{i}-1", "field", "v" * 50) for i in range(1, 3000)],
                ("XGROUP", "CREATE", "x", "g", "0"),
            ],
        )
    verifying = Verifying(tmp_path)
    big = {"big_key_bytes": 50_000}
    assert verifying.run(source, target, copy=big).equal
    fill(
        target,
        [
            ("HSET", "h", "f7", "w"),
            ("HDEL", "h", "f8"),
            ("LSET", "l", 4000, "other"),
            ("SETRANGE", "s", 200_000, "y"),
            ("XADD", "x", "90000-1", "f", "v"),
        ],
    )
    forget_writes(target)
    report = verifying.run(source, target, copy=big)
    assert reasons(report) == {"stale": 4}
    names = {one.key: {str(what.get("name")) for what in one.differs} for one in report.first}
    assert {"f7", "f8"} <= names[b"h"]
    assert all(one.differs for one in report.first)
    assert writes_seen(target) == {}
    repaired = verifying.run(source, target, copy=big, repair=True)
    assert (repaired.repaired, repaired.differences) == (4, 0)
    assert verifying.run(source, target, copy=big).equal


def test_a_big_stream_that_differs_in_its_pending_entries(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-8.2"), flushed("valkey-9.1")
    for server in (source, target):
        fill(server, [*[("XADD", "x", f"{i}-1", "field", "v" * 50) for i in range(1, 1500)]])
        fill(server, [("XGROUP", "CREATE", "x", "g", "0")])
        ask(server, "XREADGROUP", "GROUP", "g", "c", "COUNT", 1200, "STREAMS", "x", ">")
    verifying = Verifying(tmp_path)
    big = {"big_key_bytes": 20_000}
    assert verifying.run(source, target, copy=big).equal
    ask(target, "XACK", "x", "g", "1100-1")
    report = verifying.run(source, target, copy=big)
    assert told_keys(report) == {b"x": "stale"}
    pending = {"what": "pending entry", "group": "g", "id": "1100-1", "how": "missing"}
    assert pending in report.first[0].differs


# What is refused


def test_what_is_refused(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    verifying = Verifying(tmp_path)
    with pytest.raises(RefusedError, match="same server"):
        verifying.run(source, source)
    merged = Selection(databases=(0, 1), database_map={0: 1})
    with pytest.raises(UsageError):
        verifying.run(source, target, copy={"selection": merged})
    target_away = target.endpoint.at("127.0.0.1", 1)
    with pytest.raises(ServerError):
        verifying.run(source, target_away, copy={"retry_s": 0.5})
    assert verifying.leftovers == []


def test_keys_that_our_user_may_not_read(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-7.0"), flushed("valkey-9.1")
    for server in (source, target):
        fill(server, [("SET", "open", 1), ("SET", "secret", 1)])
    ask(target, "ACL", "SETUSER", "verifier", "on", ">pw", "+@all", "~open*", "~keyferry:*")
    try:
        endpoint = target.endpoint
        user = type(endpoint)(host=endpoint.host, port=endpoint.port, username="verifier", password="pw")
        with pytest.raises(ServerError, match="target refuses: NOPERM"):
            Verifying(tmp_path).run(source, user)
    finally:
        ask(target, "ACL", "DELUSER", "verifier")


def test_the_same_keys_read_leave_their_idle_times(flushed: Flushed, tmp_path: Path) -> None:
    source, target = flushed("redis-8.2"), flushed("valkey-9.1")
    for server in (source, target):
        fill(server, strings(10))
    fill(target, [("SET", "k1", "other")])
    time.sleep(2.1)
    assert reasons(Verifying(tmp_path).run(source, target)) == {"stale": 1}
    for server in (source, target):
        for name in ("k1", "k2"):
            idle = ask(server, "OBJECT", "IDLETIME", name)
            assert isinstance(idle, int)
            assert idle >= 2
