"""Whether a switch may begin, and what its gate has to be: judgements of plain facts, as sentences."""

from __future__ import annotations

from dataclasses import dataclass

from keyferry.cutover.plan import Gate
from keyferry.model.phases import Side

DIRTY_SHARE_OF_GATE = 0.5
"""Of the longest wait, so much may be expected for what is dirty now."""
MEMORY_SHARE_MAX = 0.95


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known before a switch.

    Attributes:
        losing: The side that has authority.
        stage: Of the run that follows it.
        copied: All that was there has been carried or compared, in this run.
        verified_s: Age of the last clean verification of this generation; None: there is none.
        verified_s_max: Older ones do not count.
        touched_overflowed: More has changed since then than is remembered.
        lag_s, lag_max_s: Age of the oldest dirty key, and how old it may be.
        cutover_s: Expected time for settling what is dirty; None: not measured yet.
        gate_s: Longest wait.
        failed: Keys that cannot be carried.
        memory_share: Of the gaining side's maxmemory that is in use; None: it has no limit, or does not tell.
        gate_problem: Why no gate is possible; empty when one is.
    """

    losing: Side
    stage: str
    copied: bool
    paused: bool
    verified_s: float | None
    verified_s_max: float
    touched_overflowed: bool
    lag_s: float
    lag_max_s: float
    cutover_s: float | None
    gate_s: float
    failed: int
    memory_share: float | None = None
    gate_problem: str = ""


def not_ready(facts: Facts) -> list[str]:
    """What stands in the way of a switch; empty: nothing."""
    found: list[str] = []
    if facts.stage == "waiting for a server":
        found.append("A server does not answer.")
    if facts.paused:
        found.append("It is paused (keyferry unpause).")
    if not facts.copied:
        found.append("Not everything has been carried or compared yet.")
        return found
    if facts.failed:
        keys = "key" if facts.failed == 1 else "keys"
        found.append(f"{facts.failed:,} {keys} cannot be carried: exclude them, or make them carriable.")
    if facts.verified_s is None:
        found.append("No clean verification yet (keyferry verify).")
    elif facts.verified_s > facts.verified_s_max:
        found.append(f"The last clean verification is {facts.verified_s:,.0f} s old (keyferry verify).")
    elif facts.touched_overflowed:
        found.append("More has changed since the last verification than is remembered (keyferry verify).")
    if facts.lag_s > facts.lag_max_s:
        found.append(f"The {facts.losing.other} is {facts.lag_s:.1f} s behind.")
    elif facts.cutover_s is not None and facts.cutover_s > DIRTY_SHARE_OF_GATE * facts.gate_s:
        found.append(
            f"Settling what is dirty would take {facts.cutover_s:.1f} s of the {facts.gate_s:g} s that writes may wait."
        )
    if facts.memory_share is not None and facts.memory_share > MEMORY_SHARE_MAX:
        found.append(f"The {facts.losing.other} uses {facts.memory_share:.0%} of its maxmemory.")
    if facts.gate_problem:
        found.append(facts.gate_problem)
    return found


@dataclass(frozen=True, slots=True)
class Around:
    """Who writes on the losing side, and what it allows.

    Attributes:
        writers: Live ones that follow the record.
        plain: On connections that write and do not follow it.
        readers: On connections that do not follow it and have read last: whether they write, too, is not known.
        pause_problem: Why CLIENT PAUSE cannot be used; empty when it can.
        bar_problem: Why plain clients cannot be kept from writing after the pause; empty when they can.
    """

    writers: int
    plain: tuple[str, ...]
    readers: tuple[str, ...]
    pause_problem: str
    bar_problem: str


STOP_THEM = "Stop whoever does not follow the phase record, then use --gate none."


def choose_gate(asked: Gate | None, around: Around) -> tuple[Gate, str]:
    """The gate, and why it cannot be closed (empty when it can).

    Without a wish it is the one that the situation needs, and never a weaker one.
    """
    gate = asked or _needed(around)
    if gate is Gate.PAUSE and around.writers:
        gate = Gate.BOTH
    if gate is Gate.WRITERS and not around.writers:
        return gate, "No writer is registered that could hold (--gate writers)."
    if not gate.pauses:
        return gate, ""
    problem = around.pause_problem or around.bar_problem
    if not problem:
        return gate, ""
    if around.plain:
        return gate, f"{around.plain[0]} writes without following the phase record. {problem} {STOP_THEM}"
    return gate, f"{problem} {STOP_THEM}"


def _needed(around: Around) -> Gate:
    if not around.writers:
        return Gate.PAUSE
    if around.plain:
        return Gate.BOTH
    # Whoever has only read may write next: where that can be made to wait it is, where it cannot it is told.
    pausable = not around.pause_problem and not around.bar_problem
    return Gate.BOTH if around.readers and pausable else Gate.WRITERS
