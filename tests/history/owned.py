"""Keys of one writer that are written, deleted, and expire; everyone reads them. What was deleted stays away.

Writes of one key follow each other, so that at each moment few states are possible: what the last write left that had
ended before a read began, or what a write left that had not ended before that and had begun before the read's end.
After a write of unknown outcome its writer leaves the key alone, and it counts as under way for ever.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from .events import Event, Finding

FAMILY = "owned"
EXPIRES_WITHIN_S = 0.75
"""Beyond its time: of a server that was stopped, and of an expiry that is carried with what is left of it."""
NOTHING = ""


def check_owned(key: str, events: Sequence[Event], final: str | None, at: float) -> Iterator[Finding]:
    """What is wrong with one key, which began absent.

    Args:
        final: What is there at the end, ``at`` a time after everything; None: it was not looked at.
    """
    writes = sorted(
        (event for event in events if event.action != "read" and event.maybe), key=lambda event: event.begun
    )
    begins, ends = [event.begun for event in writes], [event.ended for event in writes]
    reads = [
        (event.reply[0] if event.reply else NOTHING, event.begun, event.ended, str(event))
        for event in events
        if event.action == "read" and event.done
    ]
    if final is not None:
        reads.append((final, at, at, "the end"))
    for value, begun, ended, who in reads:
        last = bisect_left(ends, begun)
        under_way = writes[last : bisect_left(begins, ended)]
        candidates = [*writes[max(0, last - 1) : last], *under_way]
        possible = {NOTHING} if last == 0 else set()
        for write in candidates:
            possible |= _left_by(write, begun, ended)
        if value not in possible:
            expected = ", ".join(sorted(map(repr, possible)))
            before = str(writes[last - 1]) if last else "no write"
            yield Finding(FAMILY, key, f"{who} found {value!r} instead of {expected}, after {before}")


def _left_by(write: Event, begun: float, ended: float) -> set[str]:
    """What a read between these times may find after a write."""
    if not write.extra:
        return {write.value}
    lasts_s = int(write.extra) / 1000
    found = set()
    if begun < write.ended + lasts_s + EXPIRES_WITHIN_S:
        found.add(write.value)
    if ended >= write.begun + lasts_s:
        found.add(NOTHING)
    return found
