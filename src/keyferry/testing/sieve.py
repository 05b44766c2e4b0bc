"""Lets keys through whose type, expiry and value are beyond doubt the same on both sides, a few hundred at a time.

Replies that are equal byte for byte to equal commands need no parsing, which is most of a comparison's work.
What is not let through is only in doubt (another order, another way to write a score), not different.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from keyferry.testing.differences import apart_ms, same_outline
from keyferry.testing.snapshots import READ_COMMANDS, Reader

GROUP_KEYS = 100
VAIN_GROUPS_MAX = 5
"""After so many groups of one type in doubt, and none let through, it is not tried again: zsets between servers
that write scores differently."""
IN_ORDER = (b"listpack", b"ziplist", b"intset")
"""Encodings of hashes and sets that keep the order in which a copy filled them."""

_T = TypeVar("_T")


class Sieve:
    """Works on a source and a target; the target's replies are awaited in ``target_thread``."""

    def __init__(
        self, source: Reader, target: Reader, target_thread: ThreadPoolExecutor, expiry_tolerance_ms: int
    ) -> None:
        self._source, self._target = source, target
        self._target_thread = target_thread
        self._expiry_tolerance_ms = expiry_tolerance_ms
        self._field_expiry = source.may_hold_field_expiry or target.may_hold_field_expiry
        self._passed: Counter[bytes] = Counter()
        self._vain: Counter[bytes] = Counter()

    def in_doubt(self, keys: list[bytes]) -> list[bytes]:
        """The keys that are not let through."""
        doubtful: list[bytes] = []
        by_kind: defaultdict[bytes, list[bytes]] = defaultdict(list)
        sources, targets = self._both(lambda reader: reader.frames(keys))
        for key, (kind, expiry), (target_kind, target_expiry) in zip(keys, sources, targets, strict=True):
            if kind != target_kind or apart_ms(expiry, target_expiry) > self._expiry_tolerance_ms:
                doubtful.append(key)
            else:
                by_kind[kind].append(key)
        for kind, of_kind in by_kind.items():
            if not self._promising(kind):
                doubtful += of_kind
                continue
            simple, other = self._simple(kind, of_kind)
            doubtful += other
            for group in _groups(simple):
                if not self._same(kind, group):
                    doubtful += group
        return doubtful

    def _promising(self, kind: bytes) -> bool:
        if kind not in READ_COMMANDS or (kind == b"hash" and self._field_expiry):
            return False
        return bool(self._passed[kind]) or self._vain[kind] < VAIN_GROUPS_MAX

    def _simple(self, kind: bytes, keys: list[bytes]) -> tuple[list[bytes], list[bytes]]:
        """Those whose values can be compared byte by byte with some hope, and the others."""
        simple: list[bytes] = []
        other: list[bytes] = []
        if kind == b"stream":
            sources, targets = self._both(lambda reader: reader.outlines(keys))
            for key, source, target in zip(keys, sources, targets, strict=True):
                (simple if same_outline(source, target) else other).append(key)
        elif kind in (b"hash", b"set"):
            for key, encoding in zip(keys, self._target.encodings(keys), strict=True):
                (simple if encoding in IN_ORDER else other).append(key)
        else:
            simple = keys
        return simple, other

    def _same(self, kind: bytes, keys: list[bytes]) -> bool:
        source, target = self._both(lambda reader: reader.raw_values(kind, keys))
        # An error is no value, even when both sides give the same one.
        same = source == target and not source.startswith(b"-") and b"\r\n-" not in source
        (self._passed if same else self._vain)[kind] += 1
        return same

    def _both(self, ask: Callable[[Reader], _T]) -> tuple[_T, _T]:
        target = self._target_thread.submit(ask, self._target)
        return ask(self._source), target.result()


def _groups(keys: list[bytes]) -> Iterator[list[bytes]]:
    for first in range(0, len(keys), GROUP_KEYS):
        yield keys[first : first + GROUP_KEYS]
