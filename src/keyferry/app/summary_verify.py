"""What a comparison says to people at its end: equal, or what differs, why, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.text import Text

from keyferry.app.summary import NOTE_WORDS, lines
from keyferry.model.keys import escape
from keyferry.model.words import count, counted, duration
from keyferry.telemetry.comparing import REASONS, Difference, Reason, VerifyReport
from keyferry.verify.settings import VerifySettings

NAME_SHOWN = 60
ASPECTS_SHOWN = 3

_REASON_WORDS: dict[Reason, str] = {
    "never copied": "the target does not have them",
    "stale": "another value, most likely an older one",
    "expiry differs": "equal values that expire at other times",
    "type clash": "values of another type",
    "changed on the target": "somebody else wrote them on the target",
    "evicted on the target": "the target threw them out for want of memory",
    "only on the target": "the source does not have them",
    "unreadable": "could not be read",
    "changes all the time": "never caught equal, nor proven different",
}


def of_verify(report: VerifyReport, settings: VerifySettings) -> Text:
    """The end of a comparison."""
    rows = [*_looked_at(report, settings), *_reasons(report)]
    title, style = _title(report)
    text = lines(title, style, rows)
    for difference in report.first:
        text.append_text(Text.assemble("\n  ", _shown(difference)))
    more = report.differences - len(report.first)
    if report.first and more > 0:
        text.append(f"\n  and {count(more)} more", style="dim")
    for hint in _hints(report, settings):
        text.append(f"\n{hint}")
    return text


def _title(report: VerifyReport) -> tuple[str, str]:
    keys = counted(report.compared, "key")
    rate = f" ({count(report.compared / report.seconds)} keys/s)" if report.seconds > 0 else ""
    took = f"in {duration(report.seconds)}{rate}"
    sample = ", a sample," if report.sampled else ""
    if report.equal:
        return f"Equal: {keys}{sample} compared {took}.", "bold green"
    differ = f"{counted(report.differences, 'key')} {'differs' if report.differences == 1 else 'differ'}"
    return f"Different: {differ}; {keys}{sample} compared {took}.", "bold red"


def _looked_at(report: VerifyReport, settings: VerifySettings) -> Iterator[tuple[str, str]]:
    yield "looked for", f"{counted(report.looked_for, 'key')} of the target on the source"
    if report.sampled:
        yield (
            "sample",
            f"about {count(settings.sample or 0)} keys were asked for; the others were not looked at",
        )
    if report.suspects:
        yield "suspects", f"{counted(report.suspects, 'key')} differed at the first look"
    if report.repaired:
        yield "repaired", counted(report.repaired, "key")
    if report.deleted:
        yield "deleted", f"{counted(report.deleted, 'key')} that only the target had"
    for note, keys in report.not_compared.items():
        yield "not compared", f"{NOTE_WORDS.get(note, note)} ({counted(keys, 'key')})"
    if report.throttled_seconds >= 0.1:
        yield "held back", f"{duration(report.throttled_seconds)}, by the latency guard or your limits"


def _reasons(report: VerifyReport) -> Iterator[tuple[str, str]]:
    for reason in REASONS:
        if keys := report.reasons.get(reason):
            yield "differ", f"{count(keys)} {reason}: {_REASON_WORDS[reason]}"


def _shown(difference: Difference) -> Text:
    types = (
        difference.type_source
        if difference.type_source == difference.type_target
        else f"{difference.type_source} and {difference.type_target}"
    )
    aspects = ", ".join(map(_aspect, difference.differs[:ASPECTS_SHOWN]))
    more = ", ..." if len(difference.differs) > ASPECTS_SHOWN else ""
    return Text.assemble(
        (_cut(escape(difference.key)), "bold"),
        f" (db {difference.database}, {types}): {difference.reason}",
        f" ({aspects}{more})" if aspects else "",
    )


def _aspect(aspect: Mapping[str, Any]) -> str:
    """One thing that differs: ``expiry``, ``field a``, ``entry 1-0 missing``."""
    if aspect["what"] == "more":
        return f"{count(aspect['count'])} more"
    part = next((str(aspect[name]) for name in ("name", "id", "at") if name in aspect), "")
    how = aspect.get("how", "")
    return " ".join(word for word in (aspect["what"], _cut(part), how if how != "differs" else "") if word)


def _cut(name: str) -> str:
    return name if len(name) <= NAME_SHOWN else f"{name[:NAME_SHOWN]}..."


def _hints(report: VerifyReport, settings: VerifySettings) -> Iterator[str]:
    extra = report.reasons.get("only on the target", 0)
    if report.differences > extra and not settings.repair:
        yield "--repair makes them equal; the source wins."
    if extra and not settings.delete_extra:
        yield "--delete-extra deletes what only the target has."
    if report.differences > len(report.first) and settings.differences_file is None:
        yield "--differences FILE names every one."
