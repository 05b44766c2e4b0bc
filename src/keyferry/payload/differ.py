"""Comparing a big value on both servers, and settling what differs in its place, without carrying it whole.

For hashes, sets, sorted sets, lists and strings: one side's pages are looked up on the other, a few hundred
elements at a time. What differs is collected as long as it is little, and applied in one MULTI on the target, the
expiry with it: a reader there sees the old value or the new one.

What makes it exact:

1. The source's key is watched from before the first page; a MULTI at the end says whether all the pages were of
   one value. Else it is read again.
2. The target's key is watched too, and the transaction that changes it says whether it was still what had been
   compared. So nothing is added to a key that expired, was evicted, or was written by somebody else.
3. A server that refuses MULTI says so before anything is written: the first thing it is sent is an empty one.
4. OOM and missing rights are said when a command is queued: then EXEC does nothing.
5. A key that changes all the time may be settled nearly (``fuzzy``): what was found is applied all the same, to a
   target that has not changed since a last look. Of a list only the ends are (``differ_list``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from keyferry.model.identity import ServerIdentity
from keyferry.payload.carry import ATTEMPTS
from keyferry.payload.differ_expiry import Expiry, expiry_of, look_commands
from keyferry.payload.differ_found import (
    DIFFERENCE_ELEMENTS_MAX,
    Applied,
    Different,
    Ended,
    Enough,
    Found,
    Look,
    NotByDifference,
    Pair,
    Same,
    Settlement,
    Side,
    TooDifferent,
    TooMany,
    Torn,
    raise_target_error,
)
from keyferry.payload.differ_kinds import ExpiringFields, Fields, Kind, Members, Scores
from keyferry.payload.differ_list import compare_ends, compare_lists
from keyferry.payload.differ_scan import compare_scanned
from keyferry.payload.differ_string import compare_strings
from keyferry.payload.exchange import Changed, Destination, Refused, Request, Steps, Stop, Vanished
from keyferry.payload.pages import COMPACT_ENCODINGS
from keyferry.payload.read_pieces import counts_expiring_fields
from keyferry.payload.replies import bytes_of, integer_of, items_of
from keyferry.payload.write_commands import LENGTH_COMMANDS, Command
from keyferry.wire.resp import Reply, encode_commands

KINDS = (b"string", b"list", b"set", b"zset", b"hash")


@dataclass(frozen=True, slots=True)
class Wish:
    """The arguments of ``compare_in_pieces`` that are no place."""

    apply: bool
    clock_offset_ms: int | None
    expiry_tolerance_ms: int


def compare_in_pieces(
    destination: Destination,
    source: ServerIdentity,
    *,
    apply: bool,
    fuzzy: bool = False,
    clock_offset_ms: int | None = 0,
    expiry_tolerance_ms: int = 0,
    attempts: int = ATTEMPTS,
) -> Steps[Settlement]:
    """Compares one key on both servers; with ``apply`` makes the target's the source's where little differs.

    Holds a WATCH on both connections: nothing else may use MULTI or WATCH there meanwhile.

    Args:
        destination: Its key is the source's key too; ``replace`` and ``owner`` do not count.
        source: The server that is read.
        apply: Ends as Same, Applied, Vanished (with the target's key gone too), Torn, TooDifferent,
            NotByDifference or Refused; else as Same, Different, Torn, NotByDifference or Refused.
        fuzzy: What the last attempt found counts, also when the key changed meanwhile.
        clock_offset_ms: The target's clock minus the source's. None: ``destination.expires_at_ms`` counts
            instead of the source's own expiry.
        expiry_tolerance_ms: Expiries no farther apart are the same, of keys and of fields.
        attempts: How often it begins when the key changes.
    """
    pair = Pair(destination, source)
    wish = Wish(apply, clock_offset_ms, expiry_tolerance_ms)
    outcome: Settlement = Torn()
    try:
        for left in reversed(range(attempts)):
            try:
                outcome = yield from _attempt(pair, wish, fuzzy=fuzzy and left == 0)
                break
            except Changed:
                continue
    except Ended as end:
        outcome = end.outcome
    except Stop as stop:
        outcome = cast("Refused", stop.outcome)
    yield Request(encode_commands([("UNWATCH",)]), 1, encode_commands([("UNWATCH",)]), 1)
    return outcome


@dataclass(frozen=True, slots=True)
class _Key:
    """One server's key at the beginning. Attributes: expiry: None where there is no key."""

    kind: bytes
    expiry: Expiry | None


@dataclass(slots=True)
class _Pass:
    """What one reading of both values came to.

    Attributes:
        commands: What settles the target; None: too many.
        expiry: The command that sets the key's expiry; empty where it is right.
        is_exact: The source did not change meanwhile.
    """

    kind: bytes
    look: Look
    found: Found
    commands: list[Command] | None
    expiry: list[Command]
    is_exact: bool = True


def _attempt(pair: Pair, wish: Wish, *, fuzzy: bool) -> Steps[Settlement]:
    """Raises Changed, Ended, Stop."""
    source, target = yield from _open(pair, wish)
    yield from _end_without_value(pair, wish, source, target)
    kind = source.kind
    look, is_expiring = yield from _look(pair, wish, kind, fuzzy=fuzzy)
    found = Found(look.target, apply=wish.apply)
    done = _Pass(kind, look, found, None, _expiry_change(pair, wish, source, target, found))
    lost = False
    try:
        done.commands = yield from _compare(pair, kind, look, found, is_expiring=is_expiring)
    except Enough:
        done.commands = []
    except TooMany:
        pass
    except Changed:
        if not fuzzy:
            raise
        lost = True
    done.is_exact = (yield from _is_unchanged(pair, kind, "source")) and not lost
    if not done.is_exact and not fuzzy:
        raise Changed
    if not wish.apply:
        return (yield from _told(pair, done, fuzzy=fuzzy))
    if not done.is_exact and kind == b"list":
        done.found = Found(look.target, apply=True)
        done.commands = yield from _by_ends(pair, look, done.found)
    elif lost:
        raise Changed
    if done.commands is None:
        return TooDifferent()
    return (yield from _settle(pair, done, fuzzy=fuzzy))


def _open(pair: Pair, wish: Wish) -> Steps[tuple[_Key, _Key]]:
    """Watches the key on both servers, and says what it is."""
    # EXEC also forgets what an earlier attempt watched.
    opening: list[Command] = [("MULTI",), ("EXEC",), ("WATCH", pair.key), ("TYPE", pair.key)]
    here, there = yield from pair.ask(
        [*opening, *look_commands(pair.key, pair.source.abilities)],
        [*opening, *look_commands(pair.key, pair.target.abilities)],
    )
    return _key(here[len(opening) - 1 :]), _key(there[len(opening) - 1 :])


def _key(replies: list[Reply]) -> _Key:
    kind, *expiry = replies
    kind = bytes_of(kind)
    return _Key(kind, None if kind == b"none" else expiry_of(expiry))


def _end_without_value(pair: Pair, wish: Wish, source: _Key, target: _Key) -> Steps[None]:
    """Raises Ended where there are no two values to compare."""
    if source.kind == target.kind == b"none":
        raise Ended(Vanished() if wish.apply else Same())
    if source.kind == b"none":
        if not wish.apply:
            raise Ended(Different(({"what": "key", "how": "extra"},)))
        unlink = "UNLINK" if pair.target.abilities.unlink else "DEL"
        yield from pair.ask([], [(unlink, pair.key)])
        raise Ended(Vanished())
    if source.kind != target.kind:
        if wish.apply:
            raise Ended(TooDifferent())
        told = ("key", "missing") if target.kind == b"none" else ("type", "differs")
        raise Ended(Different((dict(zip(("what", "how"), told, strict=True)),)))
    if source.kind not in KINDS:
        raise Ended(NotByDifference(source.kind.decode("utf-8", "backslashreplace")))


def _look(pair: Pair, wish: Wish, kind: bytes, *, fuzzy: bool) -> Steps[tuple[Look, bool]]:
    """How large both values are, and whether they may have fields that expire."""
    looks: list[Command] = [(LENGTH_COMMANDS[kind], pair.key)]
    info: list[Command] = [("INFO", "keyspace")]
    is_hash = kind == b"hash"
    here, there = yield from pair.ask(
        looks + info * (is_hash and pair.source.abilities.field_expiry),
        looks + info * (is_hash and pair.target.abilities.field_expiry),
    )
    is_expiring = any(counts_expiring_fields(reply) for reply in (*here[1:], *there[1:]))
    lengths = integer_of(here[0]), integer_of(there[0])
    if not all(lengths):
        raise Changed
    certain = kind != b"string" and not is_expiring
    if wish.apply and certain and abs(lengths[0] - lengths[1]) > DIFFERENCE_ELEMENTS_MAX:
        raise Ended(TooDifferent())
    source, target = yield from _sides(pair, *lengths)
    offset_ms, tolerance_ms = wish.clock_offset_ms or 0, wish.expiry_tolerance_ms
    return Look(source, target, offset_ms, tolerance_ms, thorough=fuzzy), is_expiring


def _sides(pair: Pair, source_length: int, target_length: int) -> Steps[tuple[Side, Side]]:
    """A server that does not tell an encoding has an ordinary one."""
    command = encode_commands([("OBJECT", "ENCODING", pair.key)])
    replies = yield Request(command, 1, command, 1)
    here, there = replies.source[0] in COMPACT_ENCODINGS, replies.target[0] in COMPACT_ENCODINGS
    return Side(source_length, here), Side(target_length, there)


def _expiry_change(pair: Pair, wish: Wish, source: _Key, target: _Key, found: Found) -> list[Command]:
    """Nothing, or what gives the target's key the right expiry."""
    if wish.clock_offset_ms is None:
        wanted = Expiry(pair.destination.expires_at_ms)
    else:
        wanted = (source.expiry or Expiry(None)).moved(wish.clock_offset_ms)
    if wanted.is_same(target.expiry or Expiry(None), wish.expiry_tolerance_ms):
        return []
    found.tell("expiry", "differs")
    return [("PERSIST", pair.key) if wanted.at_ms is None else ("PEXPIREAT", pair.key, wanted.at_ms)]


def _compare(pair: Pair, kind: bytes, look: Look, found: Found, *, is_expiring: bool) -> Steps[list[Command]]:
    """Raises Changed, Enough, Stop, TooMany."""
    match kind:
        case b"string":
            return compare_strings(pair, look, found)
        case b"list":
            return compare_lists(pair, look, found)
        case b"set":
            scanned: Kind = Members(pair)
        case b"zset":
            scanned = Scores(pair)
        case _ if is_expiring:
            scanned = ExpiringFields(pair, look, apply=found.apply)
        case _:
            scanned = Fields(pair)
    return compare_scanned(scanned, pair, look, found)


def _is_unchanged(pair: Pair, kind: bytes, side: Literal["source", "target"]) -> Steps[bool]:
    """Whether WATCH has seen nothing."""
    commands: list[Command] = [("MULTI",), (LENGTH_COMMANDS[kind], pair.key), ("EXEC",)]
    if side == "source":
        replies, _ = yield from pair.ask(commands, [])
    else:
        _, replies = yield from pair.ask([], commands)
    return isinstance(replies[-1], list)


def _told(pair: Pair, done: _Pass, *, fuzzy: bool) -> Steps[Settlement]:
    is_exact = (yield from _is_unchanged(pair, done.kind, "target")) and done.is_exact
    told = tuple(done.found.told)
    if is_exact or (fuzzy and told):
        return Different(told) if told else Same()
    raise Changed


def _by_ends(pair: Pair, look: Look, found: Found) -> Steps[list[Command] | None]:
    try:
        return (yield from compare_ends(pair, look, found))
    except TooMany:
        return None


def _settle(pair: Pair, done: _Pass, *, fuzzy: bool) -> Steps[Settlement]:
    """One transaction. Raises Changed when the target changed meanwhile."""
    commands = done.commands or []
    if not commands and not done.expiry:
        if not (yield from _is_unchanged(pair, done.kind, "target")):
            raise Changed
        return Same() if done.is_exact else Applied(0, 0, exact=False)
    length: Command = (LENGTH_COMMANDS[done.kind], pair.key)
    body = [*commands, length, *done.expiry, ("EXISTS", pair.key)]
    data = encode_commands([("MULTI",), *body, ("EXEC",)])
    results = yield from _executed(data, len(body))
    is_exact = done.is_exact
    if results is None:
        if not fuzzy or done.kind not in (b"hash", b"set", b"zset"):
            raise Changed
        is_exact = False
        yield from _watch_again(pair, done)
        results = yield from _executed(data, len(body))
        if results is None:
            raise Changed
    if results[-1] == 0:
        return Vanished()
    arrived = results[len(commands)]
    if is_exact and not done.found.lengths_may_differ and arrived != done.look.source.length:
        return Torn()
    return Applied(done.found.writes + len(done.expiry), len(data), is_exact)


def _executed(data: bytes, commands: int) -> Steps[list[Reply] | None]:
    """The results of a transaction on the target; None: WATCH has seen a change."""
    replies = yield Request(target=data, target_replies=commands + 2)
    raise_target_error(replies.target)
    results = replies.target[-1]
    if results is None:
        return None
    results = items_of(results)
    raise_target_error(results)
    return results


def _watch_again(pair: Pair, done: _Pass) -> Steps[None]:
    """For elements that are set whatever was there; but not into another value, or one that was emptied."""
    _, (_, length) = yield from pair.ask([], [("WATCH", pair.key), (LENGTH_COMMANDS[done.kind], pair.key)])
    if 2 * integer_of(length) < done.look.target.length:
        raise Changed


__all__ = [
    "Applied",
    "Different",
    "NotByDifference",
    "Refused",
    "Same",
    "Settlement",
    "TooDifferent",
    "Torn",
    "Vanished",
    "compare_in_pieces",
]
