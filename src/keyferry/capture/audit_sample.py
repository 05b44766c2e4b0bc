"""What a sample of MONITOR shows of an application: its commands, and what of them a cluster would refuse. Pure.

A cluster refuses (CROSSSLOT) one command whose keys are in several slots, a transaction whose commands are, and a
script that touches a key of another slot. Scripts that touch keys which they were not told show here too: in phase dual
only the keys that a script is told can be reported.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from keyferry.capture.monitor import Heard
from keyferry.model.commands import is_container, keys_of, look_up
from keyferry.model.keys import is_reserved
from keyferry.payload.names import slot

KEYS_SHOWN = 3
"""Of each command."""
CLIENTS_MAX = 10_000
"""Transactions that are followed at once."""
SCRIPTS = frozenset({"EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO", "FCALL", "FCALL_RO"})


@dataclass(slots=True)
class Sampled:
    """One command in the sample.

    Attributes:
        calls: By clients, not by scripts.
        several_keys: Calls that named more than one key.
        crossing: Calls whose keys are in several slots; of a script, also those that it touched without being told.
        undeclared: Of a script: calls that touched a key which they were not told.
        keys: Some of its keys.
    """

    calls: int = 0
    several_keys: int = 0
    crossing: int = 0
    undeclared: int = 0
    keys: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class _Script:
    """A call that may still be going on: what comes next with ``lua`` in place of the client is of it."""

    sampled: Sampled
    keys: set[bytes]
    slots: set[int]
    crossing: bool
    undeclared: bool = False


@dataclass(slots=True)
class Sample:
    """Filled from the lines of one or several servers; those of one server have to come in their order.

    Attributes:
        commands: By name, as the table of commands has it.
        transactions, crossing_transactions: Executed ones; those of them whose keys are in several slots.
        databases: Those in which a command with keys was called.
    """

    commands: dict[str, Sampled] = field(default_factory=dict)
    transactions: int = 0
    crossing_transactions: int = 0
    databases: set[int] = field(default_factory=set)
    _open: dict[bytes, set[int]] = field(default_factory=dict)
    _script: _Script | None = None

    def add_all(self, lines: Iterable[Heard], own: bytes) -> None:
        """One server's lines.

        Args:
            own: An argument of commands that are ours.
        """
        self._open.clear()
        self._script = None
        for heard in lines:
            if own not in heard.args:
                self.add(heard)

    def add(self, heard: Heard) -> None:
        info = look_up(heard.args)
        keys = [] if info is None else [key for key in keys_of(info, heard.args) if not is_reserved(key)]
        slots = {slot(key) for key in keys}
        if heard.in_script:
            self._add_inner(keys, slots)
            return
        if keys:
            self.databases.add(heard.database)
        name = written_name(heard.args) if info is None else info.name
        sampled = self.commands.setdefault(name, Sampled())
        sampled.calls += 1
        sampled.several_keys += len(keys) > 1
        sampled.crossing += len(slots) > 1
        for key in keys:
            if len(sampled.keys) < KEYS_SHOWN and key not in sampled.keys:
                sampled.keys.append(key)
        self._script = _Script(sampled, set(keys), slots, len(slots) > 1) if name in SCRIPTS else None
        self._follow_transaction(heard.client, name, slots)

    def _add_inner(self, keys: list[bytes], slots: set[int]) -> None:
        script = self._script
        if script is None:  # it began before the sample did
            return
        script.slots |= slots
        if len(script.slots) > 1 and not script.crossing:
            script.crossing = True
            script.sampled.crossing += 1
        if not script.undeclared and not script.keys.issuperset(keys):
            script.undeclared = True
            script.sampled.undeclared += 1

    def _follow_transaction(self, client: bytes, name: str, slots: set[int]) -> None:
        if name == "MULTI":
            if len(self._open) < CLIENTS_MAX:
                self._open[client] = set()
        elif name == "EXEC":
            touched = self._open.pop(client, None)
            if touched is not None:
                self.transactions += 1
                self.crossing_transactions += len(touched) > 1
        elif name == "DISCARD":
            self._open.pop(client, None)
        elif client in self._open:
            self._open[client] |= slots


def written_name(args: tuple[bytes, ...]) -> str:
    """The name of a command that the table does not know, in upper case; of one with subcommands, both."""
    name = args[0].decode("ascii", "backslashreplace").upper()
    if is_container(name) and len(args) > 1:
        return f"{name} {args[1].decode('ascii', 'backslashreplace').upper()}"
    return name
