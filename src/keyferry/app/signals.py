"""Ctrl-C and SIGTERM: the first asks the copy to stop cleanly, the second ends the process where it stands.

Ending hard is safe: the checkpoint is never ahead of what the target acknowledged.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from keyferry.copy.stop import StopFlag
from keyferry.model.errors import ExitCode

_SHOW_CURSOR = "\x1b[?25h"


@contextmanager
def stopping(stop: StopFlag) -> Iterator[None]:
    """Routes SIGINT and SIGTERM to ``stop`` for the time of the block.

    After the first one they stay routed: the second may come while the process is on its way out.
    """

    def handle(number: int, _frame: FrameType | None) -> None:
        if stop.requested:
            _end_hard()
        stop.request()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if not stop.requested:
            for number, handler in before.items():
                signal.signal(number, handler)


def _end_hard() -> None:
    # os.write, because the interrupted code may be in the middle of a buffered one.
    cursor = _SHOW_CURSOR if os.isatty(2) else ""
    os.write(2, f"{cursor}\nStopped at once. Run the same command again to go on.\n".encode())
    os._exit(ExitCode.INTERRUPTED)
