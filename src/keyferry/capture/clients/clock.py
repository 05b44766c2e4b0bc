"""The clock of leases: one that goes on while the machine sleeps, where there is one.

A laptop or a virtual machine that was suspended must not believe that its lease still runs.
"""

from __future__ import annotations

import time
from functools import partial

from keyferry.capture.clients.lease import Clock

now_s: Clock = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
)
