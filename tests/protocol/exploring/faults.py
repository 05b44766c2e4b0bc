"""What may go wrong, each as often as the setting allows."""

from __future__ import annotations

from collections.abc import Iterator

from exploring import leading
from exploring.following import restore_of
from exploring.histories import Told
from exploring.tables import bit
from exploring.world import (
    OFF,
    Fault,
    Leg,
    Look,
    Move,
    Run,
    Setting,
    State,
    paired,
    replaced,
)
from exploring.writing import ended, finished, in_operation, number_of, side_of, write
from keyferry.cutover.plan import GATED, Step


def faults(setting: Setting, state: State) -> Iterator[Move]:
    """What may go wrong next."""
    left = state.left
    if not any(left):
        return
    for fault, happens in (
        (Fault.CRASH, _crashes),
        (Fault.LAPSE, _lapses),
        (Fault.GAP, _gaps),
        (Fault.LATE, _late),
        (Fault.DEATH, _deaths),
        (Fault.PAUSE_ENDS, _pause_ends),
        (Fault.FORGET, _forgets),
        (Fault.TIMEOUT, _timeouts),
    ):
        if left[fault]:
            spent = state._replace(left=replaced(left, fault, left[fault] - 1))
            yield from happens(setting, spent)


def _crashes(setting: Setting, state: State) -> Iterator[Move]:
    """A coordinator dies; a write of its settler, and one of a record, may be on their way."""
    for who, lead in enumerate(state.leads):
        if not lead.lives:
            continue
        air = set(state.air)
        for authority, run in enumerate(lead.runs):
            if run.settling is not None and run.settling.writing:
                air.add(restore_of(authority, run.settling))
        off = Run(channels=(None,) * len(state.turn))
        begun = lead.begun
        if lead.switch < setting.switches:
            step = leading.planned(setting, state, lead)
            if isinstance(step, Step):
                begun |= bit(step)
        dead = lead._replace(lives=False, runs=(off, off), begun=begun)
        after = leading.with_lead(state, who, dead)
        yield f"C{who} dies", after._replace(air=frozenset(air))
        cas = leading.next_cas(setting, state, who)
        if cas is not None:
            yield f"C{who} dies, and has sent a record", after._replace(air=frozenset(air | {cas}))


def _lapses(setting: Setting, state: State) -> Iterator[Move]:
    for who, writer in enumerate(state.writers):
        if writer.at is not Look.OVER and writer.lease and who not in setting.plain:
            yield f"W{who}'s lease ends", write(state, who, writer._replace(lease=False))


def _gaps(setting: Setting, state: State) -> Iterator[Move]:
    """A feed is cut and attached again, and everything is dirty (rule 4)."""
    for who, lead in enumerate(state.leads):
        for authority, run in enumerate(lead.runs):
            if not lead.lives or run.state == OFF:
                continue
            for node, channel in enumerate(run.channels):
                if channel is None:
                    continue
                cut = run._replace(channels=replaced(run.channels, node, ()))
                if "gap is carried on" not in setting.broken:
                    cut = cut._replace(dirty=setting.all_dirty)
                if "old PONGs count" not in setting.broken:
                    cut = cut._replace(fence=0)
                runs = paired(lead.runs, authority, cut)
                told = f"C{who}'s feed of server {node} is cut"
                yield told, leading.with_lead(state, who, lead._replace(runs=runs))


def _late(setting: Setting, state: State) -> Iterator[Move]:
    """A step of the gate fails."""
    for who, lead in enumerate(state.leads):
        if not lead.lives or lead.failed or lead.switch >= setting.switches:
            continue
        step = leading.planned(setting, state, lead)
        if isinstance(step, Step) and step in GATED:
            yield f"C{who}'s {step} fails", leading.with_lead(state, who, lead._replace(failed=True))


def _deaths(setting: Setting, state: State) -> Iterator[Move]:
    """A writer dies; its leg may be on its way."""
    for who, writer in enumerate(state.writers):
        if writer.at is Look.OVER:
            continue
        number = number_of(setting, who, writer)
        after = state
        if in_operation(writer):
            call = state.calls[number]._replace(told=Told.UNKNOWN, result=None)
            after = state._replace(calls=replaced(state.calls, number, call))
        entries = state.entries
        # Nobody takes it off: it stays on the list until its lease is over, which its death makes known as well.
        dead = ended(after, who, writer.next)._replace(entries=entries)
        yield f"W{who} dies", dead
        leg = _leg(setting, state, who)
        if leg is not None:
            yield f"W{who} dies, its leg goes on", dead._replace(air=dead.air | {leg})


def _leg(setting: Setting, state: State, who: int) -> Leg | None:
    """The leg of a writer that is under way."""
    writer = state.writers[who]
    number = number_of(setting, who, writer)
    if not setting.ops[number].keys:
        return None
    if writer.at is Look.FIRST:
        return Leg(side_of(writer.stood), number, second=False)
    if writer.at is Look.SECOND and not writer.cut:
        return Leg(1 - side_of(writer.stood), number, second=True)
    return None


def _timeouts(setting: Setting, state: State) -> Iterator[Move]:
    """A writer waits no longer: the outcome is unknown, and of a second leg the application hears nothing."""
    for who in range(len(state.writers)):
        if state.writers[who].at not in (Look.FIRST, Look.SECOND):
            continue
        leg = _leg(setting, state, who)
        if leg is not None:
            told = Told.DONE if leg.second else Told.UNKNOWN
            after = finished(setting, state, who, told)
            yield f"W{who} waits no longer", after._replace(air=after.air | {leg})


def _pause_ends(setting: Setting, state: State) -> Iterator[Move]:
    for node, paused in enumerate(state.paused):
        if paused:
            yield f"server {node}'s pause ends", state._replace(paused=replaced(state.paused, node, False))


def _forgets(setting: Setting, state: State) -> Iterator[Move]:
    """A replica takes over that has not heard of the last record."""
    for side, before in enumerate(state.forgets):
        if before >= 0:
            records = paired(state.records, side, before)
            yield (
                "the losing side forgets",
                state._replace(records=records, forgets=paired(state.forgets, side, -1)),
            )
