"""What the first exploration of the protocol left out: several keys, shards, expiry, pieces, two coordinators, both gates.

Where something is found that the rules of PROTOCOL.md do not say, the test that finds it stands beside the one that
shows what helps.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from exploring.histories import Op
from exploring.programs import (
    APART,
    DEL,
    GET,
    INCR,
    SET,
    SETEX,
    UNTRUE,
    finds,
    finds_nothing,
    on,
    rename,
)
from exploring.search import LARGE
from exploring.world import Fault, Setting

from keyferry.cutover.plan import Gate
from keyferry.model.phases import Phase

ONE = ((INCR,),)
SOURCE = Setting(ONE, phase=Phase.SOURCE)
EACH = ((INCR,), (on(1, INCR),))
PLAIN = frozenset({0})
STRAGGLER = Setting(
    ((SET, rename(0, 1)),),
    phase=Phase.SOURCE,
    keys=2,
    both=False,
    stays_equal=False,
    faults={Fault.TIMEOUT: 1},
)
"""Its writer waits no longer, and says that the outcome is unknown; the RENAME arrives all the same."""


BOTH = Setting(((INCR,), (INCR,)), phase=Phase.SOURCE, plain=PLAIN, gate=Gate.BOTH)


# Several keys.


@pytest.mark.parametrize("phase", [Phase.SOURCE, Phase.DUAL])
def test_rename_and_its_two_keys(phase: Phase) -> None:
    finds_nothing(Setting(((SET, rename(0, 1)),), phase=phase, keys=2))


def test_rename_over_a_key_that_another_one_writes() -> None:
    finds_nothing(Setting(((SET, rename(0, 1)), (on(1, SET),)), phase=Phase.SOURCE, keys=2))


def test_a_stragglers_rename_is_not_carried_in_half() -> None:
    """Fences go on until one names nothing: what was read of several keys is of one moment then.

    1. A fence. 2. The straggler's RENAME a b. 3. a is dirty, and is settled: it is gone on both sides. 4. The commit.
    5. b would have been named now; it never comes to the target. What a held, acknowledged long ago, is lost.
    """
    finds_nothing(STRAGGLER)
    finds(STRAGGLER, "fences once", UNTRUE)


# Shards, pieces, expiry.


def test_shards_under_one_commit() -> None:
    shards = Setting(EACH, phase=Phase.SOURCE, keys=2, shards=2)
    finds_nothing(shards)
    finds(shards, "fence on one shard", UNTRUE)


def test_a_pause_on_several_shards_of_which_one_may_end() -> None:
    paused = Setting(
        EACH,
        phase=Phase.SOURCE,
        keys=2,
        shards=2,
        plain=frozenset({0, 1}),
        gate=Gate.PAUSE,
        faults={Fault.PAUSE_ENDS: 1},
    )
    finds_nothing(paused)
    finds(paused, "pause is not checked", UNTRUE)


@pytest.mark.parametrize("programs", [((INCR, on(1, INCR)),), EACH])
def test_a_big_key_is_read_in_pieces(programs: tuple[tuple[Op, ...], ...]) -> None:
    finds_nothing(Setting(programs, phase=Phase.SOURCE, keys=2, units=((0, 1),)))


def test_what_expires_does_not_come_back() -> None:
    finds_nothing(Setting(((SETEX, GET, GET),), phase=Phase.SOURCE))


def test_what_expires_comes_back_for_as_long_as_the_clocks_differ() -> None:
    """The one thing that no rule here prevents: two servers that do not agree on what time it is."""
    finds(Setting(((SETEX, GET, GET),), phase=Phase.SOURCE, skew=True), (), UNTRUE)


def test_none_of_our_writes_is_on_its_way_at_the_commit() -> None:
    """A key that expires under the gate is named after the last look: its DEL must not go out any more.

    1. All is settled. 2. The key expires on the source, and we send DEL. 3. The commit. 4. The application sets the key
    on the target, and is told so. 5. The DEL arrives.
    """
    expires = Setting(((SETEX, SET),), phase=Phase.SOURCE, skew=True)
    finds_nothing(expires)
    finds(expires, "not frozen", UNTRUE)


# Gates.


def test_leases_together_with_a_pause() -> None:
    finds_nothing(BOTH)
    finds_nothing(replace(BOTH, switches=2))
    finds(BOTH, "no rights bar", UNTRUE)


def test_with_a_bar_on_the_server_no_leases_are_needed() -> None:
    finds_nothing(replace(BOTH, broken=frozenset({"not acknowledged", "reply is not judged"})))


def test_leases_and_a_pause_that_ends_early() -> None:
    finds_nothing(replace(BOTH, faults={Fault.PAUSE_ENDS: 1}))


@pytest.mark.parametrize(
    ("fault", "wrong"),
    [pytest.param(Fault.LATE, APART, id="failure"), pytest.param(Fault.CRASH, UNTRUE, id="death")],
)
def test_rights_come_back_after_the_commit(fault: Fault, wrong: str) -> None:
    """A client that still writes to the old side is refused there, until that side has authority again.

    1. A rollback gives the rights on the source back. 2. A client that nobody has redirected writes there, and is told so.
    3. The rollback fails before its commit, and is undone: the target has authority, and knows nothing of 2.
    """
    back = Setting(
        ONE,
        phase=Phase.SOURCE,
        plain=PLAIN,
        gate=Gate.PAUSE,
        switches=2,
        gives_back_late=True,
        faults={fault: 1},
    )
    finds_nothing(back)
    finds(back, "rights come back before the commit", wrong)


# The way of a service that never wrote to both; there and back again.


def test_a_service_that_never_writes_to_both() -> None:
    finds_nothing(Setting(((INCR,), (DEL,)), phase=Phase.SOURCE, switches=2))


@pytest.mark.parametrize("phase", [Phase.SOURCE, Phase.DUAL])
def test_there_and_back_and_there_again(phase: Phase) -> None:
    finds_nothing(Setting(((INCR, DEL),), phase=phase, switches=3))


def test_the_old_side_is_followed_too_as_long_as_stragglers_may_write_there() -> None:
    """A service that never wrote to both needs rule 2 as well: what a straggler changes there is not known otherwise."""
    lapse = Setting(((INCR,), (INCR,)), phase=Phase.SOURCE, both=True, faults={Fault.LAPSE: 1})
    finds_nothing(replace(lapse, programs=ONE))
    finds(replace(lapse, both=False), (), APART)


def test_writers_are_asked_before_anybody_waits() -> None:
    finds_nothing(Setting(ONE, prepares=True, switches=2))


def test_the_comparison_under_the_gate_stands_in_nobodys_way() -> None:
    finds_nothing(Setting(((INCR,), (SET,)), phase=Phase.SOURCE, compares=True))


# Coordinators.


def test_of_two_coordinators_the_older_one_ends() -> None:
    """The successor ends the other's connections; who connects again has to find out, before it writes anything.

    Otherwise: 1. One leads the switch. 2. The other one's settler has read the source. 3. The commit, and a write on
    the target. 4. The other one's RESTORE arrives.
    """
    two = Setting(((SET,),), phase=Phase.SOURCE, leads=2)
    finds_nothing(two)
    finds(replace(two, cut_ends=False), (), UNTRUE)


def test_a_coordinator_dies_anywhere_on_the_way_there_and_back() -> None:
    finds_nothing(Setting(ONE, phase=Phase.SOURCE, switches=2, faults={Fault.CRASH: 1}))


def test_a_gate_fails_anywhere() -> None:
    finds_nothing(Setting(ONE, faults={Fault.LATE: 1, Fault.GAP: 1}, phase=Phase.SOURCE))


def test_orders_that_cannot_matter_do_not() -> None:
    """What is left out elsewhere, to be quick, is there in a small world."""
    finds_nothing(Setting(ONE, any_order=True))
    finds_nothing(replace(SOURCE, any_order=True, both=True, faults={Fault.LAPSE: 1}))


WIDE = {
    "two writers, a lapse": Setting(((INCR,), (DEL,)), faults={Fault.LAPSE: 1}),
    "two writers, a coordinator's death": Setting(((INCR,), (DEL,)), faults={Fault.CRASH: 1}),
    "two writers there and back": Setting(((INCR,), (DEL,)), switches=2),
    "a lapse, in any order": Setting(ONE, any_order=True, faults={Fault.LAPSE: 1}),
    "a pause, leases, a death": Setting(
        ((INCR,), (INCR,)),
        phase=Phase.SOURCE,
        plain=PLAIN,
        gate=Gate.BOTH,
        both=True,
        faults={Fault.CRASH: 1},
    ),
    "a pause, leases, a lapse": Setting(
        ((INCR,), (INCR,)),
        phase=Phase.SOURCE,
        plain=PLAIN,
        gate=Gate.BOTH,
        both=True,
        faults={Fault.PAUSE_ENDS: 1, Fault.LAPSE: 1},
    ),
    "a reader, there and back and there again": Setting(((INCR,), (GET,)), phase=Phase.SOURCE, switches=3),
    "the same, and the old side is not followed": Setting(
        ((INCR,), (SET,)),
        phase=Phase.SOURCE,
        plain=PLAIN,
        gate=Gate.BOTH,
        stays_equal=False,
        faults={Fault.PAUSE_ENDS: 1, Fault.LAPSE: 1},
    ),
    "pieces, with second legs": Setting(EACH, keys=2, units=((0, 1),)),
    "two deaths": Setting(ONE, phase=Phase.SOURCE, switches=2, faults={Fault.CRASH: 2}),
}


@pytest.mark.slow
@pytest.mark.skipif(not LARGE, reason="minutes: set KEYFERRY_EXPLORE_LARGE")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("setting", [pytest.param(setting, id=name) for name, setting in WIDE.items()])
def test_wider(setting: Setting) -> None:
    finds_nothing(setting)
