"""Each rule of the protocol is needed, and with all of them nothing goes wrong, in whatever order things happen.

Per counterexample and per mutation of PROTOCOL.md: the world of the setting is explored in every order with all rules,
and once more with the one taken out, which has to be found.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pytest
from exploring.programs import APART, DEL, GET, INCR, OVERTURNED, SET, UNTRUE, finds, finds_nothing
from exploring.world import Fault, Setting

from keyferry.cutover.plan import Gate
from keyferry.model.phases import Phase


class Case(NamedTuple):
    """One rule.

    Attributes:
        broken: What is taken out.
        wrong: What is found then.
    """

    setting: Setting
    broken: str | tuple[str, ...]
    wrong: str = UNTRUE


ONE = ((INCR,),)
SOURCE = Setting(ONE, phase=Phase.SOURCE)
DUAL = Setting(ONE)
PLAIN = replace(SOURCE, plain=frozenset({0, 1}), gate=Gate.PAUSE)
LEDGER = Setting(((SET,), (SET,)), ledger=True)


def sometimes(setting: Setting, *faults: Fault) -> Setting:
    """With each of the faults once."""
    return replace(setting, faults=dict.fromkeys(faults, 1))


COUNTEREXAMPLES = {
    "1, a reply after the lease": Case(
        replace(sometimes(SOURCE, Fault.LAPSE), both=True), "reply is not judged"
    ),
    "1, with second legs": Case(sometimes(DUAL, Fault.LAPSE), "reply is not judged"),
    "2, a second leg after the gate": Case(sometimes(DUAL, Fault.LAPSE), "not severed"),
    "2, one that nobody waits for": Case(sometimes(DUAL, Fault.TIMEOUT), "not severed"),
    "2, one of a dead writer": Case(sometimes(DUAL, Fault.DEATH), "not severed"),
    "2, one that is sent again": Case(sometimes(DUAL, Fault.LAPSE), "sent again"),
    "4, our RESTORE and a second leg in one turn": Case(
        replace(DUAL, turns=True), "own writes are subtracted"
    ),
    "5, a ledger of failures only": Case(LEDGER, "only failures are reported", APART),
    "5, entries that are taken back": Case(LEDGER, "taken back", APART),
    "5, a report with the write": Case(LEDGER, "reported with the write", APART),
    "6, a dead coordinator's RESTORE": Case(
        sometimes(replace(SOURCE, programs=((SET,),)), Fault.CRASH), "predecessor's connections stay"
    ),
    "7, a dead coordinator's record": Case(
        replace(sometimes(SOURCE, Fault.CRASH), switches=2),
        ("unconditional", "predecessor's connections stay"),
        OVERTURNED,
    ),
    "8, a lease of the other side": Case(replace(DUAL, switches=2), "lease of the other side counts"),
    "9, a reader in hold": Case(replace(SOURCE, programs=((INCR,), (GET,))), "reader trusts its lease"),
    "10, a commit under the pause": Case(sometimes(PLAIN, Fault.PAUSE_ENDS), "commit under the pause"),
    "10, no write bar": Case(PLAIN, "no rights bar"),
    "11, the feed after the commit": Case(replace(SOURCE, switches=2), "reverse is late", APART),
    "12, a failover before the mark": Case(
        sometimes(replace(SOURCE, programs=((INCR,), (GET,))), Fault.FORGET), "no WAIT", OVERTURNED
    ),
    "12, before a writer's mark": Case(
        sometimes(replace(SOURCE, programs=((INCR,), (GET,))), Fault.FORGET),
        "writers do not WAIT",
        OVERTURNED,
    ),
}
MUTATIONS = {
    "mark taken off at the read's reply": Case(
        replace(SOURCE, programs=((INCR, INCR),)), "mark off at the reply", APART
    ),
    "a cut feed carried on": Case(sometimes(SOURCE, Fault.GAP), "gap is carried on"),
    "rescan before attach": Case(sometimes(SOURCE, Fault.CRASH), "rescan before attach"),
    "no rescan after a restart": Case(sometimes(SOURCE, Fault.CRASH), "no rescan"),
    "a single PING": Case(replace(SOURCE, turns=True, threads=True), "single PING"),
    "PONGs without a nonce": Case(SOURCE, "PONGs have no nonce"),
    "no fence": Case(SOURCE, "no fence"),
    "hold not acknowledged": Case(SOURCE, "not acknowledged"),
    "acknowledged in the middle of an operation": Case(SOURCE, "acknowledged in the middle"),
    "register apart from read": Case(replace(sometimes(SOURCE, Fault.LAPSE), both=True), "register apart"),
    "a lease that runs from its reply": Case(SOURCE, "lease from its reply"),
    "giving up by one's own decision": Case(SOURCE, "gives up alone"),
    "settled after the fence": Case(replace(sometimes(SOURCE, Fault.LAPSE), both=True), "not frozen"),
    "rights removed after the fence": Case(PLAIN, "no pause"),
    "a pause that is not asked for": Case(sometimes(PLAIN, Fault.PAUSE_ENDS), "pause is not checked"),
    "open entries left alone": Case(
        replace(sometimes(DUAL, Fault.TIMEOUT), ledger=True, stays_equal=False), "open entries are left"
    ),
}


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in COUNTEREXAMPLES.items()])
def test_a_counterexample_is_found_without_its_rule(case: Case) -> None:
    finds_nothing(case.setting)
    finds(case.setting, case.broken, case.wrong)


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in MUTATIONS.items()])
def test_a_mutation_is_found(case: Case) -> None:
    finds_nothing(case.setting)
    finds(case.setting, case.broken, case.wrong)


def test_counterexample_3_second_legs_need_both_feeds_or_a_ledger() -> None:
    two = Setting(((SET,), (SET,)))
    finds_nothing(two)
    finds_nothing(replace(two, both=False, ledger=True))
    finds(replace(two, both=False), (), APART)


def test_a_single_ping_does_where_replies_leave_after_their_turn() -> None:
    """The second one is for I/O threads alone."""
    finds_nothing(replace(SOURCE, turns=True, broken=frozenset({"single PING"})))


def test_deletions_stay_deleted() -> None:
    finds_nothing(Setting(((SET, DEL), (GET,)), phase=Phase.SOURCE))


def test_the_servers_own_noloop_is_exact_for_writes_of_whole_keys() -> None:
    finds_nothing(replace(DUAL, turns=True, broken=frozenset({"NOLOOP"})))
