"""The planner of a switch, asked after every step, with failures at every place: it ends, and in one of two states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product

import pytest

from keyferry.cutover.plan import (
    AFTER_COMMIT,
    GATED,
    ORDER,
    PAUSING,
    UNDOING,
    End,
    Gate,
    Over,
    Situation,
    Step,
    Wish,
    found_at_start,
    leftovers,
    next_step,
    undoes,
)
from keyferry.model.phases import Phase, Side
from keyferry.model.record import Kind, PhaseRecord

STEPS_MAX = 60


@dataclass
class World:
    """What the steps of a switch do, in short: three bits of the losing side, and both records."""

    wish: Wish
    records: dict[Side, PhaseRecord | None] = field(default_factory=dict)
    paused: bool = False
    barred: bool = False
    reversed: bool = False
    given_back: bool = False

    def __post_init__(self) -> None:
        before = Phase.SOURCE if self.wish.losing is Side.SOURCE else Phase.TARGET
        self.records = {
            self.wish.losing: PhaseRecord(Kind.AUTHORITY, 4, before),
            self.wish.gaining: PhaseRecord(Kind.LOST, 3, before),
        }
        self.before = before

    def do(self, step: Step) -> None:
        losing, gaining = self.wish.losing, self.wish.gaining
        match step:
            case Step.HOLD:
                self.records[losing] = PhaseRecord(Kind.HOLD, 5, Phase.HOLD, back=self.before)
            case Step.UNDO_HOLD:
                held = self.records[losing]
                if held is not None and held.kind is Kind.HOLD:
                    self.records[losing] = PhaseRecord(Kind.AUTHORITY, 6, self.before)
            case Step.PENDING:
                self.records[gaining] = PhaseRecord(Kind.PENDING, 5, self.wish.phase)
            case Step.COMMIT:
                held = self.records[losing]
                assert held is not None
                assert held.kind is Kind.HOLD
                assert not self.paused, "nothing can be written under a pause"
                self.records[losing] = PhaseRecord(Kind.LOST, 6, self.wish.phase)
            case Step.COMPLETE:
                self.records[gaining] = PhaseRecord(Kind.AUTHORITY, 6, self.wish.phase)
            case Step.PAUSE:
                self.paused = True
            case Step.UNPAUSE | Step.UNDO_PAUSE:
                self.paused = False
            case Step.BAR:
                assert self.paused, "rights are taken under the pause"
                self.barred = True
            case Step.UNDO_BAR:
                self.barred = False
            case Step.REVERSE:
                self.reversed = True
            case Step.UNDO_REVERSE:
                self.reversed = False
            case Step.GIVE_BACK:
                self.given_back = True
            case Step.UNDO_GIVE_BACK:
                self.given_back = False

    @property
    def rules(self) -> list[Side]:
        return [side for side, record in self.records.items() if record is not None and record.rules]


def wishes() -> Iterator[Wish]:
    for losing, gate, reverses in product(Side, Gate, (True, False)):
        phase = Phase.TARGET if losing is Side.SOURCE else Phase.SOURCE
        yield Wish(losing, gate, phase, reverses)


def _named(wish: Wish) -> str:
    return f"{wish.losing}-{wish.gate}{'' if wish.reverses else '-no-way-back'}"


def lead(
    world: World, fails: Step | None, *, done_all_the_same: bool, blind: bool = False
) -> tuple[End, list[Step]]:
    """Runs the planner; one step fails, before or after it was done; then the losing side may not answer once."""
    begun: set[Step] = set()
    done: set[Step] = set()
    failure = ""
    taken: list[Step] = []
    for _ in range(STEPS_MAX):
        records = dict(world.records)
        if blind and failure and Step.COMMIT in begun:
            del records[world.wish.losing]
            blind = False
        step = next_step(world.wish, Situation(records, frozenset(begun), frozenset(done), failure))
        if isinstance(step, Over):
            if step.end is End.UNKNOWN:
                continue  # asked again
            return step.end, taken
        taken.append(step)
        if (undone := undoes(step)) is not None:
            world.do(step)
            begun.discard(undone)
            done.discard(undone)
            continue
        begun.add(step)
        if step is fails:
            fails = None
            if done_all_the_same:
                world.do(step)
            failure = failure or "the test says no"
            continue
        world.do(step)
        done.add(step)
    raise AssertionError(f"it does not end: {taken}")


@pytest.mark.parametrize("wish", list(wishes()), ids=_named)
def test_without_a_failure_it_goes_through_in_order(wish: Wish) -> None:
    world = World(wish)
    end, taken = lead(world, None, done_all_the_same=False)
    assert end is End.DONE
    order = [*ORDER, *AFTER_COMMIT]
    assert taken == sorted(taken, key=order.index)
    assert world.rules == [wish.gaining]
    assert (Step.REVERSE in taken) is wish.reverses
    assert bool(PAUSING & set(taken)) is wish.gate.pauses
    assert not world.paused
    assert world.barred is wish.gate.pauses


@pytest.mark.parametrize("blind", [False, True], ids=["", "blind"])
@pytest.mark.parametrize("all_the_same", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("wish", list(wishes()), ids=_named)
def test_wherever_it_fails_there_is_one_authority_and_nothing_left(
    wish: Wish, all_the_same: bool, blind: bool
) -> None:
    for fails in ORDER:
        world = World(wish)
        end, taken = lead(world, fails, done_all_the_same=all_the_same, blind=blind)
        if fails in taken and not (fails is Step.COMMIT and all_the_same):
            assert end is End.UNDONE, (fails, taken)
            assert world.rules == [wish.losing]
            assert not world.paused
            assert not world.barred
            assert not world.reversed
            assert not world.given_back
            assert Step.COMPLETE not in taken
        else:
            assert end is End.DONE, (fails, taken)
            assert world.rules == [wish.gaining]


@pytest.mark.parametrize("wish", list(wishes()), ids=_named)
def test_whoever_starts_after_a_death_anywhere_puts_it_right(wish: Wish) -> None:
    order = [step for step in ORDER if wish.gate.pauses or step not in PAUSING]
    for number, _ in enumerate(order):
        for died_in_it in (False, True):
            world = World(wish)
            begun = order[: number + 1]
            for step in begun[: None if died_in_it else -1]:
                world.do(step)
            for undo in leftovers(wish, frozenset(begun), world.records):
                world.do(undo)
            found = found_at_start(world.records)
            committed = begun[-1] is Step.COMMIT and died_in_it
            assert found.side is (wish.gaining if committed else wish.losing)
            assert found.complete is committed
            assert not found.undo_hold
            assert not world.paused
            assert world.barred is (committed and wish.gate.pauses)


def test_a_commit_that_may_be_on_its_way_is_made_impossible_before_rights_are_given_back() -> None:
    wish = Wish(Side.SOURCE, Gate.BOTH, Phase.TARGET)
    _, taken = lead(World(wish), Step.COMMIT, done_all_the_same=False)
    assert taken.index(Step.UNDO_HOLD) < taken.index(Step.UNDO_BAR)
    assert taken.index(Step.UNDO_HOLD) < taken.index(Step.UNDO_GIVE_BACK)


def test_a_pause_is_ended_before_a_record_is_written() -> None:
    wish = Wish(Side.SOURCE, Gate.PAUSE, Phase.TARGET)
    _, taken = lead(World(wish), Step.COMPARE, done_all_the_same=False)
    assert taken.index(Step.UNDO_PAUSE) < taken.index(Step.UNDO_HOLD)


def test_every_step_that_changes_something_has_its_undo() -> None:
    changes = {Step.REVERSE, Step.HOLD, Step.PAUSE, Step.BAR, Step.GIVE_BACK}
    assert set(UNDOING) == changes
    assert {Step.HOLD, Step.PAUSE, Step.BAR, Step.COMMIT} <= GATED
