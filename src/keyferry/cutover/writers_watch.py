"""The coordinator's eye on both records and all writers: who lives, who has taken a step, whose lease is over.

Looks have to go on all the time, or a writer that died would be waited for: a lease is over when the entry has not
changed for as long as it lasts (capture.clients.lease).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from keyferry.capture.clients.lease import LeaseWatch
from keyferry.cutover.record_store import RecordStore, SideLook
from keyferry.model.errors import KeyferryError, ServerAway
from keyferry.model.phases import Side
from keyferry.model.record import PhaseRecord, Write
from keyferry.model.writers import WriterEntry

LOOK_EVERY_S = 0.5
NO_RIGHTS = "no permissions"
"""In what every server answers to a user that may not run a command (addReplyErrorFormat in acl.c)."""
AWAY_S = 5.0
"""After which a side that could not be asked is asked again in passing."""


class WritersWatch:
    """Of one migration."""

    def __init__(self, store: RecordStore) -> None:
        self._store = store
        self._leases = {side: LeaseWatch() for side in Side}
        self._looks: dict[Side, SideLook] = {}
        self._due_s = dict.fromkeys(Side, 0.0)

    @property
    def records(self) -> dict[Side, PhaseRecord | None]:
        """Of the sides whose last look succeeded."""
        return {side: look.record for side, look in self._looks.items()}

    def look(self, side: Side) -> SideLook:
        """Asks now.

        Raises:
            ServerAway, ServerError, RecordUnreadable: As ``RecordStore.look``; the last look does not count any more.
        """
        try:
            look = self._store.look(side)
        except KeyferryError:
            self._looks.pop(side, None)
            self._due_s[side] = time.monotonic() + AWAY_S
            raise
        self._looks[side] = look
        self._leases[side].look(
            {name: (entry.renewals, entry.lease_ms) for name, entry in look.writers.items()},
            look.sent_s,
            look.heard_s,
        )
        self._due_s[side] = look.heard_s + LOOK_EVERY_S
        return look

    def made(self, write: Write) -> None:
        """We have made this write: the record is known without a look, the writers are not."""
        look = self._looks.get(write.side)
        if look is not None:
            self._looks[write.side] = replace(look, record=write.becomes)

    def look_in_passing(self) -> bool:
        """Asks a side whose turn it is; one that is away is left alone for a while.

        Returns:
            Whether one was asked.

        Raises:
            ServerError: One refuses us.
        """
        now, asked = time.monotonic(), False
        for side in Side:
            if now >= self._due_s[side]:
                try:
                    self.look(side)
                except ServerAway:
                    continue
                asked = True
        return asked

    def writers(self, side: Side) -> Mapping[str, WriterEntry]:
        """Registered there at the last look."""
        look = self._looks.get(side)
        return look.writers if look else {}

    def live(self, side: Side) -> dict[str, WriterEntry]:
        """Those whose lease may still run."""
        return {
            name: entry for name, entry in self.writers(side).items() if not self._leases[side].over(name)
        }

    def gone(self, side: Side) -> dict[str, WriterEntry]:
        """Those whose lease is over."""
        return {name: entry for name, entry in self.writers(side).items() if self._leases[side].over(name)}

    def behind(self, side: Side, epoch: int) -> dict[str, WriterEntry]:
        """Live ones that have not taken the epoch."""
        return {name: entry for name, entry in self.live(side).items() if entry.epoch < epoch}


def can_go(entry: WriterEntry, asked: str, barred: bool) -> bool:
    """Whether a writer can go to the gaining side. Where an earlier switch has taken its write rights away, it reaches
    that side and is refused there: it gets them back before the commit."""
    return entry.answered == asked or (barred and NO_RIGHTS in entry.note)


def names_of(writers: Mapping[str, WriterEntry]) -> str:
    """For a sentence."""
    names = sorted({str(entry.facts) for entry in writers.values()})
    if len(names) > 3:
        return f"{', '.join(names[:3])} and {len(names) - 3} more"
    return " and ".join(names)
