"""When a writer counts as silent towards people. A hint by two clocks that may differ, never a proof."""

from __future__ import annotations

SILENT_LEASES = 1.5
"""Renewals come three times per lease."""


def is_silent(seen_ms: float, lease_ms: float, now_ms: float) -> bool:
    """Whether a renewal should have been seen since.

    Args:
        seen_ms: Unix time of the last renewal, by the writer's clock.
        now_ms: Unix time by ours.
    """
    return now_ms - seen_ms > lease_ms * SILENT_LEASES
