"""Hashes, sets and sorted sets by difference: a page of one server's scan is looked up on the other.

Both keys are watched, so as long as nobody writes, lengths tell whether the target has elements that the source
has not: it is scanned only if it has. A scan names an element that is there all the time at least once, perhaps
twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from keyferry.model.keys import escape
from keyferry.payload.differ_found import PAGE_ELEMENTS_MAX, Found, Look, Pair
from keyferry.payload.differ_kinds import Kind, Seen
from keyferry.payload.exchange import Changed, Steps
from keyferry.payload.pages import Page
from keyferry.payload.replies import all_bytes, unexpected
from keyferry.payload.write_commands import ELEMENTS_MAX, Command
from keyferry.wire.resp import Reply


def compare_scanned(kind: Kind, pair: Pair, look: Look, found: Found) -> Steps[list[Command]]:
    """What makes the target's elements the source's: additions first, so that the key never goes.

    Raises:
        Changed, Enough, Stop, TooMany.
    """
    found.lengths_may_differ = kind.may_vanish
    put, missing = yield from _differing(kind, pair, look, found)
    surplus: int | None = None
    if not (look.thorough or kind.may_vanish):
        surplus = look.target.length - (look.source.length - missing)
        if surplus < 0:
            raise Changed
    extra = [] if surplus == 0 else (yield from _extra(kind, pair, look, found, surplus))
    return [*kind.put(pair.key, put), *_removals(kind.remove, pair.key, extra)]


def _differing(kind: Kind, pair: Pair, look: Look, found: Found) -> Steps[tuple[dict[bytes, Seen], int]]:
    """Elements of the source that the target has not, or otherwise; and how many of them it has not."""
    put: dict[bytes, Seen] = {}
    missing = 0
    page = Page(PAGE_ELEMENTS_MAX)
    (reply,), _ = yield from pair.ask([_scan(kind, pair, b"0", page)], [])
    while True:
        cursor, parts = _page_of(reply)
        is_last = cursor == b"0"
        size_bytes = sum(map(len, parts))
        page.had(size_bytes, len(parts) // kind.unit)
        next_page = [] if is_last else [_scan(kind, pair, cursor, page)]
        for names, texts in _chunks(kind.elements(parts), look.target.elements_max):
            also = kind.ask_also(pair.key, names)
            asked, answers = yield from pair.ask([*also, *next_page], kind.ask(pair.key, names))
            if next_page:
                reply, next_page = asked.pop(), []
            page.had(max(size_bytes, _size(answers)), len(names))
            here, there = kind.here(texts, asked), kind.there(answers)
            if here == there:
                continue
            for name, one, other in zip(names, here, there, strict=True):
                if one is None or kind.same(one, other):
                    continue
                if name not in put:
                    kind.tell(found, escape(name), one, other)
                    found.count(len(name) + kind.size(one))
                    missing += other is None
                put[name] = one
        if is_last:
            return put, missing
        if next_page:  # an empty page asked for nothing
            (reply,), _ = yield from pair.ask(next_page, [])


def _extra(kind: Kind, pair: Pair, look: Look, found: Found, surplus: int | None) -> Steps[list[bytes]]:
    """Elements that only the target has.

    Args:
        surplus: How many there are; None: nobody knows.
    """
    extra: dict[bytes, None] = {}
    page, cursor = Page(PAGE_ELEMENTS_MAX), b"0"
    while True:
        _, (reply,) = yield from pair.ask([], [_scan(kind, pair, cursor, page)])
        cursor, parts = _page_of(reply)
        page.had(sum(map(len, parts)), len(parts) // kind.unit)
        for names, _ in _chunks(kind.elements(parts), look.source.elements_max):
            answers, _ = yield from pair.ask(kind.ask_names(pair.key, names), [])
            for name, is_there in zip(names, kind.are_there(answers), strict=True):
                if not is_there and name not in extra:
                    found.tell(kind.what, "extra", name=escape(name))
                    found.count(len(name))
                    extra[name] = None
        if cursor == b"0" or len(extra) == surplus:
            return list(extra)


def _scan(kind: Kind, pair: Pair, cursor: bytes, page: Page) -> Command:
    return (kind.scan, pair.key, cursor, "COUNT", page.elements)


def _page_of(reply: Reply) -> tuple[bytes, list[bytes]]:
    match reply:
        case [bytes() as cursor, list() as parts]:
            return cursor, all_bytes(parts)
    raise unexpected(reply)


def _chunks(elements: dict[bytes, bytes], elements_max: int) -> Iterator[tuple[list[bytes], list[bytes]]]:
    """Names and what came with them, as many as one question may look up."""
    remaining = iter(elements.items())
    while chunk := list(islice(remaining, elements_max)):
        yield [name for name, _ in chunk], [text for _, text in chunk]


def _size(answers: list[Reply]) -> int:
    """Bytes of the strings of one array."""
    items = answers[0]
    return sum(len(item) for item in items if isinstance(item, bytes)) if isinstance(items, list) else 0


def _removals(command: str, key: bytes, names: list[bytes]) -> list[Command]:
    return [
        (command, key, *names[start : start + ELEMENTS_MAX]) for start in range(0, len(names), ELEMENTS_MAX)
    ]
