"""The exploration sees what it is to see: histories that cannot be, ends that are wrong, rings that never close."""

from __future__ import annotations

from itertools import takewhile

import pytest
from exploring.histories import Call, Op, Told, Values, explained
from exploring.programs import DEL, GET, INCR, SET, SETEX
from exploring.search import TooMany, explore

from keyferry.cutover.plan import (
    ORDER,
    UNDOING,
    End,
    Gate,
    Over,
    Situation,
    Step,
    Wish,
    leftovers,
    next_step,
    undoes,
)
from keyferry.model.phases import Phase, Side
from keyferry.model.record import Kind, PhaseRecord

DONE, UNKNOWN, REFUSED = Call(Told.DONE), Call(Told.UNKNOWN), Call(Told.REFUSED)
AFTER_0 = Call(Told.DONE, before=1)


@pytest.mark.parametrize(
    ("ops", "calls", "finally_", "true"),
    [
        pytest.param((INCR,), (DONE,), ((0,),), True, id="there once"),
        pytest.param((INCR,), (DONE,), ((),), False, id="lost"),
        pytest.param((INCR,), (DONE,), ((0, 0),), False, id="doubled"),
        pytest.param((INCR,), (UNKNOWN,), ((0,),), True, id="unknown, and there"),
        pytest.param((INCR,), (UNKNOWN,), ((),), True, id="unknown, and not there"),
        pytest.param((INCR,), (REFUSED,), ((0,),), False, id="refused, and there"),
        pytest.param((SET, DEL), (DONE, AFTER_0), ((0,),), False, id="back again"),
        pytest.param((SET, SET), (DONE, AFTER_0), ((0,),), False, id="older"),
        pytest.param((SET, GET), (DONE, AFTER_0._replace(result=())), ((0,),), False, id="stale read"),
        pytest.param((SET, GET), (DONE, DONE._replace(result=())), ((0,),), True, id="read at once"),
        pytest.param((SETEX,), (DONE,), ((),), True, id="expired"),
    ],
)
def test_what_can_be_true(ops: tuple[Op, ...], calls: tuple[Call, ...], finally_: Values, true: bool) -> None:
    assert explained(ops, calls, finally_) is true


def ring(state: int) -> list[tuple[str, int]]:
    """From 0 to the end 9, or into the ring 1, 2, 3."""
    return {0: [("end", 9), ("ring", 1)], 1: [("on", 2)], 2: [("on", 3)], 3: [("on", 1)]}.get(state, [])


def test_a_ring_without_a_way_out_is_found() -> None:
    found = explore(0, ring, lambda _: [], lambda _state, _quiet: "")
    assert found.wrong == "it never comes to an end"
    assert found.last in (1, 2, 3)


def test_a_fault_is_no_way_out() -> None:
    found = explore(0, ring, lambda state: [("fault", 9)] if state == 2 else [], lambda _state, _quiet: "")
    assert found.wrong == "it never comes to an end"


def test_the_way_to_what_is_wrong_is_told() -> None:
    found = explore(0, ring, lambda _: [], lambda state, _: "three" if state == 3 else "")
    assert (found.wrong, found.way) == ("three", ("ring", "on", "on"))


def test_a_bound_that_is_reached_is_no_result() -> None:
    with pytest.raises(TooMany):
        explore(0, ring, lambda _: [], lambda _state, _quiet: "", states_max=3)


@pytest.mark.parametrize("last", ORDER)
def test_a_successor_undoes_what_the_planner_would_have_undone(last: Step) -> None:
    wish = Wish(Side.SOURCE, Gate.BOTH, Phase.TARGET)
    records = {
        Side.SOURCE: PhaseRecord(Kind.HOLD, 2, Phase.HOLD, back=Phase.SOURCE),
        Side.TARGET: PhaseRecord(Kind.PENDING, 2, Phase.TARGET),
    }
    begun = frozenset({*takewhile(lambda step: step is not last, ORDER), last})
    undone: list[Step] = []
    left = begun
    while True:
        step = next_step(wish, Situation(records, left, left - {last}, "it failed"))
        if isinstance(step, Over):
            break
        undone.append(step)
        its = undoes(step)
        assert its is not None
        left -= {its}
    assert step.end is End.UNDONE
    assert not left & UNDOING.keys()
    assert leftovers(wish, begun, records) == tuple(undone)
