"""Ends connections that wrote for this run before: what they still hold must not arrive any more (PROTOCOL, rule 16).

A connection that broke for us may be alive on the server, with commands that it has not read yet:
  1. a RESTORE is sent, and the target stands still; 2. we are killed, or dial anew; 3. the target goes on, and the
  new connection writes a newer value; 4. the target reads what the old connection had sent.
"""

from __future__ import annotations

import re

from keyferry.copy.connect import Sides
from keyferry.wire.session import Session

_NAMED = re.compile(rb"(?:^|\n)id=(\d+) [^\n]*? name=([^ \n]*)")

_WRITER_NAME = re.compile(r"keyferry-[0-9a-f]{16}")
"""``writer_name`` of a ``state_name`` (journal.state)."""


def writer_name(owner: bytes) -> bytes:
    """The name of the connections that write to the target for one run. Args: owner: letters and digits."""
    return b"keyferry-" + owner


def is_writer_name(name: str) -> bool:
    """Whether a connection of this name writes for a copy, a sync or a migration."""
    return _WRITER_NAME.fullmatch(name) is not None


def end_writers(sides: Sides, owner: bytes) -> int:
    """Ends them on every primary of the target, as far as it lets us; gives how many there were.

    Raises:
        ServerAway: A primary cannot be reached now.
    """
    ended = 0
    for shard in sides.target.shards:
        with sides.session("target", shard=shard.id) as session:
            ended += _end(session, writer_name(owner))
    return ended


def _end(session: Session, name: bytes) -> int:
    """CLIENT LIST's lines say ``id=`` and ``name=`` (networking.c, catClientInfoString)."""
    listed = session.call("CLIENT", "LIST", "TYPE", "normal")
    if not isinstance(listed, bytes):
        return 0
    ids = [number for number, its in _NAMED.findall(listed) if its == name]
    replies = session.pipeline([("CLIENT", "KILL", "ID", number) for number in ids])
    return sum(reply == 1 for reply in replies)
