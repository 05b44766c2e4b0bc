"""The charts of a report as numbers and paths for SVG: where each line goes, which ticks stand where. Without I/O.

All of them have the same axis of time, so that what is below each other happened at the same time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from statistics import median_high
from typing import Any, NamedTuple

from keyferry.model.words import count

WIDTH = 760.0
LEFT, RIGHT = 132.0, 14.0
"""Room for labels beside the plot, in the units of the picture."""
HEIGHT, TOP = 82.0, 10.0
"""Of a plot, and above it."""
LANE = 27.0
BAR_MIN = 1.5
"""Something that happened is seen, however short it was."""
TICKS_MAX = 8
MARKS_APART = 60.0
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_STEPS_S = (
    1, 2, 5, 10, 15, 30,
    _MINUTE, 2 * _MINUTE, 5 * _MINUTE, 10 * _MINUTE, 15 * _MINUTE, 30 * _MINUTE,
    _HOUR, 2 * _HOUR, 3 * _HOUR, 6 * _HOUR, 12 * _HOUR,
    _DAY, 2 * _DAY, 7 * _DAY, 14 * _DAY, 28 * _DAY, 56 * _DAY,
)  # fmt: skip


class Tick(NamedTuple):
    """A line of the grid. ``at``: in the units of the picture."""

    at: float
    label: str


class Mark(NamedTuple):
    """A switch. ``labelled``: there is room for its name."""

    at: float
    label: str
    done: bool
    labelled: bool


class Bar(NamedTuple):
    """A time in a stage. ``said``: from when to when, for whoever points at it."""

    at: float
    width: float
    said: str


@dataclass(frozen=True, slots=True)
class Lane:
    """One stage. ``share``: how long it took in all, for people."""

    stage: str
    top: float
    bars: list[Bar]
    share: str


@dataclass(frozen=True, slots=True)
class Series:
    """One line. ``area``: the same, closed at the bottom; empty where there are several lines."""

    label: str
    line: str
    area: str


@dataclass(frozen=True, slots=True)
class Chart:
    """One quantity over time.

    Attributes:
        note: The middle one of all values, the highest one, and when that was.
    """

    key: str
    title: str
    series: list[Series]
    y_ticks: list[Tick]
    note: str


class TimeAxis:
    """From left to right. Times are ms since 1970; labels are UTC.

    Attributes:
        ticks: Of the grid.
        marks: Switches.
    """

    def __init__(self, from_ms: float, to_ms: float, switches: Iterable[Mapping[str, Any]] = ()) -> None:
        self.from_ms = from_ms
        self.to_ms = max(to_ms, from_ms + 1000)
        self.ticks = [Tick(self.x(at_ms), label) for at_ms, label in time_ticks(self.from_ms, self.to_ms)]
        self.marks = self._marks(switches)

    def x(self, at_ms: float) -> float:
        share = (at_ms - self.from_ms) / (self.to_ms - self.from_ms)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 2)

    def _marks(self, switches: Iterable[Mapping[str, Any]]) -> list[Mark]:
        marks: list[Mark] = []
        free = 0.0
        for switch in switches:
            at, done = self.x(switch["at_ms"]), switch["outcome"] == "done"
            marks.append(
                Mark(at, f"{switch['direction']}{'' if done else ' ' + switch['outcome']}", done, at >= free)
            )
            if at >= free:
                free = at + MARKS_APART + (0 if done else 40)
        return marks


def time_ticks(from_ms: float, to_ms: float) -> list[tuple[float, str]]:
    """At most TICKS_MAX round moments (ms since 1970), and what they are called."""
    span_s = (to_ms - from_ms) / 1000
    step_s = next((step for step in _STEPS_S if span_s / step <= TICKS_MAX), _STEPS_S[-1])
    while span_s / step_s > TICKS_MAX:
        step_s *= 2
    pattern = "%H:%M:%S" if step_s < _MINUTE else "%H:%M" if step_s < _DAY else "%b %d"
    ticks: list[tuple[float, str]] = []
    at_s = math.ceil(from_ms / 1000 / step_s) * step_s
    while at_s * 1000 <= to_ms:
        at = datetime.fromtimestamp(at_s, UTC)
        midnight = step_s >= _HOUR and at_s % _DAY == 0
        ticks.append((at_s * 1000, at.strftime("%b %d" if midnight else pattern)))
        at_s += step_s
    return ticks


def value_ticks(highest: float) -> list[float]:
    """0 and up to five round numbers, the last of them not below ``highest``, which is above 0."""
    power = 10.0 ** math.floor(math.log10(highest / 4))
    step = next(one * power for one in (1, 2, 2.5, 5, 10) if one * power * 4 >= highest * 0.999)
    return [step * number for number in range(math.ceil(highest / step * 0.999) + 1)]


def short(number: float) -> str:
    """As on an axis: 0.25, 12, 1,500, 20K, 3M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "K")):
        if number >= limit:
            return f"{number / {'G': 1e9, 'M': 1e6, 'K': 1e3}[unit]:g}{unit}"
    return count(number) if number >= 1000 else f"{number:g}"


@dataclass(frozen=True, slots=True)
class _Quantity:
    key: str
    title: str
    columns: tuple[tuple[str, str], ...]
    """Names in the history, and what they are called."""
    say: Callable[[float], str]


def _whole(number: float) -> str:
    return count(number)


_QUANTITIES = (
    _Quantity("rate", "Keys gone over, per second", (("keys_per_second", "keys"),), _whole),
    _Quantity(
        "changes",
        "Changes, per second",
        (("changes_per_second", "heard of"), ("settled_per_second", "settled")),
        _whole,
    ),
    _Quantity("dirty", "Dirty keys", (("dirty_keys", "keys"),), _whole),
    _Quantity("lag", "Lag, in seconds", (("lag_s", "lag"),), lambda number: f"{number:,.2f} s"),
    _Quantity(
        "latency",
        "Latency, in milliseconds",
        (("source_latency_ms", "source"), ("target_latency_ms", "target")),
        lambda number: f"{number:,.2f} ms",
    ),
)


def charts(
    history: Mapping[str, Any], axis: TimeAxis, pauses: Sequence[tuple[float, float]]
) -> tuple[list[Chart], list[str]]:
    """One for each quantity of which there is something to see, and the titles of those that were 0 all the time.

    Args:
        history: As ``Samples.as_dict``.
        pauses: From when to when no process ran: no line is drawn over that.
    """
    columns, rows = list(history.get("columns", ())), history.get("rows", ())
    found, quiet = [], []
    for quantity in _QUANTITIES:
        lines = [(label, _points(columns, rows, name)) for name, label in quantity.columns]
        lines = [(label, points) for label, points in lines if len(points) > 1]
        if any(value > 0 for _, points in lines for _, value in points):
            found.append(_chart(quantity, lines, axis, pauses))
        elif lines:
            quiet.append(quantity.title)
    return found, quiet


_Point = tuple[float, float]


def _points(columns: Sequence[str], rows: Iterable[Sequence[Any]], name: str) -> list[_Point]:
    if name not in columns:
        return []
    at = columns.index(name)
    return [(row[0], float(row[at])) for row in rows if row[at] is not None]


def _chart(
    quantity: _Quantity,
    lines: list[tuple[str, list[_Point]]],
    axis: TimeAxis,
    pauses: Sequence[tuple[float, float]],
) -> Chart:
    at_ms, highest = max((point for _, points in lines for point in points), key=lambda point: point[1])
    ticks = value_ticks(highest)
    top = ticks[-1]

    def y(value: float) -> float:
        return round(TOP + HEIGHT * (1 - value / top), 2)

    series = []
    for label, points in lines:
        pieces = [[(axis.x(at), y(value)) for at, value in piece] for piece in _pieces(points, pauses)]
        line = "".join(_path(piece) for piece in pieces)
        area = "".join(_area(piece, y(0)) for piece in pieces) if len(lines) == 1 else ""
        series.append(Series(label, line, area))
    when = datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%H:%M:%S")
    usual = median_high(value for _, points in lines for _, value in points)
    typically = f"typically {quantity.say(usual)}; " if usual > 0 else ""
    note = f"{typically}highest {quantity.say(highest)}, at {when}"
    y_ticks = [Tick(y(value), short(value)) for value in ticks]
    return Chart(quantity.key, quantity.title, series, y_ticks, note)


def _pieces(points: Iterable[_Point], pauses: Sequence[tuple[float, float]]) -> list[list[_Point]]:
    """Cut where no process ran between two points."""
    pieces: list[list[_Point]] = []
    before = -math.inf
    for point in points:
        if not pieces or any(before <= since and until <= point[0] for since, until in pauses):
            pieces.append([])
        pieces[-1].append(point)
        before = point[0]
    return pieces


def _path(points: Sequence[_Point]) -> str:
    (x, y), *rest = points
    return f"M{x:g} {y:g}" + "".join(f"L{x:g} {y:g}" for x, y in rest or [(x + BAR_MIN, y)])


def _area(points: Sequence[_Point], bottom: float) -> str:
    return f"{_path(points)}V{bottom:g}H{points[0][0]:g}Z"


def lanes(timeline: Sequence[Mapping[str, Any]], axis: TimeAxis, said: Callable[[str], str]) -> list[Lane]:
    """The stages, each on a lane of its own, in the order in which they were first entered.

    Args:
        timeline: Of a report.
        said: How long a stage took in all.
    """
    stages = dict.fromkeys(span["stage"] for span in timeline)
    found = []
    for number, stage in enumerate(stages):
        bars = [_bar(span, axis) for span in timeline if span["stage"] == stage]
        found.append(Lane(stage, TOP + number * LANE, bars, said(stage)))
    return found


def _bar(span: Mapping[str, Any], axis: TimeAxis) -> Bar:
    at, to = axis.x(span["from_ms"]), axis.x(span["to_ms"])
    since, until = (datetime.fromtimestamp(span[name] / 1000, UTC) for name in ("from_ms", "to_ms"))
    return Bar(at, round(max(BAR_MIN, to - at), 2), f"{since:%H:%M:%S} to {until:%H:%M:%S}")


def pauses_in(timeline: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """From when to when no process ran."""
    return [
        (one["to_ms"], other["from_ms"])
        for one, other in pairwise(timeline)
        if other["from_ms"] > one["to_ms"]
    ]
