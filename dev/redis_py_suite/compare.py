"""Two runs of the same tests held against each other: pure, so that it can be tested without a suite."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

MISSING = "missing"
"""A test that one of the two runs did not come to: not collected, or the run broke off before it."""
OUTCOMES = ("passed", "failed", "skipped", "xfailed", "xpassed", MISSING)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one test ended.

    Attributes:
        word: one of OUTCOMES.
        why: the last line of what a failed test said; empty for the others.
    """

    word: str
    why: str = ""


Outcomes = Mapping[str, Outcome]
"""By pytest's name of the test, in the order in which they ran."""

_NOT_RUN = Outcome(MISSING)


@dataclass(frozen=True, slots=True)
class Difference:
    """One test that ended otherwise than with redis-py itself."""

    test: str
    redis_py: Outcome
    ours: Outcome


def differences(redis_py: Outcomes, ours: Outcomes) -> list[Difference]:
    """Every test that did not end with the same word in both, those included that only one of them ran."""
    return [
        Difference(test, one, other)
        for test in dict.fromkeys((*redis_py, *ours))
        if (one := redis_py.get(test, _NOT_RUN)).word != (other := ours.get(test, _NOT_RUN)).word
    ]


def counts(outcomes: Outcomes) -> dict[str, int]:
    """How many tests ended with which word; every word of OUTCOMES is there."""
    counted = Counter(outcome.word for outcome in outcomes.values())
    return {word: counted[word] for word in OUTCOMES}


@dataclass(frozen=True, slots=True)
class Sorted:
    """Differences after a second try.

    Attributes:
        real: they differed again.
        flaky: the second time both ended alike.
    """

    real: tuple[Difference, ...]
    flaky: tuple[Difference, ...]


def sort_out(first: Iterable[Difference], redis_py_again: Outcomes, ours_again: Outcomes) -> Sorted:
    """Tells tests that end now so, now so, from those that tell our class from redis-py's.

    Args:
        first: what differed in the whole runs.
        redis_py_again: the second try of those tests with redis-py itself.
        ours_again: the second try with our class. A test that either try lacks counts as real.
    """
    again = {difference.test for difference in differences(redis_py_again, ours_again)}
    real: list[Difference] = []
    flaky: list[Difference] = []
    for difference in first:
        tried = difference.test in redis_py_again and difference.test in ours_again
        (flaky if tried and difference.test not in again else real).append(difference)
    return Sorted(tuple(real), tuple(flaky))
