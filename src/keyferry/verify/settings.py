"""What a comparison is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from keyferry.copy.settings import CopySettings


@dataclass(frozen=True, slots=True)
class VerifySettings:
    """Everything that ``keyferry verify`` takes.

    Attributes:
        copy: Addresses, selection, pace, limits of big keys, state directory, restart; its on_conflict is not looked at.
        sample: About so many keys, chosen by their names, the same in both directions; None compares all.
        expiry_tolerance_ms: Expiries that are further apart differ.
        rounds: How often a suspect is looked at again before it counts as a difference.
        repair: Settles what differs: the source wins.
        delete_extra: Deletes keys that only the target has.
        differences_file: Gets one JSON line per key that differs.
    """

    copy: CopySettings
    sample: int | None = None
    expiry_tolerance_ms: int = 1000
    rounds: int = 6
    repair: bool = False
    delete_extra: bool = False
    differences_file: Path | None = None
