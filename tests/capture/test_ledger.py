"""What a process says about keys: bounded, never less than is true, in an order that survives its end."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.capture.clients.ledger import Command, Ledger, Reports
from keyferry.capture.ledger_format import (
    EVERYTHING,
    ledger_keys,
    member,
    pack,
    split_member,
    unpack,
)
from keyferry.payload.names import slot

KEYS = ledger_keys("orders")


def said(ledger: Ledger, reports: Reports, replies: Sequence[Sequence[object]] = ()) -> list[list[Command]]:
    """Every pipeline that says the reports; replies that are not given are 0."""
    steps, pipelines, answers = ledger.steps(reports), [], list(replies)
    try:
        pipelines.append(next(steps))
        while True:
            reply = answers.pop(0) if answers else [0] * len(pipelines[-1])
            pipelines.append(steps.send(reply))
    except StopIteration:
        return pipelines


def taken(ledger: Ledger, count: int = 1000) -> Reports:
    reports = ledger.take(count)
    assert reports is not None
    return reports


def test_all_keys_of_a_ledger_lie_in_one_slot_under_the_reserved_prefix() -> None:
    names = [KEYS.dirty, KEYS.full, KEYS.open, KEYS.modes]
    assert len({slot(name) for name in names}) == 1
    assert len(set(names)) == 4
    assert all(name.startswith(b"keyferry:") for name in names)


@given(st.lists(st.tuples(st.integers(0, 99), st.binary()), min_size=1))
def test_entries_are_unpacked_as_they_were_packed(places: list[tuple[int, bytes]]) -> None:
    packed = pack([member(*place) for place in places])
    assert [split_member(one) for one in unpack(packed) or []] == places


@given(st.binary())
def test_other_bytes_are_no_entry(data: bytes) -> None:
    try:
        found = unpack(data)
    except ValueError:
        return
    assert data == EVERYTHING if found is None else pack(found) == data or data.startswith(b"+")


def test_keys_are_named_once_oldest_first_and_never_reserved_ones() -> None:
    ledger = Ledger("orders", 3)
    ledger.add([b"a", b"b", b"keyferry:x"], "failed")
    ledger.add([b"a", b"c"], "differed", database=5)
    ledger.add([b"a"], "failed")
    assert ledger.reasons == {"failed": 3, "differed": 2}
    assert said(ledger, taken(ledger)) == [
        [("SADD", KEYS.dirty, b"3:a", b"3:b", b"5:a", b"5:c"), ("SCARD", KEYS.dirty)]
    ]
    assert ledger.take() is None
    assert not len(ledger)


def test_a_key_named_again_while_it_is_said_is_said_again() -> None:
    ledger = Ledger("orders")
    ledger.add([b"a"], "failed")
    first = taken(ledger)
    ledger.add([b"a"], "failed")
    assert first.members == taken(ledger).members


def test_an_entry_is_removed_only_after_its_keys_were_named() -> None:
    ledger = Ledger("orders", writer=b"w1")
    entry = ledger.open([b"a", b"b"])
    assert entry[:2] == (b"HSET", KEYS.open)
    assert ledger.take() is None  # nothing is said of what goes on
    ledger.close(entry)
    assert said(ledger, taken(ledger)) == [
        [("SADD", KEYS.dirty, b"0:a", b"0:b"), ("SCARD", KEYS.dirty)],
        [("HDEL", KEYS.open, entry[2])],
    ]


def test_every_operation_has_an_entry_of_its_own() -> None:
    ledgers = [Ledger("orders", writer=writer) for writer in (b"w1", b"w2")]
    fields = [ledger.open([b"a"])[2] for ledger in ledgers for _ in range(3)]
    assert len(set(fields)) == 6


def test_too_many_keys_are_everything() -> None:
    ledger = Ledger("orders", keys_max=2)
    ledger.add([b"a", b"b", b"c"], "failed")
    assert ledger.overflowed
    assert said(ledger, taken(ledger)) == [[("SET", KEYS.full, 1)]]
    ledger.add([b"d"], "failed")
    assert taken(ledger).members == [b"0:d"]


def test_an_operation_that_names_no_keys_is_everything_and_its_entry_goes() -> None:
    ledger = Ledger("orders", writer=b"w1")
    entry = ledger.open_everything()
    ledger.close(entry)
    assert said(ledger, taken(ledger)) == [[("SET", KEYS.full, 1)], [("HDEL", KEYS.open, entry[2])]]


@pytest.mark.parametrize("everything", [False, True])
def test_what_was_given_back_is_said_later(everything: bool) -> None:
    ledger = Ledger("orders", writer=b"w1", keys_max=10)
    ledger.add([b"a"], "failed")
    entry = ledger.open([b"b"])
    ledger.close(entry)
    if everything:
        ledger.add_everything("flushed")
    reports = taken(ledger)
    ledger.put_back(reports)
    again = taken(ledger)
    assert again.entries == [entry]
    assert again.everything == everything
    assert again.members == ([] if everything else [b"0:a"])


def test_what_is_given_back_counts_against_the_bound() -> None:
    ledger = Ledger("orders", keys_max=3)
    ledger.add([b"a", b"b"], "failed")
    reports = taken(ledger)
    ledger.add([b"c", b"d"], "failed")
    ledger.put_back(reports)
    assert ledger.overflowed


def test_more_than_the_server_is_to_hold_is_everything_until_somebody_has_taken_it() -> None:
    ledger = Ledger("orders")
    named = [("SADD", KEYS.dirty, b"0:a"), ("SCARD", KEYS.dirty)]
    full, look = [("SET", KEYS.full, 1)], [("EXISTS", KEYS.full), ("SCARD", KEYS.dirty)]
    for replies, pipelines in (
        ([[1, 2_000_000]], [named, full]),
        ([[1, 2_000_000]], [look]),  # it is said already
        ([[0, 2_000_000]], [look, full]),
        ([[0, 0]], [look, named]),
        ([[1, 5]], [named]),
    ):
        ledger.add([b"a"], "failed")
        assert said(ledger, taken(ledger), replies) == pipelines


def test_operations_that_are_not_reported_in_time_make_it_crowded_then_everything() -> None:
    ledger = Ledger("orders", writer=b"w1", keys_max=10)
    for _ in range(6):
        ledger.close(ledger.open([b"a"]))
    assert (ledger.crowded, len(ledger)) == (True, 6)
    for _ in range(5):
        ledger.close(ledger.open([b"a"]))
    assert ledger.overflowed
    assert len(taken(ledger).entries) == 10


def test_it_wakes_whoever_sends_once_until_it_looks() -> None:
    ledger, woken = Ledger("orders", writer=b"w1"), []
    ledger.wake = lambda: woken.append(1)
    ledger.add([b"a"], "failed")
    ledger.close(ledger.open([b"b"]))
    assert len(woken) == 1
    ledger.take()
    ledger.close(ledger.open([b"b"]))
    ledger.add_everything("flushed")
    assert len(woken) == 2


def test_threads_lose_nothing_and_no_wake_up() -> None:
    ledger, woken = Ledger("orders", writer=b"w1", keys_max=1_000_000), threading.Event()
    ledger.wake = woken.set
    found: set[bytes] = set()
    fields: set[bytes] = set()
    ended = threading.Event()

    def write(thread: int) -> None:
        for number in range(3000):
            ledger.add([b"%d-%d" % (thread, number)], "failed")
            ledger.close(ledger.open([b"x"]))

    def send() -> None:
        while woken.wait(2):
            woken.clear()
            while (reports := ledger.take(100)) is not None:
                found.update(reports.members)
                fields.update(entry[2] for entry in reports.entries)
            if ended.is_set() and len(fields) == 12000:
                return

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    sender = threading.Thread(target=send)
    for one in (*threads, sender):
        one.start()
    for one in threads:
        one.join()
    ended.set()
    sender.join()
    assert len(found) == len(fields) == 12000
