"""What this process has of each migration: crossings of threads and of every event loop, and the one order of writes."""

from __future__ import annotations

import os
import weakref
from collections.abc import Hashable
from typing import Any

from keyferry.capture.clients.order import KeyOrder

CROSSINGS: weakref.WeakValueDictionary[Hashable, Any] = weakref.WeakValueDictionary()
"""By settings, places and event loop."""
_ORDERS: weakref.WeakValueDictionary[Hashable, KeyOrder] = weakref.WeakValueDictionary()


def order_of(places: Hashable) -> KeyOrder:
    """The order of writes between two servers; the same for every client of the process."""
    order = _ORDERS.get(places)
    if order is None:
        order = _ORDERS.setdefault(places, KeyOrder())
    return order


def _after_fork() -> None:
    for order in list(_ORDERS.values()):
        order.forked()


# Before the crossings' own, which is registered when their module is imported.
os.register_at_fork(after_in_child=_after_fork)
