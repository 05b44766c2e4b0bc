"""How hashes, sets and sorted sets are scanned, asked for single elements, and written.

Hashes with fields that expire (Redis 7.4, Valkey 9.0) are compared with these times, for one more question per
page, and get them (HPEXPIREAT after HSET, which takes a field's expiry away). A field whose time is over is
counted by HLEN and shown by nothing else, so there lengths prove nothing and both servers are scanned.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from keyferry.payload.differ_found import Found, Look, Pair, Server
from keyferry.payload.exchange import Changed, Refused, Stop
from keyferry.payload.replies import items_of
from keyferry.payload.write_commands import (
    Command,
    hash_commands,
    score_text,
    set_commands,
    zset_commands,
)
from keyferry.wire.resp import Reply

FOR_EVER = -1
GONE = -2
"""What HPEXPIRETIME says of a field that is not there."""

Seen: TypeAlias = bool | float | bytes | tuple[bytes, int]
"""An element but for its name: that it is there, a score, a value, a value and when it expires."""


class Kind:
    """A type whose elements have names."""

    what: str
    scan: str
    remove: str
    unit = 2
    """Strings that a scan answers for one element."""
    may_vanish = False
    """Elements go by themselves."""

    def __init__(self, pair: Pair) -> None:
        self._source, self._target = pair.source, pair.target

    def elements(self, parts: list[bytes]) -> dict[bytes, bytes]:
        """Name and text of each element of a scan's page."""
        return dict(zip(parts[::2], parts[1::2], strict=True))

    def ask_also(self, key: bytes, names: list[bytes]) -> list[Command]:
        """What a scan of the source does not say of its elements."""
        return []

    def here(self, texts: list[bytes], also: list[Reply]) -> list[Seen | None]:
        """A page of the source's scan; None for what has gone since."""
        raise NotImplementedError

    def ask(self, key: bytes, names: list[bytes]) -> list[Command]:
        """For these elements of the target."""
        raise NotImplementedError

    def there(self, answers: list[Reply]) -> list[Seen | None]:
        """What came, in the form of ``here``; None for what is missing."""
        raise NotImplementedError

    def ask_names(self, key: bytes, names: list[bytes]) -> list[Command]:
        """Whether the source has these elements."""
        raise NotImplementedError

    def are_there(self, answers: list[Reply]) -> list[bool]:
        raise NotImplementedError

    def same(self, one: Seen, other: Seen | None) -> bool:
        return one == other

    def size(self, one: Seen) -> int:
        """Bytes."""
        return len(one) if isinstance(one, bytes) else 8

    def tell(self, found: Found, name: str, one: Seen, other: Seen | None) -> None:
        """Raises Enough."""
        found.tell(self.what, "missing" if other is None else "differs", name=name)

    def put(self, key: bytes, elements: dict[bytes, Seen]) -> Iterable[Command]:
        raise NotImplementedError


class Members(Kind):
    """A set."""

    what, scan, remove, unit = "member", "SSCAN", "SREM", 1

    def elements(self, parts: list[bytes]) -> dict[bytes, bytes]:
        return dict.fromkeys(parts, b"")

    def here(self, texts: list[bytes], also: list[Reply]) -> list[Seen | None]:
        return [True] * len(texts)

    def ask(self, key: bytes, names: list[bytes]) -> list[Command]:
        return _members(self._target, key, names)

    def there(self, answers: list[Reply]) -> list[Seen | None]:
        return [True if answer == 1 else None for answer in _flat(answers)]

    def ask_names(self, key: bytes, names: list[bytes]) -> list[Command]:
        return _members(self._source, key, names)

    def are_there(self, answers: list[Reply]) -> list[bool]:
        return [answer == 1 for answer in _flat(answers)]

    def put(self, key: bytes, elements: dict[bytes, Seen]) -> Iterable[Command]:
        return set_commands(key, elements)


class Scores(Kind):
    """A sorted set. Scores are doubles; 0 and -0 are equal, as packed encodings do not tell them apart."""

    what, scan, remove = "member", "ZSCAN", "ZREM"

    def here(self, texts: list[bytes], also: list[Reply]) -> list[Seen | None]:
        return [float(text) for text in texts]

    def ask(self, key: bytes, names: list[bytes]) -> list[Command]:
        return _scores(self._target, key, names)

    def there(self, answers: list[Reply]) -> list[Seen | None]:
        return [float(answer) if isinstance(answer, bytes) else None for answer in _flat(answers)]

    def ask_names(self, key: bytes, names: list[bytes]) -> list[Command]:
        return _scores(self._source, key, names)

    def are_there(self, answers: list[Reply]) -> list[bool]:
        return [answer is not None for answer in _flat(answers)]

    def tell(self, found: Found, name: str, one: Seen, other: Seen | None) -> None:
        if other is None:
            found.tell("member", "missing", name=name)
        else:
            found.tell("score", "differs", name=name)

    def put(self, key: bytes, elements: dict[bytes, Seen]) -> Iterable[Command]:
        scored = (
            (member, score_text(score)) for member, score in elements.items() if isinstance(score, float)
        )
        return zset_commands(key, scored)


class Fields(Kind):
    """A hash whose fields are for ever."""

    what, scan, remove = "field", "HSCAN", "HDEL"

    def here(self, texts: list[bytes], also: list[Reply]) -> list[Seen | None]:
        return [*texts]

    def ask(self, key: bytes, names: list[bytes]) -> list[Command]:
        return [("HMGET", key, *names)]

    def there(self, answers: list[Reply]) -> list[Seen | None]:
        return _values(answers[0])

    def ask_names(self, key: bytes, names: list[bytes]) -> list[Command]:
        return [("HEXISTS", key, name) for name in names]

    def are_there(self, answers: list[Reply]) -> list[bool]:
        return [answer == 1 for answer in answers]

    def put(self, key: bytes, elements: dict[bytes, Seen]) -> Iterable[Command]:
        fields = ((field, value) for field, value in elements.items() if isinstance(value, bytes))
        return hash_commands(key, fields, {}, self._target.abilities)


class ExpiringFields(Fields):
    """A hash whose fields may expire, on one of the servers or both."""

    may_vanish = True

    def __init__(self, pair: Pair, look: Look, *, apply: bool) -> None:
        super().__init__(pair)
        self._offset_ms, self._tolerance_ms = look.clock_offset_ms, look.expiry_tolerance_ms
        self._compared = self._target.abilities.field_expiry or not pair.destination.drop_field_expiry
        self._impossible = apply and self._compared and not self._target.abilities.field_expiry
        self._target_name = str(pair.destination.target)

    def ask_also(self, key: bytes, names: list[bytes]) -> list[Command]:
        return _times(self._source, key, names)

    def here(self, texts: list[bytes], also: list[Reply]) -> list[Seen | None]:
        if not also:
            return [(text, FOR_EVER) for text in texts]
        seen = [self._field(*both) for both in zip(texts, _times_of(also[0]), strict=True)]
        if self._impossible and any(field and field[1] != FOR_EVER for field in seen):
            raise Stop(Refused(f"{self._target_name} has no field expiry", "field_expiry"))
        return [*seen]

    def _field(self, text: bytes, expires_at_ms: Reply) -> tuple[bytes, int] | None:
        if not isinstance(expires_at_ms, int) or expires_at_ms == GONE:
            return None
        if expires_at_ms == FOR_EVER or not self._compared:
            return text, FOR_EVER
        return text, expires_at_ms + self._offset_ms

    def ask(self, key: bytes, names: list[bytes]) -> list[Command]:
        return [*super().ask(key, names), *_times(self._target, key, names)]

    def there(self, answers: list[Reply]) -> list[Seen | None]:
        values = _values(answers[0])
        times = _times_of(answers[1]) if len(answers) > 1 else [FOR_EVER] * len(values)
        return [
            (value, time) if isinstance(value, bytes) and isinstance(time, int) and time != GONE else None
            for value, time in zip(values, times, strict=True)
        ]

    def same(self, one: Seen, other: Seen | None) -> bool:
        match one, other:
            case (bytes() as value, int() as time), (bytes() as other_value, int() as other_time):
                if value != other_value or FOR_EVER in (time, other_time):
                    return one == other
                return abs(time - other_time) <= self._tolerance_ms
        return False

    def size(self, one: Seen) -> int:
        return len(one[0]) + 8 if isinstance(one, tuple) else 0

    def tell(self, found: Found, name: str, one: Seen, other: Seen | None) -> None:
        match one, other:
            case (bytes() as value, _), (bytes() as other_value, _) if value == other_value:
                found.tell("field expiry", "differs", name=name)
            case _:
                super().tell(found, name, one, other)

    def put(self, key: bytes, elements: dict[bytes, Seen]) -> Iterable[Command]:
        fields = {field: seen for field, seen in elements.items() if isinstance(seen, tuple)}
        expiries = {field: time for field, (_, time) in fields.items() if time != FOR_EVER}
        values = ((field, value) for field, (value, _) in fields.items())
        return hash_commands(key, values, expiries, self._target.abilities)


def _members(server: Server, key: bytes, names: list[bytes]) -> list[Command]:
    if server.asks_many:
        return [("SMISMEMBER", key, *names)]
    return [("SISMEMBER", key, name) for name in names]


def _scores(server: Server, key: bytes, names: list[bytes]) -> list[Command]:
    if server.asks_many:
        return [("ZMSCORE", key, *names)]
    return [("ZSCORE", key, name) for name in names]


def _times(server: Server, key: bytes, names: list[bytes]) -> list[Command]:
    return [("HPEXPIRETIME", key, "FIELDS", len(names), *names)] if server.abilities.field_expiry else []


def _times_of(answer: Reply) -> list[Reply]:
    if answer is None:  # some servers say so of a key that is not there
        raise Changed
    return items_of(answer)


def _flat(answers: list[Reply]) -> list[Reply]:
    """One answer for all, or one each."""
    if len(answers) == 1 and isinstance(answers[0], list):
        return answers[0]
    return answers


def _values(answer: Reply) -> list[Seen | None]:
    return [item if isinstance(item, bytes) else None for item in items_of(answer)]
