"""What the documentation says of every command in a dual phase, from the tables that the clients go by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from keyferry.model.command_treatments import GROUPS, Treatment, treatments
from keyferry.model.commands import CommandInfo, all_commands

HEADINGS = {
    Treatment.REWRITE: "Rewritten",
    Treatment.MIRROR: "Repeated as they are",
    Treatment.REPORT: "Reported instead of repeated",
    Treatment.BOTH: "Sent to both sides",
    Treatment.READ: "Only read",
    Treatment.SESSION: "The connection's own",
    Treatment.LOCAL: "For one server",
}
FAMILY_MIN = 3
"""So many subcommands of one treatment, if they are all there are, become one name with dots."""


def commands_section() -> str:
    """The generated part of docs/commands.md: the decisions as tables, the other commands as lists of names."""
    decided = treatments()
    parts = []
    for treatment, heading in HEADINGS.items():
        groups = [group for group in GROUPS if group.treatment is treatment]
        rest = [info for info in all_commands() if info.treatment is treatment and info.name not in decided]
        parts.append(f"## {heading}\n")
        if groups:
            rows = [f"| {_codes(group.commands)} | {group.effect} |" for group in groups]
            parts.append("\n".join(["| command | what the other side gets |", "|---|---|", *rows]) + "\n")
        parts += _lists(rest, bool(groups))
    return "\n".join(parts)


def _lists(commands: Sequence[CommandInfo], after_table: bool) -> list[str]:
    plain = [info.name for info in commands if "." not in info.name]
    modules = [info.name for info in commands if "." in info.name]
    parts = []
    if plain:
        parts.append(f"{'Also: ' if after_table else ''}{_codes(_gathered(plain))}\n")
    if modules:
        parts.append(f"Of modules: {_codes(modules)}\n")
    return parts


def _gathered(names: Sequence[str]) -> list[str]:
    """A command whose subcommands are all among the names, or decided on apart, stands for them: "ACL ..."."""
    decided = treatments()
    everywhere = [info.name for info in all_commands() if " " in info.name and info.name not in decided]
    gathered = []
    for command, members in groupby(names, key=lambda name: name.split()[0]):
        family = {name for name in everywhere if name.startswith(f"{command} ")}
        found = list(members)
        if len(family) >= FAMILY_MIN and family <= set(found):
            gathered.append(f"{command} ...")
        else:
            gathered += found
    return gathered


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
