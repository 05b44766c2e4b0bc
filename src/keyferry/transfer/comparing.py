"""The same keys' answers of two servers, walked side by side: which keys are in doubt, and why.

A comparison of all keys asks both servers the same about the same keys, in the same order. Nearly always the
answers are equal, so what matters is how little is done about those: no object per key, no decoding. What is
named here is for slower hands.

Answers about a key are a value (GETRANGE of its first bytes, or DUMP), then its expiry where that is asked for. A
DUMP's body (all but version and checksum) that is equal on both sides is an equal value; the reverse is not
true, for encodings and orders differ.
"""

from __future__ import annotations

from keyferry.model.build import wanted
from keyferry.transfer.comparing_config import FAR_MS, FOOTER_BYTES, Doubt, Pair, PairRules, Times
from keyferry.transfer.cutting import Incomplete, bulk, number_or_error, replies_end
from keyferry.transfer.replies import error_text
from keyferry.wire.resp import ProtocolError


def pairs_in_doubt_pure(
    source: bytes, target: bytes, count: int, rules: PairRules, source_ms: Times, target_ms: Times
) -> tuple[list[Pair], int]:
    """Judges ``count`` keys by the complete answers of both servers.

    Returns:
        Keys in doubt, by number; and how many of all are short strings on the source.

    Raises:
        ProtocolError: The bytes are not these answers.
    """
    found: list[Pair] = []
    short = 0
    a, b = _Answers(source, rules, source_ms), _Answers(target, rules, target_ms)
    try:
        for number in range(count):
            a.next()
            b.next()
            doubt: Doubt | None
            if a.error is not None:
                found.append(Pair(number, Doubt.SOURCE_ERROR, a.error))
                continue
            if b.error is not None:
                found.append(Pair(number, Doubt.TARGET_ERROR, b"", b.error))
                continue
            if rules.ranged:
                short += a.kind == _SHORT
                doubt = _ranges(a, b, rules)
            else:
                short += _is_short(a.value, rules.short_bytes)
                if a.value is not None and rules.streams[a.value[0]]:
                    found.append(Pair(number, Doubt.STREAM))
                doubt = _dumps(a, b, rules)
            if doubt == Doubt.DECODE:
                found.append(Pair(number, doubt, a.value or b"", b.value or b""))
            elif doubt is not None:
                found.append(Pair(number, doubt))
    except Incomplete:
        raise ProtocolError("A server sent fewer answers than it was asked for.") from None
    if a.position != len(source) or b.position != len(target):
        raise ProtocolError("A server sent more answers than it was asked for.")
    return found, short


_NOTHING, _SHORT, _FULL, _OTHER = range(4)
"""What GETRANGE found: no byte, a whole string, perhaps the beginning of one, another type."""


class _Answers:
    """One server's answers, key by key."""

    def __init__(self, data: bytes, rules: PairRules, times: Times) -> None:
        self._data, self._rules = data, rules
        self._begin_ms, self._end_ms = times
        self.position = 0
        self.value: bytes | None = None
        """None: no such key, or an answer to GETRANGE that is none."""
        self.kind = _NOTHING
        self.gone = False
        self.error: bytes | None = None
        self.earliest_ms = self.latest_ms = -1
        """Between which times it expires; -1 for never."""

    def next(self) -> None:
        data, rules = self._data, self._rules
        self.value, self.error = None, None
        refused = error_text(data, self.position)
        if refused is not None:
            text, self.position = refused
            if rules.ranged and text.startswith(b"WRONGTYPE"):
                self.kind = _OTHER
            else:
                self.error = text
        else:
            self.value, self.position = bulk(data, self.position)
            self._check()
        self.gone = self.value is None and not rules.ranged
        self.earliest_ms = self.latest_ms = -1
        if rules.expiring:
            expires, self.position, refusal = number_or_error(data, self.position)
            if self.error is None:
                self.error = refusal
            self.gone = self.gone or expires == -2
            if expires >= 0:
                self.earliest_ms = min(expires, FAR_MS) + self._begin_ms
                self.latest_ms = min(expires, FAR_MS) + self._end_ms

    def _check(self) -> None:
        """Raises ProtocolError for what these commands never answer."""
        size = -1 if self.value is None else len(self.value)
        if self._rules.ranged:
            if not 0 <= size <= self._rules.short_bytes:
                raise ProtocolError("A server answered GETRANGE with something else.")
            self.kind = _NOTHING if not size else _FULL if size == self._rules.short_bytes else _SHORT
        elif 0 <= size <= FOOTER_BYTES:
            raise ProtocolError("A server answered DUMP with something that is no payload.")


def _ranges(a: _Answers, b: _Answers, rules: PairRules) -> Doubt | None:
    if a.gone or b.gone:
        return None if a.gone and b.gone else Doubt.DIFFERS
    if _SHORT in (a.kind, b.kind):
        same = a.kind == b.kind and a.value == b.value and _same_expiry(a, b, rules)
        return None if same else Doubt.DIFFERS
    # An empty answer may be an empty string or no key.
    if a.kind == b.kind:
        return Doubt.DIFFERS if a.value != b.value else Doubt.LOOK
    return Doubt.DIFFERS if _FULL in (a.kind, b.kind) else Doubt.LOOK


def _dumps(a: _Answers, b: _Answers, rules: PairRules) -> Doubt | None:
    one, other = a.value, b.value
    there = one if one is not None else other
    if there is not None and not rules.wanted[there[0]]:
        return Doubt.UNSELECTED
    if a.gone or b.gone:
        return None if a.gone and b.gone else Doubt.DIFFERS
    assert one is not None and other is not None
    if not _same_expiry(a, b, rules):
        return Doubt.DIFFERS
    if one[:-FOOTER_BYTES] == other[:-FOOTER_BYTES] and one[0] <= rules.same_types_max:
        return None
    return Doubt.DECODE


def _same_expiry(a: _Answers, b: _Answers, rules: PairRules) -> bool:
    """Whether the expiries are surely within the tolerance."""
    if a.earliest_ms < 0 or b.earliest_ms < 0:
        return a.earliest_ms < 0 and b.earliest_ms < 0
    offset_ms = rules.clock_offset_ms
    later_ms = b.latest_ms - a.earliest_ms - offset_ms
    earlier_ms = a.latest_ms + offset_ms - b.earliest_ms
    return max(later_ms, earlier_ms) <= rules.tolerance_ms


def _is_short(payload: bytes | None, short_bytes: int) -> bool:
    """As ``probing.is_short``: a compressed string (0xC3) does not count, its length is not looked for."""
    return payload is not None and payload[0] == 0 and len(payload) < short_bytes + 13 and payload[1] != 0xC3


def sizes_in_doubt_pure(
    source: bytes, target: bytes, count: int, look_bytes: int
) -> tuple[list[int], list[Pair]]:
    """Goes through both servers' answers to MEMORY USAGE.

    Args:
        look_bytes: Above this on either side a key is BIG.

    Returns:
        The larger size of each key in bytes, -1 for keys that are done with or in doubt; and the doubts: DIFFERS where
        one server does not have it, BIG, or an error. A key that neither has is in none.

    Raises:
        ProtocolError: The bytes are not these answers.
    """
    sizes, found = [-1] * count, []
    at = there = 0
    try:
        for number in range(count):
            here_bytes, at, refused = number_or_error(source, at)
            there_bytes, there, refused_there = number_or_error(target, there)
            if refused is not None:
                found.append(Pair(number, Doubt.SOURCE_ERROR, refused))
            elif refused_there is not None:
                found.append(Pair(number, Doubt.TARGET_ERROR, b"", refused_there))
            elif here_bytes < 0 or there_bytes < 0:
                if here_bytes >= 0 or there_bytes >= 0:
                    found.append(Pair(number, Doubt.DIFFERS))
            elif max(here_bytes, there_bytes) > look_bytes:
                found.append(Pair(number, Doubt.BIG, b"%d" % here_bytes, b"%d" % there_bytes))
            else:
                sizes[number] = max(here_bytes, there_bytes)
    except Incomplete:
        raise ProtocolError("A server sent fewer answers than it was asked for.") from None
    if at != len(source) or there != len(target):
        raise ProtocolError("A server sent more answers than it was asked for.")
    return sizes, found


def walked_pure(data: bytes | bytearray, position: int, replies: int) -> tuple[int, int]:
    """Walks over up to ``replies`` complete replies.

    Args:
        position: Where a reply begins.

    Returns:
        Where the first one begins that is not complete or not asked for, and how many are still to come.

    Raises:
        ProtocolError: The bytes are not RESP.
    """
    whole = bytes(data)
    try:
        while replies and position < len(whole):
            position = replies_end(whole, position, 1)
            replies -= 1
    except Incomplete:
        pass
    return position, replies


pairs_in_doubt, sizes_in_doubt, walked = pairs_in_doubt_pure, sizes_in_doubt_pure, walked_pure
if wanted() != "pure":
    try:
        from keyferry.transfer import _comparing

        pairs_in_doubt, sizes_in_doubt = _comparing.pairs_in_doubt, _comparing.sizes_in_doubt
        walked = _comparing.walked
    except ImportError:
        if wanted() == "compiled":
            raise
