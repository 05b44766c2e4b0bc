"""The parts put together, and what must never be."""

from __future__ import annotations

from collections.abc import Iterator

from exploring import following, leading, writing
from exploring.faults import faults
from exploring.histories import explained
from exploring.search import STATES_MAX, Explored, explore
from exploring.tables import kind_of
from exploring.world import SETTLES, Look, Move, Setting, State, beginning
from keyferry.model.record import Kind


def moves(setting: Setting, state: State) -> Iterator[Move]:
    """What may happen next when nothing goes wrong."""
    first = following.urgent(setting, state) or leading.urgent(setting, state)
    if first is not None:
        yield first
        return
    yield from writing.moves(setting, state)
    yield from following.moves(setting, state)
    yield from leading.moves(setting, state)


def wrong(setting: Setting, state: State, quiet: bool) -> str:
    """What is wrong with a state; empty when nothing is."""
    kinds = [kind_of(record) for record in state.records]
    if kinds.count(Kind.AUTHORITY) > 1:
        return "two sides take writes"
    ruling = [side for side, kind in enumerate(kinds) if kind in (Kind.AUTHORITY, Kind.HOLD)]
    if len(ruling) > 1:
        return "two sides have authority"
    return _wrong_at_end(setting, state, ruling) if quiet else ""


def _wrong_at_end(setting: Setting, state: State, ruling: list[int]) -> str:
    if any(writer.at is not Look.OVER for writer in state.writers):
        return "a writer waits for ever"
    if any(lead.switch < setting.switches and not lead.replaced for lead in state.leads):
        return "a coordinator waits for ever"
    if len(ruling) != 1:
        return "no side has authority"
    authority = ruling[0]
    if not explained(setting.ops, state.calls, state.data[authority]):
        return "what the application was told is not so"
    settles = any(lead.runs[authority].state == SETTLES for lead in state.leads)
    if settles and setting.stays_equal and state.data[0] != state.data[1]:
        return "the sides differ, and nobody knows"
    return ""


def explored(setting: Setting, states_max: int = STATES_MAX) -> Explored[State]:
    """Every order of events of a setting."""
    return explore(
        beginning(setting),
        lambda state: moves(setting, state),
        lambda state: faults(setting, state),
        lambda state, quiet: wrong(setting, state, quiet),
        states_max,
    )
