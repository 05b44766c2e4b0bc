"""The phases of a migration: which side the application reads and writes now.

Who has authority, who is only mirrored to, and which phase may follow which is decided by the tables here and
nowhere else: clients, operators' commands and the cutover all ask them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Side(StrEnum):
    """One of the two servers of a migration."""

    SOURCE = "source"
    TARGET = "target"

    @property
    def other(self) -> Side:
        return Side.TARGET if self is Side.SOURCE else Side.SOURCE


class Phase(StrEnum):
    """Which server the application reads and writes."""

    SOURCE = "source"
    DUAL = "dual"
    SHADOW = "shadow"
    HOLD = "hold"
    TARGET_DUAL = "target-dual"
    TARGET = "target"


@dataclass(frozen=True, slots=True)
class PhaseRules:
    """What a phase asks of a client.

    Attributes:
        authority: the side whose word counts and whose replies the application gets. In `hold` it is the side on
            whose record the hold stands, so the phase alone does not name it.
        mirrors: a write that succeeded on the authority is repeated on the other side.
        shadows: a sample of the reads is repeated on the other side and compared.
        waits: writes wait for the next phase, within a bound.
    """

    authority: Side | None
    mirrors: bool = False
    shadows: bool = False
    waits: bool = False


RULES: dict[Phase, PhaseRules] = {
    Phase.SOURCE: PhaseRules(Side.SOURCE),
    Phase.DUAL: PhaseRules(Side.SOURCE, mirrors=True),
    Phase.SHADOW: PhaseRules(Side.SOURCE, mirrors=True, shadows=True),
    Phase.HOLD: PhaseRules(None, waits=True),
    Phase.TARGET_DUAL: PhaseRules(Side.TARGET, mirrors=True),
    Phase.TARGET: PhaseRules(Side.TARGET),
}

# One step at a time, forward and back. From `hold` the authority may change: that step is the commit of a cutover
# (to target-dual, or to target where nobody wrote to both) or of a rollback (to dual, or to source); the same phase
# names are also where giving up a hold returns to.
STEPS: dict[Phase, frozenset[Phase]] = {
    Phase.SOURCE: frozenset({Phase.DUAL, Phase.HOLD}),
    Phase.DUAL: frozenset({Phase.SOURCE, Phase.SHADOW, Phase.HOLD}),
    Phase.SHADOW: frozenset({Phase.DUAL, Phase.HOLD}),
    Phase.HOLD: frozenset({Phase.SOURCE, Phase.DUAL, Phase.SHADOW, Phase.TARGET_DUAL, Phase.TARGET}),
    Phase.TARGET_DUAL: frozenset({Phase.HOLD, Phase.TARGET}),
    Phase.TARGET: frozenset({Phase.TARGET_DUAL, Phase.HOLD}),
}


def after_switch(before: Phase) -> Phase:
    """The phase that a switch leads to from the one before its hold: it mirrors if that one did.

    Raises:
        ValueError: `hold` is no phase to switch from.
    """
    authority = RULES[before].authority
    if authority is None:
        raise ValueError("a switch begins before its hold")
    if authority is Side.SOURCE:
        return Phase.TARGET_DUAL if RULES[before].mirrors else Phase.TARGET
    return Phase.DUAL if RULES[before].mirrors else Phase.SOURCE


@dataclass(frozen=True, slots=True)
class Standing:
    """What a writer knows of the migration at a moment: all that its next operation depends on.

    Attributes:
        phase: the phase.
        epoch: the number of the record that named it; 0 where the phase is fixed in code.
        authority: the side whose word counts, also in `hold`.
    """

    phase: Phase
    epoch: int
    authority: Side

    @property
    def mirror(self) -> Side | None:
        """The side that gets second legs; None where there are none."""
        return self.authority.other if RULES[self.phase].mirrors else None


def fixed(phase: Phase) -> Standing:
    """The standing of a phase that is fixed in code.

    Raises:
        ValueError: the phase is `hold`, which only a record can lead out of.
    """
    authority = RULES[phase].authority
    if authority is None:
        raise ValueError("a client cannot be fixed in the phase 'hold'")
    return Standing(phase, 0, authority)
