"""Feeds and the settler: names arrive, marks come off before the read, a look that finds both sides equal ends it."""

from __future__ import annotations

from collections.abc import Iterator

from exploring.histories import Act, Value, Values, put
from exploring.tables import SIDES
from exploring.world import (
    OFF,
    PONG,
    REPORTED,
    SETTLES,
    TAKEN,
    Channel,
    Fault,
    Move,
    Restore,
    Run,
    Setting,
    Settling,
    State,
    alive,
    attached,
    changed,
    paired,
    replaced,
    tell,
)

SUBTRACTING = {"own writes are subtracted", "NOLOOP"}
"""What we wrote in a turn is not told to us: as often as we wrote, or where we were the last to write."""


def moves(setting: Setting, state: State) -> Iterator[Move]:
    """What servers, feeds and settlers may do next."""
    for node, keys in enumerate(state.turn):
        if keys:
            yield f"server {node} ends its turn", _turned(setting, state, node, keys)
    for who, lead in enumerate(state.leads):
        if not lead.lives:
            continue
        for authority, run in enumerate(lead.runs):
            if run.state == OFF:
                continue
            for node, channel in enumerate(run.channels):
                if channel:
                    yield from _delivered(setting, state, who, authority, node, channel)
            if is_deaf(setting, run):
                channels = attached(setting, authority, SETTLES, 0).channels
                attaches = with_run(state, who, authority, run._replace(channels=channels))
                yield f"C{who}'s run {authority} attaches", attaches
            yield from _ledger(setting, state, who, authority)
            if "PONGs have no nonce" in setting.broken and not lead.switch and not run.fence:
                yield (
                    f"C{who}'s run {authority} looks how far behind it is",
                    with_run(state, who, authority, run._replace(channels=pinged(setting, run))),
                )
            if run.state == SETTLES:
                yield from _settles(setting, state, who, authority)
    for late in state.air:
        if isinstance(late, Restore):
            yield f"a late RESTORE arrives at the {SIDES[late.side]}", _restored(setting, state, late)
    yield from _expires(setting, state)


def urgent(setting: Setting, state: State) -> Move | None:
    """A delivery that only the run which gets it sees, and that does not hinder anybody: it may come first.

    A PONG, and names for a run that does not settle now. What is lost with it are names that come later than they
    need to, of which every run that settles has its share.
    """
    if setting.any_order or any(state.turn) or state.left[Fault.GAP]:
        return None
    if "PONGs have no nonce" in setting.broken:
        return None
    for who, lead in enumerate(state.leads):
        for authority, run in enumerate(lead.runs):
            for node, channel in enumerate(run.channels):
                if channel and (channel[0] == PONG or run.state != SETTLES):
                    return next(_delivered(setting, state, who, authority, node, channel))
    return None


def run_of(state: State, who: int, authority: int) -> Run:
    """One run."""
    return state.leads[who].runs[authority]


def pinged(setting: Setting, run: Run) -> tuple[Channel, ...]:
    """Every feed has a PING; its PONG comes after all names that were on their way."""
    fenced = range(len(run.channels))
    if "fence on one shard" in setting.broken:
        fenced = range(0, len(run.channels), setting.shards)
    return tuple(
        (*channel, PONG)
        if channel is not None
        and node in fenced
        and not ("PONGs have no nonce" in setting.broken and PONG in channel)
        else channel
        for node, channel in enumerate(run.channels)
    )


def is_deaf(setting: Setting, run: Run) -> bool:
    """A run whose feeds are not attached yet. Only where that rule is broken."""
    return not setting.ledger and all(channel is None for channel in run.channels)


def with_run(state: State, who: int, authority: int, run: Run) -> State:
    """With a run changed."""
    lead = state.leads[who]
    lead = lead._replace(runs=paired(lead.runs, authority, run))
    return state._replace(leads=replaced(state.leads, who, lead))


def _turned(setting: Setting, state: State, node: int, keys: int) -> State:
    """What changed in a turn is told once, whoever changed it (rule 3)."""
    if SUBTRACTING & setting.broken:
        keys &= ~state.ours[node]
    state = state._replace(turn=replaced(state.turn, node, 0), ours=replaced(state.ours, node, 0))
    return tell(state, node, keys)


def _delivered(
    setting: Setting, state: State, who: int, authority: int, node: int, channel: Channel
) -> Iterator[Move]:
    run = run_of(state, who, authority)
    assert channel
    first = channel[0]
    if first == PONG and state.turn[node]:
        # Written before the turn's names, and sent after them.
        return
    after = run._replace(channels=replaced(run.channels, node, channel[1:]))
    if first != PONG:
        after = after._replace(dirty=run.dirty | setting.units_of[first], mended=run.fence > 0)
    what = "PONG" if first == PONG else "names"
    yield f"C{who}'s run {authority} hears {what} of server {node}", with_run(state, who, authority, after)


def _ledger(setting: Setting, state: State, who: int, authority: int) -> Iterator[Move]:
    """Entries that are reported are taken (rule 6)."""
    if not setting.ledger or run_of(state, who, authority).state != SETTLES:
        return
    for number, entry in enumerate(state.ledger):
        if entry == (REPORTED, authority):
            yield f"C{who} takes entry {number}", taken(setting, state, who, authority, number)


def taken(setting: Setting, state: State, who: int, authority: int, number: int) -> State:
    """An entry's keys are dirty."""
    run = run_of(state, who, authority)
    run = run._replace(dirty=run.dirty | setting.units_of[setting.ops[number].keys])
    state = state._replace(ledger=replaced(state.ledger, number, (TAKEN, authority)))
    return with_run(state, who, authority, run)


# Settling.


def _settles(setting: Setting, state: State, who: int, authority: int) -> Iterator[Move]:
    run = run_of(state, who, authority)
    late_mark = "mark off at the reply" in setting.broken
    now = run.settling
    if now is None:
        for unit in range(len(setting.settled_units)):
            if run.dirty >> unit & 1:
                dirty = run.dirty if late_mark else run.dirty & ~(1 << unit)
                after = run._replace(dirty=dirty, settling=_fresh(setting, unit))
                yield f"C{who} takes unit {unit}", with_run(state, who, authority, after)
        return
    if now.writing:
        yield f"C{who} settles unit {now.unit}", _written(setting, state, who, authority, now)
        return
    keys = setting.settled_units[now.unit]
    if None in now.here:
        place = now.here.index(None)
        value = state.data[authority][keys[place]]
        read = now._replace(here=replaced(now.here, place, value))
        yield f"C{who} reads the {SIDES[authority]}", _read(setting, state, who, authority, read)
    if None in now.there and (setting.any_order or None not in now.here):
        place = now.there.index(None)
        value = state.data[1 - authority][keys[place]]
        read = now._replace(there=replaced(now.there, place, value))
        yield f"C{who} reads the {SIDES[1 - authority]}", _read(setting, state, who, authority, read)
    if late_mark and None not in now.here and None not in now.there:
        yield f"C{who} takes the mark off", with_run(state, who, authority, _judged(run, now, late_mark))


def _fresh(setting: Setting, unit: int) -> Settling:
    nothing: tuple[Value | None, ...] = (None,) * len(setting.settled_units[unit])
    return Settling(unit, nothing, nothing)


def _read(setting: Setting, state: State, who: int, authority: int, now: Settling) -> State:
    run = run_of(state, who, authority)
    if None in now.here or None in now.there or "mark off at the reply" in setting.broken:
        return with_run(state, who, authority, run._replace(settling=now))
    return with_run(state, who, authority, _judged(run, now, False))


def _judged(run: Run, now: Settling, takes_mark: bool) -> Run:
    """Both sides were read: equal, or ours to write."""
    dirty = run.dirty & ~(1 << now.unit) if takes_mark else run.dirty
    settling = None if now.here == now.there else now._replace(writing=True)
    return run._replace(dirty=dirty, settling=settling)


def restore_of(authority: int, now: Settling) -> Restore:
    """What a settler sends."""
    return Restore(1 - authority, now.unit, tuple(value or () for value in now.here))


def _written(setting: Setting, state: State, who: int, authority: int, now: Settling) -> State:
    """The other side has it; and another look, unless that rule is taken out."""
    state = _overwritten(setting, state, restore_of(authority, now), ours=True)
    looks = not SUBTRACTING & setting.broken
    settling = _fresh(setting, now.unit) if looks else None
    return with_run(state, who, authority, run_of(state, who, authority)._replace(settling=settling))


def _overwritten(setting: Setting, state: State, restore: Restore, *, ours: bool) -> State:
    values: Values = state.data[restore.side]
    keys = 0
    for key, value in zip(setting.settled_units[restore.unit], restore.values, strict=True):
        values = put(values, key, value)
        keys |= 1 << key
    values = alive(setting, state, restore.side, values)
    state = state._replace(data=paired(state.data, restore.side, values))
    return changed(setting, state, restore.side, keys, ours=ours)


def _restored(setting: Setting, state: State, late: Restore) -> State:
    return _overwritten(setting, state._replace(air=state.air - {late}), late, ours=False)


# What expires.


def _expires(setting: Setting, state: State) -> Iterator[Move]:
    """A value's time is over: on both sides at once, or where clocks differ on one after the other."""
    for number, op in enumerate(setting.ops):
        if op.act is not Act.SETEX:
            continue
        for sides in ((0,), (1,)) if setting.skew else ((0, 1),):
            if all(state.gone[side] >> number & 1 for side in sides):
                continue
            if not any(value and value[0] == number for side in (0, 1) for value in state.data[side]):
                continue
            if any(state.paused[setting.node(side, op.key)] for side in sides):
                continue
            after = state
            for side in sides:
                after = _expired(setting, after, side, number)
            yield f"what {number} has set expires on {sides}", after


def _expired(setting: Setting, state: State, side: int, number: int) -> State:
    state = state._replace(gone=paired(state.gone, side, state.gone[side] | 1 << number))
    values = state.data[side]
    keys = sum(1 << key for key, value in enumerate(values) if value and value[0] == number)
    state = state._replace(data=paired(state.data, side, alive(setting, state, side, values)))
    return changed(setting, state, side, keys)
