"""Whether what the application was told can be true: one order of its operations that explains all of it.

An operation that was acknowledged has happened exactly once, between its call and its reply; one whose outcome is
unknown has happened once or not at all, at any time after its call; one that was refused has not happened.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

Value = tuple[int, ...]
"""Of a key: the operations that made it, in their order; empty where there is no key."""
Values = tuple[Value, ...]
"""By key."""
Result = Value | bool | None


class Act(StrEnum):
    """What an operation does."""

    SET = "SET"
    INCR = "INCR"
    DEL = "DEL"
    RENAME = "RENAME"
    GET = "GET"
    SETEX = "SETEX"
    """A value that the server takes away by itself, at some time."""


class Op(NamedTuple):
    """One operation of a writer's program."""

    act: Act
    key: int = 0
    to: int = 0

    @property
    def keys(self) -> int:
        """Those that it changes, as bits."""
        if self.act is Act.GET:
            return 0
        return 1 << self.key | (1 << self.to if self.act is Act.RENAME else 0)


class Told:
    """What the application knows of an operation. Plain numbers: they are hashed millions of times."""

    NOT_YET = 0
    CALLED = 1
    DONE = 2
    UNKNOWN = 3
    REFUSED = 4


class Call(NamedTuple):
    """An operation as the application saw it.

    Attributes:
        before: The operations, as bits, that it knew to be done when it called this one.
    """

    told: int = Told.NOT_YET
    before: int = 0
    result: Result = None


def put(values: Values, key: int, value: Value) -> Values:
    """With one of them replaced."""
    return (*values[:key], value, *values[key + 1 :])


def effect(op: Op, number: int, values: Values) -> tuple[Values, Result]:
    """What an operation makes of a server's values, and its result."""
    value = values[op.key]
    match op.act:
        case Act.SET | Act.SETEX:
            return put(values, op.key, (number,)), None
        case Act.INCR:
            return put(values, op.key, (*value, number)), None
        case Act.DEL:
            return put(values, op.key, ()), None
        case Act.RENAME:
            if not value:
                return values, False
            return put(put(values, op.key, ()), op.to, value), True
    return values, value


@lru_cache(maxsize=200_000)
def explained(ops: tuple[Op, ...], calls: tuple[Call, ...], finally_: Values) -> bool:
    """Whether one order of the operations explains all results and the values at the end."""
    must = sum(1 << number for number, call in enumerate(calls) if call.told is Told.DONE)
    may = must | sum(
        1 << number for number, call in enumerate(calls) if call.told in (Told.UNKNOWN, Told.CALLED)
    )
    expires = [number for number, op in enumerate(ops) if op.act is Act.SETEX]
    return _ordered(_Case(ops, calls, finally_, may, must, tuple(expires)), 0, ((),) * len(finally_))


class _Case(NamedTuple):
    ops: tuple[Op, ...]
    calls: tuple[Call, ...]
    finally_: Values
    may: int
    must: int
    expires: tuple[int, ...]


def _ordered(case: _Case, placed: int, values: Values) -> bool:
    """Whether the rest can be placed; a depth-first search over what comes next."""
    if placed & case.must == case.must and values == case.finally_:
        return True
    for number, op in enumerate(case.ops):
        bit = 1 << number
        call = case.calls[number]
        if placed & bit or not case.may & bit or call.before & ~placed:
            continue
        after, result = effect(op, number, values)
        if call.told is Told.DONE and call.result != result:
            continue
        if _ordered(case, placed | bit, after):
            return True
    return any(_ordered(case, placed, gone) for gone in _expired(case.expires, values))


def _expired(expires: tuple[int, ...], values: Values) -> list[Values]:
    return [put(values, key, ()) for key, value in enumerate(values) if value and value[0] in expires]
