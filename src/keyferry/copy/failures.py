"""The file of ``--failures``: one JSON line per key that was not carried."""

from __future__ import annotations

import json
from pathlib import Path

from keyferry.copy.slowpath import Failure
from keyferry.model.keys import machine_names


class FailureLog:
    """Appends; begins anew unless the run goes on with an earlier one. Does nothing without a path."""

    def __init__(self, path: Path | None, *, resumed: bool) -> None:
        self._path = path
        if path is not None and not resumed:
            path.write_text("", encoding="ascii")

    def write(self, failures: list[Failure]) -> None:
        if self._path is None or not failures:
            return
        with self._path.open("a", encoding="ascii") as file:
            for failure in failures:
                record = {
                    **machine_names(failure.key),
                    "database": failure.database,
                    "reason": failure.reason,
                }
                file.write(json.dumps(record) + "\n")
