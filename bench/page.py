"""The page as a row of sections, each measured on its own, so that one can be measured again without the rest.

A section keeps its place between its own marker and the next one; its goals stand in the one table at the top.
What was not measured again is taken over from the page as it stands, word by word. Decides only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bench.figures import Goal
from bench.machine import Machine, Versions
from bench.markdown import NONE, table

TITLE = """\
# Benchmark

Written by `make bench`. Each section says how, when, where and at which commit it was measured, and every figure
in it is of that run. Sections can be measured one by one (`make bench BENCH_ARGS="--only big,cluster"`); the
others stay as they are."""
GOALS_HEAD = ("section", "goal", "measured", "")
_MARKER = re.compile(r"^<!-- section: ([a-z-]+) -->\n", re.MULTILINE)
_END = "<!-- end of sections -->"


@dataclass(frozen=True, slots=True)
class Conditions:
    """Of one section.

    Attributes:
        rounds: In words.
        remark: What is out of the ordinary, or empty.
    """

    machine: Machine
    versions: Versions
    command_line: str
    rounds: str
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """What one section says.

    Attributes:
        title: Without the number signs; no two sections may have the same.
        body: Tables and texts.
    """

    name: str
    title: str
    goals: Sequence[Goal]
    body: str


@dataclass(frozen=True, slots=True)
class Kept:
    """A section as it stands on a page: its text, and its lines in the table of goals."""

    text: str
    goals: tuple[str, ...]


def parse(page: str) -> dict[str, Kept]:
    """The sections of a page that ``render`` wrote; none of any other text."""
    parts = _MARKER.split(page.partition(_END)[0])
    texts = dict(zip(parts[1::2], (text.strip() for text in parts[2::2]), strict=True))
    lines = [line for line in parts[0].splitlines() if line.startswith("| [")]
    return {
        name: Kept(text, tuple(line for line in lines if f"(#{anchor(_title_of(text))})" in line))
        for name, text in texts.items()
    }


def keep(section: Section, conditions: Conditions) -> Kept:
    """A section that has just been measured, in the form in which it is kept."""
    text = "\n\n".join(
        part
        for part in (
            f"## {section.title}",
            f"**{conditions.remark}**" if conditions.remark else "",
            _conditions(conditions),
            section.body,
        )
        if part
    )
    words = {True: "reached", False: "**not reached**", None: NONE}
    link = f"[{section.title}](#{anchor(section.title)})"
    rows = [(link, goal.text, goal.measured, words[goal.reached]) for goal in section.goals]
    return Kept(text, tuple(table(GOALS_HEAD, rows, numbers_from=4).splitlines()[2:]))


def render(sections: dict[str, Kept], order: Sequence[str], how_to_read: str) -> str:
    """The page; sections in ``order``, others are left out."""
    found = [(name, sections[name]) for name in order if name in sections]
    goals = [line for _, section in found for line in section.goals]
    parts = [TITLE]
    if goals:
        parts.append("## Goals\n\n" + "\n".join([*_head(), *goals]))
    parts += [f"<!-- section: {name} -->\n{section.text}" for name, section in found]
    parts.append(f"{_END}\n{how_to_read.strip()}")
    return "\n\n".join(parts) + "\n"


def anchor(title: str) -> str:
    """The address of a heading on the page: lower case, hyphens for spaces, without punctuation."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def _head() -> list[str]:
    return table(GOALS_HEAD, [("",) * 4], numbers_from=4).splitlines()[:2]


def _title_of(text: str) -> str:
    return text.splitlines()[0].removeprefix("## ")


def _conditions(conditions: Conditions) -> str:
    machine, versions = conditions.machine, conditions.versions
    cores = f"{machine.cores} core{'s' if machine.cores > 1 else ''}"
    return (
        f"Measured by `{conditions.command_line}` on {versions.date}, commit {versions.commit}; "
        f"{conditions.rounds}.  \n"
        f"{machine.cpu}, {cores}, shared by everything; {machine.memory_gib:.0f} GiB; {machine.system}.  \n"
        f"{versions.server} on both sides, over TCP on 127.0.0.1, nothing saved to disk; "
        f"{versions.python}, redis-py {versions.redis_py}; {versions.keyferry}."
    )
