"""What `make test-redis-py` says when a test ends otherwise than with redis-py itself: without a suite to run."""

from __future__ import annotations

from pathlib import Path

from dev.redis_py_suite.compare import MISSING, Outcome, Outcomes, Sorted, counts, differences, sort_out
from dev.redis_py_suite.launch import Plan, Ran
from dev.redis_py_suite.report import Result, as_json, as_text, complaint

PASSED = Outcome("passed")
FAILED = Outcome("failed", "call: assert 1 == 2")
SKIPPED = Outcome("skipped")
PLAN = Plan("dual", "2")


def ran(outcomes: Outcomes, sets: tuple[int, int] = (5, 5)) -> Ran:
    return Ran(dict(outcomes), {"needs a Redis Cluster": 3}, sets, Path("log"))


def judged(redis_py: Outcomes, ours: Outcomes, sorted_out: Sorted) -> Result:
    return Result(PLAN, ran(redis_py), ran(ours), sorted_out, complaint(PLAN, ran(ours)))


def test_a_test_that_ends_otherwise_is_a_difference() -> None:
    redis_py = {"a": PASSED, "b": PASSED, "c": FAILED, "d": SKIPPED}
    ours = {"a": PASSED, "b": FAILED, "c": PASSED, "d": PASSED}
    found = differences(redis_py, ours)
    assert [(one.test, one.redis_py.word, one.ours.word) for one in found] == [
        ("b", "passed", "failed"),
        ("c", "failed", "passed"),
        ("d", "skipped", "passed"),
    ]


def test_a_test_that_fails_with_both_is_none() -> None:
    assert not differences({"a": FAILED}, {"a": Outcome("failed", "call: another line")})


def test_a_test_that_one_run_lacks_is_a_difference() -> None:
    found = differences({"a": PASSED, "b": SKIPPED}, {"b": SKIPPED, "c": PASSED})
    assert [(one.test, one.redis_py.word, one.ours.word) for one in found] == [
        ("a", "passed", MISSING),
        ("c", MISSING, "passed"),
    ]


def test_what_differs_again_is_real_and_what_does_not_is_flaky() -> None:
    first = differences(
        {"real": PASSED, "flaky": PASSED, "slow": FAILED}, {"real": FAILED, "flaky": FAILED, "slow": PASSED}
    )
    found = sort_out(
        first,
        {"real": PASSED, "flaky": PASSED, "slow": PASSED},
        {"real": FAILED, "flaky": PASSED, "slow": PASSED},
    )
    assert [one.test for one in found.real] == ["real"]
    assert [one.test for one in found.flaky] == ["flaky", "slow"]


def test_what_could_not_be_tried_again_stays_real() -> None:
    first = differences({"a": PASSED, "b": PASSED}, {"a": FAILED, "b": FAILED})
    found = sort_out(first, {"a": PASSED}, {})
    assert [one.test for one in found.real] == ["a", "b"]


def test_the_table_names_what_differs_and_counts_both() -> None:
    redis_py, ours = {"a": PASSED, "b": PASSED}, {"a": PASSED, "b": FAILED}
    result = judged(redis_py, ours, Sorted(tuple(differences(redis_py, ours)), ()))
    assert not result.good
    text = as_text([result], "Redis 8.2.3", "8.1.0")
    assert "dual   RESP2     2 | 1   0 | 1" in text
    assert "b: passed | failed\n      call: assert 1 == 2" in text
    assert "left out of both: 3 tests" in text
    (run,) = as_json([result], "Redis 8.2.3", "8.1.0")["runs"]
    assert (run["good"], run["redis_py"]["passed"], run["ours"]["failed"]) == (False, 2, 1)
    assert run["differ"][0]["test"] == "b"


def test_nothing_that_differs_is_good_and_a_flaky_test_is_named_all_the_same() -> None:
    flaky = tuple(differences({"a": PASSED}, {"a": FAILED}))
    result = judged({"a": PASSED}, {"a": FAILED}, Sorted((), flaky))
    assert result.good
    assert "alike when tried again\n  a: passed | failed" in as_text([result], "Redis 8.2.3", "8.1.0")


def test_a_run_whose_second_server_took_no_part_proves_nothing() -> None:
    everything = {"a": PASSED}
    assert complaint(PLAN, ran(everything, (5, 0)))
    assert not complaint(PLAN, ran(everything, (5, 4)))
    assert complaint(Plan("source", "2"), ran(everything, (5, 1)))
    assert complaint(Plan("target", "2"), ran(everything, (5, 1)))
    assert not complaint(Plan("target", "2"), ran(everything, (5, 0)))
    # A few tests alone need not write at all.
    assert not complaint(Plan("dual", "2", pytest_arguments=("-k", "lock")), ran(everything, (0, 0)))


def test_every_word_is_counted() -> None:
    counted = counts({"a": PASSED, "b": PASSED, "c": FAILED})
    assert (counted["passed"], counted["failed"], counted["skipped"]) == (2, 1, 0)
