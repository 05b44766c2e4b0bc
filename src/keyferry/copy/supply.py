"""Keys that a pipeline carries besides those that SCAN names: given ones, or those that have changed meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from keyferry.copy.settled import SettledPages
from keyferry.payload.exchange import Refused


class Supply(Protocol):
    """Where a pipeline takes keys from. Never gives a key out again before ``carried`` names its page."""

    @property
    def open(self) -> bool:
        """More may come."""
        ...

    def presses(self, now_s: float) -> bool:
        """SCAN should rest, and these keys go first."""
        ...

    def take(self, limit: int, now_s: float) -> list[bytes]:
        """At most ``limit`` keys that are to be carried now."""
        ...

    def sent(self, page: int, keys: list[bytes]) -> None:
        """What was taken last is on its way, as this page."""
        ...

    def carried(self, pages: SettledPages, now_s: float) -> None:
        """These pages are acknowledged by the target, whole."""
        ...


class BigSupply(Protocol):
    """Where keys wait that are too big for one DUMP."""

    def hand_over(self, key: bytes, size_bytes: int) -> None:
        """A key of a page turned out to be too big; ``size_bytes`` 0 is not known."""
        ...

    def meet(self, key: bytes, size_bytes: int, kind: str, members: int | None) -> None:
        """A key was large enough to be looked at; as ``bigkeys.BigKeyActions.met``."""
        ...

    def has_big(self, now_s: float) -> bool: ...

    def take_big(self, now_s: float) -> BigTask | None: ...

    def ended_big(self, key: bytes, end: BigEnd, now_s: float) -> None: ...

    def forget_big(self, key: bytes) -> None:
        """It has left this server: its slot is gone over elsewhere."""
        ...

    def give_back(self, key: bytes) -> None:
        """It is to be looked at like any other key: its type may not be one that is wanted."""
        ...


@dataclass(frozen=True, slots=True)
class BigTask:
    """``fuzzy``: earlier attempts found it changing all the time (payload.differ)."""

    key: bytes
    fuzzy: bool = False


@dataclass(frozen=True, slots=True)
class BigEnd:
    """How a big key ended.

    Attributes:
        settled: The target holds what the source held; else ``torn`` or ``refused``.
        same: It held that before: nothing was written.
        torn: It changed while it was read.
        gone: It was deleted on the target, because the source does not have it.
        refused: Why it cannot be carried.
        size_bytes: What was sent for it.
        seconds: How long it took.
    """

    settled: bool
    same: bool = False
    torn: bool = False
    gone: bool = False
    refused: Refused | None = None
    size_bytes: int = 0
    seconds: float = 0.0


class GivenKeys:
    """A fixed list of keys, each carried once.

    Args:
        on_carried: Gets the pages as they settle.
    """

    def __init__(self, keys: Sequence[bytes], on_carried: Callable[[SettledPages], None]) -> None:
        self._keys, self._on_carried = keys, on_carried
        self._next = 0

    @property
    def open(self) -> bool:
        return self._next < len(self._keys)

    def presses(self, now_s: float) -> bool:
        return self.open

    def take(self, limit: int, now_s: float) -> list[bytes]:
        keys = list(self._keys[self._next : self._next + limit])
        self._next += len(keys)
        return keys

    def sent(self, page: int, keys: list[bytes]) -> None:
        pass

    def carried(self, pages: SettledPages, now_s: float) -> None:
        self._on_carried(pages)
