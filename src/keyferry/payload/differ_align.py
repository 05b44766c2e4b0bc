"""Where one list fits the other, when elements were pushed and popped at either end.

Pure. Item ``i`` of the source belongs to item ``i + shift`` of the target; what hangs over is pushed or trimmed.
Any shift gives a right edit, the best one the smallest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from operator import ne

from keyferry.payload.write_commands import ELEMENTS_MAX, Command

ANCHORS = 8
"""Items at the end of a window, and as many spread over it, that are looked for on the other side."""
PLACES_MAX = 8
"""Places that are tried for an item that occurs often."""


@dataclass(frozen=True, slots=True)
class Ends:
    """Both ends of a list, which may overlap.

    Attributes:
        tail: The last items, in the order of the list.
    """

    length: int
    head: list[bytes]
    tail: list[bytes]


def best_shift(source: Ends, target: Ends) -> int:
    """The shift that needs the fewest writes, as far as the ends show. Some items overlap under it."""
    return min(_candidates(source, target), key=lambda shift: (_cost(source, target, shift), abs(shift)))


def mismatches(source: Ends, target: Ends, shift: int) -> int:
    """How many of the items that lie beside each other in the windows differ."""
    from_the_end = target.length - source.length - shift
    return _differing(source.head, target.head, shift) + _differing(
        source.tail[::-1], target.tail[::-1], from_the_end
    )


def overlap(source: Ends, target: Ends, shift: int) -> int:
    """How many items lie beside each other at the end where fewer do."""
    from_the_end = target.length - source.length - shift
    return min(
        min(len(source.head), len(target.head) - shift) - max(0, -shift),
        min(len(source.tail), len(target.tail) - from_the_end) - max(0, -from_the_end),
    )


def _cost(source: Ends, target: Ends, shift: int) -> int:
    return abs(shift) + abs(target.length - source.length - shift) + mismatches(source, target, shift)


def _differing(source: list[bytes], target: list[bytes], shift: int) -> int:
    """``source[i]`` beside ``target[i + shift]``."""
    start, end = max(0, -shift), min(len(source), len(target) - shift)
    if end <= start:
        return 0
    one, other = source[start:end], target[start + shift : end + shift]
    return 0 if one == other else sum(map(ne, one, other))


def _candidates(source: Ends, target: Ends) -> set[int]:
    longer = target.length - source.length
    found = {0, longer, *_meetings(source.head, target.head)}
    found.update(longer - shift for shift in _meetings(source.tail[::-1], target.tail[::-1]))
    return {shift for shift in found if min(source.length, target.length - shift) > max(0, -shift)}


def _meetings(source: list[bytes], target: list[bytes]) -> Iterator[int]:
    """Shifts under which an anchor of one side meets its like on the other."""
    for anchors, others, sign in ((source, target, 1), (target, source, -1)):
        places: dict[bytes, list[int]] = defaultdict(list)
        for place, item in enumerate(others):
            if len(places[item]) < PLACES_MAX:
                places[item].append(place)
        step = max(1, len(anchors) // ANCHORS)
        for anchor in {*range(min(ANCHORS, len(anchors))), *range(0, len(anchors), step)}:
            yield from (sign * (place - anchor) for place in places.get(anchors[anchor], ()))


def list_edit(
    key: bytes,
    lengths: tuple[int, int],
    shift: int,
    head: list[bytes],
    tail: list[bytes],
    changed: dict[int, bytes],
) -> list[Command]:
    """The commands that make the target's list the source's.

    Args:
        lengths: Of the source, of the target.
        head: The source's items in front of the overlap.
        tail: Those behind it.
        changed: The source's items that differ, by their index there.
    """
    source_length, target_length = lengths
    keep_from, keep_to = max(0, shift), min(target_length, source_length + shift)
    commands: list[Command] = []
    if keep_from > 0 or keep_to < target_length:
        commands.append(("LTRIM", key, keep_from, keep_to - 1))
    commands += [("LSET", key, index + shift - keep_from, item) for index, item in changed.items()]
    commands += _pushes("LPUSH", key, head[::-1])
    commands += _pushes("RPUSH", key, tail)
    return commands


def _pushes(command: str, key: bytes, items: list[bytes]) -> list[Command]:
    return [
        (command, key, *items[start : start + ELEMENTS_MAX]) for start in range(0, len(items), ELEMENTS_MAX)
    ]
