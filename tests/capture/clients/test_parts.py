"""What decides without I/O: turns on keys, the breaker, how often a warning comes, packing, time left to block."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from keyferry.capture.clients.blocking import patience_seconds, with_patience
from keyferry.capture.clients.breaker import Breaker
from keyferry.capture.clients.compare import alike
from keyferry.capture.clients.options import take_options
from keyferry.capture.clients.order import KeyOrder, Turn
from keyferry.capture.clients.packing import packed
from keyferry.capture.clients.seldom import Seldom

KEYS = [b"a", b"b", b"c"]


@given(
    st.lists(st.tuples(st.lists(st.sampled_from(KEYS), max_size=3), st.booleans()), max_size=12), st.data()
)
def test_turns_on_a_key_come_in_the_order_in_which_they_were_taken(
    operations: list[tuple[list[bytes], bool]], data: st.DataObject
) -> None:
    order = KeyOrder()
    turns: list[tuple[Turn, set[bytes]]] = []
    for keys, everything in operations:
        turn = order.take_all() if everything else order.take(keys)
        turns.append((turn, set(KEYS) if everything else set(keys)))
    waiting = list(turns)
    while waiting:
        ready = [pair for pair in waiting if pair[0].ready]
        assert ready, "somebody always may go"
        for turn, mine in ready:
            before = waiting[: [one for one, _ in waiting].index(turn)]
            # An empty turn waits for nobody but a barrier.
            assert not any(mine & others for _, others in before)
        chosen = data.draw(st.sampled_from(ready))
        chosen[0].leave()
        waiting.remove(chosen)
    assert not order.last
    assert order.barrier is None


def test_one_who_gives_up_waiting_lets_nobody_overtake_those_before_it() -> None:
    order = KeyOrder()
    first, second, third = order.take([b"k"]), order.take([b"k"]), order.take([b"k"])
    second.leave()
    assert not third.ready
    first.leave()
    assert all(turn.ready for turn in (second, third))
    third.leave()
    assert not order.last


def test_a_turn_wakes_whoever_waits_for_it_and_tells_one_who_came_too_late_to_wait() -> None:
    order, woken = KeyOrder(), threading.Event()
    first, second = order.take([b"k"]), order.take([b"k"])
    assert second.when_come(woken.set)
    first.leave()
    assert woken.is_set()
    assert not second.when_come(woken.clear)
    second.leave()


def test_the_breaker_opens_after_failures_in_a_row_and_lets_one_try_after_each_rest() -> None:
    breaker = Breaker(failures_max=2, rest_seconds=1.0, rest_seconds_max=3.0)
    breaker.failed(0.0)
    breaker.succeeded()
    breaker.failed(0.0)
    assert breaker.allows(0.0)
    breaker.failed(0.0)
    assert not breaker.allows(0.9)
    assert breaker.allows(1.0)
    assert not breaker.allows(1.1), "only one tries"
    breaker.failed(1.1)
    assert not breaker.allows(3.0)
    assert breaker.allows(3.2), "the rest has doubled"
    breaker.failed(3.2)
    assert breaker.allows(6.3), "and has a bound"
    breaker.succeeded()
    assert breaker.state is Breaker.State.CLOSED
    assert breaker.allows(6.3)


def test_a_warning_comes_seldom_and_says_how_many_it_stands_for() -> None:
    seldom = Seldom(5.0)
    assert seldom.due("OOM", 0.0) == 1
    assert seldom.due("OOM", 1.0) is None
    assert seldom.due("READONLY", 1.0) == 1
    assert seldom.due("OOM", 4.0) is None
    assert seldom.due("OOM", 5.0) == 3


def view(data: bytes) -> memoryview:
    return memoryview(data)


ARGUMENTS = st.one_of(
    st.text(), st.binary(), st.integers(), st.floats(allow_nan=False), st.binary().map(view)
)


@given(
    st.lists(st.tuples(st.sampled_from(["SET", "XGROUP CREATE", b"GET"]), st.lists(ARGUMENTS)), min_size=1)
)
def test_commands_are_packed_as_redis_py_packs_them(commands: list[tuple[Any, list[Any]]]) -> None:
    connection = redis.Connection()
    tuples = [(name, *arguments) for name, arguments in commands]
    assert b"".join(packed(connection.encoder.encode, tuples)) == b"".join(connection.pack_commands(tuples))


@pytest.mark.parametrize(
    ("command", "seconds"),
    [
        (("BLPOP", "a", "b", 5), 5.0),
        (("BRPOPLPUSH", "a", "b", "0.5"), 0.5),
        (("BLMOVE", "a", "b", "LEFT", "RIGHT", 0), float("inf")),
        (("BLMPOP", 3, 1, "a", "LEFT"), 3.0),
        (("BZPOPMIN", "z", b"2"), 2.0),
        (("XREAD", b"BLOCK", b"1500", b"STREAMS", "s", "$"), 1.5),
        (("XREADGROUP", "GROUP", "g", "c", "BLOCK", 100, "STREAMS", "s", ">"), 0.1),
        (("XREAD", "STREAMS", "BLOCK", "0"), None),
        (("BLPOP", "a", "soon"), None),
    ],
)
def test_the_time_that_a_command_may_block(command: tuple[Any, ...], seconds: float | None) -> None:
    assert patience_seconds(command[0], command) == seconds
    if seconds not in (None, float("inf")):
        left = with_patience(command[0], command, 0.05)
        assert patience_seconds(left[0], left) == pytest.approx(0.05)
        assert len(left) == len(command)


@pytest.mark.parametrize(
    ("first", "second", "unordered", "same"),
    [
        ("ä", "ä".encode(), False, True),
        ({b"a": b"1"}, [b"a", b"1"], False, True),
        ([b"a", b"b"], [b"b", b"a"], False, False),
        ([b"a", b"b"], {b"b", b"a"}, True, True),
        ([b"a", b"a"], [b"a", b"b"], True, False),
        (1.5, b"1.5", False, True),
        (2.0, b"2", False, True),
        (None, b"", False, False),
    ],
)
def test_replies_are_compared_in_whatever_form_they_come(
    first: Any, second: Any, unordered: bool, same: bool
) -> None:
    assert alike(first, second, unordered=unordered) is same


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            {"phase": "duel"},
            "phase must be one of source, dual, shadow, hold, target-dual, target; got 'duel'",
        ),
        ({"phase": "hold"}, "only the shared record leads out of it"),
        ({"phase": "dual", "migration": "m"}, "not both"),
        ({"phase": "dual", "mirror": "later"}, "mirror must be one of inline, background"),
        ({"phase": "dual", "target_timeout_ms": 0}, "target_timeout_ms must be above 0"),
        ({"phase": "shadow", "shadow_share": 2}, "between 0 and 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_one_sentence(
    arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        take_options(arguments)
