"""The file of ``--failures``: one JSON line per key that was not carried."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from keyferry.copy.settled import Failure
from keyferry.model.keys import machine_names


class FailureLog:
    """Appends; begins anew unless the run goes on with an earlier one. Does nothing without a path.

    A killed run may have written lines of pages that its checkpoint does not count yet. They come again, so the
    checkpoint says where the file counts up to, and the rest is cut off.
    """

    def __init__(self, path: Path | None, earlier: tuple[str, int] | None) -> None:
        """Args: earlier: What ``place`` was at the checkpoint that the run goes on from; None when it begins."""
        self._path = path
        self._bytes = 0
        if path is None:
            return
        if earlier is None:
            path.write_text("", encoding="ascii")
            return
        size = path.stat().st_size if path.exists() else 0
        name, counted = earlier
        self._bytes = min(size, counted) if name == str(path.absolute()) else size
        if self._bytes < size:
            os.truncate(path, self._bytes)

    @property
    def place(self) -> tuple[str, int]:
        """The file's absolute path and how many of its bytes count; of nothing without a path."""
        return ("" if self._path is None else str(self._path.absolute())), self._bytes

    def write(self, failures: list[Failure]) -> None:
        if self._path is None or not failures:
            return
        with appending(self._path) as file:
            for failure in failures:
                record = {
                    **machine_names(failure.key),
                    "database": failure.database,
                    "reason": failure.reason,
                }
                file.write(json.dumps(record) + "\n")
            file.flush()
            self._bytes = file.tell()


@contextlib.contextmanager
def appending(path: Path) -> Iterator[IO[str]]:
    """The file, open at its end. What a write says of a full disk names no file, so this does.

    Raises:
        OSError: With the file's name.
    """
    try:
        with path.open("a", encoding="ascii") as file:
            yield file
    except OSError as error:
        if error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise
