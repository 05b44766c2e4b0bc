"""Writers: they look at the record, begin an operation, judge its reply, send a second leg; and plain clients."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from exploring.histories import Act, Call, Op, Told, effect
from exploring.tables import SIDES, Cas, conclude, kind_of, standing_at, standing_number, standing_of
from exploring.world import (
    OPEN,
    REPORTED,
    Fault,
    Leg,
    Look,
    Move,
    Setting,
    State,
    Writer,
    acknowledged,
    alive,
    changed,
    paired,
    replaced,
)
from keyferry.model.phases import RULES, Phase, Side, Standing
from keyferry.model.record import Kind

HOME = {side: place for place, side in enumerate(SIDES)}


def moves(setting: Setting, state: State) -> Iterator[Move]:
    """What any writer may do next."""
    for who, writer in enumerate(state.writers):
        if writer.at is Look.OVER:
            continue
        if who in setting.plain:
            yield from _redirected(state, who, writer)
        else:
            yield from _looks(setting, state, who, writer)
        yield from _acts(setting, state, who, writer)
    for leg in state.air:
        if isinstance(leg, Leg):
            yield from _late(setting, state, leg)


def write(state: State, who: int, writer: Writer) -> State:
    """With a writer changed."""
    return state._replace(writers=replaced(state.writers, who, writer))


@cache
def side_of(standing: int) -> int:
    """The side that has authority."""
    return HOME[standing_of(standing).authority]


def number_of(setting: Setting, who: int, writer: Writer) -> int:
    """The number of the operation that is next, or under way."""
    return setting.first_op[who] + writer.next


def in_operation(writer: Writer) -> bool:
    """Whether something of it is under way, or may be."""
    return writer.at in (Look.FIRST, Look.REPLY, Look.SECOND, Look.LAST)


def same_again(state: State, stood: int) -> bool:
    """A re-read of the record shows the same epoch and phase."""
    side = side_of(stood)
    record = state.records[side]
    return kind_of(record) in (Kind.AUTHORITY, Kind.HOLD) and standing_at(side, record) == stood


# Looking.


def _redirected(state: State, who: int, writer: Writer) -> Iterator[Move]:
    """A plain client is told of the other side, once that one has authority."""
    other = 1 - side_of(writer.standing)
    if writer.at is Look.IDLE and kind_of(state.records[other]) is Kind.AUTHORITY:
        standing = standing_at(other, state.records[other])
        yield f"W{who} is redirected", write(state, who, writer._replace(standing=standing, stood=standing))


def _looks(setting: Setting, state: State, who: int, writer: Writer) -> Iterator[Move]:
    """One read of a side's record, with which it registers where that one has authority (rule 7)."""
    if writer.unregistered:
        side = side_of(writer.standing)
        yield f"W{who} registers", _registered(state, who, writer, side, writer._replace(unregistered=False))
        return
    concluded = conclude(writer.standing, writer.reads)
    cas = concluded.write
    if cas is not None and state.records[cas.side] == cas.expected:
        yield _completes(setting, state, who, writer, cas)
        return
    if concluded.side < 0:
        yield f"W{who} begins its search anew", write(state, who, writer._replace(reads=()))
        return
    side = concluded.side
    if state.paused[setting.nodes(side)[0]]:
        return
    reads = (*writer.reads, (side, state.records[side]))
    found = conclude(writer.standing, reads).found
    if found < 0:
        yield f"W{who} reads the {SIDES[side]}", write(state, who, writer._replace(reads=reads))
        return
    yield f"W{who} looks, {standing_of(found).phase}", _found(setting, state, who, writer, found)


def _completes(setting: Setting, state: State, who: int, writer: Writer, cas: Cas) -> Move:
    """The mark of a commit (rule 15); before it the replicas of the side that lost authority have to know."""
    losing = 1 - cas.side
    if "writers do not WAIT" not in setting.broken:
        if kind_of(state.records[losing]) is not Kind.LOST:
            return f"W{who}'s WAIT fails", write(state, who, writer._replace(reads=()))
        if state.forgets[losing] >= 0:
            return f"W{who} waits for replicas", state._replace(forgets=paired(state.forgets, losing, -1))
    return f"W{who} completes the mark", state._replace(records=paired(state.records, cas.side, cas.becomes))


def _found(setting: Setting, state: State, who: int, writer: Writer, found: int) -> State:
    known, new = standing_of(writer.standing), standing_of(found)
    lowest = writer.lowest
    if not writer.lease or new.authority is not known.authority:
        lowest = new.epoch
    stood = writer.stood if in_operation(writer) else found
    after = writer._replace(standing=found, stood=stood, reads=(), lease=True, lowest=lowest)
    if "register apart" in setting.broken and (not writer.lease or new.authority is not known.authority):
        return write(state, who, after._replace(unregistered=True, lease=False))
    if "lease of the other side counts" in setting.broken and new.authority is not known.authority:
        return write(state, who, after._replace(lease=writer.lease))
    taken = known.epoch
    if in_operation(writer) and "acknowledged in the middle" not in setting.broken:
        taken = standing_of(writer.stood).epoch
    return _registered(state, who, writer, side_of(found), after, taken)


def _registered(
    state: State, who: int, writer: Writer, side: int, after: Writer, taken: int | None = None
) -> State:
    """Its entry on a side says which epoch it has taken; there is none on the other."""
    epoch = standing_of(writer.standing).epoch if taken is None else taken
    entries = paired(state.entries, side, replaced(state.entries[side], who, epoch))
    entries = paired(entries, 1 - side, replaced(entries[1 - side], who, -1))
    return write(state._replace(entries=entries), who, after._replace(lease=True))


# Operations.


def _acts(setting: Setting, state: State, who: int, writer: Writer) -> Iterator[Move]:
    number = number_of(setting, who, writer)
    op = setting.ops[number]
    match writer.at:
        case Look.IDLE:
            begun = _begun(setting, state, who, writer, op)
            if begun is not None:
                yield f"W{who} begins {op.act} {op.key}", begun
        case Look.FIRST:
            after = _first_leg(setting, state, who, writer, op)
            if after is not None:
                yield f"W{who}'s {op.act} arrives at the {standing_of(writer.stood).authority}", after
        case Look.REPLY:
            if _heard(setting, state, side_of(writer.stood), op):
                yield f"W{who} has its reply", _replied(setting, state, who, writer, op)
        case Look.SECOND:
            after = _second_leg(setting, state, who, writer, op)
            if after is not None:
                yield f"W{who}'s second leg", after
        case Look.LAST:
            if _heard(setting, state, 1 - side_of(writer.stood), op):
                yield f"W{who} has its second reply", finished(setting, state, who, Told.DONE)


def _begun(setting: Setting, state: State, who: int, writer: Writer, op: Op) -> State | None:
    stood = writer.standing
    if who not in setting.plain:
        if not writer.lease:
            return None
        known = standing_of(stood)
        if RULES[known.phase].waits:
            if op.act is Act.GET:
                if not setting.reads_in_hold:
                    return None
            elif "gives up alone" not in setting.broken:
                return None
            else:
                stood = standing_number(Standing(setting.phase, known.epoch, known.authority))
    number = number_of(setting, who, writer)
    calls = state.calls
    if calls[number].told is Told.NOT_YET:
        calls = replaced(calls, number, Call(Told.CALLED, acknowledged(state)))
    return write(state._replace(calls=calls), who, writer._replace(at=Look.FIRST, stood=stood))


def _first_leg(setting: Setting, state: State, who: int, writer: Writer, op: Op) -> State | None:
    number, side = number_of(setting, who, writer), side_of(writer.stood)
    node = setting.node(side, op.key)
    if op.act is Act.GET:
        if _reads_again(setting, state, who, writer):
            return write(state, who, writer._replace(at=Look.IDLE, stood=writer.standing))
    elif state.paused[node]:
        return None
    elif state.barred[node]:
        return finished(setting, state, who, Told.REFUSED)
    values, result = effect(op, number, state.data[side])
    keys = op.keys if result is not False else 0
    call = state.calls[number]._replace(result=result)
    after = state._replace(data=paired(state.data, side, values), calls=replaced(state.calls, number, call))
    if setting.ledger and keys and "only failures are reported" not in setting.broken:
        entry = REPORTED if "reported with the write" in setting.broken else OPEN
        after = after._replace(ledger=replaced(state.ledger, number, (entry, side)))
    after = write(changed(setting, after, side, keys), who, writer._replace(at=Look.REPLY))
    if setting.any_order or setting.turns or state.left[Fault.LAPSE]:
        return after
    # Nothing that happens before the judgement could change it.
    return _replied(setting, after, who, after.writers[who], op)


def _reads_again(setting: Setting, state: State, who: int, writer: Writer) -> bool:
    """In hold a read looks at the record itself, after the read, in the same pipeline (rule 13)."""
    if (
        who in setting.plain
        or not RULES[standing_of(writer.stood).phase].waits
        or "reader trusts its lease" in setting.broken
    ):
        return False
    return not same_again(state, writer.stood)


def _heard(setting: Setting, state: State, side: int, op: Op) -> bool:
    """Replies leave a server after its turn's names; with I/O threads they may be faster."""
    return not setting.turns or setting.threads or not state.turn[setting.node(side, op.key)]


def _replied(setting: Setting, state: State, who: int, writer: Writer, op: Op) -> State:
    """The judgement of a first leg's reply (rule 9)."""
    if who in setting.plain:
        return finished(setting, state, who, Told.DONE)
    stood = writer.stood
    valid = writer.lease and standing_of(stood).epoch >= writer.lowest
    if not valid and "reply is not judged" not in setting.broken and not same_again(state, stood):
        if op.act is Act.GET:
            return write(state, who, writer._replace(at=Look.IDLE, stood=writer.standing))
        return finished(setting, state, who, Told.UNKNOWN)
    result = state.calls[number_of(setting, who, writer)].result
    if standing_of(stood).mirror is None or op.act is Act.GET or result is False:
        return finished(setting, state, who, Told.DONE)
    return write(state, who, writer._replace(at=Look.SECOND))


def _second_leg(setting: Setting, state: State, who: int, writer: Writer, op: Op) -> State | None:
    number, side = number_of(setting, who, writer), 1 - side_of(writer.stood)
    node = setting.node(side, op.key)
    if state.paused[node]:
        return None
    if (writer.cut and "sent again" not in setting.broken) or state.barred[node]:
        return finished(setting, state, who, Told.DONE)
    values, result = effect(op, number, state.data[side])
    after = state._replace(data=paired(state.data, side, alive(setting, state, side, values)))
    after = changed(setting, after, side, op.keys if result is not False else 0)
    if setting.turns:
        return write(after, who, writer._replace(at=Look.LAST))
    return finished(setting, after, who, Told.DONE, reported=True)


def finished(setting: Setting, state: State, who: int, told: int, *, reported: bool = False) -> State:
    """An operation is over for its writer; at the end of its program it takes itself off."""
    writer = state.writers[who]
    number = number_of(setting, who, writer)
    call = state.calls[number]._replace(told=told)
    if told is not Told.DONE:
        call = call._replace(result=None)
    state = state._replace(calls=replaced(state.calls, number, call))
    entry, side = state.ledger[number]
    if entry == OPEN and reported:
        entry = 0 if "taken back" in setting.broken else REPORTED
        state = state._replace(ledger=replaced(state.ledger, number, (entry, side)))
    following = writer.next + 1
    if following < len(setting.programs[who]):
        return write(
            state, who, writer._replace(at=Look.IDLE, next=following, stood=writer.standing, cut=False)
        )
    return ended(state, who, following)


NOWHERE = standing_number(Standing(Phase.SOURCE, 0, Side.SOURCE))


def ended(state: State, who: int, following: int) -> State:
    """A writer that is not there any more."""
    entries = (replaced(state.entries[0], who, -1), replaced(state.entries[1], who, -1))
    over = Writer(Look.OVER, following, NOWHERE, NOWHERE, lease=False)
    return write(state._replace(entries=entries), who, over)


def _late(setting: Setting, state: State, leg: Leg) -> Iterator[Move]:
    """A leg that nobody waits for arrives."""
    op = setting.ops[leg.op]
    node = setting.node(leg.side, op.key)
    if state.paused[node]:
        return
    after = state._replace(air=state.air - {leg})
    if not state.barred[node]:
        values, result = effect(op, leg.op, state.data[leg.side])
        after = after._replace(data=paired(state.data, leg.side, alive(setting, state, leg.side, values)))
        after = changed(setting, after, leg.side, op.keys if result is not False else 0)
        if setting.ledger and not leg.second:
            after = after._replace(ledger=replaced(after.ledger, leg.op, (OPEN, leg.side)))
    yield f"a late {op.act} arrives at the {SIDES[leg.side]}", after
