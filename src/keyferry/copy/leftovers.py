"""Half-built values that an interrupted copy left on the target.

The next carry of the same key removes them; but a key that has gone from the source meanwhile is carried no more:
  1. the copy is killed in the middle of k; 2. k is deleted on the source; 3. the next run never hears of k.
So a copy that was interrupted ends with a scan of the target for such names.
"""

from __future__ import annotations

from collections.abc import Callable

from keyferry.payload.names import TEMPORARY_PREFIX
from keyferry.wire.resp import Argument
from keyferry.wire.session import Session

SCAN_COUNT = 1000


def half_built(session: Session, on_turn: Callable[[], None]) -> list[bytes]:
    """Temporary names in the session's database.

    Args:
        on_turn: Called between pages; ends the scan by raising.

    Raises:
        ConnectionLost: The connection broke.
    """
    found: list[bytes] = []
    cursor = b"0"
    while True:
        on_turn()
        reply = session.call("SCAN", cursor, "MATCH", TEMPORARY_PREFIX + b"*", "COUNT", SCAN_COUNT)
        match reply:
            case [bytes(following), [*names]]:
                cursor = following
            case _:
                return found
        found += [name for name in names if isinstance(name, bytes)]
        if cursor == b"0":
            return found


def remove(session: Session, names: list[bytes], idle_s_min: float) -> int:
    """Removes those that nobody has touched for a while: another copy into the same target touches its own all the time.

    Args:
        idle_s_min: How long a name must have been left alone, by OBJECT IDLETIME. A target that counts accesses
            instead does not tell, and keeps them.

    Returns:
        How many were removed.

    Raises:
        ConnectionLost: The connection broke.
    """
    idle = session.pipeline([("OBJECT", "IDLETIME", name) for name in names])
    old: list[tuple[Argument, ...]] = [
        ("UNLINK", name)
        for name, seconds in zip(names, idle, strict=True)
        if isinstance(seconds, int) and seconds >= idle_s_min
    ]
    return session.pipeline(old).count(1)
