"""What a comparison in pieces has found so far, within its bounds, and how it may end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from keyferry.model.identity import Family, ServerIdentity
from keyferry.payload.exchange import (
    NO_SUCH_KEY,
    Changed,
    Destination,
    Refused,
    Request,
    Steps,
    Stop,
    Vanished,
    first_error,
    raise_source_error,
    refused,
)
from keyferry.payload.pages import COMPACT_ELEMENTS, COMPACT_VISITS_MAX
from keyferry.payload.write_commands import Abilities, Command
from keyferry.wire.resp import Reply, encode_commands

DIFFERENCE_ELEMENTS_MAX = 2000
"""What one transaction on the target may set or remove: some ms there."""
DIFFERENCE_BYTES_MAX = 512 << 10
TOLD_MAX = 20
"""How many differences are named."""
PAGE_ELEMENTS_MAX = 500
"""Each costs either server 1 to 3 us."""

Told: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Same:
    """Both servers held the same value with the same expiry, at one moment; or neither has the key."""


@dataclass(frozen=True, slots=True)
class Different:
    """They did not, at one moment (with ``fuzzy`` perhaps not at one).

    Attributes:
        differs: At most ``TOLD_MAX``: ``what`` (key, type, expiry, field, field expiry, member, score, item,
            items at the head, items at the tail, bytes), ``name`` as printable text or ``count``, ``how``
            (missing, extra, differs; as the target is seen). Never a value.
    """

    differs: tuple[Told, ...]


@dataclass(frozen=True, slots=True)
class Applied:
    """The target's value was made the source's, in one transaction.

    Attributes:
        writes: Elements that were set, added or removed (blocks of a string), and one for the expiry.
        bytes: What was sent to do it.
        exact: False when the source changed all the while (``fuzzy``): every element is one that the source
            had meanwhile, and the key is still to be settled.
    """

    writes: int
    bytes: int
    exact: bool = True


@dataclass(frozen=True, slots=True)
class Torn:
    """The key changed, on one of the servers, during every attempt. Nothing was written."""


@dataclass(frozen=True, slots=True)
class TooDifferent:
    """To carry the value whole is better, or the only way. Nothing was written."""


@dataclass(frozen=True, slots=True)
class NotByDifference:
    """No comparison in pieces for this type (TYPE's word). Nothing was written."""

    kind: str


Settlement: TypeAlias = (
    Same | Different | Applied | Torn | TooDifferent | NotByDifference | Vanished | Refused
)


class Ended(Exception):
    """Ends a comparison from within."""

    def __init__(self, outcome: Settlement) -> None:
        super().__init__(outcome)
        self.outcome = outcome


class Enough(Exception):
    """As many differences are named as are wanted."""


class TooMany(Exception):
    """More differs than one transaction may settle, or than is known to differ at one moment."""


@dataclass(frozen=True, slots=True)
class Server:
    """One of the two, as far as the way to ask it goes.

    Attributes:
        asks_many: SMISMEMBER, ZMSCORE: Redis 6.2.
    """

    abilities: Abilities
    asks_many: bool

    @classmethod
    def of(cls, identity: ServerIdentity) -> Server:
        return cls(Abilities.of(identity), identity.family is Family.VALKEY or identity.version >= (6, 2, 0))


class Pair:
    """Both servers and the key."""

    def __init__(self, destination: Destination, source: ServerIdentity) -> None:
        self.key = destination.key
        self.destination = destination
        self.source, self.target = Server.of(source), Server.of(destination.target)

    def ask(
        self, source: Sequence[Command], target: Sequence[Command]
    ) -> Steps[tuple[list[Reply], list[Reply]]]:
        """Replies of both, none of them an error.

        Raises:
            Changed: The key or its type is not what it was.
            Stop: A server refuses.
        """
        replies = yield Request(
            encode_commands(list(source)), len(source), encode_commands(list(target)), len(target)
        )
        found = raise_source_error(cast("list[Reply]", replies.source))
        raise_target_error(replies.target)
        return found, replies.target


def raise_target_error(replies: list[Reply]) -> None:
    """Raises as ``Pair.ask``."""
    error = first_error(replies)
    if error is not None:
        if error.code == "WRONGTYPE" or error.message == NO_SUCH_KEY:
            raise Changed
        raise Stop(refused(error, "target"))


@dataclass(frozen=True, slots=True)
class Side:
    """The value on one server at the beginning.

    Attributes:
        length: As ``LENGTH_COMMANDS`` counts it.
        is_compact: It is one listpack, in which every element is looked for from the front.
    """

    length: int
    is_compact: bool

    @property
    def elements_max(self) -> int:
        """How many elements one command may look up."""
        if not self.is_compact or self.length <= COMPACT_ELEMENTS:
            return PAGE_ELEMENTS_MAX
        return max(1, min(PAGE_ELEMENTS_MAX, COMPACT_VISITS_MAX // self.length))


@dataclass(frozen=True, slots=True)
class Look:
    """What is compared.

    Attributes:
        clock_offset_ms: The target's clock minus the source's.
        expiry_tolerance_ms: Of fields.
        thorough: The source may change meanwhile: lengths prove nothing.
    """

    source: Side
    target: Side
    clock_offset_ms: int
    expiry_tolerance_ms: int
    thorough: bool


class Found:
    """What differs.

    Args:
        apply: It is collected to be applied; else to be told.
        target: As it was at the beginning.
    """

    def __init__(self, target: Side, *, apply: bool) -> None:
        self.apply = apply
        self.told: list[Told] = []
        self.writes = 0
        self.lengths_may_differ = False
        """Elements may be gone by themselves (fields that expire): a length proves nothing."""
        self._bytes = 0
        # A write into a big listpack costs what ten looks do, and they all go in one transaction.
        self._writes_max = min(DIFFERENCE_ELEMENTS_MAX, 10 * target.elements_max)

    def tell(self, what: str, how: str, **more: str | int) -> None:
        """Raises Enough."""
        if not self.apply:
            self.told.append({"what": what, **more, "how": how})
            if len(self.told) >= TOLD_MAX:
                raise Enough

    def count(self, size_bytes: int, writes: int = 1) -> None:
        """A write more. Raises TooMany."""
        self.writes += writes
        self._bytes += size_bytes
        if self.apply and (self.writes > self._writes_max or self._bytes > DIFFERENCE_BYTES_MAX):
            raise TooMany
