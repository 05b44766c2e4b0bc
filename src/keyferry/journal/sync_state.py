"""What a sync that is started again needs to know of its earlier runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

FORMAT = 1


@dataclass(slots=True)
class SyncCheckpoint:
    """Kept in the body of a ``State`` of its own.

    Attributes:
        source_run_ids, target_run_ids: The processes that we met last, by shard id.
        source_keys: How many keys each source shard held when we last looked.
        scanned: Where the first copy is, by shard id and database (``0/3``): a cursor, or "" when it is done.
        databases: Source databases that are moved.
        notifications: What ``notify-keyspace-events`` was on each source shard before we set it.
        evicted_keys: The target's count.
        seconds: Of all runs.
        keep_extra: Keys that only the target had when the first run began are kept.
    """

    source_run_ids: dict[str, str] = field(default_factory=dict)
    target_run_ids: dict[str, str] = field(default_factory=dict)
    source_keys: dict[str, int] = field(default_factory=dict)
    scanned: dict[str, str] = field(default_factory=dict)
    databases: list[int] = field(default_factory=list)
    notifications: dict[str, str] = field(default_factory=dict)
    evicted_keys: int | None = None
    seconds: float = 0.0
    keep_extra: bool = False

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_dict(cls, data: dict[str, Any]) -> SyncCheckpoint:
        """Raises TypeError for fields that are not known."""
        return cls(**data)
