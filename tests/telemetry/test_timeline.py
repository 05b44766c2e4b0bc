"""When it was in which stage, also over processes that noted no end."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from keyferry.telemetry.migrating import EventKind, FactKey, report_of
from keyferry.telemetry.timeline import Span, timeline_of


def test_one_stage_ends_where_the_next_begins() -> None:
    entered = [(10, "copying"), (30, "following")]
    assert timeline_of(entered, [5], [], 70) == [Span("copying", 10, 30), Span("following", 30, 70)]


def test_a_killed_process_ends_where_it_was_heard_of_last() -> None:
    entered = [(10, "copying"), (102, "comparing")]
    spans = timeline_of(entered, [5, 100], [20, 45, 110], 120)
    assert spans == [Span("copying", 10, 45), Span("comparing", 102, 120)]
    assert timeline_of(entered, [5, 100], [], 120)[0] == Span("copying", 10, 10)


@given(
    st.lists(st.tuples(st.integers(0, 999), st.sampled_from("abc"))),
    st.lists(st.integers(0, 999)),
    st.lists(st.integers(0, 999)),
)
def test_stages_are_in_order_and_never_at_once(
    entered: list[tuple[int, str]], starts: list[int], alive: list[int]
) -> None:
    spans = timeline_of(entered, starts, alive, 1000)
    assert [(span.from_ms, span.stage) for span in spans] == sorted(entered)
    edges = [edge for span in spans for edge in (span.from_ms, span.to_ms)]
    assert edges == sorted(edges)


def test_a_report_knows_when_it_was_what() -> None:
    events: list[tuple[int, str, dict[str, Any]]] = [
        (1_000, EventKind.STARTED, {}),
        (1_500, EventKind.STAGE, {"stage": "copying", "at_ms": 1_200}),
        (2_600, EventKind.STAGE, {"stage": "following", "at_ms": 2_500}),
        (8_900, EventKind.MOVED, {"direction": "noted by the next process"}),
        (9_000, EventKind.STARTED, {"seen_ms": 4_700}),
        (9_100, EventKind.STAGE, {"stage": "comparing", "at_ms": 9_100}),
    ]
    facts: dict[str, Any] = {
        FactKey.SAMPLES: {"rows": [[2_000], [4_000]]},
        FactKey.SEEN: 9_700,
        FactKey.STOPPED: {"error": "e", "hint": "", "exit_code": 3, "at_ms": 9_800},
    }
    report = report_of("shop", facts, events)
    assert (report.began_ms, report.seen_ms, report.stopped["error"]) == (1_000, 9_800, "e")
    assert report.timeline == [
        Span("copying", 1_200, 2_500),
        Span("following", 2_500, 4_700),
        Span("comparing", 9_100, 9_800),
    ]
    again = report_of("shop", facts, [*events, (9_900, EventKind.STARTED, {})])
    assert again.stopped == {}
