"""Names and values of a workload's keys: few that get most of the writes, many that get the rest.

Every type has names of its own, so that most commands succeed, and shares the ``wild`` ones with all others, so
that types clash. In a cluster names carry a tag, and those that one command takes together share it.
"""

from __future__ import annotations

import random

from keyferry.wire.resp import Argument

KINDS = (
    "string", "number", "float", "bits", "uniques", "list", "queue", "set", "zset", "places", "hash", "fields",
    "stream", "wild",
)  # fmt: skip
HOT_PER_KIND = 3
STREAMS = 12
"""Fewer than of other types: most commands of groups want a group that is there."""
TAGS = 16
NAMES_PER_KIND_MIN = 2 * TAGS
VALUE_BYTES_MAX = 5_000
MEMBERS = 60

_STYLES = (
    b"%b:%d",
    b"%b:%d",
    b"%b:%d",
    b"%b %d, with spaces ",
    b"\x00\xff\r\n%b*[?]\\%d",
    b"{tag}%b:%d",
    b"%b}{%d",
)
_STOCK = random.Random(0).randbytes(VALUE_BYTES_MAX) + b"text that compresses " * (VALUE_BYTES_MAX // 20)


class Names:
    """The keys of one workload; the same for all its writers.

    Args:
        keys: About how many.
        hot_share: The share of draws that get one of a kind's hottest few.
        grouped: Names that are drawn together share a cluster's slot.
    """

    def __init__(self, keys: int, hot_share: float, *, grouped: bool) -> None:
        per_kind = max(NAMES_PER_KIND_MIN, keys // len(KINDS))
        self._hot_share = hot_share
        self._grouped = grouped
        self._names = {kind: [_name(kind.encode(), i, grouped) for i in range(per_kind)] for kind in KINDS}
        self._names["wild"][0] = b""
        self._names["wild"][HOT_PER_KIND] = b"long " * 400

    def one(self, rng: random.Random, kind: str) -> bytes:
        names = self._names[kind]
        return names[self._index(rng, STREAMS if kind == "stream" else len(names))]

    def together(self, rng: random.Random, kinds: tuple[str, ...]) -> list[bytes]:
        """A name of each kind, that one command may take."""
        if not self._grouped:
            return [self.one(rng, kind) for kind in kinds]
        tag = rng.randrange(HOT_PER_KIND if rng.random() < self._hot_share else TAGS)
        found = []
        for kind in kinds:
            row = self._names[kind][tag::TAGS]
            # The first two of "wild" are no tagged names.
            found.append(rng.choice(row if kind != "wild" else row[1:]))
        return found

    def _index(self, rng: random.Random, count: int) -> int:
        return rng.randrange(HOT_PER_KIND if rng.random() < self._hot_share else count)


class Draw:
    """What an operation is made of: a random source, names, values, the time.

    Attributes:
        other_db: A database to move keys to.
        now_ms: Of this machine's clock, which the source's is.
    """

    def __init__(self, rng: random.Random, names: Names) -> None:
        self.rng = rng
        self._names = names
        self._serial = 0
        self.other_db = 1
        self.now_ms = 0

    def key(self, kind: str) -> bytes:
        """Of ``kind``, now and then one of those that belong to no type."""
        return self._names.one(self.rng, "wild" if self.rng.random() < 0.04 else kind)

    def keys(self, *kinds: str) -> list[bytes]:
        return self._names.together(self.rng, kinds)

    def any_key(self) -> bytes:
        return self._names.one(self.rng, self.any_kind())

    def any_keys(self, count: int) -> list[bytes]:
        return self._names.together(self.rng, tuple(self.any_kind() for _ in range(count)))

    def any_kind(self) -> str:
        return self.rng.choice(KINDS)

    def big(self, kind: str) -> bytes:
        return b"big:%b:%d" % (kind.encode(), self.rng.randrange(2))

    def value(self) -> bytes:
        """Never the same twice."""
        self._serial += 1
        draw = self.rng.random()
        size = (
            self.rng.randrange(40)
            if draw < 0.8
            else self.rng.randrange(500 if draw < 0.97 else VALUE_BYTES_MAX)
        )
        at = self.rng.randrange(len(_STOCK) - size)
        return b"%d.%d:" % (self._serial, self.rng.randrange(1_000)) + _STOCK[at : at + size]

    def member(self) -> bytes:
        """Of few, so that what is taken away has often been there."""
        number = self.rng.randrange(MEMBERS)
        return b"%d" % number if number % 3 == 0 else b"member %d" % number

    def members(self, most: int = 5) -> list[Argument]:
        return [self.member() for _ in range(self.rng.randint(1, most))]

    def pairs(self, most: int = 4) -> list[Argument]:
        """Field, value, field, value."""
        return [part for member in self.members(most) for part in (member, self.value())]

    def scored(self, most: int = 4) -> list[Argument]:
        """Score, member, score, member."""
        return [part for member in self.members(most) for part in (self.score(), member)]

    def score(self) -> str:
        draw = self.rng.random()
        if draw < 0.4:
            return str(self.rng.randrange(-50, 50))
        return (
            self.rng.choice(("inf", "-inf", "0.1", "1e300", "-0"))
            if draw < 0.45
            else repr(self.rng.uniform(-9, 9))
        )

    def amount(self) -> int:
        return self.rng.randrange(-100, 1_000)

    def soon_ms(self) -> int:
        """A time to live: often one that ends while we look."""
        draw = self.rng.random()
        if draw < 0.5:
            return self.rng.randrange(1, 400)
        return self.rng.randrange(400, 4_000) if draw < 0.75 else self.rng.randrange(60_000, 10**9)

    def stream_id(self) -> str:
        return f"{self.now_ms + self.rng.randrange(-300, 300)}-{self.rng.randrange(3)}"

    def one_of(self, *choices: Argument) -> Argument:
        return self.rng.choice(choices)

    def chance(self, share: float) -> bool:
        return self.rng.random() < share


def _name(kind: bytes, index: int, grouped: bool) -> bytes:
    if grouped:
        return b"{t%d}" % (index % TAGS) + _STYLES[index % 5] % (kind, index)
    return _STYLES[index % len(_STYLES)] % (kind, index)
