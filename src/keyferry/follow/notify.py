"""The source's parameter for keyspace notifications, set for as long as a sync runs, and put back."""

from __future__ import annotations

import contextlib

from keyferry.capture.notifications import (
    PARAMETER,
    current_flags,
    enable_notifications,
    notifications_flags,
    restore_notifications,
)
from keyferry.copy.connect import Sides
from keyferry.copy.replies import ServerBusy
from keyferry.follow.ground import Ground
from keyferry.model.errors import ServerError
from keyferry.telemetry.progress import Teller
from keyferry.wire.session import Session

SWITCHED_OFF = "notifications were switched off"


class Notifying:
    """Of one run. What was set before is in the checkpoint first, so that a killed run's successor puts it back."""

    def __init__(self, ground: Ground, tell: Teller) -> None:
        self._ground, self._tell = ground, tell

    def enable(self, session: Session, shard: str, allowed: bool) -> None:
        """Sets what is missing, where that is allowed. Raises ServerError as the server refuses."""
        if not allowed:
            return
        known = self._ground.checkpoint.notifications
        # What an earlier feed has found stays: what is set now may be ours.
        first = shard not in known
        flags = current_flags(session)
        if first and isinstance(flags, str):
            known[shard] = flags
            self._ground.save(force=True)
        if enable_notifications(session) is None and first:
            known.pop(shard, None)

    def check(self, session: Session) -> None:
        """Raises ServerBusy while the parameter does not name every change; where CONFIG is refused nobody knows."""
        flags = current_flags(session)
        if isinstance(flags, str) and notifications_flags(flags) != flags:
            raise ServerBusy("source", SWITCHED_OFF)

    def restore(self, sides: Sides) -> None:
        """Puts back what was set, where the servers can be reached."""
        for shard, flags in list(self._ground.checkpoint.notifications.items()):
            with contextlib.suppress(ServerError, KeyError), sides.session("source", shard=shard) as session:
                restore_notifications(session, flags)
                del self._ground.checkpoint.notifications[shard]
                self._tell(f"{PARAMETER} of the source is what it was before.")
