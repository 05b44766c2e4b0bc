"""Half-built values that an interrupted copy left on the target.

The next carry of the same key removes them; but a key that has gone from the source meanwhile is carried no more:
  1. the copy is killed in the middle of k; 2. k is deleted on the source; 3. the next run never hears of k.
So a copy that was interrupted ends with a scan of the target for its own names. Only one run of a copy lives at a
time, and this one has ended its carries, so none of these names is in use.
"""

from __future__ import annotations

from collections.abc import Callable

from keyferry.payload.names import temporary_prefix
from keyferry.wire.session import Session

SCAN_COUNT = 1000


def sweep(session: Session, owner: bytes, on_turn: Callable[[], None]) -> int:
    """Removes the temporary names of one copy from the session's database.

    Args:
        owner: Of the names.
        on_turn: Called between pages; ends the sweep by raising.

    Returns:
        How many were removed.

    Raises:
        ConnectionLost: The connection broke.
    """
    removed = 0
    cursor = b"0"
    while True:
        on_turn()
        reply = session.call("SCAN", cursor, "MATCH", temporary_prefix(owner) + b"*", "COUNT", SCAN_COUNT)
        match reply:
            case [bytes(following), [*names]]:
                cursor = following
            case _:
                return removed
        ours = [name for name in names if isinstance(name, bytes)]
        removed += session.pipeline([("UNLINK", name) for name in ours]).count(1)
        if cursor == b"0":
            return removed
