"""Strings by difference: windows beside each other, the blocks of them that differ written over."""

from __future__ import annotations

from keyferry.payload.differ_found import Found, Look, Pair, TooMany
from keyferry.payload.exchange import Changed, Steps
from keyferry.payload.replies import bytes_of
from keyferry.payload.write_commands import Command

WINDOW_BYTES = 256 << 10
BLOCK_BYTES = 4 << 10
GROWING_BYTES_MAX = 16 << 20
"""A longer string is not appended to: the server may copy the whole of it."""


def compare_strings(pair: Pair, look: Look, found: Found) -> Steps[list[Command]]:
    """What makes the target's string the source's. No command makes one shorter: that is TooMany.

    Raises:
        Changed, Enough, Stop, TooMany.
    """
    length, there_length = look.source.length, look.target.length
    if length != there_length:
        found.tell("bytes", "missing" if length > there_length else "extra", count=abs(length - there_length))
        if found.apply and (length < there_length or length > GROWING_BYTES_MAX):
            raise TooMany
    common = min(length, there_length)
    commands: list[Command] = []
    for start in range(0, common, WINDOW_BYTES):
        stop = min(start + WINDOW_BYTES, common)
        window: list[Command] = [("GETRANGE", pair.key, start, stop - 1)]
        (one,), (other,) = yield from pair.ask(window, window)
        here, there = bytes_of(one), bytes_of(other)
        if not len(here) == len(there) == stop - start:
            raise Changed
        if here != there:
            commands += _blocks(pair.key, start, here, there, found)
    if found.apply and length > common:
        found.count(length - common)  # before it is read
        for start in range(common, length, WINDOW_BYTES):
            stop = min(start + WINDOW_BYTES, length)
            (rest,), _ = yield from pair.ask([("GETRANGE", pair.key, start, stop - 1)], [])
            commands.append(("APPEND", pair.key, bytes_of(rest)))
    return commands


def _blocks(key: bytes, offset: int, here: bytes, there: bytes, found: Found) -> list[Command]:
    """SETRANGE for each run of blocks that differ."""
    commands: list[Command] = []
    start: int | None = None
    for block in range(0, len(here) + BLOCK_BYTES, BLOCK_BYTES):
        differs = here[block : block + BLOCK_BYTES] != there[block : block + BLOCK_BYTES]
        if differs and start is None:
            start = block
        elif not differs and start is not None:
            found.tell(
                "bytes", "differs", name=f"{offset + start}-{min(offset + block, offset + len(here)) - 1}"
            )
            found.count(block - start)
            commands.append(("SETRANGE", key, offset + start, here[start:block]))
            start = None
    return commands
