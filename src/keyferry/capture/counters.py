"""What no feed names, seen in the counters of INFO commandstats; pure.

Commands inside MULTI and scripts are counted like any other (tests/capture/test_counters.py). 6.2 counts a command's
subcommands together (``xgroup``), 7.0 and later each (``xgroup|create``).
Source: https://redis.io/docs/latest/commands/info/
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_LINE = re.compile(rb"^cmdstat_([^:\r\n]+):calls=([0-9]+)", re.MULTILINE)

SWAPS = frozenset({"swapdb"})
FLUSHES = frozenset({"flushall", "flushdb"})
CLAIMS = frozenset({"xack", "xackdel", "xautoclaim", "xclaim", "xdelex", "xreadgroup"})
"""Commands whose effect XINFO GROUPS and XINFO CONSUMERS show."""
SHAPES = frozenset({"xcfgset", "xgroup", "xnack", "xsetid"})
"""Commands whose effect they may not show: XSETID, or a group that was made and destroyed between two looks."""
FUNCTIONS = frozenset({"function"})
READS = frozenset(
    {"xgroup|help", "function|list", "function|dump", "function|stats", "function|help", "function|kill"}
)
_GROUPS = (SWAPS, FLUSHES, CLAIMS, SHAPES, FUNCTIONS)
"""In the order of ``Movement``."""


@dataclass(frozen=True, slots=True)
class Counters:
    """Calls so far by command, in lower case; none: the server does not show them."""

    calls: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, info: bytes) -> Counters:
        """From the reply to ``INFO commandstats``, or any that contains it."""
        lines = _LINE.findall(info)
        return cls({name.decode("ascii", "backslashreplace").lower(): int(calls) for name, calls in lines})

    @property
    def known(self) -> bool:
        """A server that counts has counted at least what it was asked on our way to INFO."""
        return bool(self.calls)

    def of_any(self, commands: frozenset[str]) -> int:
        """Calls of these commands with all subcommands that may change something."""
        return sum(
            calls
            for name, calls in self.calls.items()
            if name.partition("|")[0] in commands and name not in READS
        )


@dataclass(frozen=True, slots=True)
class Movement:
    """What may have happened between two looks at the counters.

    Attributes:
        swapped: SWAPDB.
        flushed: FLUSHALL or FLUSHDB.
        claims: XREADGROUP, XACK and the like.
        shapes: XGROUP, XSETID.
        functions: A function library may have changed.
    """

    swapped: bool = False
    flushed: bool = False
    claims: bool = False
    shapes: bool = False
    functions: bool = False

    @property
    def stream_groups(self) -> bool:
        return self.claims or self.shapes


NOTHING = Movement()
ALL = Movement(True, True, True, True, True)


def movement(before: Counters, after: Counters) -> Movement:
    """What moved. A counter that shrank was reset, by CONFIG RESETSTAT or a restart: anything may have moved.

    Unknown counters move nothing; whoever looks must say that they are blind.
    """
    if not (before.known and after.known):
        return NOTHING
    if any(after.calls.get(name, 0) < calls for name, calls in before.calls.items()):
        return ALL
    moved = (after.of_any(commands) != before.of_any(commands) for commands in _GROUPS)
    return Movement(*moved)
