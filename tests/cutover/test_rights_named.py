"""The rights that our hints name are all that is needed, on every server."""

from __future__ import annotations

from collections.abc import Callable

from plain_application import APP, OURS, apart, reaching

from keyferry.cutover import barring, dead_replica, pausing
from keyferry.cutover.barring import Bar
from keyferry.cutover.pausing import Pause
from keyferry.cutover.plain import plain_clients
from keyferry.testing.servers import Server
from keyferry.wire.session import Session


def only(server: Server, rights: str) -> None:
    """What is named, and what any connection needs."""
    with server.session() as session:
        made = session.call("ACL", "SETUSER", OURS, "-@all", "+ping", "+auth", *rights.split())
        assert made == b"OK"


def test_of_a_bar(server: Server) -> None:
    with apart(server) as (ours, app), Session(app, "source"):
        only(server, barring.RIGHTS)
        with reaching(ours) as reach:
            bar = Bar(reach, ("default",))
            survey = bar.survey()
            assert survey.complete and survey.users == (APP,)
            bar.take(survey)
            assert bar.end_blocked(survey.taken) == 0 and bar.lapses(survey.taken) == ()
            assert bar.give_back(survey.taken) == ()
            assert plain_clients(reach, {}) == []


def test_of_a_pause(server: Server) -> None:
    with apart(server) as (ours, _):
        only(server, pausing.RIGHTS)
        with reaching(ours) as reach:
            pause = Pause(reach)
            assert pause.possible() == ""
            pause.begin(5000)
            assert pause.still_on()
            pause.end()


def test_of_a_dead_replica(start_server: Callable[..., Server], server: Server) -> None:
    own = start_server(server.binary.name)
    with apart(own) as (ours, _):
        only(own, dead_replica.RIGHTS)
        with reaching(ours) as reach:
            assert dead_replica.obstacle_to_read_only(reach) == ""
            dead_replica.read_only_by_dead_replica(reach)
            assert dead_replica.writable_again(reach)
