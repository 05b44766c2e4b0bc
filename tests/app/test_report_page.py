"""The page of a report: says first how it stands, holds nothing but itself, and takes every report there can be."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from keyferry.app.report_page import MARK, page, security_policy
from keyferry.app.report_words import STEPS, numbers, switch_view, verdict
from keyferry.cutover.plan import Step
from keyferry.telemetry.migrating import MigrationReport, SwitchReport, Verified
from keyferry.telemetry.samples import COLUMNS
from keyferry.telemetry.timeline import Span

AT_MS = 1_700_000_000_000
STEPS_DONE = [("prepare", 0.02), ("hold", 0.003), ("commit", 0.001), ("open", 0.008), ("hook", 0.5)]


def switch(**more: Any) -> SwitchReport:
    report = SwitchReport("cutover", AT_MS + 5000, gate="writers", outcome="done", gate_ms=12.345)
    report.steps = STEPS_DONE
    for name, value in more.items():
        setattr(report, name, value)
    return report


def report(**more: Any) -> dict[str, Any]:
    made = MigrationReport(
        "shop", "old:6379", "new:6379", ended="finished", authority="target", phase="target"
    )
    made.began_ms, made.seen_ms, made.starts = AT_MS, AT_MS + 10_000, 1
    made.timeline = [
        Span("copying", AT_MS, AT_MS + 3000),
        Span("following back", AT_MS + 3000, AT_MS + 10_000),
    ]
    made.stages = {"copying": 3.0, "following back": 7.0}
    made.switches = [switch()]
    made.verifications = [Verified(AT_MS + 4000, 500, 0, 1.5)]
    made.moved = [
        {
            "direction": "source to target",
            "copied": {"copied": 500, "bytes": 81_000},
            "settled": 7,
            "failed": 0,
        }
    ]
    for name, value in more.items():
        setattr(made, name, value)
    return made.as_dict()


def history() -> dict[str, Any]:
    rows = [
        [AT_MS + 1000 * second, "copying", 1, 2, 10.0, 5.0, 4.0, 3, 0.5, 0.2, 0.3] for second in range(10)
    ]
    return {"every_s": 1.0, "columns": list(COLUMNS), "rows": rows}


class _Page(HTMLParser):
    """Its tags, what they refer to, and its style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.style = self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag != "meta":
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] == ["style"]:
            self.style += data
        else:
            self.text += data


@pytest.mark.parametrize(
    ("more", "extra", "tone", "word"),
    [
        ({}, {}, "good", "Finished"),
        ({"ended": ""}, {"running": True}, "running", "Under way"),
        ({"ended": ""}, {}, "attention", "Not finished"),
        ({"ended": "aborted", "authority": "source"}, {}, "attention", "Aborted"),
        ({"ended": ""}, {"error": "The target is lost.", "hint": "Look.", "exit_code": 3}, "trouble", "Stopped by an error"),
        ({"ended": "", "stopped": {"error": "It is lost.", "hint": "", "exit_code": 3}}, {}, "trouble", "Stopped by an error"),
        ({"ended": "", "stopped": {"error": "It is lost.", "hint": "", "exit_code": 3}}, {"running": True}, "running", "Under way"),
        ({"ended": ""}, {"error": "Stopped while copying.", "exit_code": 130}, "attention", "Stopped by its operator"),
        ({"moved": [{"direction": "source to target", "failed": 3}]}, {}, "attention", "Finished, with something to look at"),
        ({"switches": [switch(hook_failed=True, hook="its exit status is 3")]}, {}, "attention", "Finished, with something to look at"),
        ({"verifications": [Verified(1, 5, 2)]}, {}, "attention", "Finished, with something to look at"),
    ],
)  # fmt: skip
def test_how_it_stands_is_said_first(
    more: dict[str, Any], extra: dict[str, Any], tone: str, word: str
) -> None:
    data = {**report(**more), **extra}
    found = verdict(data)
    assert (found.tone, found.word) == (tone, word)
    read = _Page(page(data, history()))
    said = [found.sentence, *found.look_at]
    assert ("data-tone", tone) in read.attributes
    places = [read.text.index(sentence) for sentence in said]
    assert places == sorted(places) and places[-1] < read.text.index("What moved")


def test_an_error_comes_with_what_to_do() -> None:
    data = {**report(ended=""), "error": "The target is lost.", "hint": "Look at it.", "exit_code": 3}
    found = verdict(data)
    assert found.sentence == "The target is lost."
    assert found.look_at[0] == "Look at it."
    assert "The target new:6379 has authority." in found.look_at[1]


def test_it_needs_nothing_but_itself() -> None:
    text = page(report(), history())
    read = _Page(text)
    assert text.startswith("<!DOCTYPE html>") and MARK in text
    assert not {"script", "link", "img", "iframe", "a", "form"} & set(read.tags)
    names = {name for name, _ in read.attributes}
    assert not {"src", "href", "style", "xlink:href"} & names and not any(
        name.startswith("on") for name in names
    )
    assert "url(" not in read.style and "@import" not in read.style
    assert not re.search(r"https?://", text)
    digest = base64.b64encode(hashlib.sha256(read.style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in security_policy()
    assert ("content", security_policy()) in read.attributes


def test_what_others_say_is_text() -> None:
    evil = "</style><script>alert(1)</script>"
    data = report(
        warnings=[evil],
        source=evil,
        advice=[evil],
        stages={evil: 1.0},
        timeline=[Span(evil, AT_MS, AT_MS + 9)],
    )
    text = page({**data, "name": evil}, None)
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 5


def test_a_report_of_nothing_is_a_page() -> None:
    for empty in (
        {"name": "shop"},
        MigrationReport("shop", "", "").as_dict(),
        {"name": "shop", "error": "No."},
    ):
        assert "Nothing has been carried." in _Page(page(empty, None)).text


def test_the_gate_is_in_milliseconds_and_its_steps_fill_it() -> None:
    view = switch_view(switch().as_dict())
    assert view.waited == "writes waited 12.3 ms"
    gated = [step for step in view.steps if step.gated]
    assert [step.name for step in gated] == ["hold", "commit", "open"]
    assert gated[0].at == 0
    assert sum(step.width for step in gated) == pytest.approx(100)
    assert view.steps[0].took == "20.0 ms"
    assert view.steps[-1].name == "open"  # No command was given that could have run.
    assert switch_view(switch(hook="done").as_dict()).steps[-1].took == "500.0 ms"
    assert switch_view(switch(gate_ms=None, steps=[]).as_dict()).waited == "nobody waited"
    assert set(STEPS) == set(Step)


def test_the_numbers_that_everybody_asks_for() -> None:
    said = {fact.label: fact.value for fact in numbers(report())}
    assert said == {
        "keys copied": "500",
        "changes": "7",
        "writes waited": "12.3 ms",
        "verified": "equal",
        "took": "10 s",
    }


def test_charts_and_stages_are_drawn() -> None:
    text = page(report(), history())
    assert re.findall(r'data-chart="(\w+)"', text) == ["rate", "changes", "dirty", "lag", "latency"]
    assert 'class="bar following-back"' in text
    assert "data-chart" not in page(report(), None)
