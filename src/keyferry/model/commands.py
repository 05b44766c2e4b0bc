"""Every command: what a client in a dual phase does with it, and which of its arguments are keys.

The facts come from the servers (command_table, generated) or their documentation (command_extras), the decisions
from command_treatments. All of it is worked out once, when this module is imported: a call costs a look-up in a
dictionary, because it is made for every command of an application.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from keyferry.model.command_extras import EXTRAS
from keyferry.model.command_table import COMMANDS
from keyferry.model.command_treatments import EVERYTHING, SCRIPTED, Treatment, treatments
from keyferry.model.key_positions import NOWHERE, Args, Places, compiled, number, word


class Replies(StrEnum):
    """How the replies of two servers with the same data to the same command compare.

    Attributes:
        SAME: they are equal.
        UNORDERED: they are equal as sets.
        VARIES: they may differ: chance, time or memory is in them.
    """

    SAME = "same"
    UNORDERED = "unordered"
    VARIES = "varies"


@dataclass(frozen=True, slots=True, eq=False)
class CommandInfo:
    """One command. Two of them are equal when they are the same object.

    Attributes:
        name: in upper case, a subcommand with a blank before it: "XGROUP CREATE".
        treatment: what happens to it in a dual phase.
        writes: the servers flag it as a write.
        blocking: it may wait on the server; XREAD and XREADGROUP only with BLOCK.
        everything: it changes keys that it does not name.
        scripted: a script or function, whose effects only its author knows.
        replies: how the replies of two equal servers compare.
        keys: what takes its keys out of its arguments; ask ``keys_of``.
        written: what takes out those that it may write; ask ``written_keys_of``.
    """

    name: str
    treatment: Treatment
    writes: bool
    blocking: bool
    everything: bool
    scripted: bool
    replies: Replies
    keys: Places
    written: Places


def look_up(args: Args) -> CommandInfo | None:
    """The command that begins with ``args[0]``, and ``args[1]`` where that is its subcommand; any case, str or bytes.

    Returns:
        None for a command that the table does not know, and for a whole command line in ``args[0]`` (see ``spread``).
    """
    try:
        return _AT_ONCE[args[0]]
    except (KeyError, TypeError, IndexError):
        return _look_closer(args)


def keys_of(info: CommandInfo, args: Args) -> Args:
    """The arguments that are keys, as they were passed. Of patterns and channels none.

    Args:
        info: What ``look_up`` said of these same arguments.
    """
    keys = info.keys
    return args[keys] if keys.__class__ is slice else keys(args)  # type: ignore[operator]


def written_keys_of(info: CommandInfo, args: Args) -> Args:
    """Those of its keys that the command may write; none of a SORT without STORE."""
    keys = info.written
    return args[keys] if keys.__class__ is slice else keys(args)  # type: ignore[operator]


def other_database(info: CommandInfo, args: Args) -> int | None:
    """The database in which MOVE and COPY ... DB put the key, when it is named; all else is the connection's own."""
    if info.name == "MOVE":
        return number(args[2]) if len(args) > 2 else None
    if info.name == "COPY":
        for index in range(3, len(args) - 1):
            if word(args[index]) == "DB":
                return number(args[index + 1])
    return None


def spread(args: Args) -> Args:
    """``args`` as redis-py sends them: it cuts the first one at its blanks, so "SET a b" is a command line."""
    if not args or not isinstance(args[0], (str, bytes)):
        return args
    return (*args[0].split(), *args[1:])


def all_commands() -> Iterator[CommandInfo]:
    """Every command of the table in alphabetical order; a subcommand with its command's name before it."""
    return iter(sorted(_APART.values(), key=lambda info: info.name))


def is_container(name: str) -> bool:
    """Whether the command is known by its subcommands."""
    return name in _CONTAINERS


def _look_closer(args: Args) -> CommandInfo | None:
    if not args:
        return None
    words = word(args[0]).split()
    if len(words) == 2:
        return _JOINED.get(" ".join(words))
    if len(words) != 1:
        return None
    name = words[0]
    if name in _CONTAINERS and len(args) > 1:
        info = _APART.get(f"{name} {word(args[1])}")
        if info is not None:
            return info
    return _APART.get(name)


def _parsed(row: str, decided: dict[str, Treatment], shift: int) -> CommandInfo:
    """A row of the table; see the notation in command_table and key_positions."""
    written_name, flags, *specs = row.split()
    name = written_name.replace("|", " ")
    written = [spec[:-1] for spec in specs if spec.endswith("!")]
    writes = "w" in flags
    default = Treatment.MIRROR if writes else Treatment.READ if "r" in flags else Treatment.LOCAL
    treatment = decided.get(name, default)
    if treatment is Treatment.MIRROR and not written:
        written = [spec.rstrip("!") for spec in specs]  # PFCOUNT, which the servers flag as a read
    return CommandInfo(
        name=name,
        treatment=treatment,
        writes=writes,
        blocking="b" in flags,
        everything=name in EVERYTHING,
        scripted=name in SCRIPTED,
        replies=Replies.VARIES if "v" in flags else Replies.UNORDERED if "u" in flags else Replies.SAME,
        keys=compiled([spec.rstrip("!") for spec in specs], shift) if specs else NOWHERE,
        written=compiled(written, shift),
    )


def _rows() -> Iterator[str]:
    for table in (COMMANDS, EXTRAS):
        yield from (line for line in table.splitlines() if line)


def _containers(apart: dict[str, CommandInfo]) -> frozenset[str]:
    return frozenset(name.split()[0] for name in apart if " " in name)


def _build() -> tuple[dict[str, CommandInfo], dict[str, CommandInfo]]:
    """Commands by name, and those with a subcommand once more for a name that is one argument."""
    decided = treatments()
    apart: dict[str, CommandInfo] = {}
    joined: dict[str, CommandInfo] = {}
    for row in _rows():
        info = _parsed(row, decided, 0)
        apart.setdefault(info.name, info)
        if " " in info.name:
            joined.setdefault(info.name, _parsed(row, decided, 1))
    # A subcommand that we do not know is as harmless as its siblings where all of them are.
    for container in _containers(apart):
        family = {info.treatment for name, info in apart.items() if name.startswith(f"{container} ")}
        if family != {Treatment.LOCAL}:
            apart.pop(container, None)
    return apart, joined


_APART, _JOINED = _build()
_CONTAINERS = _containers(_APART)
_AT_ONCE: dict[Any, CommandInfo] = {
    spelling: info
    for name, info in [*_JOINED.items(), *((n, i) for n, i in _APART.items() if " " not in n)]
    if name not in _CONTAINERS
    for spelling in (name, name.lower(), name.encode(), name.lower().encode())
}
