"""Read-only for everybody, with its data: the old server becomes a replica of an address where nothing listens.

For a cutover without a way back. Never of the target, nor of anything that answers: a full sync would empty it first.
A replica refuses writes (READONLY) from everybody, us too, and drops who waits in a command such as BLPOP
(https://redis.io/docs/latest/commands/replicaof/). Reads go on, as long as ``replica-serve-stale-data`` is on.
"""

from __future__ import annotations

from keyferry.copy.info import info_text, parse_info
from keyferry.cutover.reach import Primary, Reach
from keyferry.model.errors import RefusedError
from keyferry.wire.resp import Reply, ReplyError

DEAD_HOST, DEAD_PORT = "127.0.0.1", 1
"""Port 1 (tcpmux) needs the system's own rights to listen on, and nobody does."""
RIGHTS = "+replicaof +config|get +info +multi +discard"
HINT = f"The user needs {RIGHTS}."


def obstacle_to_read_only(reach: Reach) -> str:
    """Why ``read_only_by_dead_replica`` would be refused, as a sentence; empty when it would not. Changes nothing.

    Raises:
        ServerAway: The server cannot be asked now.
        ServerError: It refuses us.
    """
    if reach.cluster:
        return f"The {reach.side} is a cluster, whose nodes cannot be made replicas of an outside address."
    (primary,) = reach.primaries()
    read_only, stale, *_, queued, _ = reach.ask(
        primary,
        [
            ("CONFIG", "GET", "replica-read-only"),
            ("CONFIG", "GET", "replica-serve-stale-data"),
            ("MULTI",),
            ("REPLICAOF", DEAD_HOST, DEAD_PORT),
            ("DISCARD",),
        ],
    )
    if isinstance(queued, ReplyError):
        return (
            f"The {reach.side} does not let us make it read-only (REPLICAOF): {queued.message.rstrip('.')}."
        )
    if not _is_on(read_only):
        return f"The {reach.side} may take writes as a replica: its setting replica-read-only is off or not shown."
    if not _is_on(stale):
        return f"The {reach.side} would refuse reads too: its setting replica-serve-stale-data is off or not shown."
    return ""


def read_only_by_dead_replica(reach: Reach) -> None:
    """Makes it so; its data stays.

    Raises:
        RefusedError: ``obstacle_to_read_only`` says why.
        ServerError: It refuses, does not answer, or is still a primary.
    """
    problem = obstacle_to_read_only(reach)
    if problem:
        raise RefusedError(problem)
    (primary,) = reach.primaries()
    done, info = reach.ask(primary, [("REPLICAOF", DEAD_HOST, DEAD_PORT), ("INFO", "replication")])
    if isinstance(done, ReplyError):
        raise reach.refusal(primary, "REPLICAOF", done, HINT)
    if not _follows_the_dead(info):
        raise reach.refusal(primary, "REPLICAOF", ReplyError("ERR it is still a primary"), HINT)


def writable_again(reach: Reach) -> bool:
    """Takes it back, if it was ours; False when the server is no replica of the dead address.

    Raises:
        ServerError: It refuses, or does not answer.
    """
    (primary, *others) = reach.primaries()
    if others or not is_read_only(reach, primary):
        return False
    (done,) = reach.ask(primary, [("REPLICAOF", "NO", "ONE")])
    if isinstance(done, ReplyError):
        raise reach.refusal(primary, "REPLICAOF", done, HINT)
    return True


def is_read_only(reach: Reach, primary: Primary | None = None) -> bool:
    """Whether the server follows the dead address. Raises as ``obstacle_to_read_only``."""
    (info,) = reach.ask(primary or reach.primaries()[0], [("INFO", "replication")])
    return _follows_the_dead(info)


def _follows_the_dead(info: Reply) -> bool:
    found = parse_info(info) if isinstance(info, bytes) else {}
    upstream = [info_text(found, "replication", name) for name in ("role", "master_host", "master_port")]
    return upstream == ["slave", DEAD_HOST, str(DEAD_PORT)]


def _is_on(reply: Reply) -> bool:
    match reply:
        case [_, bytes(value)]:
            return value == b"yes"
    return False
