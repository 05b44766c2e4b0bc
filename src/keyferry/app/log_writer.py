"""Gets log lines out without ever holding up, or ending, the run that says them.

A disk may be full, a mount may hang, the reader of a pipe may stop reading or go away; the migration goes on. So the
lines wait in a bounded queue for a thread of their own; what finds no room or cannot be written is counted, and the
number is written as soon as lines get out again.

The log is met anew when its file was renamed or removed: logrotate needs neither a signal nor copytruncate.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from keyferry.model.errors import UsageError

WAITING_MAX = 1000
"""Lines that wait to be written."""
AGAIN_S = 1.0
"""Between two tries on a place that cannot be written."""
CLOSE_S = 2.0
"""At the end lines get so long to get out."""
_FILE_MODE = 0o600


class Place(Protocol):
    """Where lines end up. Used by one thread at a time."""

    def write(self, data: bytes) -> None:
        """All of it. Raises OSError."""

    def close(self) -> None: ...


class FilePlace:
    """A file that is appended to, and may be rotated by others.

    Raises:
        UsageError: It cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._torn = False
        try:
            self._open()
        except OSError as error:
            raise UsageError(
                f"--log-file {path} cannot be written: {error.strerror}.",
                "Name a file in a directory that is there and that we may write.",
            ) from None

    def write(self, data: bytes) -> None:
        if self._fd < 0 or self._was_moved():
            self.close()
            self._open()
        # What a full disk cut off stays a line of its own.
        left = memoryview(b"\n" + data if self._torn else data)
        self._torn = True
        while left:
            left = left[os.write(self._fd, left) :]
        self._torn = False

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        # O_NONBLOCK: a FIFO that nobody reads is refused instead of waited for.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        self._fd = os.open(self._path, flags, _FILE_MODE)
        os.set_blocking(self._fd, True)
        self._torn = self._torn and os.fstat(self._fd).st_size > 0

    def _was_moved(self) -> bool:
        ours = os.fstat(self._fd)
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return True
        return (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino)


class StreamPlace:
    """A descriptor that was there before us, such as standard error's.

    Args:
        fd: A copy of it is used, and closed.
    """

    def __init__(self, fd: int) -> None:
        self._fd = os.dup(fd)

    def write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self._fd, left) :]

    def close(self) -> None:
        os.close(self._fd)


class LineWriter:
    """A queue of lines and the thread that writes them.

    Args:
        place: Closed at the end.
        lost: Makes the line that says how many were lost.
    """

    def __init__(self, place: Place, lost: Callable[[int], str]) -> None:
        self._place, self._lost_line = place, lost
        self._changed = threading.Condition()
        self._waiting: deque[str] = deque()
        self._lost = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="keyferry-log", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        """Never waits; a line for which there is no room is counted."""
        with self._changed:
            if self._closing or len(self._waiting) >= WAITING_MAX:
                self._lost += 1
            else:
                self._waiting.append(line)
                self._changed.notify()

    def close(self) -> None:
        """What waits gets ``CLOSE_S`` seconds to get out."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._waiting or self._closing)
                    lines, lost = list(self._waiting), self._lost
                    self._waiting.clear()
                    self._lost = 0
                    closing = self._closing
                due = lines or (closing and lost)
                if due and not self._written(lines, lost) and not closing:
                    with self._changed:
                        self._changed.wait_for(lambda: self._closing, AGAIN_S)
                if closing:
                    return
        finally:
            with suppress(OSError):
                self._place.close()

    def _written(self, lines: list[str], lost: int) -> bool:
        """Whether they are out; else they are counted."""
        said = [self._lost_line(lost), *lines] if lost else lines
        data = "".join(f"{line}\n" for line in said).encode("utf-8", "backslashreplace")
        try:
            self._place.write(data)
        except OSError:
            with self._changed:
                self._lost += lost + len(lines)
            return False
        return True
