"""A probe says which feeds a server allows, why not and what to do; it changes nothing. On every server."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from turning import hear

from keyferry.capture.feed import open_feed
from keyferry.capture.kinds import FeedKind
from keyferry.capture.notifications import enable_notifications, notifications_flags, restore_notifications
from keyferry.capture.probe import Availability, choose, probe
from keyferry.capture.tracking import RIGHTS
from keyferry.model.address import Endpoint
from keyferry.model.errors import RefusedError, ServerError
from keyferry.testing.cluster import Cluster
from keyferry.testing.servers import Server
from keyferry.wire.session import Session

PARAMETER = "notify-keyspace-events"
KINDS = [FeedKind.TRACKING, FeedKind.NOTIFICATIONS, FeedKind.SWEEPS]


@pytest.fixture
def session(server: Server) -> Iterator[Session]:
    with server.session() as session:
        yield session
        session.call("CONFIG", "SET", PARAMETER, "")
        session.call("ACL", "DELUSER", "limited")


@pytest.fixture
def limited(server: Server, session: Session) -> Iterator[Callable[..., Session]]:
    """``limited(*rules)``: a session of a user that may do everything, but for these ACL rules."""
    made: list[Session] = []

    def start(*rules: str) -> Session:
        assert (
            session.call("ACL", "SETUSER", "limited", "reset", "on", ">pw", "~*", "&*", "+@all", *rules)
            == b"OK"
        )
        endpoint = Endpoint(host="127.0.0.1", port=server.port, username="limited", password="pw")
        made.append(Session(endpoint, "source"))
        return made[-1]

    yield start
    for one in made:
        one.close()


def flags(session: Session) -> object:
    reply = session.call("CONFIG", "GET", PARAMETER)
    assert isinstance(reply, list)
    return reply[1]


def test_on_defaults_tracking_is_there_and_notifications_can_be_set(session: Session) -> None:
    found = probe(session)
    assert [answer.kind for answer in found] == KINDS
    assert [answer.available for answer in found] == [True, False, True]
    assert "--enable-notifications" in found[1].hint
    assert "CONFIG SET notify-keyspace-events KA" in found[1].hint
    assert [answer.available for answer in probe(session, may_enable=True)] == [True, True, True]
    assert flags(session) == b""


def test_the_probe_leaves_nothing_behind(session: Session) -> None:
    probe(session, may_enable=True)
    assert session.call("CLIENT", "GETREDIR") == -1  # no tracking
    clients = session.call("CLIENT", "LIST")
    assert isinstance(clients, bytes)
    assert b"keyferry-feed" not in clients
    assert session.call("DBSIZE") == 0
    assert flags(session) == b""


@pytest.mark.parametrize("set_to", ["KA", "AKE", "Kg$lshzxetd"])
def test_notifications_that_are_on(session: Session, set_to: str) -> None:
    session.call("CONFIG", "SET", PARAMETER, set_to)
    assert probe(session)[1] == Availability(FeedKind.NOTIFICATIONS, True)


@pytest.mark.parametrize("set_to", ["EA", "Kx", "Kg$lshzxe"])
def test_notifications_of_only_some_changes_are_not_enough(session: Session, set_to: str) -> None:
    session.call("CONFIG", "SET", PARAMETER, set_to)
    found = probe(session)[1]
    assert not found.available
    assert PARAMETER in found.sentence


@pytest.mark.parametrize(
    ("rules", "word"),
    [
        (("-client|tracking",), "client"),
        (("-subscribe",), "subscribe"),
        (("resetchannels",), "channel"),
    ],
)
def test_tracking_that_our_user_may_not_use(
    server: Server, limited: Callable[..., Session], rules: tuple[str, ...], word: str
) -> None:
    if rules == ("-client|tracking",) and server.binary.version < (7, 0, 0):
        rules = ("-client", "+client|setname")
    found = probe(limited(*rules))[0]
    assert not found.available
    assert "does not allow our user client tracking" in found.sentence
    assert word in found.sentence.lower()
    assert RIGHTS in found.hint


def test_the_rights_that_the_hint_names_are_enough(server: Server, session: Session) -> None:
    reply = session.call("ACL", "SETUSER", "limited", "reset", "on", ">pw", "resetchannels", *RIGHTS.split())
    assert reply == b"OK", reply
    endpoint = Endpoint(host="127.0.0.1", port=server.port, username="limited", password="pw")
    feed = open_feed(FeedKind.TRACKING, Session(endpoint, "source"))
    session.call("SET", "a", "1")
    assert hear(feed) == ({(None, b"a")}, False)
    feed.close()


@pytest.mark.parametrize("name", ["redis-6.2", "redis-7.0", "redis-8.2", "valkey-9.1"])
@pytest.mark.parametrize("command", ["HELLO", "CLIENT", "SUBSCRIBE"])
def test_commands_that_a_service_has_taken_away(
    start_server: Callable[..., Server], name: str, command: str
) -> None:
    server = start_server(name, rename_command=f'{command} ""')
    with server.session() as session:
        found = probe(session)[0]
    assert not found.available
    assert command in found.sentence
    assert "notify-keyspace-events" in found.hint


def test_config_that_our_user_may_not_set(limited: Callable[..., Session], server: Server) -> None:
    rule = "-config|set"
    if server.binary.version < (7, 0, 0):
        pytest.skip("6.2 knows no rules for single subcommands that are taken away")
    found = probe(limited(rule), may_enable=True)[1]
    assert not found.available
    assert "CONFIG SET is refused" in found.sentence
    assert "parameter group" in found.hint


def test_where_nobody_may_look_a_trial_tells(limited: Callable[..., Session], session: Session) -> None:
    shy = limited("-config")
    found = probe(shy)[1]
    assert not found.available
    assert "silent" in found.sentence
    session.call("CONFIG", "SET", PARAMETER, "KA")
    assert probe(shy)[1].available
    session.call("CONFIG", "SET", PARAMETER, "K$g")
    assert not probe(shy)[1].available
    assert session.call("DBSIZE") == 0


def test_where_nobody_may_look_or_write(limited: Callable[..., Session]) -> None:
    found = probe(limited("-config", "-@write"))[1]
    assert not found.available
    assert "trial is refused" in found.sentence


def test_subscriptions_that_our_user_may_not_make(limited: Callable[..., Session]) -> None:
    found = probe(limited("-psubscribe"))[1]
    assert not found.available
    assert "PSUBSCRIBE" in found.sentence
    assert "+psubscribe" in found.hint


def test_on_a_node_of_a_cluster_the_trial_takes_a_name_of_its_own(cluster: Callable[..., Cluster]) -> None:
    for node in cluster("redis-7.0").primaries:
        with node.session() as session:
            session.call("CONFIG", "SET", PARAMETER, "KA")
            session.call("ACL", "SETUSER", "limited", "on", ">pw", "~*", "&*", "+@all", "-config")
            endpoint = Endpoint(host="127.0.0.1", port=node.port, username="limited", password="pw")
            with Session(endpoint, "source") as shy:
                assert [answer.available for answer in probe(shy)] == [True, True, True]
            assert session.call("DBSIZE") == 0
            session.call("ACL", "DELUSER", "limited")
            session.call("CONFIG", "SET", PARAMETER, "")


def test_a_feed_that_is_refused_says_why(limited: Callable[..., Session]) -> None:
    for kind, rule, word in (
        (FeedKind.TRACKING, "-client", "client tracking"),
        (FeedKind.NOTIFICATIONS, "-psubscribe", "PSUBSCRIBE"),
    ):
        with pytest.raises(ServerError, match=word) as caught:
            open_feed(kind, limited(rule))
        assert caught.value.hint


@pytest.mark.parametrize(
    ("current", "wanted"),
    [
        ("", "KA"),
        ("KA", "KA"),
        ("AKE", "AKE"),
        ("Ex", "KAE"),
        ("KEx", "KAE"),
        ("EA", "KAE"),
        ("AEmn", "KAEmn"),
        ("Kg$lshzxetd", "Kg$lshzxetd"),
        ("Kg$lshzxet", "KA"),
    ],
)
def test_flags_of_others_stay(current: str, wanted: str) -> None:
    assert notifications_flags(current) == wanted


def test_the_parameter_is_set_and_put_back(session: Session) -> None:
    session.call("CONFIG", "SET", PARAMETER, "Ex")
    previous = enable_notifications(session)
    assert previous is not None
    assert set(previous) == set("Ex")
    assert set(str(flags(session))) >= set("KAE")
    assert enable_notifications(session) is None
    restore_notifications(session, None)
    assert set(str(flags(session))) >= set("KAE")
    restore_notifications(session, previous)
    assert flags(session) == previous.encode()


def test_what_somebody_else_has_set_meanwhile_stays(session: Session) -> None:
    previous = enable_notifications(session)
    session.call("CONFIG", "SET", PARAMETER, "El")
    restore_notifications(session, previous)
    assert set(str(flags(session))) >= set("El")


def test_config_that_is_refused_says_where_to_set_the_parameter(limited: Callable[..., Session]) -> None:
    with pytest.raises(ServerError, match="refuses CONFIG GET") as caught:
        enable_notifications(limited("-config"))
    assert "parameter group" in caught.value.hint


T, N, S = (Availability(kind, True) for kind in KINDS)
NO_T = Availability(FeedKind.TRACKING, False, "Too old.", "Take notifications.")
NO_N = Availability(FeedKind.NOTIFICATIONS, False, "Not set.", "Set it.")
SWEEPS = Availability(FeedKind.SWEEPS, True, "Late.")


def test_the_best_feed_that_every_server_has_is_chosen() -> None:
    assert choose([[T, N, SWEEPS]] * 2, None).kind is FeedKind.TRACKING
    choice = choose([[T, N, SWEEPS], [NO_T, N, SWEEPS]], None)
    assert choice.kind is FeedKind.NOTIFICATIONS
    assert choice.sentences == ["Too old. Take notifications."]
    choice = choose([[NO_T, N, SWEEPS], [T, NO_N, SWEEPS]], None)
    assert choice.kind is FeedKind.SWEEPS
    assert choice.sentences == ["Too old. Take notifications.", "Not set. Set it.", "Late."]


def test_a_feed_that_is_wanted_is_taken_or_refused() -> None:
    assert choose([[T, N, SWEEPS]], FeedKind.SWEEPS).sentences == ["Late."]
    assert choose([[T, N, SWEEPS]], FeedKind.NOTIFICATIONS).kind is FeedKind.NOTIFICATIONS
    with pytest.raises(RefusedError, match="Not set") as caught:
        choose([[T, N, SWEEPS], [T, NO_N, SWEEPS]], FeedKind.NOTIFICATIONS)
    assert caught.value.hint == "Set it."
