"""Goes over one target primary's database and finds the keys that the source does not have.

Nearly always all are there: one EXISTS for many keys says so with a single number. Only where it is too small the
keys are asked for one by one; and of those that are missing the type, where not every type is meant.
"""

from __future__ import annotations

from collections import deque

from keyferry.transfer.comparing_names import exists, framed, picked
from keyferry.verify.compare_line import replies_of
from keyferry.verify.compare_page import Batch, Page
from keyferry.verify.compare_pass import front
from keyferry.verify.compare_scan import ScanParts, ScanPass
from keyferry.wire.resp import ReplyError, encode_commands

KEYS_PER_EXISTS = 32
"""Few enough that a missing key leads to few single questions, many enough to cost next to nothing."""


class ExtrasPass(ScanPass):
    """Use by ``passes.open_extras``.

    Args:
        types: Names of the types of which keys are extra; none is all.
    """

    def __init__(self, parts: ScanParts, types: tuple[str, ...], cursor: str) -> None:
        super().__init__(parts, cursor)
        self._types = types
        self._new: deque[Batch] = deque()

    def _queue(self, page: Page) -> None:
        self._new.extend(Batch(page, lane, names) for lane, names in page.lanes)

    def _fetch(self, limit: int, now: float) -> int:
        asked = 0
        while asked < limit and self._new:
            batch = front(self._new, limit - asked)
            keys = batch.names.number
            self._counts.queued_keys -= keys
            self._counts.fetching_keys += keys
            asked += keys
            if self._types:
                self._ask_types(batch)
                continue
            # In a cluster the keys of one command belong to one slot.
            self._ask_exists(batch, 1 if self._others[batch.lane].cluster else KEYS_PER_EXISTS)
        return asked

    def _ask_exists(self, batch: Batch, each: int) -> None:
        keys = batch.names.number

        def then(data: bytes) -> None:
            self._counts.fetched_bytes += len(data)
            short = self._short(batch, data, each)
            self._resolve(batch.page, keys - len(short))
            if not short:
                return
            if each > 1:
                self._ask_exists(Batch(batch.page, batch.lane, framed(picked(batch.names, short))), 1)
            else:
                self._missing(batch.page, picked(batch.names, short))

        self._others[batch.lane].ask(exists(batch.names, each), -(-keys // each), then)

    def _ask_types(self, batch: Batch) -> None:
        """Where not every type is meant, a key that is of another one on the source is not there, either."""
        keys = picked(batch.names, list(range(batch.names.number)))

        def then(data: bytes) -> None:
            self._counts.fetched_bytes += len(data)
            missing = []
            for key, reply in zip(keys, replies_of(data), strict=True):
                if isinstance(reply, ReplyError):
                    self.refused(self._others[batch.lane], key, reply.message.encode())
                elif not isinstance(reply, bytes) or reply.decode("ascii", "replace") not in self._types:
                    missing.append(key)
            self._resolve(batch.page, len(keys) - len(missing))
            if missing:
                self._missing(batch.page, missing)

        self._others[batch.lane].ask(encode_commands([("TYPE", key) for key in keys]), len(keys), then)

    def _short(self, batch: Batch, data: bytes, each: int) -> list[int]:
        """The numbers of keys in commands that did not find all of theirs; those of refused ones are suspects."""
        keys = batch.names.number
        found: list[int] = []
        full, last = b":%d\r\n" % each, b":%d\r\n" % (keys - (keys - 1) // each * each)
        if data == full * ((keys - 1) // each) + last:
            return []
        for place, reply in enumerate(replies_of(data)):
            numbers = range(place * each, min(keys, (place + 1) * each))
            if isinstance(reply, ReplyError):
                for key in picked(batch.names, list(numbers)):
                    self.refused(self._others[batch.lane], key, reply.message.encode())
            if reply != len(numbers):
                found += numbers
        return found

    def _missing(self, page: Page, keys: list[bytes]) -> None:
        if not self._types:
            page.suspects += keys
            self._resolve(page, len(keys))
            return

        def typed(data: bytes) -> None:
            for key, reply in zip(keys, replies_of(data), strict=True):
                if isinstance(reply, ReplyError):
                    self.refused(self._scanned, key, reply.message.encode())
                # A key that is gone by now is for whoever looks again.
                if isinstance(reply, bytes) and reply.decode("ascii", "replace") not in (
                    *self._types,
                    "none",
                ):
                    page.unselected += 1
                else:
                    page.suspects.append(key)
            self._resolve(page, len(keys))

        self._scanned.ask(encode_commands([("TYPE", key) for key in keys]), len(keys), typed)

    def _resolve(self, page: Page, keys: int) -> None:
        page.open -= keys
        self._counts.fetching_keys -= keys
        self._counts.fetched_keys += keys
        page.settled = not page.open
