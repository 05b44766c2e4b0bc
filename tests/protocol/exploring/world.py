"""What there is in the small world: servers, writers, runs that follow, coordinators; and what a test sets."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import NamedTuple, TypeVar

from exploring import tables
from exploring.histories import Call, Op, Told, Value, Values
from exploring.tables import Cas, Pair
from keyferry.cutover.plan import Gate, Wish
from keyferry.model.phases import RULES, Phase, after_switch

T = TypeVar("T")


class Fault(IntEnum):
    """What may go wrong; a setting says how often."""

    CRASH = 0
    """A coordinator dies; what it has sent last may still arrive."""
    LAPSE = 1
    """A writer's lease ends without a renewal."""
    GAP = 2
    """A feed's connection is cut."""
    LATE = 3
    """A step of a switch takes too long, or fails."""
    DEATH = 4
    """A writer dies; its leg may still arrive."""
    PAUSE_ENDS = 5
    """The server's pause is over before its time."""
    FORGET = 6
    """The losing side fails over to a replica that has not heard of its last record."""
    TIMEOUT = 7
    """A writer does not wait any longer for a reply; the leg may still arrive."""


@dataclass(frozen=True)
class Setting:
    """A world to be explored.

    Attributes:
        programs: By writer: what it does, in this order.
        phase: At the beginning; the source has authority.
        plain: Writers that know of no record: clients of the server, which an operator redirects after a switch.
        switches: How many times authority is to move: there, back, there again.
        keys: How many there are.
        units: Keys that are settled as one, in pieces that are read one by one; each for itself when empty.
        shards: Of each side; key k is in shard k modulo shards.
        both: Feeds on both sides; None: while the phase mirrors.
        turns: A server tells its feeds at the end of an event-loop turn; otherwise at once.
        threads: I/O threads: a reply may be there before its turn ends.
        ledger: No feed: the writers report their own operations.
        compares: The gate compares what is there, as the last of all.
        prepares: Writers are asked before anybody waits.
        reads_in_hold: Readers go on in the hold.
        skew: The two sides' clocks differ: what expires does so here and there at different times.
        any_order: Also orders that cannot matter: a settler reads the side with authority second, a coordinator that
            could go on by itself waits.
        stays_equal: At an end both sides have to be equal, too.
        leads: Coordinators that may live at a time.
        gives_back_late: Rights that an earlier switch has taken come back after the commit, not before it.
        cut_ends: A coordinator whose connections were ended by another one ends; otherwise it connects again.
        faults: How often each may happen.
        broken: Rules that are taken out, by their names in the code.
    """

    programs: tuple[tuple[Op, ...], ...]
    phase: Phase = Phase.DUAL
    gate: Gate = Gate.WRITERS
    plain: frozenset[int] = frozenset()
    switches: int = 1
    keys: int = 1
    units: tuple[tuple[int, ...], ...] = ()
    shards: int = 1
    both: bool | None = None
    turns: bool = False
    threads: bool = False
    ledger: bool = False
    compares: bool = False
    prepares: bool = False
    reads_in_hold: bool = True
    skew: bool = False
    stays_equal: bool = True
    any_order: bool = False
    leads: int = 1
    cut_ends: bool = True
    gives_back_late: bool = False
    faults: dict[Fault, int] = field(default_factory=dict)
    broken: frozenset[str] = frozenset()

    @cached_property
    def ops(self) -> tuple[Op, ...]:
        """All operations; their numbers are their places here."""
        return tuple(op for program in self.programs for op in program)

    @cached_property
    def first_op(self) -> tuple[int, ...]:
        """By writer: the number of its first operation."""
        return tuple(sum(len(one) for one in self.programs[:writer]) for writer in range(len(self.programs)))

    @cached_property
    def settled_units(self) -> tuple[tuple[int, ...], ...]:
        return self.units or tuple((key,) for key in range(self.keys))

    @cached_property
    def units_of(self) -> tuple[int, ...]:
        """By set of keys: the units, as bits."""
        return tuple(
            sum(
                1 << number
                for number, unit in enumerate(self.settled_units)
                if any(keys >> key & 1 for key in unit)
            )
            for keys in range(1 << self.keys)
        )

    @cached_property
    def wishes(self) -> tuple[Wish, ...]:
        """One per switch."""
        made: list[Wish] = []
        phase = self.phase
        for _ in range(self.switches):
            authority = RULES[phase].authority
            assert authority is not None
            phase = after_switch(phase)
            made.append(Wish(authority, self.gate, phase))
        return tuple(made)

    @cached_property
    def follows_both(self) -> bool:
        return RULES[self.phase].mirrors if self.both is None else self.both

    @cached_property
    def all_dirty(self) -> int:
        return (1 << len(self.settled_units)) - 1

    def nodes(self, side: int) -> range:
        """The servers of a side."""
        return range(side * self.shards, (side + 1) * self.shards)

    def node(self, side: int, key: int) -> int:
        """The server that has a key."""
        return side * self.shards + key % self.shards


class Look:
    """Where a writer is in its operation. Plain numbers, as in Told."""

    IDLE = 0
    FIRST = 1
    """The first leg is sent."""
    REPLY = 2
    """The first leg's reply is under way."""
    SECOND = 3
    """The second leg is about to be sent, or sent."""
    LAST = 4
    """The second leg's reply is under way."""
    OVER = 5
    """Its program is at its end, or it is dead."""


class Writer(NamedTuple):
    """A process that writes.

    Attributes:
        at: Where it is in its operation.
        next: Which one of its program is next, or under way.
        standing: What it knows, by its number; of a plain client only the side counts.
        stood: What its operation began with.
        reads: Of a search for authority: sides and records so far.
        lease: Its lease runs.
        lowest: Standings of older epochs do not count since its lease has lapsed.
        cut: The connection for its second leg was ended.
        unregistered: It has looked and is yet to register. Only where that rule is broken.
    """

    at: int
    next: int
    standing: int
    stood: int
    reads: tuple[tuple[int, int], ...] = ()
    lease: bool = True
    lowest: int = 0
    cut: bool = False
    unregistered: bool = False


class Settling(NamedTuple):
    """A unit that is being settled.

    Attributes:
        here, there: Its values as far as they were read: on the side with authority, and on the other.
        writing: The values of `here` are on their way to the other side.
    """

    unit: int
    here: tuple[Value | None, ...]
    there: tuple[Value | None, ...]
    writing: bool = False


OFF, HEARS, SETTLES, FROZEN = range(4)
PONG = -1
Channel = tuple[int, ...] | None
"""What a feed has on its way: sets of keys, and PONGs; None where there is no feed."""


class Run(NamedTuple):
    """What follows one direction; its place says which side has authority in it.

    Attributes:
        state: Off, hearing its feeds only, settling too, or frozen: hearing, and none of its writes go out.
        channels: By server.
        dirty: Units, as bits.
        fence: 0 none, 1 the first PINGs are on their way, 2 their PONGs are there, 3 the second, 4 they are, too.
        mended: Something was dirty since this fence began, so what was read does not belong to one moment.
    """

    state: int = OFF
    channels: tuple[Channel, ...] = ()
    dirty: int = 0
    settling: Settling | None = None
    fence: int = 0
    mended: bool = False


class Lead(NamedTuple):
    """A coordinator, and its journal.

    Attributes:
        lives: It runs.
        switch: Which one it leads.
        begun, done: Its steps, as the planner takes them.
        failed: The switch cannot go on.
        replaced: Another one has taken its place, and it has ended.
        runs: By the side that has authority.
    """

    lives: bool
    runs: tuple[Run, Run]
    switch: int = 0
    begun: int = 0
    done: int = 0
    failed: bool = False
    replaced: bool = False


class Leg(NamedTuple):
    """A command of a writer that nobody waits for any more."""

    side: int
    op: int
    second: bool


class Restore(NamedTuple):
    """A write of a settler that is gone."""

    side: int
    unit: int
    values: Values


Late = Leg | Restore | Cas
OPEN, REPORTED, TAKEN = 1, 2, 3


class State(NamedTuple):
    """All there is at a moment.

    Attributes:
        records: By side.
        forgets: The record of a side before its last change, where it may still be forgotten; -1 where not.
        data: Values, by side.
        turn, ours: By server: keys that changed in this turn of its loop; those of them that a run wrote last.
        paused, barred: By server.
        entries: By side and writer: the epoch it has taken, -1 where it is not registered.
        calls: By operation.
        ledger: By operation: nothing, an open entry, a reported one, a taken one; and its side.
        gone: By side: operations whose values have expired there.
        air: What was sent by those who are dead.
        left: Faults that may still happen.
    """

    records: Pair
    forgets: Pair
    data: tuple[Values, Values]
    turn: tuple[int, ...]
    ours: tuple[int, ...]
    paused: tuple[bool, ...]
    barred: tuple[bool, ...]
    entries: tuple[tuple[int, ...], tuple[int, ...]]
    writers: tuple[Writer, ...]
    calls: tuple[Call, ...]
    ledger: tuple[tuple[int, int], ...]
    gone: tuple[int, int]
    leads: tuple[Lead, ...]
    air: frozenset[Late]
    left: tuple[int, ...]


Move = tuple[str, State]


def replaced(items: tuple[T, ...], place: int, item: T) -> tuple[T, ...]:
    """With one of them replaced."""
    return (*items[:place], item, *items[place + 1 :])


def paired(items: tuple[T, T], place: int, item: T) -> tuple[T, T]:
    """With one of the two replaced."""
    return (item, items[1]) if place == 0 else (items[0], item)


def beginning(setting: Setting) -> State:
    """Both sides are equal, the run from source to target is at work, all writers know the phase."""
    record = tables.beginning(setting.phase)
    standing = tables.standing_at(0, record)
    epoch = tables.standing_of(standing).epoch
    servers = 2 * setting.shards
    writers = tuple(Writer(Look.IDLE, 0, standing, standing) for _ in setting.programs)
    leads = (
        Lead(True, (attached(setting, 0, SETTLES, dirty=0), Run(channels=(None,) * servers))),
        *[Lead(False, (Run(channels=(None,) * servers),) * 2)] * (setting.leads - 1),
    )
    return State(
        records=(record, tables.NONE),
        forgets=(-1, -1),
        data=(((),) * setting.keys,) * 2,
        turn=(0,) * servers,
        ours=(0,) * servers,
        paused=(False,) * servers,
        barred=(False,) * servers,
        entries=(
            tuple(-1 if one in setting.plain else epoch for one in range(len(writers))),
            (-1,) * len(writers),
        ),
        writers=writers,
        calls=(Call(),) * len(setting.ops),
        ledger=((0, 0),) * len(setting.ops),
        gone=(0, 0),
        leads=leads,
        air=frozenset(),
        left=tuple(setting.faults.get(fault, 0) for fault in Fault),
    )


def attached(setting: Setting, authority: int, state: int, dirty: int) -> Run:
    """A run whose feeds hear from now on."""
    heard = {*setting.nodes(authority)}
    if setting.follows_both:
        heard |= {*setting.nodes(1 - authority)}
    if setting.ledger:
        heard = set()
    return Run(state, tuple(() if node in heard else None for node in range(2 * setting.shards)), dirty)


def changed(setting: Setting, state: State, side: int, keys: int, *, ours: bool = False) -> State:
    """A server has changed these keys: its feeds are to be told."""
    if not keys or setting.ledger:
        return state
    if not setting.turns:
        for key in range(setting.keys):
            if keys >> key & 1:
                state = tell(state, setting.node(side, key), 1 << key)
        return state
    turn, last = state.turn, state.ours
    for key in range(setting.keys):
        if keys >> key & 1:
            node = setting.node(side, key)
            turn = replaced(turn, node, turn[node] | 1 << key)
            if ours:
                last = replaced(last, node, last[node] | 1 << key)
            elif "own writes are subtracted" not in setting.broken:
                last = replaced(last, node, last[node] & ~(1 << key))
    return state._replace(turn=turn, ours=last)


def tell(state: State, node: int, keys: int) -> State:
    """Puts what changed on the way to every feed of a server."""
    if not keys:
        return state
    return state._replace(leads=tuple(_told(lead, node, keys) for lead in state.leads))


def _told(lead: Lead, node: int, keys: int) -> Lead:
    runs = lead.runs
    for place in (0, 1):
        run = runs[place]
        channel = run.channels[node]
        if channel is None:
            continue
        # Two sets with nothing between them may as well be one.
        longer = (*channel[:-1], channel[-1] | keys) if channel and channel[-1] > 0 else (*channel, keys)
        runs = paired(runs, place, run._replace(channels=replaced(run.channels, node, longer)))
    return lead._replace(runs=runs) if runs is not lead.runs else lead


def alive(setting: Setting, state: State, side: int, values: Values) -> Values:
    """Without what has expired on a side."""
    gone = state.gone[side]
    if not gone:
        return values
    return tuple(() if value and gone >> value[0] & 1 else value for value in values)


def acknowledged(state: State) -> int:
    """The operations that the application knows to be done, as bits."""
    return sum(1 << number for number, call in enumerate(state.calls) if call.told is Told.DONE)
