"""Named places at which a test ends or stops the coordinator: `KEYFERRY_DIE_AT=commit`, `KEYFERRY_PAUSE_AT=hold+`.

A step's name means before it is done, with a `+` after it. `KEYFERRY_PAUSE_S` makes a pause shorter, for a fault that
is to happen in it. Nothing happens without the environment variables.
"""

from __future__ import annotations

import os
import sys
import time

DIE, PAUSE, PAUSE_FOR = "KEYFERRY_DIE_AT", "KEYFERRY_PAUSE_AT", "KEYFERRY_PAUSE_S"
DIED = 9
PAUSE_S = 600.0


def reached(place: str) -> None:
    """The coordinator is here."""
    if os.environ.get(DIE) == place:
        os.write(sys.stderr.fileno(), f"died at {place}\n".encode())
        os._exit(DIED)
    if os.environ.get(PAUSE) == place:
        os.write(sys.stderr.fileno(), f"paused at {place}\n".encode())
        time.sleep(float(os.environ.get(PAUSE_FOR, PAUSE_S)))
