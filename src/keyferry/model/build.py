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
    value = os.environ.get("KEYFERRY_IMPL", "auto")
    if value == "auto" or value == "compiled" or value == "pure":  # noqa: PLR1714 (narrows the type)
        return value
    raise UsageError(f"KEYFERRY_IMPL is {value!r}.", "Use auto, compiled or pure.")
