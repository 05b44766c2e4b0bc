"""The file of ``--differences``: one JSON line per key that differs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from keyferry.copy.failures import appending
from keyferry.model.keys import machine_names
from keyferry.telemetry.comparing import Difference


class DifferenceLog:
    """Appends; begins anew unless the run goes on with an earlier one. Does nothing without a path.

    A killed run may have written lines that its checkpoint does not count yet. Those keys come again, so the
    checkpoint says where the file counts up to, and the rest is cut off.
    """

    def __init__(self, path: Path | None, earlier: tuple[str, int] | None) -> None:
        """Args: earlier: What ``place`` was at the checkpoint that the run goes on from; None when it begins."""
        self._path = path
        self._bytes = 0
        if path is None:
            return
        # Names of keys are not for everybody.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            if earlier is not None and earlier[0] == str(path.absolute()):
                self._bytes = min(os.fstat(descriptor).st_size, earlier[1])
            os.ftruncate(descriptor, self._bytes)
        finally:
            os.close(descriptor)

    @property
    def place(self) -> tuple[str, int]:
        """The file's absolute path and how many of its bytes count; of nothing without a path."""
        return ("" if self._path is None else str(self._path.absolute())), self._bytes

    @property
    def wanted(self) -> bool:
        return self._path is not None

    def write(self, differences: Iterable[tuple[Difference, bool]]) -> None:
        """Args: differences: Each with whether it was settled since (``--repair``, ``--delete-extra``)."""
        if self._path is None:
            return
        with appending(self._path) as file:
            for difference, repaired in differences:
                file.write(json.dumps(_record(difference, repaired)) + "\n")
            file.flush()
            self._bytes = file.tell()


def _record(difference: Difference, repaired: bool) -> dict[str, Any]:
    record = {
        **machine_names(difference.key),
        "database": difference.database,
        "reason": difference.reason,
        "type_source": difference.type_source,
        "type_target": difference.type_target,
        "differs": list(difference.differs),
    }
    return record | {"repaired": True} if repaired else record
