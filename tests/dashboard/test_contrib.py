"""The files for Prometheus and Grafana ask only for metrics that exist, with the labels that they have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from keyferry.app.dashboard.metric_table import METRICS
from keyferry.capture.clients.metrics import NAMES, ClientCollector

ROOT = Path(__file__).parents[2]
CONTRIB = ROOT / "contrib"
DASHBOARD: dict[str, Any] = json.loads((CONTRIB / "grafana" / "keyferry.json").read_text(encoding="utf-8"))
GROUPS = yaml.safe_load((CONTRIB / "prometheus" / "keyferry-alerts.yml").read_text(encoding="utf-8"))[
    "groups"
]
RULES = [rule for group in GROUPS for rule in group["rules"]]
ASKED = re.findall(
    r"^\| .*\? \| `(.+?)`", (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8"), re.MULTILINE
)

FUNCTIONS = frozenset(
    ("histogram_quantile", "changes", "count", "deriv", "increase", "last_over_time", "rate", "sum", "time")
)
WORDS = frozenset(("and", "by", "unless"))
TOKEN = re.compile(
    r"""(?P<text>"(?:[^"\\]|\\.)*") | (?P<span>\[(?:\d+[smhd]|\$__rate_interval)\]) | (?P<number>\d+(?:\.\d+)?)
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*) | (?P<sign>=~|!~|==|!=|>=|<=|[-+*/<>=,(){}]) | (?P<space>\s+)""",
    re.VERBOSE,
)


def labels_by_metric() -> dict[str, set[str]]:
    """By the names of series; a histogram has several."""
    clients = {
        f"{name}_total" if family.type == "counter" else name: {"migration", *labels}
        for family, (name, _, labels) in zip(ClientCollector().collect(), NAMES, strict=True)
    }
    ours = {one.name: {"migration", *one.labels} for one in METRICS if one.kind != "histogram"}
    parts = {
        f"{one.name}_{part}": {"migration", *one.labels, *(("le",) if part == "bucket" else ())}
        for one in METRICS
        if one.kind == "histogram"
        for part in ("bucket", "sum", "count")
    }
    return {**clients, **ours, **parts}


KNOWN = labels_by_metric()


def tokens(expression: str) -> list[tuple[str, str]]:
    found, at = [], 0
    while at < len(expression):
        match = TOKEN.match(expression, at)
        assert match is not None, f"what is {expression[at:]!r} in {expression!r}?"
        if match.lastgroup != "space":
            found.append((str(match.lastgroup), match[0]))
        at = match.end()
    return found


def check(expression: str) -> set[str]:
    """Far from a parser: brackets close, functions are known, so are metrics, and each has the labels that are asked
    for. Returns the metrics."""
    found: set[str] = set()
    asked: set[str] = set()
    opened: list[str] = []
    metric = ""
    parts = [*tokens(expression), ("end", "")]
    for (kind, text), (_, after) in pairwise(parts):
        if text in ("(", "{"):
            opened.append(text)
        elif text in (")", "}"):
            assert opened, expression
            assert opened.pop() + text in ("()", "{}"), expression
        elif kind == "word" and opened and opened[-1] == "{":
            if after in ("=", "=~", "!=", "!~"):
                assert text in KNOWN[metric], f"{metric} has no label {text}"
        elif kind == "word" and text.startswith("keyferry_"):
            assert text in KNOWN, f"no metric {text}"
            metric = text
            found.add(text)
        elif kind == "word" and after in ("(", "by") and text not in WORDS:
            assert text in FUNCTIONS, text
        elif kind == "word" and text not in WORDS:
            asked.add(text)
    assert not opened, expression
    assert found, f"{expression!r} asks for nothing"
    assert asked <= set.intersection(*(KNOWN[name] for name in found)), expression
    return found


def panels() -> Iterator[dict[str, Any]]:
    yield from DASHBOARD["panels"]


def queries() -> list[str]:
    found = [target["expr"] for panel in panels() for target in panel.get("targets", ())]
    return found + [one["expr"] for one in DASHBOARD["annotations"]["list"] if "expr" in one]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_says_what_happened_and_what_to_do(rule: dict[str, Any]) -> None:
    known = set.union(*(KNOWN[name] for name in check(rule["expr"]))) | {"instance"}
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert set(rule["annotations"]) == {"summary", "action"}
    for text in rule["annotations"].values():
        assert text.endswith((".", "?"))
        assert set(re.findall(r"\$labels\.(\w+)", text)) <= known, text
    assert re.fullmatch(r"\d+[smh]", rule.get("for", "1m"))


def test_alerts_are_told_apart() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"Keyferry[A-Za-z]+", name) for name in names)


@pytest.mark.parametrize("query", sorted(set(queries())))
def test_the_dashboard_asks_for_what_there_is(query: str) -> None:
    check(query)
    assert query.count('migration="$name"') == query.count("keyferry_"), "of the chosen migration alone"


@pytest.mark.parametrize("expression", ASKED)
def test_the_page_asks_for_what_there_is(expression: str) -> None:
    check(expression)


def test_the_dashboard_can_be_imported() -> None:
    assert DASHBOARD["id"] is None, "an id of one server is none of another"
    variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["name"]["query"]["query"] == "label_values(keyferry_up, migration)"
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    for panel in panels():
        assert panel["type"] == "row" or (
            panel["datasource"] == chosen and panel["description"].endswith(".")
        )
        for target in panel.get("targets", ()):
            assert target["datasource"] == chosen
            for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                assert all(label in KNOWN[name] for name in check(target["expr"])), target
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids)


def test_no_panel_covers_another() -> None:
    places = [panel["gridPos"] for panel in panels()]
    assert all(one["x"] >= 0 and one["x"] + one["w"] <= 24 for one in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)


@pytest.mark.parametrize(
    "wrong",
    [
        "keyferry_laag_seconds > 1",
        'keyferry_lag_seconds{side="source"}',
        "rat(keyferry_lag_seconds[5m])",
        "sum by (side) (keyferry_lag_seconds)",
        "sum(keyferry_lag_seconds",
        "time() > 1",
        "keyferry_lag_seconds[5 minutes]",
    ],
)
def test_the_check_finds_mistakes(wrong: str) -> None:
    with pytest.raises(AssertionError):
        check(wrong)
