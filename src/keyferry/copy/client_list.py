"""Reads CLIENT LIST: who is connected, as whom, and what each asked for last. Pure.

Source: https://redis.io/docs/latest/commands/client-list/. A line is ``name=value`` pairs with blanks between them;
the server lets no blank into a name. ``cmd`` has its subcommand since 7.0 (``client|list``), and is ``NULL`` on a
connection that has asked for nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from keyferry.model.commands import all_commands, look_up
from keyferry.model.key_positions import NOWHERE

NO_COMMAND = "NULL"
BLOCKING = frozenset(info.name for info in all_commands() if info.blocking and info.writes)
_FIELD = re.compile(r"(?:^| )(id|addr|name|age|flags|multi|cmd|user)=(\S*)")
_WRITING_FAMILIES = frozenset(("XGROUP", "FUNCTION"))
"""Whose subcommands may change data; 6.2 does not say which one it was."""
_FAMILIES = frozenset(info.name.split()[0] for info in all_commands() if " " in info.name)


@dataclass(frozen=True, slots=True)
class ClientLine:
    """One connection.

    Attributes:
        id: The server's number of it.
        addr: ``host:port`` of the other end, or the socket's path.
        name: As CLIENT SETNAME gave it; may be empty.
        user: The ACL user; empty on servers that do not say.
        cmd: What it asked for last, in upper case with a blank before the subcommand; ``NULL`` for nothing.
        flags: Letters: ``b`` waits in a blocking command or under a pause, ``S`` replica, ``M`` primary.
        age_s: Since it was made.
        queued: Commands in its open transaction; -1 without one.
    """

    id: int
    addr: str
    name: str = ""
    user: str = ""
    cmd: str = NO_COMMAND
    flags: str = "N"
    age_s: int = 0
    queued: int = -1

    @property
    def replicates(self) -> bool:
        """It is the link to a replica or to a primary."""
        return "S" in self.flags or "M" in self.flags

    @property
    def may_write(self) -> bool:
        """As far as its last command tells: a write, a script, one in a transaction, or one not known."""
        if self.queued >= 0 or self.cmd == NO_COMMAND:
            return True
        info = look_up((self.cmd,))
        if info is None:
            return self.cmd in _WRITING_FAMILIES or self.cmd not in _FAMILIES
        return info.writes or info.scripted

    @property
    def reads_keys(self) -> bool:
        """Its last command was about keys, and no write: the next one may be."""
        info = look_up((self.cmd,))
        return info is not None and not info.writes and info.keys != NOWHERE

    @property
    def waits_to_write(self) -> bool:
        """It waits in a command that changes a key when it is served, such as BLPOP."""
        return "b" in self.flags and self.cmd in BLOCKING


def parse_client_list(text: bytes, commands: Collection[str] = ()) -> Iterator[ClientLine]:
    """The connections that the reply names; lines without a number are passed over.

    Args:
        commands: Only those whose last command is one of these, in upper case and without subcommand; a server
            may have thousands, of which few matter.
    """
    lines: Iterable[bytes] = text.splitlines()
    if commands:
        wanted = re.compile(rb" cmd=(?:%b)(?: |$)" % "|".join(commands).encode(), re.IGNORECASE)
        lines = filter(wanted.search, lines)
    for raw in lines:
        line = raw.decode("utf-8", "backslashreplace")
        fields = dict(_FIELD.findall(line))
        if not fields.get("id", "").isdigit():
            continue
        yield ClientLine(
            int(fields["id"]),
            fields.get("addr", ""),
            fields.get("name", ""),
            fields.get("user", ""),
            _command(fields.get("cmd", NO_COMMAND)),
            fields.get("flags", ""),
            _number(fields.get("age", ""), 0),
            _number(fields.get("multi", ""), -1),
        )


def _command(text: str) -> str:
    return text.replace("|", " ").upper()


def _number(text: str, default: int) -> int:
    return int(text) if text.lstrip("-").isdigit() else default
