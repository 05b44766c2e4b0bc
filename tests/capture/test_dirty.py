"""Dirty keys: no order of changes, namings, reads and arrivals leaves a key different and clean."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable

import pytest

from keyferry.capture.dirty import GATHER_S, REST_S, DirtyKeys
from keyferry.capture.dirty_bigs import FUZZY_AFTER, REST_S_MAX, DirtyBigs

KEYS = [b"a", b"b", b"c"]
ENTRY_BYTES_MAX = 200
WALKS, STEPS = 300, 300


class Settling:
    """A source, a target, one feed that lags behind, one pipeline; keys are big or small as they like."""

    def __init__(self) -> None:
        self.dirty = DirtyKeys(1000)
        self.now = 100.0
        self.source: dict[bytes, int] = {}
        self.target: dict[bytes, int] = {}
        self.feed: list[bytes] = []
        self.taken: list[bytes] = []
        self.read: dict[bytes, int | None] = {}
        self.big_taken: list[bytes] = []
        self.big_read: dict[bytes, int | None] = {}
        self.clock = 0

    def change(self, key: bytes) -> None:
        self.clock += 1
        self.source[key] = self.clock
        self.feed.append(key)

    def delete(self, key: bytes) -> None:
        self.source.pop(key, None)
        self.feed.append(key)

    def hear(self, count: int) -> None:
        """The feed names changes, some time after they were made."""
        self.dirty.mark(self.feed[:count], self.now)
        del self.feed[:count]

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def take(self, limit: int) -> None:
        if self.taken:
            return
        self.taken = self.dirty.take(limit, self.now)
        assert len(set(self.taken)) == len(self.taken)

    def look(self) -> None:
        """The pipeline reads, some time after the marks were taken off."""
        for key in self.taken:
            self.read.setdefault(key, self.source.get(key))

    def arrive(self) -> None:
        if self.taken and set(self.taken) == self.read.keys():
            self._arrive()

    def _arrive(self) -> None:
        for key in self.taken:
            self._put(key, self.read[key])
        self.dirty.arrived(self.taken, self.now)
        self.taken, self.read = [], {}

    def turn_out_big(self) -> None:
        """The first key of the page is too big for one DUMP."""
        if not self.taken or set(self.taken) != self.read.keys():
            return
        key = self.taken[0]
        self.dirty.hand_over(key, 10_000_000, self.now)
        self.read.pop(key)
        for other in self.taken[1:]:
            self._put(other, self.read[other])
        self.dirty.arrived(self.taken, self.now)
        self.taken, self.read = [], {}

    def take_big(self) -> None:
        found = self.dirty.bigs.take(self.now)
        if found is not None:
            assert found[0] not in self.big_taken, "never one key twice at a time"
            assert found[0] not in self.taken, "never on both ways at once"
            self.big_taken.append(found[0])

    def look_at_big(self) -> None:
        for key in self.big_taken:
            self.big_read.setdefault(key, self.source.get(key))

    def end_big(self, torn: bool) -> None:
        if not self.big_read:
            return
        key, value = self.big_read.popitem()
        self.big_taken.remove(key)
        if torn:
            self.dirty.bigs.torn(key, self.now)
        else:
            self._put(key, value)
            self.dirty.bigs.ended(key, self.now, seconds=0.1)

    def break_off(self) -> None:
        """The pipeline breaks: some of what was read may have arrived."""
        for key, value in list(self.read.items())[:1]:
            self._put(key, value)
        self.dirty.returned()
        self.taken, self.read, self.big_taken, self.big_read = [], {}, [], {}

    def flush(self) -> None:
        """Everything goes, and no key is named: what flies is marked, the rest is compared."""
        self.source.clear()
        self.dirty.mark_flying(self.now)
        self.dirty.mark([key for key in self.target if key not in self.source], self.now)

    def _put(self, key: bytes, value: int | None) -> None:
        if value is None:
            self.target.pop(key, None)
        else:
            self.target[key] = value

    def what_differs_is_known(self) -> None:
        for key in KEYS:
            if self.source.get(key) != self.target.get(key):
                assert key in self.feed or self.dirty.is_dirty(key), key

    def finish(self) -> None:
        """When nothing changes any more, everything arrives."""
        self.dirty.hold(False)
        self.dirty.mark(self.feed, self.now)
        self.feed = []
        for _ in range(40):
            self.look()
            for key in list(self.taken):
                self._put(key, self.read[key])
            self.dirty.arrived(self.taken, self.now)
            self.taken, self.read = [], {}
            self.now += 2 * REST_S_MAX
            self.take_big()
            self.look_at_big()
            while self.big_read:
                self.end_big(torn=False)
            self.taken = self.dirty.take(10, self.now)
        assert len(self.dirty) == 0
        assert self.source == self.target


def _walk(seed: int, steps: int) -> None:
    """Random steps, weighted so that a key is often changed while it is under way."""
    rng = random.Random(seed)
    model = Settling()
    moves: list[tuple[int, Callable[[], None]]] = [
        (6, lambda: model.change(rng.choice(KEYS))),
        (2, lambda: model.delete(rng.choice(KEYS))),
        (6, lambda: model.hear(rng.randint(1, 4))),
        (3, lambda: model.wait(rng.choice([0.001, GATHER_S, REST_S, 2 * REST_S_MAX]))),
        (6, lambda: model.take(rng.randint(1, 3))),
        (6, model.look),
        (5, model.arrive),
        (1, model.turn_out_big),
        (3, model.take_big),
        (3, model.look_at_big),
        (3, lambda: model.end_big(rng.random() < 0.3)),
        (1, model.break_off),
        (1, model.flush),
        (1, lambda: model.dirty.hold(rng.random() < 0.5)),
        (2, lambda: model.dirty.hurry(rng.random() < 0.5)),
    ]
    weights = [weight for weight, _ in moves]
    for _, move in rng.choices(moves, weights, k=steps):
        move()
        model.what_differs_is_known()
    model.finish()


def test_whatever_happens_what_differs_is_dirty() -> None:
    for seed in range(WALKS):
        _walk(seed, STEPS)


def _dirty(*keys: bytes) -> DirtyKeys:
    dirty = DirtyKeys(1000)
    dirty.mark(keys, 0.0)
    return dirty


def test_a_handful_of_keys_waits_for_more() -> None:
    dirty = _dirty(b"a")
    assert dirty.take(10, GATHER_S / 2) == []
    assert dirty.take(10, GATHER_S) == [b"a"]


def test_a_key_that_changes_all_the_time_rests() -> None:
    dirty = _dirty(b"hot")
    settled = 0
    for step in range(1000):
        now = 0.1 + step / 1000
        dirty.mark([b"hot"], now)
        if taken := dirty.take(10, now):
            settled += len(taken)
            dirty.arrived(taken, now)
    assert settled <= 1 + 1 / REST_S


def test_while_writers_wait_no_key_rests_or_waits_for_company() -> None:
    dirty = _dirty(b"hot")
    dirty.hurry(True)
    for step in range(10):
        now = step / 1000
        assert dirty.take(10, now) == [b"hot"]
        dirty.mark([b"hot"], now)
        assert dirty.take(10, now) == [], "it flies"
        dirty.arrived([b"hot"], now)
    dirty.hurry(False)
    assert dirty.take(10, 0.1) == []


def test_a_key_that_was_woken_is_not_given_out_twice() -> None:
    """Its earlier rest ends while it flies again, and was named meanwhile."""
    dirty = _dirty(b"hot")
    dirty.hurry(True)
    assert dirty.take(10, 0.0) == [b"hot"]
    dirty.arrived([b"hot"], 0.0)
    dirty.mark([b"hot"], 0.1)
    assert dirty.take(10, 0.1) == [b"hot"]
    dirty.mark([b"hot"], 0.15)
    assert dirty.take(10, 2 * REST_S) == [], "it flies"
    dirty.arrived([b"hot"], 2 * REST_S)
    assert dirty.take(10, 2 * REST_S) == [b"hot"]
    dirty.arrived([b"hot"], 2 * REST_S)
    assert len(dirty) == 0


def test_held_keys_stay_dirty() -> None:
    dirty = _dirty(b"a")
    dirty.bigs.add(b"big", 5_000_000, 0.0, 0.0)
    dirty.hold(True)
    assert dirty.take(10, 1.0) == []
    assert not dirty.bigs.has(1.0)
    assert dirty.bigs.take(1.0) is None
    assert len(dirty) == 2
    dirty.hold(False)
    assert dirty.take(10, 1.0) == [b"a"]
    assert dirty.bigs.take(1.0) == (b"big", False)


def test_the_oldest_go_first_and_tell_the_lag() -> None:
    dirty = DirtyKeys(1000)
    for number in range(5):
        dirty.mark([b"%d" % number], float(number))
    assert dirty.oldest_s() == 0.0
    assert dirty.take(2, 10.0) == [b"0", b"1"]
    assert dirty.oldest_s() == 0.0, "what flies is dirty still"
    dirty.arrived([b"0", b"1"], 10.0)
    assert dirty.oldest_s() == 2.0


def test_more_than_can_be_remembered_is_forgotten_and_said() -> None:
    dirty = DirtyKeys(100)
    dirty.mark([b"%d" % number for number in range(200)], 0.0)
    assert dirty.overflowed
    assert len(dirty) == 0


def test_a_big_key_rests_longer_and_becomes_fuzzy() -> None:
    bigs = DirtyBigs()
    bigs.add(b"big", 5_000_000, 0.0, 0.0)
    for _ in range(FUZZY_AFTER):
        taken = bigs.take(10.0)
        assert taken == (b"big", False)
        bigs.torn(b"big", 0.0)
    assert bigs.take(10.0) == (b"big", True)
    bigs.ended(b"big", 10.0, seconds=2.0)
    for step in range(10):
        bigs.mark(b"big", 10.0 + step / 2)
        assert bigs.take(10.2 + step / 2) is None, "it changes all the time"
    assert bigs.take(10.0 + REST_S_MAX) == (b"big", False)


def test_a_big_key_that_holds_still_rests_no_longer_than_it_took() -> None:
    bigs = DirtyBigs()
    bigs.add(b"big", 5_000_000, 0.0, 0.0)
    assert bigs.take(0.0) == (b"big", False)
    bigs.mark(b"big", 2.5)
    bigs.ended(b"big", 3.0, seconds=2.0)
    assert bigs.take(4.9) is None
    assert bigs.take(5.0) == (b"big", False)


@pytest.mark.parametrize("place", ["waiting", "flying", "named while flying"])
def test_what_a_dirty_key_costs(place: str) -> None:
    """Besides its name (issue: at most 200 bytes)."""
    count = 100_000
    names = [b"key:%010d" % number for number in range(count)]

    def made(work: Callable[[], DirtyKeys]) -> int:
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        kept = work()
        used = tracemalloc.get_traced_memory()[1] - before
        tracemalloc.stop()
        assert len(kept) >= count
        return used

    def work() -> DirtyKeys:
        dirty = DirtyKeys(10 * count)
        dirty.mark(names, 1.0)
        if place != "waiting":
            dirty.take(count, 2.0)
        if place == "named while flying":
            dirty.mark(names, 3.0)
        return dirty

    assert made(work) / count < ENTRY_BYTES_MAX
