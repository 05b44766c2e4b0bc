"""Coordinators: the planner is asked, its step is done, it is asked again; and a start after a death.

What is done in one move here is what nobody else can come between in a server, or what only the coordinator itself
sees. A step that only waits is a move that is not there until what it waits for is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from exploring import tables
from exploring.following import is_deaf, pinged, run_of, taken, with_run
from exploring.tables import SIDES, Cas, bit
from exploring.world import (
    FROZEN,
    HEARS,
    OFF,
    OPEN,
    PONG,
    REPORTED,
    SETTLES,
    Fault,
    Lead,
    Leg,
    Look,
    Move,
    Run,
    Setting,
    State,
    attached,
    paired,
    replaced,
)
from exploring.writing import side_of
from keyferry.cutover.plan import End, Over, Step, Wish
from keyferry.model.phases import RULES, Phase
from keyferry.model.record import Kind

Does = Callable[[Setting, State, int, Wish], State | None]
"""A step of a coordinator; None while it has to wait."""


def moves(setting: Setting, state: State) -> Iterator[Move]:
    """What any coordinator may do next."""
    for who, lead in enumerate(state.leads):
        if is_contested(state) or lead.replaced:
            continue
        if not lead.lives:
            yield f"C{who} starts", started(setting, state, who)
        elif lead.switch < setting.switches:
            step = planned(setting, state, lead)
            after = advanced(setting, state, who, step)
            if after is not None:
                yield f"C{who}: {step.end if isinstance(step, Over) else step}", after
    for late in state.air:
        if isinstance(late, Cas):
            yield "a late write of a record arrives", _arrived(setting, state, late)


def is_contested(state: State) -> bool:
    """Both sides have authority: a coordinator stops (record_trail.check_single)."""
    return all(tables.kind_of(record) in (Kind.AUTHORITY, Kind.HOLD) for record in state.records)


EAGER = frozenset({Step.REVERSE, Step.ACKNOWLEDGED})


def urgent(setting: Setting, state: State) -> Move | None:
    """A step that only its coordinator sees, and that does not hinder anybody: it may come first."""
    if setting.any_order:
        return None
    for who, lead in enumerate(state.leads):
        if not lead.lives or lead.switch >= setting.switches or is_contested(state):
            continue
        step = planned(setting, state, lead)
        if isinstance(step, Over) or step in EAGER or _waits_for_pongs(state, lead, step):
            after = advanced(setting, state, who, step)
            if after is not None:
                return f"C{who}: {step.end if isinstance(step, Over) else step}", after
    return None


def _waits_for_pongs(state: State, lead: Lead, step: Step) -> bool:
    return step is Step.SETTLE and any(run.fence in (1, 3) for run in lead.runs)


def with_lead(state: State, who: int, lead: Lead) -> State:
    """With a coordinator changed."""
    return state._replace(leads=replaced(state.leads, who, lead))


def planned(setting: Setting, state: State, lead: Lead) -> Step | Over:
    """What the planner says next; steps that change nothing here count as done."""
    wish = setting.wishes[lead.switch]
    done = lead.done | _nothing_here(setting, wish)
    return tables.planned(wish, state.records, lead.begun, done, lead.failed)


PASSED_OVER: dict[str, tuple[Step, ...]] = {
    "not severed": (Step.SEVER,),
    "not acknowledged": (Step.ACKNOWLEDGED,),
    "reverse is late": (Step.REVERSE,),
    "no pause": (Step.PAUSE, Step.CHECK_PAUSE),
    "pause is not checked": (Step.CHECK_PAUSE,),
    "no rights bar": (Step.BAR,),
    "commit under the pause": (Step.BAR, Step.CHECK_PAUSE, Step.UNPAUSE),
}
"""Steps that count as done without having been done, by the rule that is broken with them."""


def _nothing_here(setting: Setting, wish: Wish) -> int:
    steps = bit(Step.NARROW) | bit(Step.FUNCTIONS) | bit(Step.HOOK)
    if setting.gives_back_late:
        steps |= bit(Step.GIVE_BACK)
    if not setting.compares:
        steps |= bit(Step.COMPARE)
    if not setting.prepares:
        steps |= bit(Step.PREPARE)
    if RULES[wish.phase].mirrors:
        steps |= bit(Step.BAR_AFTER)
    for broken, passed_over in PASSED_OVER.items():
        if broken in setting.broken:
            for step in passed_over:
                steps |= bit(step)
    return steps


def advanced(setting: Setting, state: State, who: int, step: Step | Over) -> State | None:
    """After a step, or after a part of it."""
    lead = state.leads[who]
    wish = setting.wishes[lead.switch]
    if isinstance(step, Over):
        return _over(state, who, step, lead, wish)
    its = tables.undone_by(step)
    after = DOES[step](setting, state, who, wish)
    if after is None or its is None:
        return after
    lead = after.leads[who]
    return with_lead(after, who, lead._replace(begun=lead.begun & ~bit(its), done=lead.done & ~bit(its)))


def _over(state: State, who: int, over: Over, lead: Lead, wish: Wish) -> State | None:
    if over.end is End.UNKNOWN:
        # The losing side does not say what it was told: as after a start, what it says counts.
        return _failed(state, who)
    if over.end is End.DONE:
        return with_lead(state, who, Lead(True, lead.runs, lead.switch + 1))
    losing = SIDES.index(wish.losing)
    run = lead.runs[losing]
    if run.state != OFF:
        run = run._replace(state=SETTLES, fence=0, mended=False)
    return with_lead(state, who, Lead(True, paired(lead.runs, losing, run), lead.switch))


def _begun(state: State, who: int, step: Step) -> State:
    lead = state.leads[who]
    return with_lead(state, who, lead._replace(begun=lead.begun | bit(step)))


def _done(state: State, who: int, step: Step) -> State:
    lead = state.leads[who]
    return with_lead(state, who, lead._replace(begun=lead.begun | bit(step), done=lead.done | bit(step)))


def _failed(state: State, who: int) -> State:
    return with_lead(state, who, state.leads[who]._replace(failed=True))


def _losing(wish: Wish) -> int:
    return SIDES.index(wish.losing)


def applied(setting: Setting, state: State, cas: Cas) -> State:
    """A compare-and-set at its server."""
    if state.records[cas.side] != cas.expected and "unconditional" not in setting.broken:
        return state
    forgets = state.forgets
    if setting.faults.get(Fault.FORGET) and tables.kind_of(cas.becomes) is Kind.LOST:
        forgets = paired(forgets, cas.side, state.records[cas.side])
    return state._replace(records=paired(state.records, cas.side, cas.becomes), forgets=forgets)


def _arrived(setting: Setting, state: State, late: Cas) -> State:
    return applied(setting, state._replace(air=state.air - {late}), late)


# Before the gate.


def _prepare(setting: Setting, state: State, who: int, wish: Wish) -> State | None:
    """A question in the record, and everyone's answer: here, that the epoch is taken."""
    losing = _losing(wish)
    record = tables.record_of(state.records[losing])
    if record is None or record.kind is not Kind.AUTHORITY:
        return _failed(state, who)
    if not state.leads[who].begun & bit(Step.PREPARE):
        asking = tables.asking(losing, state.records[losing])
        return _begun(applied(setting, state, asking), who, Step.PREPARE)
    if _waiting(setting, state, losing, record.epoch):
        return None
    return _done(state, who, Step.PREPARE)


def _reverse(setting: Setting, state: State, who: int, wish: Wish) -> State | None:
    gaining = 1 - _losing(wish)
    return _done(with_run(state, who, gaining, attached(setting, gaining, HEARS, dirty=0)), who, Step.REVERSE)


# The gate closes.


def _hold(setting: Setting, state: State, who: int, wish: Wish) -> State | None:
    losing = _losing(wish)
    cas = tables.stepping(losing, state.records[losing], Phase.HOLD)
    if cas is None:
        return _failed(state, who)
    return _done(applied(setting, state, cas), who, Step.HOLD)


def _waiting(setting: Setting, state: State, losing: int, epoch: int) -> bool:
    """Whether a live writer has not taken an epoch. A lease is over when the writer's own clock says so, or before."""
    for who, taken_epoch in enumerate(state.entries[losing]):
        writer = state.writers[who]
        leased = writer.lease and side_of(writer.standing) == losing
        if 0 <= taken_epoch < epoch and leased and "lease from its reply" not in setting.broken:
            return True
    return False


def _acknowledged(setting: Setting, state: State, who: int, wish: Wish) -> State | None:
    record = tables.record_of(state.records[_losing(wish)])
    if record is None or record.kind is not Kind.HOLD:
        return _failed(state, who)
    if _waiting(setting, state, _losing(wish), record.epoch):
        return None
    return _done(state, who, Step.ACKNOWLEDGED)


def _sever(setting: Setting, state: State, who: int, wish: Wish) -> State | None:
    """The connections for second legs are ended; entries of writers that are gone are taken off (rule 11)."""
    losing = _losing(wish)
    entries, writers = state.entries, state.writers
    for place, writer in enumerate(writers):
        if writer.at is Look.SECOND:
            writers = replaced(writers, place, writer._replace(cut=True))
        if entries[losing][place] >= 0 and not writer.lease:
            entries = paired(entries, losing, replaced(entries[losing], place, -1))
    air = frozenset(late for late in state.air if not (isinstance(late, Leg) and late.second))
    return _done(state._replace(entries=entries, writers=writers, air=air), who, Step.SEVER)


def _pause(setting: Setting, state: State, who: int, wish: Wish) -> State | None:
    return _done(_pausing(setting, state, _losing(wish), True), who, Step.PAUSE)


def _pausing(setting: Setting, state: State, side: int, paused: bool) -> State:
    nodes = setting.nodes(side)
    return state._replace(
        paused=tuple(paused if node in nodes else now for node, now in enumerate(state.paused))
    )


def _barring(setting: Setting, state: State, side: int, barred: bool) -> State:
    nodes = setting.nodes(side)
    return state._replace(
        barred=tuple(barred if node in nodes else now for node, now in enumerate(state.barred))
    )


def _settle(setting: Setting, state: State, who: int, wish: Wish) -> State | None:
    """Fences until one names nothing, so that all that was read is of one moment, and nothing of ours is in flight.

    From then on none of our writes goes out.
    """
    losing = _losing(wish)
    run = run_of(state, who, losing)
    if run.state != SETTLES:
        return _failed(state, who)
    if is_deaf(setting, run):
        return None
    if run.fence == 0 and "no fence" in setting.broken:
        return with_run(state, who, losing, run._replace(fence=4))
    if run.fence in (0, 2):
        state = _begun(_all_entries(setting, state, who, losing), who, Step.SETTLE)
        run = run_of(state, who, losing)
        if run.fence == 0:
            run = run._replace(mended=bool(run.dirty) or run.settling is not None)
        run = run._replace(channels=pinged(setting, run), fence=run.fence + 1)
        return with_run(state, who, losing, run)
    if run.fence in (1, 3):
        if any(channel and PONG in channel for channel in run.channels):
            return None
        single = not setting.turns or "single PING" in setting.broken
        return with_run(state, who, losing, run._replace(fence=4 if single else run.fence + 1))
    if run.dirty or run.settling is not None:
        return None
    if run.mended and "fences once" not in setting.broken:
        return with_run(state, who, losing, run._replace(fence=0, mended=False))
    frozen = SETTLES if "not frozen" in setting.broken else FROZEN
    return _done(with_run(state, who, losing, run._replace(state=frozen, mended=False)), who, Step.SETTLE)


def _all_entries(setting: Setting, state: State, who: int, losing: int) -> State:
    """What is reported, and what stayed open: of the dead, and of second legs whose outcome is unknown (rule 6)."""
    if setting.ledger:
        for number, entry in enumerate(state.ledger):
            if entry == (REPORTED, losing) or (
                entry == (OPEN, losing) and "open entries are left" not in setting.broken
            ):
                state = taken(setting, state, who, losing, number)
    return state


def _compare(setting: Setting, state: State, who: int, wish: Wish) -> State | None:
    if state.data[0] != state.data[1]:
        return _failed(state, who)
    return _done(state, who, Step.COMPARE)


# For plain clients.


def _bar(setting: Setting, state: State, who: int, wish: Wish) -> State | None:
    """Rights are taken away, server by server."""
    losing = _losing(wish)
    left = [node for node in setting.nodes(losing) if not state.barred[node]]
    if not left:
        return _done(state, who, Step.BAR)
    state = state._replace(barred=replaced(state.barred, left[0], True))
    return _begun(state, who, Step.BAR) if len(left) > 1 else _done(state, who, Step.BAR)


def _check_pause(setting: Setting, state: State, who: int, wish: Wish) -> State | None:
    if not all(state.paused[node] for node in setting.nodes(_losing(wish))):
        return _failed(state, who)
    return _done(state, who, Step.CHECK_PAUSE)


def _unpause(setting: Setting, state: State, who: int, wish: Wish) -> State | None:
    return _done(_pausing(setting, state, _losing(wish), False), who, Step.UNPAUSE)


def _give_back(setting: Setting, state: State, who: int, wish: Wish) -> State | None:
    return _done(_barring(setting, state, 1 - _losing(wish), False), who, Step.GIVE_BACK)


# The commit.


def _pending(setting: Setting, state: State, who: int, wish: Wish) -> State | None:
    losing = _losing(wish)
    cas = tables.committing(losing, state.records, wish.phase)
    if cas is None:
        return _failed(state, who)
    if "rights come back before the commit" in setting.broken:
        state = _barring(setting, state, 1 - losing, False)
    if cas.side != losing:
        state = applied(setting, state, cas)
    return _done(state, who, Step.PENDING)


def _commit(setting: Setting, state: State, who: int, wish: Wish) -> State | None:
    losing = _losing(wish)
    cas = tables.committing(losing, state.records, wish.phase)
    if cas is None or cas.side != losing:
        return _failed(state, who)
    if state.paused[setting.nodes(losing)[0]]:
        return None
    return _done(applied(setting, state, cas), who, Step.COMMIT)


def _complete(setting: Setting, state: State, who: int, wish: Wish) -> State | None:
    """The commit is known to the losing side's replicas; then the mark, unless a writer was faster."""
    losing = _losing(wish)
    if state.forgets[losing] >= 0 and "no WAIT" not in setting.broken:
        return state._replace(forgets=paired(state.forgets, losing, -1))
    cas = tables.marking(losing, state.records)
    if cas is not None:
        state = applied(setting, state, cas)
    return _done(state, who, Step.COMPLETE)


def _open(setting: Setting, state: State, who: int, wish: Wish) -> State | None:
    """The run of the old direction ends, the other one begins to settle."""
    losing = _losing(wish)
    if setting.gives_back_late:
        state = _barring(setting, state, 1 - losing, False)
    state = with_run(state, who, losing, Run(channels=(None,) * len(state.turn)))
    run = run_of(state, who, 1 - losing)
    if run.state == HEARS:
        run = run._replace(state=SETTLES)
    elif run.state == OFF:
        dirty = 0 if "reverse is late" in setting.broken else setting.all_dirty
        run = attached(setting, 1 - losing, SETTLES, dirty)
    return _done(with_run(state, who, 1 - losing, run), who, Step.OPEN)


def _bar_after(setting: Setting, state: State, who: int, wish: Wish) -> State | None:
    return _done(_barring(setting, state, _losing(wish), True), who, Step.BAR_AFTER)


# The way back.


def _undo_give_back(setting: Setting, state: State, who: int, wish: Wish) -> State | None:
    """Rights that an earlier switch had taken are taken again."""
    taken_before = state.leads[who].switch > 0 and (wish.gate.pauses or not RULES[setting.phase].mirrors)
    return _barring(setting, state, 1 - _losing(wish), True) if taken_before else state


def _undo_bar(setting: Setting, state: State, who: int, wish: Wish) -> State | None:
    return _barring(setting, state, _losing(wish), False)


def _undo_pause(setting: Setting, state: State, who: int, wish: Wish) -> State | None:
    return _pausing(setting, state, _losing(wish), False)


def _undo_hold(setting: Setting, state: State, who: int, wish: Wish) -> State | None:
    losing = _losing(wish)
    cas = tables.giving_up(losing, state.records[losing])
    return state if cas is None else applied(setting, state, cas)


def _undo_reverse(setting: Setting, state: State, who: int, wish: Wish) -> State | None:
    return with_run(state, who, 1 - _losing(wish), Run(channels=(None,) * len(state.turn)))


DOES: dict[Step, Does] = {
    Step.PREPARE: _prepare,
    Step.REVERSE: _reverse,
    Step.HOLD: _hold,
    Step.ACKNOWLEDGED: _acknowledged,
    Step.SEVER: _sever,
    Step.PAUSE: _pause,
    Step.SETTLE: _settle,
    Step.COMPARE: _compare,
    Step.BAR: _bar,
    Step.CHECK_PAUSE: _check_pause,
    Step.UNPAUSE: _unpause,
    Step.GIVE_BACK: _give_back,
    Step.PENDING: _pending,
    Step.COMMIT: _commit,
    Step.COMPLETE: _complete,
    Step.OPEN: _open,
    Step.BAR_AFTER: _bar_after,
    Step.UNDO_GIVE_BACK: _undo_give_back,
    Step.UNDO_BAR: _undo_bar,
    Step.UNDO_PAUSE: _undo_pause,
    Step.UNDO_HOLD: _undo_hold,
    Step.UNDO_REVERSE: _undo_reverse,
}


# Death and start.


def started(setting: Setting, state: State, who: int) -> State:
    """A coordinator starts: its predecessor's connections first, then what was left behind, attach, rescan (rule 16)."""
    if "predecessor's connections stay" not in setting.broken:
        state = state._replace(air=frozenset(late for late in state.air if isinstance(late, Leg)))
        for other, lead in enumerate(state.leads):
            if other != who and lead.lives:
                state = with_lead(state, other, cut_off(setting, lead))
        if setting.cut_ends and setting.leads > 1:
            state = _ended(setting, state, who)
    found = tables.found(state.records)
    assert found.side is not None
    authority = SIDES.index(found.side)
    lead = state.leads[who]
    switch = max(one.switch for one in state.leads)
    begun = lead.begun if lead.switch == switch else 0
    if found.undo_hold:
        begun |= bit(Step.HOLD)
    dirty = 0 if "no rescan" in setting.broken else setting.all_dirty
    nothing = Run(channels=(None,) * len(state.turn))
    run = attached(setting, authority, SETTLES, dirty)
    if "rescan before attach" in setting.broken:
        run = nothing._replace(state=SETTLES, dirty=dirty)
    runs = paired((nothing, nothing), authority, run)
    return with_lead(state, who, Lead(True, runs, switch, begun, 0, bool(begun)))


def _ended(setting: Setting, state: State, who: int) -> State:
    """Those that were cut off find another one's name where theirs was, and end."""
    off = Run(channels=(None,) * len(state.turn))
    leads = (
        lead if other == who or not lead.lives else lead._replace(lives=False, runs=(off, off), replaced=True)
        for other, lead in enumerate(state.leads)
    )
    return state._replace(leads=tuple(leads))


def cut_off(setting: Setting, lead: Lead) -> Lead:
    """A coordinator whose connections were ended: its feeds have a gap, what it had sent is not known."""
    runs = lead.runs
    for place in (0, 1):
        run = runs[place]
        if run.state != OFF:
            channels = tuple(None if channel is None else () for channel in run.channels)
            run = run._replace(
                channels=channels, dirty=setting.all_dirty, settling=None, fence=0, mended=False
            )
            runs = paired(runs, place, run)
    return lead._replace(runs=runs)


def next_cas(setting: Setting, state: State, who: int) -> Cas | None:
    """The write of a record that a coordinator is about to send."""
    lead = state.leads[who]
    if lead.switch >= setting.switches:
        return None
    wish = setting.wishes[lead.switch]
    losing = _losing(wish)
    match planned(setting, state, lead):
        case Step.HOLD:
            return tables.stepping(losing, state.records[losing], Phase.HOLD)
        case Step.PENDING | Step.COMMIT:
            return tables.committing(losing, state.records, wish.phase)
        case Step.COMPLETE:
            return tables.marking(losing, state.records)
        case Step.UNDO_HOLD:
            return tables.giving_up(losing, state.records[losing])
    return None
