"""A bank: money moves between accounts in transactions, and the sum is nothing, at every look and in the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from .drawing import ACCOUNTS
from .events import Event, Finding

FAMILY = "bank"
UNKNOWN_MAX = 12
"""Of more moves of unknown outcome not all combinations are tried: then only the sum is judged."""


def check_bank(
    events: Sequence[Event], reads: Sequence[Event], final: Sequence[int] | None
) -> Iterator[Finding]:
    """What is wrong with the bank, whose accounts began empty.

    Args:
        events: The moves; ``reads``: looks at all accounts in one command.
        final: The accounts at the end; None: they were not looked at.
    """
    for read in reads:
        # An account that is not there yet is left out of a flat reply, and holds nothing.
        if read.done and sum(int(amount) for amount in read.reply) != 0:
            yield Finding(FAMILY, "bank", f"{read} saw {read.reply}: half of a transaction")
    if final is None:
        return
    if sum(final):
        yield Finding(FAMILY, "bank", f"the accounts hold {sum(final)} in the end, half of a transaction")
    expected = dict.fromkeys(ACCOUNTS, 0)
    unknown: list[Counter[str]] = []
    for event in events:
        giver, taker = event.extra.split()
        moved = Counter({giver: -int(event.value), taker: int(event.value)})
        if event.done:
            expected[giver] += moved[giver]
            expected[taker] += moved[taker]
        elif event.maybe:
            unknown.append(moved)
    difference = tuple(there - expected[name] for name, there in zip(ACCOUNTS, final, strict=True))
    if len(unknown) <= UNKNOWN_MAX and difference not in _sums(unknown):
        yield Finding(
            FAMILY,
            "bank",
            f"the accounts differ by {difference} from what was acknowledged; {len(unknown)} are unknown",
        )


def _sums(moves: Sequence[Counter[str]]) -> set[tuple[int, ...]]:
    """What any choice of the moves comes to."""
    sums = {(0,) * len(ACCOUNTS)}
    for move in moves:
        sums |= {
            tuple(one + move[name] for one, name in zip(before, ACCOUNTS, strict=True)) for before in sums
        }
    return sums
