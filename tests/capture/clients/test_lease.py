"""Leases: what a writer may rely on, what a coordinator may conclude, and that the two never disagree."""

from __future__ import annotations

import random

import pytest

from keyferry.capture.clients.lease import DRIFT, Lease, LeaseWatch
from keyferry.model.phases import Phase, Side, Standing

DUAL = Standing(Phase.DUAL, 4, Side.SOURCE)
HOLD = Standing(Phase.HOLD, 5, Side.SOURCE)


def test_a_lease_runs_from_before_its_request_was_sent() -> None:
    lease = Lease(1000)
    assert not lease.valid(DUAL, 0.0)
    lease.renewed(DUAL, 10.0, 10.9)
    assert lease.valid(DUAL, 10.98)
    assert not lease.valid(DUAL, 11.0)
    assert lease.due_s() == pytest.approx(10.333, abs=0.001)


def test_an_older_standing_counts_on_while_the_lease_never_lapsed() -> None:
    lease = Lease(1000)
    lease.renewed(DUAL, 0.0, 0.1)
    lease.renewed(HOLD, 0.5, 0.6)
    assert lease.valid(DUAL, 1.4) and lease.valid(HOLD, 1.4)


@pytest.mark.parametrize("heard_s", [1.0, 5.0])
def test_after_a_lapse_nothing_older_counts_ever_again(heard_s: float) -> None:
    lease = Lease(1000)
    lease.renewed(DUAL, 0.0, 0.1)
    # Sent in time, heard too late: a coordinator may have gone on without us in between.
    lease.renewed(HOLD, 0.9, heard_s)
    lease.renewed(HOLD, heard_s, heard_s + 0.1)
    assert lease.valid(HOLD, heard_s + 0.2)
    assert not lease.valid(DUAL, heard_s + 0.2)


def test_a_lapse_under_the_newer_standing_ends_the_older_one_too() -> None:
    lease = Lease(1000)
    lease.renewed(DUAL, 0.0, 0.1)
    lease.renewed(HOLD, 0.5, 0.6)
    lease.renewed(HOLD, 3.0, 3.1)
    assert lease.valid(HOLD, 3.2) and not lease.valid(DUAL, 3.2)


def test_the_same_standing_read_again_after_a_lapse_counts() -> None:
    lease = Lease(1000)
    lease.renewed(DUAL, 0.0, 0.1)
    lease.renewed(DUAL, 3.0, 3.1)
    assert lease.valid(DUAL, 3.5)


def test_a_lease_of_the_side_that_lost_authority_ends() -> None:
    lease = Lease(1000)
    lease.renewed(HOLD, 0.0, 0.1)
    moved = Standing(Phase.TARGET_DUAL, 6, Side.TARGET)
    lease.moved(moved)
    assert not lease.valid(HOLD, 0.2) and not lease.valid(moved, 0.2)
    lease.renewed(moved, 0.2, 0.3)
    assert lease.valid(moved, 0.4) and not lease.valid(HOLD, 0.4)


def test_a_coordinator_waits_a_whole_lease_from_the_first_look() -> None:
    watch = LeaseWatch()
    watch.look({"w": (7, 1000)}, 0.0, 0.5)
    assert not watch.over("w") and watch.left_s("w", 0.5) == pytest.approx(1.0 * (1 + DRIFT))
    watch.look({"w": (7, 1000)}, 1.4, 1.6)
    assert not watch.over("w")
    watch.look({"w": (7, 1000)}, 1.52, 1.6)
    assert watch.over("w") and watch.left_s("w", 1.6) == 0.0


def test_a_renewal_begins_the_wait_anew() -> None:
    watch = LeaseWatch()
    watch.look({"w": (7, 1000)}, 0.0, 0.1)
    watch.look({"w": (8, 1000)}, 1.5, 1.6)
    assert not watch.over("w")
    watch.look({"w": (8, 1000)}, 2.5, 2.6)
    assert not watch.over("w")
    watch.look({"w": (8, 1000)}, 2.7, 2.8)
    assert watch.over("w")


def test_a_writer_that_comes_back_is_alive_again() -> None:
    watch = LeaseWatch()
    watch.look({"w": (7, 1000)}, 0.0, 0.1)
    watch.look({"w": (7, 1000)}, 2.0, 2.1)
    assert watch.over("w")
    watch.look({"w": (8, 1000)}, 2.2, 2.3)
    assert not watch.over("w")


def test_one_that_has_taken_itself_off_is_over() -> None:
    watch = LeaseWatch()
    watch.look({"w": (7, 1000)}, 0.0, 0.1)
    watch.look({}, 0.2, 0.3)
    assert watch.over("w")
    watch.look({"w": (7, 1000)}, 0.4, 0.5)
    assert not watch.over("w")


def test_a_shorter_lease_counts_only_when_the_longer_one_is_over() -> None:
    watch = LeaseWatch()
    watch.look({"w": (7, 10_000)}, 0.0, 0.1)
    watch.look({"w": (8, 100)}, 1.0, 1.1)
    watch.look({"w": (8, 100)}, 2.0, 2.1)
    assert not watch.over("w")


@pytest.mark.parametrize("seed", range(300))
def test_no_lease_is_over_for_the_coordinator_while_it_is_valid_for_its_writer(seed: int) -> None:
    """Clocks of different rates, delays of any length, a writer that stops for a while; true time is the judge."""
    rng = random.Random(seed)
    writer_rate, coordinator_rate = 1 + rng.uniform(-DRIFT, DRIFT) / 3, 1 + rng.uniform(-DRIFT, DRIFT) / 3
    writer_offset, coordinator_offset = rng.uniform(0, 1e6), rng.uniform(0, 1e6)
    lease, watch = Lease(1000), LeaseWatch()
    held_at: float | None = None
    # What happens on the server, in order: (time, what); replies come later.
    events: list[tuple[float, str, float, float]] = []
    now = 0.0
    for _ in range(12):
        sent = now
        arrived = sent + rng.choice([0.0, 0.05, 0.9, 1.5]) * rng.random()
        heard = arrived + rng.choice([0.0, 0.05, 0.9, 1.5]) * rng.random()
        events.append((arrived, "renew", sent, heard))
        now = heard + rng.choice([0.0, 0.2, 0.6, 3.0]) * rng.random()
    look = 0.0
    while look < now + 5:
        arrived = look + rng.choice([0.0, 0.3]) * rng.random()
        heard = arrived + rng.choice([0.0, 0.3]) * rng.random()
        events.append((arrived, "look", look, heard))
        look = heard + 0.05
    events.sort()
    hold_from = rng.uniform(0, now)
    renewals = 0
    replies: list[tuple[float, Standing, float]] = []
    judged_over_at: float | None = None
    for arrived, what, sent, heard in events:
        if what == "renew":
            renewals += 1
            replies.append((heard, HOLD if arrived >= hold_from else DUAL, sent))
        elif arrived >= hold_from and judged_over_at is None:
            held_at = held_at or heard
            watch.look(
                {"w": (renewals, 1000)},
                sent * coordinator_rate + coordinator_offset,
                heard * coordinator_rate + coordinator_offset,
            )
            if renewals and watch.over("w"):
                judged_over_at = heard
    if judged_over_at is None:
        return
    # The writer never acts on the standing from before the hold once the coordinator has gone on.
    moments = sorted(
        {judged_over_at, *(heard for heard, _, _ in replies), *(heard + 0.5 for heard, _, _ in replies)}
    )
    done = 0
    for moment in moments:
        while done < len(replies) and replies[done][0] <= moment:
            heard, standing, sent = replies[done]
            lease.renewed(standing, sent * writer_rate + writer_offset, heard * writer_rate + writer_offset)
            done += 1
        if moment >= judged_over_at:
            assert not lease.valid(DUAL, moment * writer_rate + writer_offset)
