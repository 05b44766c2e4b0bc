"""The order of a switch for plain clients, on every server: pause, look, take rights, ask the time, go on, commit.

While many connections wait to write, none may slip in between: each write that was acknowledged is in what was
looked at under the pause.
"""

from __future__ import annotations

from plain_application import all_refused, all_write, apart, counts, reaching, until, writing

from keyferry.copy.client_list import parse_client_list
from keyferry.cutover.barring import Bar
from keyferry.cutover.pausing import Pause
from keyferry.testing.servers import Server
from keyferry.wire.session import Session

ROUNDS = 20
PAUSE_MS = 5000


def waiting(session: Session) -> int:
    """Connections whose writes the pause holds back."""
    listed = session.call("CLIENT", "LIST")
    assert isinstance(listed, bytes)
    return sum("b" in line.flags for line in parse_client_list(listed))


def test_none_slips_in_between(server: Server) -> None:
    with apart(server) as (ours, app), reaching(ours) as reach, writing(app) as writers:
        bar, pause = Bar(reach, leave=("default",)), Pause(reach)
        with Session(ours, "source") as session:
            for number in range(ROUNDS):
                survey = bar.survey()
                assert survey.complete and survey.users == ("shop",)
                pause.begin(PAUSE_MS)
                until(lambda: waiting(session) >= len(writers) - 1, "nobody waits")
                seen = counts(session, writers)
                taken = bar.take(survey)
                assert pause.still_on()
                pause.end()
                assert session.call("HSET", "keyferry:n", "epoch", number) in (0, 1)
                all_refused(writers)
                assert counts(session, writers) == seen
                assert {writer.key: writer.acknowledged for writer in writers} == seen
                assert bar.give_back(taken) == ()
                all_write(writers, seen)
        assert [writer.surprise for writer in writers] == [None] * len(writers)


def test_rights_taken_after_the_pause_let_some_slip_in(server: Server) -> None:
    """The same look at the same writers finds the wrong order out."""
    with apart(server) as (ours, app), reaching(ours) as reach, writing(app) as writers:
        bar, pause = Bar(reach, leave=("default",)), Pause(reach)
        with Session(ours, "source") as session:
            survey = bar.survey()
            pause.begin(PAUSE_MS)
            until(lambda: waiting(session) >= len(writers) - 1, "nobody waits")
            seen = counts(session, writers)
            pause.end()
            bar.take(survey)
            all_refused(writers)
            assert counts(session, writers) != seen
            bar.give_back(survey.taken)


def test_a_pause_that_ended_too_soon_is_noticed(server: Server) -> None:
    with apart(server) as (ours, app), reaching(ours) as reach, writing(app) as writers:
        bar, pause = Bar(reach, leave=("default",)), Pause(reach)
        with Session(ours, "source") as session:
            survey = bar.survey()
            pause.begin(150)
            seen = counts(session, writers)
            until(lambda: counts(session, writers) != seen, "the pause does not end")
            taken = bar.take(survey)
            assert not pause.still_on() and "took too long" in pause.lapsed()
            pause.end()
            bar.give_back(taken)
            all_write(writers, seen)
