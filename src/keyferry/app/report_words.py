"""What the page of a report says: a verdict first, then numbers and tables, made of the report's facts. Without I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from keyferry.app.summary import METHOD_WORDS, NOTE_WORDS
from keyferry.cutover.plan import GATED, Step
from keyferry.model.errors import ExitCode
from keyferry.model.words import count, counted, duration, latency, size

Report = Mapping[str, Any]
Tone = Literal["good", "running", "attention", "trouble"]

SHOWN_MAX = 20
"""Verifications and switches on a page: the newest."""
_METHODS = {method.name.lower(): words for method, words in METHOD_WORDS.items()}
_WAITING = GATED | {
    Step.COMPLETE,
    Step.OPEN,
    Step.UNDO_BAR,
    Step.UNDO_PAUSE,
    Step.UNDO_HOLD,
    Step.UNDO_GIVE_BACK,
}
"""Steps in which writes wait, or are about to."""
STEPS: Mapping[str, str] = {
    "prepare": "every writer is asked whether it can reach the other server",
    "reverse": "a feed is attached for the way back",
    "narrow": "what has changed since the last verification is compared",
    "hold": "writers are told to hold their writes",
    "acknowledged": "writers end what is under way, and say so",
    "sever": "connections for second writes are ended",
    "pause": "the server makes plain clients wait",
    "settle": "every change is heard and carried",
    "functions": "function libraries are carried where they changed",
    "compare": "what has changed since is proved to be equal",
    "bar": "the application loses its write rights on the old side",
    "check-pause": "the server's clock says that the pause held",
    "unpause": "the pause is ended",
    "give-back": "rights are given back on the new side",
    "pending": "the phase record of the new side is made ready",
    "commit": "the switch itself: one compare-and-set",
    "complete": "the new side's record says that it has authority",
    "open": "writers go on, on the new side",
    "bar-after": "the old side is barred",
    "hook": "your own command runs",
    "undo-give-back": "rights are taken again",
    "undo-bar": "write rights are given back",
    "undo-pause": "the pause is ended",
    "undo-hold": "writers go on as before",
    "undo-reverse": "the feed for the way back is taken off",
}


class Fact(NamedTuple):
    """A number with its meaning."""

    label: str
    value: str
    more: str = ""
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How it stands, before anything else. ``look_at``: what somebody has to do, or to look at."""

    tone: Tone
    word: str
    sentence: str
    look_at: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class StepRow:
    """One step of a switch. ``at`` and ``width`` in percent of all steps in which writes waited (``gated``)."""

    name: str
    meaning: str
    took: str
    at: float
    width: float
    gated: bool


@dataclass(frozen=True, slots=True)
class SwitchView:
    """One cutover or rollback."""

    title: str
    tone: Tone
    waited: str
    sentence: str
    facts: list[Fact]
    steps: list[StepRow]


def moment_of(at_ms: float) -> str:
    """2026-11-23 18:41:33, in UTC."""
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"


def verdict(report: Report) -> Verdict:
    """The first thing that is said, and never better than it is."""
    problems = _problems(report)
    side = report.get("authority") or "source"
    here = f"The {side} {report.get(side) or ''}".rstrip()
    ended = report.get("ended")
    if ended == "finished":
        sentence = f"{here} has authority; the {_other(side)} is not needed any more."
        if problems:
            return Verdict("attention", "Finished, with something to look at", sentence, problems)
        return Verdict("good", "Finished", sentence)
    if ended == "aborted":
        sentence = f"The migration was given up. {here} has authority; nothing follows it any more."
        return Verdict("attention", "Aborted", sentence, problems)
    unfinished = f"It is not finished. {here} has authority."
    stopped = report if report.get("error") else report.get("stopped") or {}
    if stopped.get("error") and not report.get("running"):
        said = [*filter(None, [stopped.get("hint")]), unfinished, *problems]
        if stopped.get("exit_code") == ExitCode.INTERRUPTED:
            return Verdict("attention", "Stopped by its operator", stopped["error"], said)
        return Verdict("trouble", "Stopped by an error", stopped["error"], said)
    if report.get("running"):
        return Verdict(
            "running", "Under way", f"{unfinished} This is how far it was when this was made.", problems
        )
    go_on = "No process leads it now. The same keyferry migrate command goes on with it."
    return Verdict("attention", "Not finished", unfinished, [go_on, *problems])


def _other(side: str) -> str:
    return "target" if side == "source" else "source"


def _problems(report: Report) -> list[str]:
    said = []
    failed = failed_of(report)
    if failed:
        said.append(
            f"{counted(failed, 'key')} could not be carried: the target does not hold them as the source did."
        )
    verified = report.get("verifications") or ()
    if verified and verified[-1]["differences"]:
        said.append(f"The last verification found {counted(verified[-1]['differences'], 'difference')}.")
    switches = report.get("switches") or ()
    said += [f"After the {one['direction']}: {one['hook']}" for one in switches if one.get("hook_failed")]
    if switches and switches[-1]["outcome"] == "unknown":
        said.append(f"Whether the last {switches[-1]['direction']} was made is not known.")
    return said


def failed_of(report: Report) -> int:
    """Keys that could not be carried, by the newest run that says it."""
    runs = report.get("moved") or ()
    return next((int(run["failed"]) for run in reversed(runs) if "failed" in run), 0)


def numbers(report: Report) -> list[Fact]:
    """The few that everybody asks for."""
    there = [run for run in report.get("moved") or () if run["direction"] == "source to target"]
    copied, payload = _copied(there, "copied"), _copied(there, "bytes")
    facts = [
        Fact("keys copied", count(copied), size(payload)),
        Fact("changes", count(_sum(there, "settled"))),
    ]
    done = [one for one in report.get("switches") or () if one["outcome"] == "done"]
    if done:
        waited = done[-1]["gate_ms"]
        value = "nobody waited" if waited is None else latency(waited)
        facts.append(Fact("writes waited", value, f"in the last {done[-1]['direction']}"))
    verified = report.get("verifications") or ()
    if verified:
        last = verified[-1]
        compared = f"{counted(last['compared'], 'key')} compared"
        if last["differences"]:
            facts.append(Fact("verified", f"{count(last['differences'])} differ", compared, "trouble"))
        else:
            facts.append(Fact("verified", "equal", compared, "good"))
    failed = failed_of(report)
    if failed:
        facts.append(Fact("failed", count(failed), "keys not carried", "trouble"))
    if report.get("writers"):
        facts.append(Fact("live writers", count(report["writers"]), "at most, at once"))
    starts = report.get("starts", 0)
    facts.append(
        Fact("took", duration(report.get("seconds", 0.0)), f"started {starts} times" if starts > 1 else "")
    )
    return facts


def _sum(runs: Iterable[Report], name: str) -> int:
    return sum(int(run.get(name, 0)) for run in runs)


def _copied(runs: Iterable[Report], name: str) -> int:
    return sum(int(run.get("copied", {}).get(name, 0)) for run in runs)


def moved(report: Report) -> list[tuple[str, list[Fact]]]:
    """What was carried, by direction."""
    runs = report.get("moved") or ()
    directions = dict.fromkeys(run["direction"] for run in runs)
    return [(one, _direction([run for run in runs if run["direction"] == one])) for one in directions]


def _direction(runs: Sequence[Report]) -> list[Fact]:
    methods = [
        f"{count(keys)} {words}"
        for name, words in _METHODS.items()
        if (keys := sum(run.get("copied", {}).get("methods", {}).get(name, 0) for run in runs))
    ]
    gaps = sum(max(0, int(run.get("generations", 1)) - 1) for run in runs)
    throttled = sum(run.get("throttled_seconds", 0.0) for run in runs)
    facts = [
        Fact("keys copied", count(_copied(runs, "copied")), ", ".join(methods)),
        Fact("payload", size(_copied(runs, "bytes"))),
        _if_any("there already", _copied(runs, "skipped"), "left as they were"),
        _if_any("vanished", _copied(runs, "vanished"), "expired or deleted while the copy ran"),
        Fact(
            "changes heard of",
            count(_sum(runs, "changes")),
            f"by the feed {runs[-1].get('feed', '')}".rstrip(),
        ),
        Fact("changes settled", count(_sum(runs, "settled")), "made equal on the other side"),
        _if_any("deleted", _sum(runs, "deleted"), "because they were deleted on the other side"),
        _if_any("extra keys deleted", _sum(runs, "extra_deleted"), "that only the target had"),
        _if_any("written by others", _sum(runs, "foreign_keys"), "on the side that is followed to"),
        _if_any("failed", int(runs[-1].get("failed", 0)), "could not be carried"),
        Fact("largest lag", duration(max(run.get("lag_max_seconds", 0.0) for run in runs))),
        _if_any("gaps of the feed", gaps, "everything was compared after each"),
        Fact(
            "held back",
            duration(throttled) if throttled >= 0.1 else "",
            "by the latency guard, or your limits",
        ),
        Fact("runs", count(len(runs)) if len(runs) > 1 else ""),
        *_not_carried(runs),
    ]
    return [fact for fact in facts if fact.value]


def _if_any(label: str, number: int, more: str) -> Fact:
    return Fact(label, count(number) if number else "", more)


def _not_carried(runs: Iterable[Report]) -> list[Fact]:
    notes: dict[str, int] = {}
    for run in runs:
        for note, keys in run.get("not_carried", {}).items():
            notes[note] = notes.get(note, 0) + keys
    return [
        Fact("not carried", counted(keys, "key"), NOTE_WORDS.get(note, note)) for note, keys in notes.items()
    ]


def switch_view(switch: Report) -> SwitchView:
    """One cutover or rollback, with its steps on a line."""
    waited = "nobody waited" if switch["gate_ms"] is None else f"writes waited {switch['gate_ms']:,.1f} ms"
    done = switch["outcome"] == "done"
    tone: Tone = "good" if done else "trouble" if switch["outcome"] == "unknown" else "attention"
    facts = [
        Fact("gate", switch["gate"] or "-"),
        Fact("live writers", count(switch["writers"])),
        Fact("settled under the gate", counted(switch["settled"], "key")),
        Fact("compared under the gate", counted(switch["compared"], "key")),
        _if_any("differences", switch["differences"], ""),
        Fact("phase afterwards", f"{switch['phase'] or '-'}, epoch {switch['epoch']}"),
        Fact("the old side", switch["barred"]),
        Fact("hook", switch["hook"]),
    ]
    return SwitchView(
        title=f"{moment_of(switch['at_ms'])}: {switch['direction']} {switch['outcome']}",
        tone="attention" if done and switch["hook_failed"] else tone,
        waited=waited,
        sentence=switch["reason"],
        facts=[fact for fact in facts if fact.value],
        steps=_steps([step for step in switch["steps"] if switch["hook"] or step["step"] != Step.HOOK]),
    )


def _steps(steps: Sequence[Report]) -> list[StepRow]:
    waited = sum(step["seconds"] for step in steps if step["step"] in _WAITING) or 1.0
    rows, at = [], 0.0
    for step in steps:
        name, seconds = step["step"], step["seconds"]
        took = f"{seconds * 1000:,.1f} ms" if seconds < 10 else duration(seconds)
        gated = name in _WAITING
        share = 100 * seconds / waited if gated else 0.0
        rows.append(StepRow(name, STEPS.get(name, ""), took, round(at, 3), round(share, 3), gated))
        at += share
    return rows


def verifications(report: Report) -> list[tuple[str, str, str, str, str]]:
    """The newest: when, direction, keys compared, differences, how long."""
    newest = list(report.get("verifications") or ())[-SHOWN_MAX:]
    return [
        (
            moment_of(one["at_ms"]),
            one["direction"],
            count(one["compared"]),
            count(one["differences"]) if one["differences"] else "none",
            duration(one["seconds"]),
        )
        for one in newest
    ]
