"""The feeds that there are, best first."""

from __future__ import annotations

from enum import StrEnum


class FeedKind(StrEnum):
    """What tells us which keys changed on a server."""

    TRACKING = "tracking"
    """CLIENT TRACKING ON BCAST over RESP3 (Redis >= 6.0)."""
    NOTIFICATIONS = "notifications"
    """Keyspace notifications (notify-keyspace-events)."""
    WRITERS = "writers"
    """What the writers' own clients report; only where they report ahead of each write it misses none of theirs."""
    SWEEPS = "sweeps"
    """Comparing everything again and again: names what differs, late, and cannot be fenced."""
