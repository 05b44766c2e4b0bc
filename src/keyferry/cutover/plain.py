"""Who writes on a side and knows nothing of the record: plain clients, which only a pause or a bar can hold back.

A connection shows its last command, not its next one, so this is a hint for choosing the gate and for the report:
what it names is certain, and what it does not name may still write a moment later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from keyferry.copy.client_list import ClientLine, parse_client_list
from keyferry.cutover.reach import Reach
from keyferry.model.writers import WriterEntry
from keyferry.wire.resp import ReplyError

OURS = "keyferry"
"""What the names of our own connections, and of the drop-in clients' unnamed ones, begin with."""
HINT = "The user needs +client|list."


@dataclass(frozen=True, slots=True)
class PlainClient:
    """One connection.

    Attributes:
        addr: Its other end, ``host:port`` or the socket's path.
        name: As it calls itself; may be empty.
        cmd: What it asked for last, ``NULL`` for nothing.
        age_s: Since it was made.
        place: Of the server that it is connected to.
        only_read: Its last command was a read: whether it writes, too, is not known.
    """

    addr: str
    name: str
    user: str
    cmd: str
    age_s: int
    place: str
    only_read: bool = False

    def __str__(self) -> str:
        name = f" {self.name}" if self.name else ""
        return f"{self.addr}{name} (user {self.user or 'unknown'}, last command {self.cmd})"


def plain_clients(reach: Reach, writers: Mapping[str, WriterEntry], ours: str = OURS) -> list[PlainClient]:
    """Connections on any primary of the side that may write and belong to no registered writer.

    A connection counts when its last command was about keys, or a script, when it is in a transaction, or when it has
    not asked for anything yet. Links to replicas and to a primary do not.

    Args:
        writers: As they are registered; a connection that has one of their ``names`` is theirs.
        ours: What the names of connections begin with that are not looked at.

    Raises:
        ServerAway: A primary cannot be asked now.
        ServerError: It does not let us see its clients.
    """
    names = {name for entry in writers.values() for name in entry.names}
    found: list[PlainClient] = []
    for primary, (reply,) in reach.ask_all([("CLIENT", "LIST")]).all().items():
        if isinstance(reply, ReplyError):
            raise reach.refusal(primary, "CLIENT LIST", reply, HINT)
        lines = parse_client_list(reply) if isinstance(reply, bytes) else ()
        found += [
            PlainClient(
                line.addr, line.name, line.user, line.cmd, line.age_s, primary.place, not line.may_write
            )
            for line in lines
            if _counts(line, ours) and line.name not in names
        ]
    return found


def _counts(line: ClientLine, ours: str) -> bool:
    uses_keys = line.may_write or line.reads_keys
    return uses_keys and not line.replicates and not line.name.startswith(ours)
