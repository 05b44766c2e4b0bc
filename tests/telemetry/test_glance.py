"""What somebody reads who looks up once: at every moment of a migration, what is the matter and what to press."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyferry.cutover.plan import GATED, UNDOING, Step
from keyferry.cutover.ready import Facts, not_ready
from keyferry.model.phases import Side
from keyferry.telemetry.following import SyncProgress
from keyferry.telemetry.glance import (
    ASK_VERIFY,
    AWAY_TROUBLE_S,
    LASTING_S,
    SLOWED_S,
    STILL_S,
    Glance,
    Lasting,
    MigrationGlances,
    SyncGlances,
    glance_of_migration,
    glance_of_sync,
)
from keyferry.telemetry.migrating import MigrationProgress, SwitchReport, Verified

SYNC = SyncProgress(
    stage="following",
    feed="tracking",
    generation=1,
    keys_total=100_000,
    keys_done=100_000,
    keys_per_second=0.0,
    seconds_left=None,
    changes_per_second=900.0,
    dirty_keys=12,
    lag_s=0.02,
    settled_keys=4_000,
    settled_per_second=900.0,
    cutover_s=0.04,
    hottest=(),
    foreign_keys=0,
    failed=0,
    elapsed_s=60.0,
    source_latency_ms=0.4,
    target_latency_ms=0.5,
    throttle="free",
)
PASS = replace(SYNC, stage="copying", keys_done=45_210, seconds_left=118.0)
DONE = SwitchReport("cutover", 1, outcome="done", gate_ms=40.0)
UNDONE = SwitchReport("cutover", 1, outcome="undone", gate_ms=5.0, reason="a writer did not answer")
NOTHING = Lasting()
EQUAL = Verified(1, 100_000, 0)

COPYING = MigrationProgress(PASS, "copying", not_ready=("It is copying.",))
READY = MigrationProgress(SYNC, "following", writers=3, verified=EQUAL)
NOT_READY = replace(READY, not_ready=("The target is 3.0 s behind.", f"No clean one yet {ASK_VERIFY}."))
PAUSED = replace(NOT_READY, paused=True)
SWITCHING = replace(READY, stage="switching", step="settle", not_ready=("It is switching.",))
BACK = replace(READY, stage="following back", authority=Side.TARGET, last_switch=DONE)
AWAY = replace(
    NOT_READY,
    stage="waiting for a server",
    sync=replace(SYNC, stage="waiting for a server", away="target"),
)
SWITCHED = replace(BACK, stage="switched", not_ready=("It is switched.",))
FINISHED = replace(BACK, stage="finished", not_ready=("It is finished.",))
STAGES = {
    "connecting": MigrationProgress(None, "connecting", not_ready=("It is connecting.",)),
    "copying": COPYING,
    "comparing": replace(COPYING, stage="comparing"),
    "verifying": replace(COPYING, stage="verifying", sync=replace(PASS, stage="verifying")),
    "ready": READY,
    "not ready": NOT_READY,
    "paused": PAUSED,
    "away": AWAY,
    "switching": SWITCHING,
    "rolling back": replace(SWITCHING, authority=Side.TARGET),
    "back": BACK,
    "switched": SWITCHED,
    "finished": FINISHED,
}


def seen(progress: MigrationProgress, lasting: Lasting = NOTHING, **more: bool) -> Glance:
    return glance_of_migration(progress, lasting, **more)


@pytest.mark.parametrize("progress", STAGES.values(), ids=STAGES)
def test_every_moment_has_whole_sentences(progress: MigrationProgress) -> None:
    glance = seen(progress)
    assert glance.doing.endswith(".") and glance.next.endswith(".")
    assert bool(glance.why) == (glance.health != "good")
    assert not glance.why or glance.why.endswith(".")


@pytest.mark.parametrize(
    ("stage", "command"),
    {
        "ready": "cutover",
        "paused": "unpause",
        "switched": "finish",
        **dict.fromkeys(("connecting", "copying", "comparing", "verifying", "not ready", "away"), ""),
        "back": "",
        **dict.fromkeys(("switching", "rolling back", "finished"), ""),
    }.items(),
)
def test_the_command_is_the_one_that_the_sentence_names(stage: str, command: str) -> None:
    glance = seen(STAGES[stage])
    assert glance.command == command
    if command:
        assert f"Press {command}" in glance.next


def test_a_pass_says_how_far_it_is_and_how_long_it_takes() -> None:
    glance = seen(COPYING)
    assert glance.doing == "Copying keys: 45,210 of 100,000 (45 %)."
    assert glance.left == "about 2 min left" and glance.health == "good"
    assert seen(replace(COPYING, paused=True)).left == ""


@pytest.mark.parametrize(
    ("seconds", "left"),
    [
        (None, ""),
        (0.0, "a few seconds left"),
        (9.9, "a few seconds left"),
        (34.0, "about 30 s left"),
        (89.0, "about 90 s left"),
        (95.0, "about 2 min left"),
        (5_000.0, "about 83 min left"),
        (7_300.0, "about 2 h 00 min left"),
    ],
)
def test_time_left_is_rounded(seconds: float | None, left: str) -> None:
    assert seen(replace(COPYING, sync=replace(PASS, seconds_left=seconds))).left == left


def test_ready_says_what_a_cutover_costs() -> None:
    assert "writes wait less than a second" in seen(READY).next
    assert seen(READY).doing.startswith("Ready for a cutover: ")
    assert seen(NOT_READY).doing.startswith("Following: ")
    assert "Press finish" in seen(BACK).next and "rollback" in seen(BACK).next
    slow = replace(READY, sync=replace(SYNC, cutover_s=2.0))
    assert "writes wait about 2.0 s" in seen(slow).next
    by_itself = seen(READY, cutover_when_ready=True)
    assert by_itself.command == "" and "by itself" in by_itself.next
    after = replace(READY, last_switch=replace_outcome("rollback", "done"))
    assert seen(after, cutover_when_ready=True).command == "cutover"


def replace_outcome(direction: str, outcome: str) -> SwitchReport:
    return SwitchReport.of_dict({**DONE.as_dict(), "direction": direction, "outcome": outcome})


def test_not_ready_says_why_and_how_it_becomes_so() -> None:
    said = seen(NOT_READY).next
    assert said.startswith("No cutover yet: The target is 3.0 s behind. (and 1 more reason)")
    assert "verified by itself" in said
    back = replace(BACK, not_ready=("The source is 3.0 s behind.",))
    assert seen(back).next.endswith("No rollback yet: The source is 3.0 s behind.")


def test_the_words_that_ask_for_a_verification_are_those_of_the_judgement() -> None:
    facts = Facts(
        losing=Side.SOURCE,
        stage="following",
        copied=True,
        paused=False,
        verified_s=None,
        verified_s_max=10.0,
        touched_overflowed=False,
        lag_s=0.0,
        lag_max_s=1.0,
        cutover_s=None,
        gate_s=5.0,
        failed=0,
    )
    for asked in (
        facts,
        replace(facts, verified_s=99.0),
        replace(facts, verified_s=1.0, touched_overflowed=True),
    ):
        assert ASK_VERIFY in not_ready(asked)[0]


@pytest.mark.parametrize(
    ("progress", "health", "word"),
    [
        (READY, "good", ""),
        (PAUSED, "attention", "paused"),
        (replace(READY, sync=replace(SYNC, failed=2)), "attention", "2 keys cannot be carried"),
        (replace(READY, sync=replace(SYNC, foreign_keys=1)), "attention", "1 key on the target"),
        (replace(BACK, sync=replace(SYNC, foreign_keys=1)), "attention", "1 key on the source"),
        (replace(READY, last_switch=UNDONE), "attention", "undone: a writer did not answer"),
        (BACK, "good", ""),
        (replace(READY, verified=Verified(1, 10, 3)), "trouble", "3 keys that differ"),
        (replace(BACK, last_switch=replace_outcome("cutover", "unknown")), "trouble", "not known"),
        (
            replace(
                BACK, last_switch=SwitchReport("cutover", 1, outcome="done", hook="exit 1.", hook_failed=True)
            ),
            "trouble",
            "your command failed: exit 1.",
        ),
    ],
)
def test_health(progress: MigrationProgress, health: str, word: str) -> None:
    glance = seen(progress)
    assert (glance.health, word in glance.why) == (health, True)


def test_who_is_away_is_named_by_the_migrations_sides() -> None:
    assert seen(AWAY, Lasting(away_s=1.0)).why.startswith("The target does not answer")
    back = replace(AWAY, authority=Side.TARGET)
    assert "the source" in seen(back).doing and "the source" in seen(back).next


def test_what_comes_and_goes_is_told_when_it_has_lasted() -> None:
    glances = MigrationGlances(lag_target_s=1.0)
    behind = replace(READY, sync=replace(SYNC, lag_s=2.5, throttle="slowed"))
    assert glances.look(behind, 100.0).health == "good"
    assert glances.look(behind, 100.0 + LASTING_S).why == "The target is 2.5 s behind."
    assert glances.look(READY, 200.0).health == "good"
    assert glances.look(behind, 200.1).health == "good"
    slowed = replace(READY, sync=replace(SYNC, throttle="slowed"))
    assert glances.look(slowed, 200.1 + SLOWED_S).why.startswith("A server answers later")

    assert glances.look(AWAY, 300.0).health == "attention"
    assert glances.look(AWAY, 300.0 + AWAY_TROUBLE_S).health == "trouble"
    assert glances.look(READY, 311.0).health == "good"
    # One that refuses again at once has not been back.
    assert glances.look(AWAY, 312.0).health == "trouble"
    assert glances.look(READY, 313.0).health == "good"
    assert glances.look(READY, 319.0).health == "good"
    assert glances.look(AWAY, 320.0).health == "attention"


def test_a_server_that_hangs() -> None:
    hangs = replace(SYNC, target_latency_ms=3_000.0)
    assert seen(replace(READY, sync=hangs)).why == "The target takes 3.0 s to answer."
    assert "behind" not in seen(replace(READY, sync=hangs)).doing
    assert seen(replace(BACK, sync=hangs)).why == "The source takes 3.0 s to answer."
    longer = replace(READY, sync=replace(SYNC, source_latency_ms=10_000.0))
    glance = seen(longer)
    assert glance.health == "trouble" and "The source" in glance.why
    assert glance.next.startswith("Look into that first.") and glance.command == ""


def test_a_pass_that_stands_still() -> None:
    glances = MigrationGlances(lag_target_s=1.0)
    assert glances.look(COPYING, 0.0).health == "good"
    assert glances.look(COPYING, 0.2).health == "good"
    still = glances.look(COPYING, 0.2 + STILL_S).why
    assert still == "Nothing has got on for 5.0 s: does a server answer no more?"
    on = replace(COPYING, sync=replace(PASS, keys_done=45_211))
    assert glances.look(on, 6.0).health == "good"
    paused = replace(COPYING, paused=True)
    assert "paused" in glances.look(paused, 6.1).why
    assert "paused" in glances.look(paused, 99.0).why


def test_every_step_of_a_switch_says_whether_writes_wait() -> None:
    def doing(step: Step) -> str:
        return seen(replace(SWITCHING, step=step)).doing

    for step in (*GATED, Step.COMPLETE):
        assert doing(step) == f"Cutting over: writes wait ({step})."
    for step in UNDOING.values():
        assert "put back" in doing(step)
    for step in Step:
        waits = step in GATED or step in (Step.COMPLETE, Step.OPEN)
        assert ("writes wait" in doing(step)) == waits


def test_writers_that_stay_behind_are_looked_at_before_a_cutover() -> None:
    glances = MigrationGlances(lag_target_s=1.0)
    assert glances.look(READY, 1.0, writers_late=1).command == "cutover"
    late = glances.look(READY, 1.0 + LASTING_S, writers_late=1)
    assert late.health == "attention" and "1 live writer of 3" in late.why and late.command == ""


def test_a_sync() -> None:
    glances = SyncGlances(1.0)
    copying = glances.look(PASS, 1.0)
    assert copying.doing == "Copying keys: 45,210 of 100,000 (45 %)." and copying.command == ""
    assert "until you stop it" in glances.look(SYNC, 2.0).next
    assert "ends by itself" in glance_of_sync(PASS, Lasting(), until_synced=True).next
    away = replace(SYNC, stage="waiting for a server", away="source")
    assert glances.look(away, 10.0).why.startswith("The source does not answer")
    assert glances.look(away, 10.0 + AWAY_TROUBLE_S).health == "trouble"


def test_a_hook_takes_as_long_as_it_likes() -> None:
    glance = glance_of_migration(replace(SWITCHING, step="hook"), Lasting())
    assert "undone" not in glance.next and "runs" in glance.next and not glance.left
    assert "undone" in glance_of_migration(SWITCHING, Lasting()).next
