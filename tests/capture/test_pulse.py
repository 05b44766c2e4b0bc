"""When a server counts as late."""

from __future__ import annotations

from keyferry.capture.pulse import EVERY_S, Pulse


def answers(pulse: Pulse, *took_s: float, now_s: float = 100.0) -> float:
    """Asks and is answered after so long each; the time of the last answer."""
    for one in took_s:
        now_s += 2 * EVERY_S
        assert pulse.due(now_s)
        pulse.sent(now_s)
        assert not pulse.due(now_s + 1000)
        now_s += one
        pulse.answered(now_s)
    return now_s


def test_one_late_answer_is_chance_two_are_not() -> None:
    pulse = Pulse(rest_s=0.001, rise_s=0.005)
    assert not pulse.has_risen(answers(pulse, 0.0059, 0.01, 0.0059))
    assert not pulse.has_risen(answers(pulse, 0.0061, now_s=200.0))
    assert pulse.has_risen(answers(pulse, 0.0061, now_s=300.0))


def test_an_answer_that_does_not_come_is_late_by_itself() -> None:
    pulse = Pulse(rest_s=0.001, rise_s=0.005)
    pulse.sent(100.0)
    assert not pulse.has_risen(100.05)
    assert pulse.has_risen(100.052)


def test_off_is_off() -> None:
    pulse = Pulse(rest_s=0.001, rise_s=0)
    assert not pulse.has_risen(answers(pulse, 5.0, 5.0, 5.0))
