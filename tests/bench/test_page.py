"""One section can be measured again without the others, and the page is whole after each."""

from __future__ import annotations

import pytest
from bench.figures import Goal
from bench.machine import Machine, Versions
from bench.page import Conditions, Kept, Section, anchor, keep, parse, render

ORDER = ("first", "second-one", "third")
NOTES = "## How to read this\n\n- Slowly."


def test_a_page_is_read_as_it_was_written() -> None:
    sections = {name: _measured(name, "1.00") for name in ORDER}
    page = render(sections, ORDER, NOTES)
    assert parse(page) == sections
    assert render(parse(page), ORDER, NOTES) == page


def test_a_section_that_is_measured_again_leaves_the_others_word_by_word() -> None:
    page = render({name: _measured(name, "1.00") for name in ("third", "first")}, ORDER, NOTES)
    sections = parse(page)
    sections["third"] = _measured("third", "2.00", commit="bbb")
    sections["second-one"] = _measured("second-one", "3.00", commit="bbb")
    renewed = render(sections, ORDER, NOTES)
    assert parse(renewed)["first"] == parse(page)["first"]
    assert renewed.index("## The first") < renewed.index("## The second-one") < renewed.index("## The third")
    assert [line.split(" | ")[2] for line in renewed.splitlines() if line.startswith("| [")] == [
        "1.00 ms",
        "3.00 ms",
        "2.00 ms",
    ]
    assert "commit aaa" in sections["first"].text
    assert "commit bbb" in sections["third"].text
    assert "commit aaa" not in sections["third"].text
    assert renewed.count(NOTES) == 1


def test_goals_stand_at_the_top_with_their_section_and_verdict() -> None:
    page = render({"first": _measured("first", "9.00", reached=False)}, ORDER, NOTES)
    assert page.index("## Goals") < page.index("## The first")
    assert "| [The first](#the-first) | quick | 9.00 ms | **not reached** |" in page


def test_what_is_no_page_of_ours_has_no_sections() -> None:
    assert parse("") == parse("# Benchmark\n\n## Speed\n\n| a | b |\n") == {}


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Big keys: 20 sorted sets of 200,000 members", "big-keys-20-sorted-sets-of-200000-members"),
        ("strings, 30 % with expiry", "strings-30--with-expiry"),
    ],
)
def test_anchors(title: str, expected: str) -> None:
    assert anchor(title) == expected


def _measured(name: str, figure: str, *, commit: str = "aaa", reached: bool = True) -> Kept:
    versions = Versions("Redis 7.0.15", "CPython 3.11", "8.1.0", "keyferry 1", commit, "2026-01-01 00:00 UTC")
    conditions = Conditions(Machine("A CPU", 2, 24.0, "Linux"), versions, "python -m bench", "3 rounds")
    goal = Goal("quick", f"{figure} ms", reached)
    return keep(Section(name, f"The {name}", [goal], f"| x |\n| --- |\n| {figure} |"), conditions)
