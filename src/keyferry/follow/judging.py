"""Looks at single keys on both servers, while everything else goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from keyferry.copy.connect import Sides
from keyferry.copy.settings import CopySettings
from keyferry.telemetry.comparing import Difference
from keyferry.verify.big import BigLooks
from keyferry.verify.look import Looker, LookSettings
from keyferry.verify.rounds import Rounds, look_again
from keyferry.verify.routes import Routes

JUDGED_AT_ONCE = 2000
EXPIRY_TOLERANCE_MS = 100
"""Of comparisons of ours; a verification for people has its own."""


class Judge:
    """Of one run; its sessions are dialled when they are needed.

    Args:
        meanwhile: Lets everything else go on for so many seconds.
    """

    def __init__(self, sides: Sides, settings: CopySettings, meanwhile: Callable[[float], None]) -> None:
        self._sides, self._settings, self._meanwhile = sides, settings, meanwhile
        self._looker: tuple[Routes, Looker] | None = None
        self.busy = False
        """Keys are being judged now; what goes on meanwhile must not ask for more."""

    def differing(self, places: list[tuple[int, bytes]], *, rounds: int | None = None) -> list[Difference]:
        """Looks at keys again and again; those that differ for good, or cannot be caught standing still.

        Raises:
            ServerAway, ServerBusy: A server cannot answer now.
        """
        settings = LookSettings(
            EXPIRY_TOLERANCE_MS, self._settings.big_key_bytes, self._settings.drop_field_expiry
        )
        target_database = self._settings.selection.target_database
        if self._looker is None:
            routes = Routes(self._sides)
            self._looker = routes, Looker(self._sides, routes, settings, target_database)
        routes, looker = self._looker
        bigs = BigLooks(self._sides, routes, settings, target_database)
        how = Rounds(pause=self._meanwhile, big=bigs.look)
        if rounds is not None:
            how = replace(how, rounds=rounds)
        found: list[Difference] = []
        self.busy = True
        try:
            for begin in range(0, len(places), JUDGED_AT_ONCE):
                part = places[begin : begin + JUDGED_AT_ONCE]
                judgements = look_again(looker, part, EXPIRY_TOLERANCE_MS, how)
                found += [one.difference for one in judgements if one.difference is not None]
        finally:
            self.busy = False
        return found

    def close(self) -> None:
        """Ends its sessions; the next look dials again."""
        if self._looker is not None:
            self._looker[0].close()
            self._looker = None
