"""Write rights taken by ACL and given back exactly, on every server; what waits in a blocking command; clusters."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from plain_application import APP, OURS, Blocked, apart, reaching, until, users_of

from keyferry.copy.client_list import parse_client_list
from keyferry.cutover.barring import Bar, Taken
from keyferry.cutover.reach import Reach
from keyferry.model.address import Endpoint
from keyferry.model.errors import RefusedError, ServerAway, ServerError
from keyferry.model.phases import Side
from keyferry.testing.cluster import Cluster
from keyferry.testing.servers import Server
from keyferry.wire.resp import Argument, ReplyError
from keyferry.wire.session import ConnectionLost, Session

DEFAULT = ("default",)
WRITES: list[tuple[Argument, ...]] = [
    ("SET", "a", 1),
    ("GETEX", "a", "EX", 100),
    ("SORT", "l", "STORE", "m"),
    ("FLUSHALL",),
    ("SWAPDB", 0, 1),
    ("XGROUP", "CREATE", "st", "g", "$", "MKSTREAM"),
    ("EVAL", "return redis.call('set', 'a', 1)", 0),
    ("RESTORE", "a", 0, b""),
    ("COPY", "a", "b"),
]
READS: list[tuple[Argument, ...]] = [
    ("GET", "a"),
    ("LRANGE", "l", 0, -1),
    ("PING",),
    ("SCAN", 0),
    ("PUBLISH", "c", "x"),
]
HARD_RULES = [
    ("+@all", "-debug"),
    ("+@read", "+set", "+xgroup|create"),
    ("+@all", "-@dangerous", "+flushdb"),
    ("-@all", "+@string", "-@read", "+get"),
    ("+@write", "+@read", "+@connection", "-del", "-@list", "+lpush"),
]


def refused(session: Session, command: tuple[Argument, ...]) -> bool:
    return isinstance(session.call(*command), ReplyError)


@pytest.mark.parametrize("rules", HARD_RULES, ids=" ".join)
def test_rules_come_back_exactly(server: Server, rules: tuple[str, ...]) -> None:
    with apart(server, *rules) as (ours, _), reaching(ours) as reach, server.session() as session:
        before = users_of(session)
        bar = Bar(reach, DEFAULT)
        survey = bar.survey()
        assert survey.users == (APP,) and survey.own_user == OURS and survey.complete
        taken = bar.take(survey)
        assert taken == survey.taken and users_of(session) != before
        assert bar.lapses(taken) == ()
        assert bar.give_back(Taken.of_dict(json.loads(json.dumps(taken.as_dict())))) == ()
        assert users_of(session) == before
        assert bar.give_back(taken) == () and users_of(session) == before
        (lapse,) = bar.lapses(taken)
        assert f"the user {APP} may write again" in lapse


@pytest.mark.parametrize("name", ["redis-7.0", "redis-8.2", "valkey-9.1"])
def test_selectors_come_back_exactly(flushed: Callable[..., Server], name: str) -> None:
    server = flushed(name)
    selectors = [
        "(+@write ~b* %R~c* &x*)",
        "(+get ~d*)",
        "(%W~a %R~\xff* +@all -@dangerous)",
        "(+set ~* allchannels)",
    ]
    if name == "valkey-9.1":
        selectors += ["(+@all ~e* db=3,4)"]
    with (
        apart(server, "-@all", "+@read", *selectors) as (ours, app),
        reaching(ours) as reach,
        server.session() as session,
        Session(app, "source") as shop,
    ):
        before = users_of(session)
        bar = Bar(reach, DEFAULT)
        survey = bar.survey()
        assert survey.users == (APP,)
        assert not refused(shop, ("SET", "b1", 1))
        taken = bar.take(survey)
        assert refused(shop, ("SET", "b1", 1)) and refused(shop, ("SET", "z", 1))
        assert not refused(shop, ("GET", "d1"))
        bar.give_back(Taken.of_dict(taken.as_dict()))
        assert users_of(session) == before


def test_a_barred_user_reads_and_never_writes(server: Server) -> None:
    with apart(server) as (ours, app), reaching(ours) as reach, Session(app, "source") as shop:
        assert shop.call("RPUSH", "l", 1) == 1
        queued = Session(app, "source")
        queued.pipeline([("MULTI",), ("SET", "queued", 1), ("GET", "queued")])
        bar = Bar(reach, DEFAULT)
        taken = bar.take(bar.survey())
        assert [command for command in WRITES if not refused(shop, command)] == []
        assert [command for command in READS if refused(shop, command)] == []
        executed = queued.call("EXEC")
        assert isinstance(executed, ReplyError) or isinstance(executed[0], ReplyError)  # type: ignore[index]
        queued.close()
        assert shop.call("EXISTS", "queued", "a", "b", "m", "st") == 0
        bar.give_back(taken)
        assert shop.call("SET", "a", 1) == b"OK"


def test_commands_that_write_without_the_category(server: Server) -> None:
    """VADD of Redis 8.2 is a module's command that the server does not count among the writes."""
    with apart(server, "+@all") as (ours, app), reaching(ours) as reach, Session(app, "source") as shop:
        listed = shop.call("COMMAND")
        assert isinstance(listed, list)
        apart_ones = [row[0] for row in listed if b"write" in row[2] and b"@write" not in row[6]]  # type: ignore[index,operator]
        assert bool(apart_ones) == (server.binary.name == "redis-8.2")
        bar = Bar(reach, DEFAULT)
        taken = bar.take(bar.survey())
        for command in apart_ones:
            reply = shop.call(command, "v", "VALUES", 1, 1, "e")  # type: ignore[arg-type]
            assert isinstance(reply, ReplyError) and reply.code == "NOPERM"
        bar.give_back(taken)


def test_users_who_cannot_write_are_left_alone(server: Server) -> None:
    with apart(server, "+@read", "+@connection", "+@pubsub") as (ours, _), reaching(ours) as reach:
        survey = Bar(reach, DEFAULT).survey()
        assert survey.users == () and not survey.complete
        assert "no user that may write but mover" in survey.obstacles[0]
        assert survey.notes[0].startswith("default may go on writing")
        with pytest.raises(RefusedError, match="no user's write rights"):
            Bar(reach, DEFAULT).take(survey)


def test_the_default_user_is_one_like_any_other(start_server: Callable[..., Server], server: Server) -> None:
    own = start_server(server.binary.name)
    with apart(own) as (ours, _), reaching(ours) as reach, Session(own.endpoint, "source") as shop:
        bar = Bar(reach)
        survey = bar.survey()
        assert survey.users == ("default", APP)
        bar.take(survey)
        assert refused(shop, ("SET", "a", 1))
        bar.give_back(survey.taken)
        assert shop.call("SET", "a", 1) == b"OK"


def test_a_shared_user_is_an_obstacle(server: Server) -> None:
    with apart(server) as (_, app), reaching(app) as reach, Session(app, "source") as shop:
        shop.call("CLIENT", "SETNAME", "shop-7")
        survey = Bar(reach, DEFAULT).survey()
        assert not survey.complete and survey.able
        assert "Keyferry and 1 connection of others use the same user, shop" in survey.obstacles[0]


def test_without_names_nobody_can_tell_who_shares_our_user(server: Server) -> None:
    with apart(server) as (ours, _), server.session() as session:
        session.call("ACL", "SETUSER", OURS, "-client", "+client|list", "+client|kill")
        with reaching(ours) as reach:
            (obstacle,) = Bar(reach, DEFAULT).survey().obstacles
        assert "our connections have no names (CLIENT SETNAME is refused)" in obstacle


def test_without_the_right_to_set_rules_nothing_is_taken(server: Server) -> None:
    with apart(server) as (ours, _), server.session() as session:
        before = users_of(session)
        session.call("ACL", "SETUSER", OURS, "-acl")
        with reaching(ours) as reach:
            survey = Bar(reach, DEFAULT).survey()
            assert not survey.able and survey.users == ()
            assert "does not let us take rights away: NOPERM" in survey.obstacles[0]
            with pytest.raises(RefusedError):
                Bar(reach, DEFAULT).take(survey)
        session.call("ACL", "SETUSER", OURS, "+@all")
        assert users_of(session) == before


def test_rules_that_somebody_changed_since_are_kept(server: Server) -> None:
    with apart(server) as (ours, _), reaching(ours) as reach, server.session() as session:
        bar = Bar(reach, DEFAULT)
        survey = bar.survey()
        session.call("ACL", "SETUSER", APP, "-@all", "+@read", "+set")
        changed = users_of(session)
        with pytest.raises(RefusedError, match="changed the rules of the user shop"):
            bar.take(survey)
        assert users_of(session) == changed


def test_a_user_who_is_gone_gets_nothing_back(server: Server) -> None:
    with apart(server) as (ours, _), reaching(ours) as reach, server.session() as session:
        bar = Bar(reach, DEFAULT)
        taken = bar.take(bar.survey())
        session.call("ACL", "DELUSER", APP)
        (said,) = bar.give_back(taken)
        assert "has no user shop any more" in said
        assert not any(b"user shop " in line for line in users_of(session))  # type: ignore[operator]


BLOCKING: list[tuple[Argument, ...]] = [
    ("BLPOP", "q", 0),
    ("BLMOVE", "q", "r", "LEFT", "RIGHT", 0),
    ("BZPOPMIN", "z", 0),
    ("XREADGROUP", "GROUP", "g", "c", "BLOCK", 0, "STREAMS", "st", ">"),
]


def waiters(app: Endpoint, session: Session, commands: list[tuple[Argument, ...]]) -> list[Blocked]:
    threads = [Blocked(app, *command) for command in commands]
    for thread in threads:
        thread.start()

    def all_wait() -> bool:
        listed = session.call("CLIENT", "LIST")
        assert isinstance(listed, bytes)
        return sum("b" in line.flags for line in parse_client_list(listed)) == len(commands)

    until(all_wait, "the commands do not block")
    return threads


def test_who_waits_in_a_blocking_command_is_sent_away(server: Server) -> None:
    """Else it would be served by what our reverse sync writes later."""
    with apart(server) as (ours, app), reaching(ours) as reach, server.session() as session:
        session.call("XGROUP", "CREATE", "st", "g", "$", "MKSTREAM")
        threads = waiters(app, session, [*BLOCKING, ("XREAD", "BLOCK", 0, "STREAMS", "st", "$")])
        bar = Bar(reach, DEFAULT)
        taken = bar.take(bar.survey())
        session.pipeline([("RPUSH", "q", "x"), ("ZADD", "z", 1, "x"), ("XADD", "st", "*", "f", "v")])
        for thread in threads:
            thread.join(10)
        assert [type(thread.ended) for thread in threads[:-1]] == [ConnectionLost] * len(BLOCKING)
        assert isinstance(threads[-1].ended, list), "a read that waits takes nothing: it stays"
        assert session.pipeline([("LLEN", "q"), ("EXISTS", "r"), ("ZCARD", "z")]) == [1, 0, 1]
        assert bar.end_blocked(taken) == 0
        bar.give_back(taken)


def test_rights_alone_do_not_stop_a_pop_that_waits(server: Server) -> None:
    """Why they are sent away: up to 7.0 it is served without another look at the rights."""
    with apart(server) as (_, app), server.session() as session:
        (thread,) = waiters(app, session, BLOCKING[:1])
        session.pipeline([("ACL", "SETUSER", APP, "-@write"), ("RPUSH", "q", "x")])
        thread.join(10)
        served = server.binary.name in ("redis-6.2", "redis-7.0")
        assert isinstance(thread.ended, list) == served
        assert session.call("LLEN", "q") == (0 if served else 1)


@pytest.fixture
def three(start_cluster: Callable[..., Cluster]) -> Cluster:
    return start_cluster("valkey-9.1", 3)


def rules_everywhere(cluster: Cluster) -> list[object]:
    found: list[object] = []
    for node in cluster.primaries:
        with node.session() as session:
            found.append(users_of(session))
    return found


def test_all_nodes_of_a_cluster_or_none(three: Cluster) -> None:
    with apart(three) as (ours, app), reaching(ours) as reach:
        before = rules_everywhere(three)
        bar = Bar(reach)
        survey = bar.survey()
        assert set(survey.taken.users) == {three.node_id(number) for number in range(3)}
        taken = bar.take(survey)
        for node in three.primaries:
            with Session(replace(app, port=node.port), "source") as shop:
                assert refused(shop, ("FLUSHALL",))
        bar.give_back(taken)
        assert rules_everywhere(three) == before

        with three.nodes[1].session() as session:
            session.call("ACL", "SETUSER", OURS, "-acl|setuser")
        with pytest.raises(ServerError, match="refuses to take write rights away"):
            bar.take(survey)
        with three.nodes[1].session() as session:
            session.call("ACL", "SETUSER", OURS, "+@all")
        assert rules_everywhere(three) == before


def test_a_node_that_is_away_undoes_the_others(three: Cluster) -> None:
    with apart(three) as (ours, _), Reach(Side.SOURCE, ours, timeout_s=1.0) as reach:
        bar = Bar(reach, DEFAULT)
        survey = bar.survey()
        three.nodes[2].pause()
        try:
            with pytest.raises(ServerAway):
                bar.take(survey)
        finally:
            three.nodes[2].resume()
        for node in three.nodes[:2]:
            with node.session() as session:
                assert not any(b"user shop" in line and b"-@write" in line for line in users_of(session))  # type: ignore[operator]
        # What the stopped node was sent it has done when it went on; the journal's note gives it back.
        bar.give_back(survey.taken)
        assert len(bar.lapses(survey.taken)) == 3


def test_a_node_that_is_no_primary_any_more_is_named(three: Cluster) -> None:
    with apart(three) as (ours, _), reaching(ours) as reach:
        bar = Bar(reach, DEFAULT)
        survey = bar.survey()
        key = three.node_id(0)
        gone = Taken(
            {"0" * 40: survey.taken.users[key], **survey.taken.users},
            {"0" * 40: "old:1", **survey.taken.places},
        )
        (said,) = bar.give_back(gone)
        assert "The node old:1 of the source is no primary any more" in said
        assert f"ACL SETUSER {APP} -@all +@all -debug" in said


def test_a_note_of_something_else_is_refused() -> None:
    for data in ({}, {"primaries": [{"id": "0"}]}, {"primaries": 7}):
        with pytest.raises(ValueError, match="cannot be read"):
            Taken.of_dict(data)


def test_no_password_is_written_down(server: Server) -> None:
    with apart(server) as (ours, _), reaching(ours) as reach, server.session() as session:
        found = session.call("ACL", "GETUSER", APP)
        assert isinstance(found, list)
        (hashed,) = found[found.index(b"passwords") + 1]  # type: ignore[misc]
        survey = Bar(reach, DEFAULT).survey()
        assert hashed.decode() not in json.dumps(survey.taken.as_dict()) + repr(survey)  # type: ignore[union-attr]
