"""The peer: a switch by native replication, as a script does it.

    the target is a replica of the source
    CLIENT PAUSE ... WRITE on the source; wait until the replica has its offset; REPLICAOF NO ONE on the target
    tell the application; REPLICAOF target on the source, so that it refuses what still waits there; UNPAUSE

It needs two servers that replicate each other, which services of different makers and versions do not, and an
application that repeats what was refused. The way back is the same, by the partial resynchronization that the old
primary gets as a replica.
"""

from __future__ import annotations

import time

from bench.arena import info
from bench.samples import BenchError
from keyferry.testing.servers import HOST, Server
from keyferry.testing.service_board import Board
from keyferry.wire.session import Session

PAUSE_MS = 5_000
LINK_TIMEOUT_S = 300.0
OFFSET_TIMEOUT_S = 4.0
POLL_S = 0.0005


def follow(replica: Server, primary: Server) -> None:
    """Makes it a replica, and waits until it has caught up. Raises ``BenchError``."""
    with replica.session(side="target") as session:
        _must(session, "REPLICAOF", HOST, str(primary.port))
        wait_until_linked(session)


def wait_until_linked(session: Session) -> None:
    """Until a replica is in sync. Raises ``BenchError``."""
    deadline_s = time.monotonic() + LINK_TIMEOUT_S
    while info(session, "replication").get("master_link_status") != "up":
        if time.monotonic() > deadline_s:
            raise BenchError(f"the replica is not in sync within {LINK_TIMEOUT_S:.0f} s")
        time.sleep(0.05)


def switch(losing: Server, gaining: Server, lead: int, board: Board) -> float:
    """Makes the replica the primary.

    Args:
        lead: What the board says from then on.

    Returns:
        From PAUSE to UNPAUSE, in seconds.

    Raises:
        BenchError: The replica does not catch up in the time of the pause.
    """
    with losing.session() as old, gaining.session(side="target") as new:
        begun_s = time.monotonic()
        _must(old, "CLIENT", "PAUSE", str(PAUSE_MS), "WRITE")
        offset = int(info(old, "replication")["master_repl_offset"])
        while int(info(new, "replication")["slave_repl_offset"]) < offset:
            if time.monotonic() - begun_s > OFFSET_TIMEOUT_S:
                _must(old, "CLIENT", "UNPAUSE")
                raise BenchError("the replica did not catch up")
            time.sleep(POLL_S)
        _must(new, "REPLICAOF", "NO", "ONE")
        board.lead = lead
        _must(old, "REPLICAOF", HOST, str(gaining.port))
        _must(old, "CLIENT", "UNPAUSE")
        return time.monotonic() - begun_s


def _must(session: Session, *command: str) -> None:
    reply = session.call(*command)
    if reply != b"OK":
        raise BenchError(f"{command[0]} says {reply!r}")
