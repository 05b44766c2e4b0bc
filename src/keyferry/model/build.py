"""Which twin of the data path runs: compiled or pure Python.

``KEYFERRY_IMPL`` forces one: ``compiled`` (an error when it was not built), ``pure``, or ``auto`` (default).
"""

from __future__ import annotations

import os
from typing import Literal

from keyferry.model.errors import UsageError

Implementation = Literal["auto", "compiled", "pure"]


def wanted() -> Implementation:
    """What ``KEYFERRY_IMPL`` asks for.

    Raises:
        UsageError: It names something else.
    """
    match os.environ.get("KEYFERRY_IMPL", "auto"):
        case "auto" | "compiled" | "pure" as value:
            return value
        case other:
            raise UsageError(f"KEYFERRY_IMPL is {other!r}.", "Use auto, compiled or pure.")
