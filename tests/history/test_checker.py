"""The checker finds what must not be: a history of one real server, which is right, and what is made of it.

Each mutation is a fault that a migration could have, put into the recorded history or into what was there in the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from keyferry.testing.binaries import ServerBinary
from keyferry.testing.servers import Server

from .application import Plan
from .bags import taken_by
from .checker import Final, check
from .drawing import ACCOUNTS, GROUP
from .events import FOREVER, Event, History, Outcome
from .final import read_final
from .processes import Applications
from .streams import claimed

SECONDS = 2.5


@dataclass(frozen=True)
class Recorded:
    history: History
    final: Final

    def events(self, family: str, action: str, key: str = "") -> list[Event]:
        return [
            event
            for event in sorted(self.history.events, key=lambda event: event.begun)
            if (event.family, event.action) == (family, action) and event.key.startswith(key) and event.done
        ]

    def with_event(self, old: Event, **changes: Any) -> Recorded:
        events = [replace(event, **changes) if event is old else event for event in self.history.events]
        return replace(self, history=History(events))

    def with_value(self, key: str, value: str) -> Recorded:
        return replace(self, final=replace(self.final, values={**self.final.values, key: value}))

    def with_bag(self, key: str, items: tuple[str, ...]) -> Recorded:
        return replace(self, final=replace(self.final, bags={**self.final.bags, key: items}))

    def with_stream(self, **changes: Any) -> Recorded:
        streams = {"stream:0": replace(self.final.streams["stream:0"], **changes)}
        return replace(self, final=replace(self.final, streams=streams))


@pytest.fixture(scope="module")
def recorded(
    binaries: dict[str, ServerBinary], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Recorded]:
    """Two processes of plain clients on one server, which cannot be wrong."""
    directory = tmp_path_factory.mktemp("history")
    place = directory / "place"
    place.write_text("source")
    with Server(binaries["redis-7.0"]) as server, server.session() as session:
        session.call("XGROUP", "CREATE", "stream:0", GROUP, "0", "MKSTREAM")
        plans = [
            Plan(
                worker=number,
                workers=2,
                form="plain",
                urls={"source": server.url, "target": server.url},
                migration="",
                path=str(directory / f"app-{number}.jsonl"),
                seconds=SECONDS,
                rate=500.0,
                place=str(place),
            )
            for number in range(2)
        ]
        with Applications(plans) as applications:
            time.sleep(SECONDS)
            history = applications.stop()
        yield Recorded(history, read_final(session, history))


def found_in(recorded: Recorded) -> list[str]:
    return [str(finding) for finding in check(recorded.history, recorded.final)]


def test_a_server_alone_is_right(recorded: Recorded) -> None:
    assert found_in(recorded) == []
    assert recorded.history.acknowledged() > 500
    families = {event.family for event in recorded.history.events}
    assert families == {"register", "counter", "bag", "stream", "bank", "owned"}


def test_what_is_unknown_contradicts_nothing(recorded: Recorded) -> None:
    """A history in which more is unknown than was is right as well; one that says no more than was heard is, too."""
    events = [
        replace(event, outcome=Outcome.UNKNOWN, ended=FOREVER, reply=())
        if event.number % 7 == 0 and (event.family, event.action) != ("owned", "read")
        else event
        for event in recorded.history.events
    ]
    kept = [event for event in events if event.family != "owned"]
    assert found_in(Recorded(History(kept), recorded.final)) == []


def register_lost(recorded: Recorded) -> Recorded:
    """In the end an older value is there, which had been overwritten and acknowledged."""
    writes = recorded.events("register", "write", "reg:0")
    return recorded.with_value("reg:0", writes[0].value)


def register_stale(recorded: Recorded) -> Recorded:
    """A read finds what was overwritten long before."""
    old = recorded.events("register", "write", "reg:1")[0]
    read = recorded.events("register", "read", "reg:1")[-1]
    return recorded.with_event(read, reply=(old.value,))


def register_gone(recorded: Recorded) -> Recorded:
    return recorded.with_value("hreg:1|f", "")


def register_refused(recorded: Recorded) -> Recorded:
    """A write that its writer was told has failed is read."""
    read = recorded.events("register", "read", "zreg:1")[-1]
    write = next(
        event for event in recorded.events("register", "write", "zreg:1") if event.value == read.reply[0]
    )
    return recorded.with_event(write, outcome=Outcome.FAILED)


def counter_lost(recorded: Recorded) -> Recorded:
    return recorded.with_value("count:0", str(int(recorded.final.values["count:0"]) - 1))


def counter_doubled(recorded: Recorded) -> Recorded:
    return recorded.with_value("hcount:0|n", str(int(recorded.final.values["hcount:0|n"]) + 1))


def counter_went_back(recorded: Recorded) -> Recorded:
    last = recorded.events("counter", "add", "zcount:0")[-1]
    return recorded.with_event(last, reply=(str(int(float(last.reply[0])) - 1),))


def counter_read_stale(recorded: Recorded) -> Recorded:
    read = recorded.events("counter", "read", "count:1")[-1]
    return recorded.with_event(read, reply=("0",))


def bag_lost(recorded: Recorded) -> Recorded:
    return recorded.with_bag("bag:0", recorded.final.bags["bag:0"][1:])


def bag_doubled(recorded: Recorded) -> Recorded:
    items = recorded.final.bags["queue:0"]
    return recorded.with_bag("queue:0", (*items, items[-1]))


def bag_back(recorded: Recorded) -> Recorded:
    """What was popped is there again."""
    taken = taken_by(
        recorded.events("bag", "take", "zbag:0")[-1] or recorded.events("bag", "take", "zbag:0")[0]
    )
    popped = taken or [one for event in recorded.events("bag", "take", "zbag:0") for one in taken_by(event)]
    return recorded.with_bag("zbag:0", (*recorded.final.bags["zbag:0"], popped[0]))


def bag_removed_back(recorded: Recorded) -> Recorded:
    removed = recorded.events("bag", "remove", "hbag:0")[0]
    return recorded.with_bag("hbag:0", (*recorded.final.bags["hbag:0"], removed.value))


def bag_taken_twice(recorded: Recorded) -> Recorded:
    one, other = [event for event in recorded.events("bag", "take", "queue:0") if taken_by(event)][:2]
    return recorded.with_event(other, reply=one.reply, extra=one.extra)


def bag_out_of_order(recorded: Recorded) -> Recorded:
    """What was taken last is what had been added first."""
    takes = [event for event in recorded.events("bag", "take", "queue:0") if taken_by(event)]
    first, last = takes[0], takes[-1]
    swapped = recorded.with_event(first, reply=last.reply, extra=last.extra)
    return swapped.with_event(last, reply=first.reply, extra=first.extra)


def bag_refused(recorded: Recorded) -> Recorded:
    add = next(
        event
        for event in recorded.events("bag", "add", "bag:0")
        if event.value in recorded.final.bags["bag:0"]
    )
    return recorded.with_event(add, outcome=Outcome.FAILED)


def bag_read_stale(recorded: Recorded) -> Recorded:
    read = recorded.events("bag", "read", "text:")[-1]
    return recorded.with_event(read, reply=(";".join(read.reply[0].split(";")[1:]),))


def text_chunk_twice(recorded: Recorded) -> Recorded:
    key = recorded.events("bag", "add", "text:")[0].key
    items = recorded.final.bags[key]
    return recorded.with_bag(key, (*items, items[0]))


def bit_lost(recorded: Recorded) -> Recorded:
    key = recorded.events("bag", "add", "bits:")[0].key
    return recorded.with_bag(key, recorded.final.bags[key][:-1])


def transaction_in_half(recorded: Recorded) -> Recorded:
    return recorded.with_bag("{both}:s", recorded.final.bags["{both}:s"][1:])


def script_in_half(recorded: Recorded) -> Recorded:
    return recorded.with_bag("{script}:l", recorded.final.bags["{script}:l"][:-1])


def entry_lost(recorded: Recorded) -> Recorded:
    return recorded.with_stream(entries=recorded.final.streams["stream:0"].entries[:-1])


def entry_doubled(recorded: Recorded) -> Recorded:
    entries = recorded.final.streams["stream:0"].entries
    return recorded.with_stream(entries=(*entries, ("9999999999999-0", entries[0][1])))


def entry_given_twice(recorded: Recorded) -> Recorded:
    one, other = [event for event in recorded.events("stream", "claim") if claimed(event)][:2]
    return recorded.with_event(other, reply=one.reply)


def group_went_back(recorded: Recorded) -> Recorded:
    return recorded.with_stream(given="0-0")


def pending_lost(recorded: Recorded) -> Recorded:
    pending = sorted(recorded.final.streams["stream:0"].pending)
    return recorded.with_stream(pending=frozenset(pending[1:]))


def pending_back(recorded: Recorded) -> Recorded:
    entry = recorded.events("stream", "ack")[0].value
    return recorded.with_stream(pending=recorded.final.streams["stream:0"].pending | {entry})


def owned_back(recorded: Recorded) -> Recorded:
    """A read finds what had just been deleted."""
    writes = recorded.events("owned", "write")
    delete, write = next(
        (delete, write)
        for delete in recorded.events("owned", "delete")
        for write in writes
        if write.key == delete.key and write.begun < delete.begun
    )
    after, soon = delete.ended + 1e-6, delete.ended + 2e-6
    read = replace(delete, action="read", reply=(write.value,), begun=after, ended=soon, heard=soon)
    return Recorded(History([*recorded.history.events, read]), recorded.final)


def owned_never_expired(recorded: Recorded) -> Recorded:
    """A key that has expired is there long after."""
    write = next(event for event in recorded.events("owned", "write") if event.extra)
    read = replace(
        write,
        action="read",
        value="",
        extra="",
        reply=(write.value,),
        begun=write.ended + 5,
        ended=write.ended + 5.1,
    )
    alone = [event for event in recorded.history.events if event.key != write.key]
    return Recorded(History([*alone, write, read]), recorded.final)


def bank_robbed(recorded: Recorded) -> Recorded:
    return recorded.with_value(ACCOUNTS[0], str(int(recorded.final.values[ACCOUNTS[0]]) + 5))


def bank_moved_twice(recorded: Recorded) -> Recorded:
    giver, taker = recorded.events("bank", "move")[0].extra.split()
    poorer = recorded.with_value(giver, str(int(recorded.final.values[giver]) - 7))
    return poorer.with_value(taker, str(int(recorded.final.values[taker]) + 7))


def bank_seen_in_half(recorded: Recorded) -> Recorded:
    read = recorded.events("bank", "read")[-1]
    return recorded.with_event(read, reply=(*read.reply[:-1], str(int(read.reply[-1]) + 1)))


MUTATIONS: tuple[Callable[[Recorded], Recorded], ...] = (
    register_lost, register_stale, register_gone, register_refused,
    counter_lost, counter_doubled, counter_went_back, counter_read_stale,
    bag_lost, bag_doubled, bag_back, bag_removed_back, bag_taken_twice, bag_out_of_order, bag_refused, bag_read_stale,
    text_chunk_twice, bit_lost, transaction_in_half, script_in_half,
    entry_lost, entry_doubled, entry_given_twice, group_went_back, pending_lost, pending_back,
    owned_back, owned_never_expired, bank_robbed, bank_moved_twice, bank_seen_in_half,
)  # fmt: skip
FAMILIES = {
    "register": "register", "counter": "counter", "bag": "bag", "text": "bag", "bit": "bag", "transaction": "bag",
    "script": "counter", "entry": "stream", "group": "stream", "pending": "stream", "owned": "owned", "bank": "bank",
}  # fmt: skip


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_a_fault_is_found(mutation: Callable[[Recorded], Recorded], recorded: Recorded) -> None:
    found = found_in(mutation(recorded))
    family = FAMILIES[mutation.__name__.partition("_")[0]]
    assert found
    assert all(finding.startswith(family) for finding in found), found


def test_a_process_that_was_killed_leaves_its_last_operation_unknown(tmp_path: Path) -> None:
    path = tmp_path / "app-0.jsonl"
    path.write_bytes(
        b'["b",0,10.0,"bag","queue:0","add","x","list"]\n["e",0,10.5,"done",["1"],""]\n'
        b'["b",1,11.0,"bag","queue:0","add","y","list"]\n["e",1,11'
    )
    first, second = History.read([path]).events
    assert (first.outcome, first.ended, first.reply) == (Outcome.DONE, 10.5, ("1",))
    assert (second.outcome, second.ended) == (Outcome.UNKNOWN, FOREVER)
