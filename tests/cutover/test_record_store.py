"""The records changed by compare-and-set on real servers: races, lost replies, clusters, what is not a record."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from membering import NAME, put, store, urls

from keyferry.cutover.record_store import RecordStore
from keyferry.model.errors import RefusedError, ServerAway, ServerError
from keyferry.model.phases import Phase, Side
from keyferry.model.record import (
    Kind,
    PhaseRecord,
    RecordUnreadable,
    Stamp,
    Write,
    begun,
    channel,
    record_key,
    stepped,
    writers_key,
)
from keyferry.testing.cluster import Cluster
from keyferry.testing.proxy import FaultProxy
from keyferry.testing.servers import Server

SOURCE = PhaseRecord(Kind.AUTHORITY, 1, Phase.SOURCE)


@pytest.fixture
def source(server: Server) -> Server:
    return server


@pytest.fixture
def records(source: Server) -> Iterator[RecordStore]:
    with store(urls(source, source)) as opened:
        yield opened


def dual(by: str = "") -> Write:
    return stepped(Side.SOURCE, SOURCE, Phase.DUAL, Stamp(1, by))


def test_what_is_set_is_read(records: RecordStore) -> None:
    assert records.look(Side.SOURCE).record is None
    write = begun(Stamp(7, "ops@host"))
    assert records.compare_and_set(write)
    assert records.look(Side.SOURCE).record == write.becomes
    assert records.compare_and_set(dual())
    assert records.look(Side.SOURCE).record == dual().becomes


def test_a_write_is_not_made_where_the_record_is_another(records: RecordStore, source: Server) -> None:
    assert not records.compare_and_set(dual())
    assert records.look(Side.SOURCE).record is None
    other = PhaseRecord(Kind.AUTHORITY, 5, Phase.SHADOW)
    with source.session() as session:
        put(session, other)
    assert not records.compare_and_set(dual())
    assert not records.compare_and_set(begun(Stamp()))
    assert records.look(Side.SOURCE).record == other
    # And the connection is as good as before.
    assert records.compare_and_set(stepped(Side.SOURCE, other, Phase.DUAL, Stamp()))


def test_a_write_that_may_never_be_made_is_not_sent(records: RecordStore) -> None:
    records.compare_and_set(begun(Stamp()))
    with pytest.raises(RefusedError):
        records.compare_and_set(Write(Side.SOURCE, SOURCE, PhaseRecord(Kind.LOST, 2, Phase.TARGET)))
    assert records.look(Side.SOURCE).record == SOURCE


def test_of_many_at_once_one_is_made(source: Server, records: RecordStore) -> None:
    records.compare_and_set(begun(Stamp()))
    racers = 8
    barrier = threading.Barrier(racers)

    def race(number: int) -> bool:
        with store(urls(source, source)) as mine:
            mine.look(Side.SOURCE)
            barrier.wait(30)
            return mine.compare_and_set(dual(f"racer {number}"))

    with ThreadPoolExecutor(racers) as threads:
        made = list(threads.map(race, range(racers)))
    assert sum(made) == 1
    winner = records.look(Side.SOURCE).record
    assert winner is not None and winner.stamp.by == f"racer {made.index(True)}"


def test_a_change_between_the_look_and_the_write_is_noticed(source: Server, records: RecordStore) -> None:
    """EXEC answers nil: WATCH, not our look, is what counts."""
    records.compare_and_set(begun(Stamp()))
    with source.session() as session:

        class Meddling(RecordStore):
            def _watches(self, write: Write) -> bool:
                found = super()._watches(write)
                session.call("HSET", record_key(NAME), "asked", "meanwhile")
                return found

        with store(urls(source, source)) as plain:
            meddling = Meddling(NAME, plain._endpoints, plain._maps)
            with meddling:
                assert not meddling.compare_and_set(dual())
    now = records.look(Side.SOURCE).record
    assert now is not None and (now.phase, now.asked) == (Phase.SOURCE, "meanwhile")


def test_writers_are_told_in_the_same_transaction(source: Server, records: RecordStore) -> None:
    with source.session() as ear:
        ear.call("SUBSCRIBE", channel(NAME))
        records.compare_and_set(begun(Stamp()))
        records.compare_and_set(dual())
        told = ear._receive(2)
    assert told == [[b"message", channel(NAME), b"1 authority"], [b"message", channel(NAME), b"2 authority"]]


@pytest.mark.parametrize("key", [record_key(NAME), writers_key(NAME)])
def test_another_type_in_the_records_place_is_an_error(
    key: bytes, source: Server, records: RecordStore
) -> None:
    with source.session() as session:
        session.call("LPUSH", key, "x")
    with pytest.raises(RecordUnreadable):
        records.look(Side.SOURCE)


def test_garbage_is_an_error_and_is_not_written_over(source: Server, records: RecordStore) -> None:
    with source.session() as session:
        session.call("HSET", record_key(NAME), "kind", "king")
        for act in (lambda: records.look(Side.SOURCE), lambda: records.compare_and_set(begun(Stamp()))):
            with pytest.raises(RecordUnreadable):
                act()
        assert session.call("HGETALL", record_key(NAME)) == [b"kind", b"king"]


def test_a_writer_that_cannot_be_read_is_named(source: Server, records: RecordStore) -> None:
    with source.session() as session:
        session.call("HSET", writers_key(NAME), "w-17", b'{"renewals":"many"}')
    with pytest.raises(RecordUnreadable, match="w-17"):
        records.look(Side.SOURCE)


def test_a_kept_connection_that_died_is_made_again(source: Server) -> None:
    with FaultProxy("127.0.0.1", source.port) as proxy:
        places = {Side.SOURCE: proxy.url, Side.TARGET: source.url}
        with store(places) as records:
            records.compare_and_set(begun(Stamp()))
            proxy.cut()
            assert records.look(Side.SOURCE).record == SOURCE
            proxy.cut()
            assert records.compare_and_set(dual())


def test_a_lost_reply_is_looked_after(source: Server) -> None:
    """The write was carried out, its reply was cut off: the record says so."""
    with FaultProxy("127.0.0.1", source.port) as proxy:
        places = {Side.SOURCE: proxy.url, Side.TARGET: source.url}
        with store(places) as records:
            records.compare_and_set(begun(Stamp()))

            class Cut(RecordStore):
                def _watches(self, write: Write) -> bool:
                    found = super()._watches(write)
                    self._sessions[Side.SOURCE].close()
                    return found

            with (
                Cut(NAME, records._endpoints, records._maps) as cutting,
                pytest.raises(ServerAway, match="not known"),
            ):
                cutting.compare_and_set(dual())
            assert records.look(Side.SOURCE).record == SOURCE
        made = dual("me")
        with store(places) as records, source.session() as session:

            class Late(RecordStore):
                def _watches(self, write: Write) -> bool:
                    found = super()._watches(write)
                    put(session, made.becomes)
                    self._sessions[Side.SOURCE].close()
                    return found

            with Late(NAME, records._endpoints, records._maps) as late:
                assert late.compare_and_set(made)


def test_what_a_user_may_not_do_is_said(source: Server, records: RecordStore) -> None:
    with source.session() as session:
        session.call(
            "ACL",
            "SETUSER",
            "reader",
            "on",
            ">x",
            "~*",
            "+@read",
            "+@connection",
            "+info",
            "+multi",
            "+exec",
            "+watch",
            "+unwatch",
        )
        try:
            url = source.url.replace("redis://", "redis://reader:x@")
            with store({Side.SOURCE: url, Side.TARGET: source.url}) as mine:
                assert mine.look(Side.SOURCE).record is None
                with pytest.raises(ServerError) as told:
                    mine.compare_and_set(begun(Stamp()))
        finally:
            session.call("ACL", "DELUSER", "reader")
    assert "hset" in told.value.message.lower()
    assert "keyferry:*" in told.value.hint


def test_replicas_are_counted_and_waited_for(source: Server, start_server: Callable[..., Server]) -> None:
    first = start_server("redis-7.0")
    with store(urls(first, first)) as records:
        records.compare_and_set(begun(Stamp()))
        assert records.confirm(Side.SOURCE).connected == 0
        replica = start_server("redis-7.0")
        with replica.session() as session:
            session.call("REPLICAOF", "127.0.0.1", first.port)
            from membering import until

            until(lambda: records.confirm(Side.SOURCE).confirmed == 1, "a replica")
            assert session.call("HGET", record_key(NAME), "epoch") == b"1"
            replica.pause()
            try:
                records.compare_and_set(dual())
                late = records.confirm(Side.SOURCE)
                assert (late.connected, late.confirmed) == (1, 0)
            finally:
                replica.resume()


def test_connections_are_ended_by_their_ids(source: Server, records: RecordStore) -> None:
    with source.session() as session, source.session() as other:
        number = session.call("CLIENT", "ID")
        records.kill(Side.SOURCE, [str(number), "999999999"])
        with pytest.raises(ServerAway):
            session.call("PING")
        assert other.call("PING") == b"PONG"


def test_a_record_in_another_database_is_found(source: Server, records: RecordStore) -> None:
    assert records.elsewhere(Side.SOURCE) == []
    with source.session(3) as session:
        put(session, SOURCE)
    assert records.elsewhere(Side.SOURCE) == [3]
    places = {Side.SOURCE: source.url + "/3", Side.TARGET: source.url}
    with store(places) as there:
        assert there.look(Side.SOURCE).record == SOURCE
        assert there.elsewhere(Side.SOURCE) == []


def test_a_cluster_keeps_it_on_one_node_which_may_change(cluster: Callable[..., Cluster]) -> None:
    nodes = cluster("redis-7.0", 3)
    from keyferry.payload.names import slot

    with store(urls(nodes, nodes)) as records:
        assert records.compare_and_set(begun(Stamp()))
        place = slot(record_key(NAME))
        for _ in range(2):
            owner = nodes.nodes.index(nodes.owner_of(place))
            nodes.move_slot(place, (owner + 1) % 3)
            now = records.look(Side.SOURCE).record
            assert now is not None
        assert records.compare_and_set(dual())
        with nodes.owner_of(place).session() as session:
            number = session.call("CLIENT", "ID")
            assert isinstance(number, int)
            port = nodes.owner_of(place).port
            records.kill(Side.SOURCE, [f"{number}@127.0.0.1:{port}"])
            with pytest.raises(ServerAway):
                session.call("PING")
