"""Where a command's keys stand among its arguments: a short notation, and what finds them.

A row of the command table writes the places one after the other, as COMMAND INFO's key specifications say them
(https://redis.io/docs/latest/develop/reference/key-specs/), each with a "!" when the key may be written:

    1            one argument                 3:-1         from the third to the last one
    1:-1:2       every second of them         #2           as many as argument 2 says, from the next one on
    #1/2         the same, every second       STREAMS@4    half of what follows that word, looked for from 4 on
    sort, georadius                           the destination of these commands
    migrate, stralgo                          the keys of these commands

Most commands need one slice. Nothing here raises on arguments that a server would refuse: it finds no key then,
and the server's own error is what the application gets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

Args = tuple[Any, ...]
"""A command as redis-py takes it: names, keys and values as str, bytes, numbers; the name is first."""
Finder = Callable[[Args], Args]
Places = slice | Finder
"""What takes the keys out of the arguments: a slice where that is enough."""

NOWHERE = slice(0, 0)

_RANGE = re.compile(r"(\d+)(?::(-?\d+))?(?::(\d+))?")
_COUNTED = re.compile(r"#(\d+)(?:/(\d+))?")
_AFTER_WORD = re.compile(r"([A-Z]+)@(\d+)")
_LIMIT_WORDS = {"LIMIT": 2, "GET": 1, "BY": 1}
"""Options of SORT, and how many arguments each takes (sort.c, sortCommandGeneric)."""


def compiled(specs: Sequence[str], shift: int = 0) -> Places:
    """What finds the keys at ``specs``.

    Args:
        specs: In the notation above, without "!".
        shift: How many arguments earlier everything stands: 1 where name and subcommand are one argument.
    """
    if not specs:
        return NOWHERE
    merged = _one_slice(specs, shift)
    if merged is not None:
        return merged
    finders = tuple(_finder(spec) for spec in specs)
    if shift:
        raise ValueError(f"subcommands have their keys at fixed places only: {specs}")
    if len(finders) == 1:
        return finders[0]
    return lambda args: tuple(key for finder in finders for key in finder(args))


def word(argument: object) -> str:
    """An argument that may be an option, in upper case."""
    if isinstance(argument, str):
        return argument.upper()
    if isinstance(argument, (bytes, bytearray, memoryview)):
        return bytes(argument).decode("latin-1").upper()
    return str(argument)


def number(argument: object) -> int:
    """An argument that is a count; 0 when it is none, or below zero."""
    try:
        return max(int(argument), 0)  # type: ignore[call-overload, no-any-return]
    except (TypeError, ValueError, OverflowError):
        return 0


def _one_slice(specs: Sequence[str], shift: int) -> slice | None:
    """Ranges that follow each other are one slice."""
    ranges = []
    for spec in specs:
        match = _RANGE.fullmatch(spec)
        if match is None:
            return None
        first = int(match[1])
        ranges.append((first, int(match[2] or first), int(match[3] or 1)))
    first, last, step = ranges[0]
    for following, its_last, its_step in ranges[1:]:
        if last + 1 != following or step != 1 or its_step != 1:
            return None
        last = its_last
    stop = (last + 1 or None) if last < 0 else last + 1 - shift
    return slice(first - shift, stop, step)


def _finder(spec: str) -> Finder:
    special = _SPECIAL.get(spec)
    if special is not None:
        return special
    if counted := _COUNTED.fullmatch(spec):
        return _counted(int(counted[1]), int(counted[2] or 1))
    if after := _AFTER_WORD.fullmatch(spec):
        return _after_word(after[1], int(after[2]))
    where = _one_slice([spec], 0)
    if where is None:
        raise ValueError(f"unknown places of keys: {spec}")
    return lambda args: args[where]


def _counted(at: int, step: int) -> Finder:
    def find(args: Args) -> Args:
        count = number(args[at]) if len(args) > at else 0
        return args[at + 1 : at + 1 + count * step : step]

    return find


def _after_word(expected: str, begin: int) -> Finder:
    def find(args: Args) -> Args:
        for index in range(begin, len(args)):
            if word(args[index]) == expected:
                return args[index + 1 : index + 1 + (len(args) - index - 1) // 2]
        return ()

    return find


def _sort_destination(args: Args) -> Args:
    """The last STORE of SORT counts."""
    destination: Args = ()
    index = 2
    while index < len(args):
        option = word(args[index])
        if option == "STORE":
            destination = args[index + 1 : index + 2]
            index += 1
        index += 1 + _LIMIT_WORDS.get(option, 0)
    return destination


def _georadius_destination(args: Args) -> Args:
    """The last STORE or STOREDIST counts (geo.c, georadiusGeneric)."""
    destination: Args = ()
    for index in range(5, len(args) - 1):
        if word(args[index]) in {"STORE", "STOREDIST"}:
            destination = args[index + 1 : index + 2]
    return destination


def _migrate_keys(args: Args) -> Args:
    """MIGRATE host port key|"" db timeout ... [KEYS key ...]: the list counts when the single key is empty."""
    if len(args) > 3 and args[3] in ("", b""):
        for index in range(6, len(args)):
            if word(args[index]) == "KEYS":
                return args[index + 1 :]
    return args[3:4]


def _stralgo_keys(args: Args) -> Args:
    """STRALGO LCS ... KEYS key key ..., of 6.x only."""
    for index in range(2, len(args)):
        if word(args[index]) == "KEYS":
            return args[index + 1 : index + 3]
    return ()


_SPECIAL: dict[str, Finder] = {
    "sort": _sort_destination,
    "georadius": _georadius_destination,
    "migrate": _migrate_keys,
    "stralgo": _stralgo_keys,
}
