"""What a sync is asked to do."""

from __future__ import annotations

from dataclasses import dataclass

from keyferry.capture.kinds import FeedKind
from keyferry.copy.settings import CopySettings


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """Everything that ``keyferry sync`` takes.

    Attributes:
        name: Tells this sync from others; None is made of the two locations and the selection.
        feed: None takes the best that the source allows.
        enable_notifications: ``notify-keyspace-events`` may be set on the source, and is put back at the end.
        until_synced: End when the copy is done, the lag is below ``lag_target_s`` and a verification leaves no suspect.
        keep_extra: Keys that only the target has are kept; else ``replace`` deletes them.
        accept_shrunk_source: Go on although the source came back with far fewer keys after a restart.
        dirty_max: More dirty keys than this (of one source server) are forgotten, and everything is compared anew.
    """

    copy: CopySettings
    name: str | None = None
    feed: FeedKind | None = None
    enable_notifications: bool = False
    until_synced: bool = False
    lag_target_s: float = 1.0
    keep_extra: bool = False
    accept_shrunk_source: bool = False
    dirty_max: int = 5_000_000
