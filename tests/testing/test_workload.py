"""The workload writes what it says, and its ledger notices every write that is lost or doubled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from keyferry.testing.cluster import Cluster
from keyferry.testing.ledger import Account, Ledger, audit, judge
from keyferry.testing.proxy import FaultProxy
from keyferry.testing.servers import Server
from keyferry.testing.workload import Settings, Writer
from keyferry.testing.writers import Writers, Written
from keyferry.wire.resp import Argument, Reply

Flushed = Callable[..., Server]
SECONDS = 3.0
OF_EVERY_TYPE = {
    "SET", "INCR", "INCRBYFLOAT", "SETBIT", "PFADD", "RPUSH", "LPOP", "BLMOVE", "SADD", "SPOP", "SMOVE", "ZADD",
    "ZPOPMIN", "GEOADD", "HSET", "HINCRBY", "XADD", "XREADGROUP", "XACK", "XTRIM", "XGROUP CREATE", "XGROUP SETID",
    "XAUTOCLAIM", "PEXPIRE", "PERSIST", "RENAME", "COPY", "DEL", "UNLINK", "SORT", "SUNIONSTORE", "EVAL", "EXEC",
}  # fmt: skip


def written(source: Server | Cluster, directory: Path, **options: float) -> Written:
    given = {"seconds": SECONDS, "calm_s": 0, "big_every_s": 1, "flush_every_s": 1, **options}
    with Writers(source, directory, rate=4_000, seed=5, options=given) as writers:
        return writers.wait()


def test_every_type_on_every_server(server: Server, tmp_path: Path) -> None:
    done = written(server, tmp_path)
    assert set(done.acknowledged) >= OF_EVERY_TYPE | {"MOVE", "FLUSHDB"}
    assert done.acknowledged.total() > 3 * done.refused.total()
    assert done.unknown == 0
    with server.session() as session:
        found = audit(session, done.ledgers)
        assert found.exact, found
        assert found.writes > 1_000
        types = {session.call("TYPE", key) for key in every_key(session.call("KEYS", "*"))}
        assert types - {b"none"} == {b"string", b"list", b"set", b"zset", b"hash", b"stream"}
        assert session.call("SELECT", 1) == b"OK"
        assert session.call("DBSIZE") != 0


def every_key(reply: Reply) -> list[bytes]:
    assert isinstance(reply, list)
    return [key for key in reply if isinstance(key, bytes)]


def test_a_cluster(cluster: Callable[..., Cluster], tmp_path: Path) -> None:
    source = cluster("redis-7.0")
    done = written(source, tmp_path)
    assert set(done.acknowledged) >= OF_EVERY_TYPE
    assert not {"MOVE", "FLUSHDB"} & set(done.acknowledged)
    with source.session() as client:
        assert audit(client, done.ledgers).exact
    for node in source.primaries:
        with node.session() as session:
            assert session.call("DBSIZE") != 0


def test_the_same_seed_draws_the_same_commands(flushed: Flushed) -> None:
    def drawn(seed: int) -> list[Argument]:
        with Writer([server.url], Settings(seed=seed)) as writer:
            return [
                command[0] for _ in range(50) for _, task in writer.batch(0.0) for command in task.commands
            ]

    server = flushed("redis-7.0")
    assert drawn(3) == drawn(3) != drawn(4)


LOSSES: list[tuple[str, list[Argument], int, int]] = [
    ("own:0:count:*", ["DECR"], 1, 0),
    ("own:0:count:*", ["INCR"], 0, 1),
    ("own:0:list:*", ["LPOP"], 1, 0),
    ("own:0:list:*", ["RPOPLPUSH"], 0, 0),
    ("own:0:set:*", ["SPOP"], 1, 0),
    ("own:0:stream:*", ["XTRIM", "MAXLEN", 0], 1, 0),
    ("own:0:hash:*", ["DEL"], 1, 0),
    ("own:0:text:*", ["APPEND", "x"], 1, 0),
    ("{own:0}:served", ["RPUSH", "order 1"], 0, 1),
]


@pytest.mark.parametrize(("pattern", "command", "missing", "doubled"), LOSSES)
def test_the_ledger_notices(
    pattern: str, command: list[Argument], missing: int, doubled: int, ledgers: tuple[Server, Written]
) -> None:
    server, done = ledgers
    with server.session() as session:
        accounts = done.ledgers[0].accounts
        key = next(
            key
            for key in every_key(session.call("KEYS", pattern))
            if accounts[key].kind != "absent" and len(accounts[key].items) != 2
        )
        payload = session.call("DUMP", key)
        extra = [key] if command[0] == "RPOPLPUSH" else command[1:]
        session.call(command[0], key, *extra)
        found = audit(session, done.ledgers)
        assert isinstance(payload, bytes)
        assert session.call("RESTORE", key, 0, payload, "REPLACE") == b"OK"
    assert len(found.findings) == 1
    assert (found.missing >= missing, found.doubled >= doubled) == (True, True)
    assert (bool(found.missing), bool(found.doubled)) == (bool(missing), bool(doubled))


@pytest.fixture(scope="module")
def ledgers(binaries: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> object:
    from keyferry.testing.binaries import ServerBinary

    binary = binaries.get("redis-7.0")
    if not isinstance(binary, ServerBinary):
        pytest.skip("redis-7.0 is not at hand")
    with Server(binary) as server:
        yield server, written(server, tmp_path_factory.mktemp("writers"), owned_share=1)


def test_what_was_deleted_must_stay_away() -> None:
    assert judge(Account("absent", [], 3), b"string") == (0, 1, "is there, and was deleted")
    assert judge(Account("absent", [], 3), b"none") == (0, 0, "")


def test_unknown_outcomes_excuse_more_and_never_less() -> None:
    assert judge(Account("number", [b"5"], 5, doubtful=1), b"6")[2] == ""
    assert judge(Account("number", [b"5"], 5, doubtful=1), b"4")[0] == 1
    assert judge(Account("items", [b"a", b"b"], 2, doubtful=1), [b"a", b"b", b"c"])[2] == ""
    assert judge(Account("items", [b"a", b"b"], 2, doubtful=1), [b"a", b"c"])[0] == 1


def test_json_there_and_back() -> None:
    ledger = Ledger()
    ledger.account(b"\xff\x00", "items").items.append(b"\x80")
    assert Ledger.of_json(ledger.as_json()).accounts == ledger.accounts


def test_surviving_cut_connections(flushed: Flushed, tmp_path: Path) -> None:
    """What was acknowledged is there, whatever became of the rest."""
    server = flushed("redis-7.0")
    with FaultProxy("127.0.0.1", server.port) as proxy:
        settings = Settings(seconds=2.0, survive=True, rate=3_000)
        with Writer([proxy.url], settings) as writer:
            proxy.cut_after(20_000, "to_server", times=30)
            proxy.cut()
            done = writer.run()
    assert done["unknown"] > 0
    with server.session() as session:
        found = audit(session, [Ledger.of_json(done["ledger"])])
    assert found.exact, found
    assert found.writes > 300
