"""Compares keys that are named one after the other, on both servers, for as long as somebody names them.

It is a comparison whose pages do not come from SCAN. Nothing is written: what differs is handed out, as by every pass.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Protocol

from keyferry.verify.compare_page import Page
from keyferry.verify.compare_pass import ComparePass, CompareRules
from keyferry.verify.compare_scan import ScanParts
from keyferry.wire.resp import encode_command

_CURSOR = b"1"
"""Any that does not say that SCAN is through."""


class Names(Protocol):
    """Where keys come from."""

    def take(self, limit: int, now_s: float) -> list[bytes]:
        """Takes their marks off: what changes from now on is to be named again."""

    def arrived(self, keys: list[bytes], now_s: float) -> None:
        """Both servers were read after ``take``, and what differed was handed out."""


class NamedPass(ComparePass):
    """Use by ``passes.open_named``. Never done; its owner gives back what was under way when it closes it."""

    def __init__(self, parts: ScanParts, rules: CompareRules, names: Names) -> None:
        super().__init__(parts, rules, _CURSOR.decode())
        self._names = names
        self._taken: deque[list[bytes]] = deque()

    def _scan(self) -> None:
        keys = self._names.take(self._parts.batch, time.monotonic())
        if keys:
            self._taken.append(keys)
            self._scanned_page(scan_reply(keys))

    def _settled(self, page: Page) -> None:
        super()._settled(page)
        self._names.arrived(self._taken.popleft(), time.monotonic())


def scan_reply(keys: list[bytes]) -> bytes:
    """What SCAN would answer: these keys, and more to come."""
    return b"*2\r\n$%d\r\n%b\r\n" % (len(_CURSOR), _CURSOR) + encode_command(*keys)
