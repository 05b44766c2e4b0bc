"""What an application's commands would meet in the phase dual, and what follows from it. Pure.

Counters say which commands are called and how often, all of them, but not with which arguments; a sample of MONITOR
says with which, but not of all. The same command may be repeated as it is or be rewritten, as its arguments have it;
the counters alone know the command's usual way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from keyferry.capture.audit_sample import SCRIPTS, Sample, Sampled, written_name
from keyferry.capture.counters import Counters
from keyferry.model.command_treatments import Treatment
from keyferry.model.commands import CommandInfo, all_commands, is_container, look_up
from keyferry.model.errors import ExitCode
from keyferry.model.key_positions import NOWHERE
from keyferry.model.keys import escape

NAMES_SHOWN = 8


class Way(StrEnum):
    """How a command goes in the phase dual, the worst last."""

    SAFE = "safe"
    REWRITTEN = "rewritten"
    REPORTED = "reported"
    UNKNOWN = "unknown"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class CommandUse:
    """One command that is in use.

    Attributes:
        name: In upper case, a subcommand after a blank.
        calls: In the time of the audit.
        calls_total: Since the counters began.
        sampled: Calls in the sample; None without one.
        many_keys: It may name several keys.
        crossing: Sampled calls that a cluster would refuse: their keys are in several slots.
        undeclared: Sampled calls of a script that touched keys which they were not told.
        keys: Some of its keys, where they were asked for.
    """

    name: str
    way: Way
    calls: int
    calls_total: int
    sampled: int | None = None
    many_keys: bool = False
    crossing: int = 0
    undeclared: int = 0
    keys: tuple[bytes, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "command": self.name,
            "way": self.way.value,
            "calls": self.calls,
            "calls_total": self.calls_total,
            "many_keys": self.many_keys,
        }
        if self.sampled is not None:
            found |= {"sampled": self.sampled, "crossing": self.crossing, "undeclared": self.undeclared}
        if self.keys:
            found["keys"] = [escape(key) for key in self.keys]
        return found


@dataclass(frozen=True, slots=True)
class SampleFacts:
    """How the sample of MONITOR was taken.

    Attributes:
        seconds: The longest time that one server was listened to.
        stopped: Server -> why it was not listened to until the end.
    """

    lines: int
    seconds: float
    transactions: int
    crossing_transactions: int
    stopped: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        return {
            "lines": self.lines,
            "seconds": round(self.seconds, 3),
            "transactions": self.transactions,
            "crossing_transactions": self.crossing_transactions,
            "stopped": dict(self.stopped),
        }


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing to know or to change before the phase dual.

    Attributes:
        must: Without it the application fails in the phase dual or on the target.
    """

    must: bool
    sentence: str

    def as_dict(self) -> dict[str, Any]:
        return {"must": self.must, "sentence": self.sentence}


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What was seen.

    Attributes:
        seconds: Between the two looks at the counters.
        servers: How many were looked at.
        uptime_seconds: Of the server that was started last; None: it does not say. CONFIG RESETSTAT sets counters back.
        uses: The worst first, then by calls.
        target_cluster: Whether the target is a cluster; None: not asked.
        databases: Those that hold keys, or in which a sampled command was called.
        notes: What could not be seen.
        interrupted: It was ended before its time.
    """

    seconds: float
    servers: int
    uptime_seconds: float | None
    uses: tuple[CommandUse, ...]
    target_cluster: bool | None = None
    databases: tuple[int, ...] = ()
    sample: SampleFacts | None = None
    notes: tuple[str, ...] = ()
    interrupted: bool = False

    def of(self, way: Way) -> list[CommandUse]:
        return [use for use in self.uses if use.way is way]

    @property
    def calls(self) -> int:
        return sum(use.calls for use in self.uses)

    @property
    def advice(self) -> list[Advice]:
        return sorted(_advice(self), key=lambda advice: not advice.must)

    @property
    def exit_code(self) -> ExitCode:
        if self.interrupted:
            return ExitCode.INTERRUPTED
        return ExitCode.REFUSED if any(advice.must for advice in self.advice) else ExitCode.DONE

    def as_dict(self) -> dict[str, Any]:
        return {
            "seconds": round(self.seconds, 3),
            "servers": self.servers,
            "uptime_seconds": self.uptime_seconds,
            "target_cluster": self.target_cluster,
            "databases": list(self.databases),
            "commands": [use.as_dict() for use in self.uses],
            "monitor": None if self.sample is None else self.sample.as_dict(),
            "advice": [advice.as_dict() for advice in self.advice],
            "notes": list(self.notes),
            "interrupted": self.interrupted,
            "exit_code": int(self.exit_code),
        }


_WAYS = {
    Treatment.READ: Way.SAFE,
    Treatment.MIRROR: Way.SAFE,
    Treatment.LOCAL: Way.SAFE,
    Treatment.BOTH: Way.SAFE,
    Treatment.SESSION: Way.SAFE,
    Treatment.REWRITE: Way.REWRITTEN,
    Treatment.REPORT: Way.REPORTED,
}
_NOT_IN_A_CLUSTER = frozenset({"SWAPDB", "MOVE"})
"""Its only database is 0. SELECT is refused too, but clients call it for database 0."""


def uses(
    calls: Mapping[str, int],
    totals: Mapping[str, int],
    sample: Sample | None,
    *,
    target_cluster: bool | None,
    show_keys: bool,
) -> tuple[CommandUse, ...]:
    """What is known of each command, the worst first.

    Args:
        calls: In the time of the audit, by names as INFO commandstats has them (``xgroup|create``).
        totals: As ``calls``, since the counters began.
    """
    sampled = {} if sample is None else sample.commands
    counted, counted_total = _named(calls), _named(totals)
    found = [
        _use(name, counted[name], counted_total[name], sampled.get(name), target_cluster, show_keys)
        for name in counted_total.keys() | sampled.keys()
    ]
    if sample is None:
        found = [replace(use, sampled=None) for use in found]
    order = list(Way)
    found.sort(key=lambda use: (-order.index(use.way), -use.calls, -use.calls_total, use.name))
    return tuple(found)


def calls_between(before: Counters, after: Counters, own: Mapping[str, int]) -> tuple[dict[str, int], bool]:
    """Calls by command between two looks at one server, without our own, and whether its counters began anew."""
    reset = any(after.calls.get(name, 0) < calls for name, calls in before.calls.items())
    found = {}
    for name, calls in after.calls.items():
        more = calls - (0 if reset else before.calls.get(name, 0)) - own.get(name, 0)
        if more > 0:
            found[name] = more
    return found, reset


def _use(
    name: str, calls: int, total: int, seen: Sampled | None, target_cluster: bool | None, show_keys: bool
) -> CommandUse:
    info = look_up(tuple(name.encode().split(b" ")))
    seen = seen or Sampled()
    refused = bool(target_cluster) and name in _NOT_IN_A_CLUSTER
    return CommandUse(
        name=name,
        way=Way.REFUSED if refused else _way(name, info),
        calls=calls,
        calls_total=total,
        sampled=seen.calls,
        many_keys=info is not None and _many_keys(info),
        crossing=seen.crossing,
        undeclared=seen.undeclared,
        keys=tuple(seen.keys) if show_keys else (),
    )


def _named(calls: Mapping[str, int]) -> Counter[str]:
    """By names as the table of commands has them."""
    found = Counter[str]()
    for name, number in calls.items():
        args = tuple(name.encode().split(b"|"))
        info = look_up(args)
        found[written_name(args) if info is None else info.name] += number
    return found


def _way(name: str, info: CommandInfo | None) -> Way:
    if info is not None:
        return _WAYS[info.treatment]
    if is_container(name):  # a server before 7.0 counts all subcommands together: the worst of them
        family = {_WAYS[one.treatment] for one in all_commands() if one.name.startswith(f"{name} ")}
        return max(family, key=list(Way).index)
    return Way.UNKNOWN


def _many_keys(info: CommandInfo) -> bool:
    """Whether its keys are more than one argument at a fixed place."""
    keys = info.keys
    if not isinstance(keys, slice):
        return True
    return keys != NOWHERE and (keys.stop is None or keys.stop - keys.start != 1)


def _advice(report: AuditReport) -> Iterator[Advice]:
    yield from _of_ways(report)
    yield from _of_scripts(report)
    if report.target_cluster:
        yield from _of_cluster(report)


def _of_ways(report: AuditReport) -> Iterator[Advice]:
    if refused := report.of(Way.REFUSED):
        yield Advice(
            True, f"The target, a cluster, knows no {_names(refused)}: change the application first."
        )
    if unknown := report.of(Way.UNKNOWN):
        yield Advice(
            False,
            f"Keyferry does not know {_names(unknown)}: the source alone gets them, and keys that cannot be named are "
            "not settled unless a feed of the source names them. See whether they write.",
        )
    reported = [use for use in report.of(Way.REPORTED) if use.name not in SCRIPTS]
    if reported:
        yield Advice(
            False,
            f"{_names(reported)} cannot be repeated: keep `keyferry sync` running, which settles their keys.",
        )


def _of_scripts(report: AuditReport) -> Iterator[Advice]:
    scripts = [use for use in report.of(Way.REPORTED) if use.name in SCRIPTS]
    if scripts:
        yield Advice(
            False,
            f"Scripts ({_names(scripts)}) are not repeated: keep `keyferry sync` running, which settles their keys, or give "
            "the clients mirror_scripts=True if the scripts use no chance, no time and no keys but those "
            "they are told.",
        )
    if undeclared := [use for use in report.uses if use.undeclared]:
        yield Advice(
            False,
            f"Scripts called by {_names(undeclared)} touch keys that they are not told: only a feed of the source names "
            "those. Pass every key in KEYS.",
        )


def _of_cluster(report: AuditReport) -> Iterator[Advice]:
    if any(database for database in report.databases):
        numbers = ", ".join(map(str, report.databases))
        yield Advice(
            True, f"The databases {numbers} are in use; the target, a cluster, has database 0 alone."
        )
    crossing = [use for use in report.uses if use.crossing]
    if crossing:
        yield Advice(
            True,
            f"{_names(crossing)} named keys of several slots in one call: the target, a cluster, refuses that "
            "(CROSSSLOT). Give the keys a common {hash tag}, or one call for each.",
        )
    if report.sample is not None and report.sample.crossing_transactions:
        number = report.sample.crossing_transactions
        yield Advice(
            True,
            f"{number:,} of {report.sample.transactions:,} transactions in the sample touched several slots: the target, "
            "a cluster, refuses that (CROSSSLOT). Give their keys a common {hash tag}, or do without MULTI.",
        )
    at_risk = [
        use for use in report.uses if use.many_keys and not use.crossing and use.way is not Way.REFUSED
    ]
    transactions = [use for use in report.uses if use.name == "EXEC" and report.sample is None]
    if at_risk or transactions:
        seen = "" if report.sample is None else "; the sample saw none that does"
        yield Advice(
            False,
            f"{_names([*transactions, *at_risk])} may name keys of several slots, which the target, a cluster, "
            f"refuses{seen}." + (" --monitor looks at their keys." if report.sample is None else ""),
        )


def _names(found: Iterable[CommandUse]) -> str:
    names = [use.name for use in found]
    shown = ", ".join(names[:NAMES_SHOWN])
    more = len(names) - NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
