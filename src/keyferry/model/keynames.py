"""What a key is called where people and programs look on: by its name only where somebody asked for names.

Names of keys are data: they hold user ids, addresses, session tokens. Logs and pages travel further than the servers
do, so there a key is a mark: two keys are told apart, one is known again as long as the process lives, and nobody who
guesses a name can try it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import blake2b

from keyferry.model.keys import escape

NAME_BYTES_MAX = 120
"""Of a name that is shown; a name may be as long as a value."""
MARK_BYTES = 4
_SECRET = os.urandom(16)
"""Of this process: the same key has the same mark in all that it says."""


@dataclass(frozen=True, slots=True)
class KeyNames:
    """How keys are called. Args: show: By their names (``--show-keys``); else by marks."""

    show: bool = False

    def name(self, key: bytes) -> str:
        """The key as one short line of printable ASCII: its name, escaped and cut, or ``#`` and 8 hex digits."""
        if not self.show:
            return f"#{blake2b(key, digest_size=MARK_BYTES, key=_SECRET).hexdigest()}"
        return escape(key) if len(key) <= NAME_BYTES_MAX else f"{escape(key[:NAME_BYTES_MAX])}..."


NAMES, MARKS = KeyNames(show=True), KeyNames()
