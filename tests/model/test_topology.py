"""The picture of a cluster, from what its nodes say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.model.topology import (
    ALL_SLOTS,
    SLOT_COUNT,
    Shard,
    Topology,
    View,
    merge,
    parse_nodes,
    parse_places,
    parse_slots,
    parse_slots_text,
    slots_text,
    standalone,
)

A, B, C = "a" * 40, "b" * 40, "c" * 40
slot_sets = st.frozensets(st.integers(0, SLOT_COUNT - 1), max_size=50)


def view(myself: str, slots: dict[str, str], *, epochs: str = "", open_slots: str = "") -> View:
    """``slots``: text by one-letter id; ``epochs``: letters, the highest last."""
    return View(
        tuple(
            Shard(name, name, 1, parse_slots_text(text), epochs.find(name) + 1)
            for name, text in slots.items()
        ),
        parse_slots_text(open_slots),
        myself,
    )


def owners(topology: Topology) -> dict[str, str]:
    return {shard.id: slots_text(shard.slots) for shard in topology.shards}


# --- CLUSTER NODES


def test_nodes_of_redis_6() -> None:
    text = (
        f"{A} 127.0.0.1:7000@17000 myself,master - 0 0 3 connected 0-5460 5462 [7->-{B}] [9000-<-{C}]\n"
        f"{B} 127.0.0.1:7001@17001 slave {A} 0 1426238316232 3 connected\n"
        f"{C} 127.0.0.1:7002@17002 master - 1 2 5 connected 5461 5463-16383\n"
    ).encode()
    found = parse_nodes(text, "asked")
    assert found == View(
        (
            Shard(A, "127.0.0.1", 7000, parse_slots_text("0-5460,5462"), 3),
            Shard(C, "127.0.0.1", 7002, parse_slots_text("5461,5463-16383"), 5),
        ),
        frozenset((7, 9000)),
        A,
    )


def test_nodes_of_later_servers_have_names_and_more() -> None:
    text = (
        f"{A} 10.0.0.1:7000@17000,host-a,tls-port=0,shard-id={C} master - 0 0 1 connected 0-1\n"
        f"{B} fe80::1:7001@17001, myself,master - 0 0 2 connected\n"
    ).encode()
    first, second = parse_nodes(text, "asked").primaries
    assert (first.host, first.port, second.host, second.port) == ("10.0.0.1", 7000, "fe80::1", 7001)
    assert (str(first), str(second)) == ("10.0.0.1:7000", "[fe80::1]:7001")


def test_a_node_that_knows_no_address_of_its_own() -> None:
    found = parse_nodes(f"{A} :7000@17000 myself,master - 0 0 0 connected 0-16383\n".encode(), "asked")
    assert found.primaries == (Shard(A, "asked", 7000, ALL_SLOTS),)


@pytest.mark.parametrize(
    ("flags", "primary", "failing"),
    [
        ("master", True, False),
        ("master,fail", True, True),
        ("master,fail?", True, True),
        ("master,nofailover", True, False),
        ("master,noaddr", False, False),
        ("handshake", False, False),
        ("master,handshake", False, False),
        ("slave", False, False),
        ("slave,fail", False, False),
    ],
)
def test_which_nodes_count(flags: str, primary: bool, failing: bool) -> None:
    found = parse_nodes(f"{A} h:1@2 {flags} - 0 0 1 connected\n".encode(), "asked")
    assert (len(found.primaries), found.failing) == (primary, frozenset((A,)) if failing else frozenset())


@pytest.mark.parametrize(
    "text",
    [
        b"x",
        b"id h:1@2 master - 0 0 x connected",
        b"id h@2 master - 0 0 1 connected",
        b"id h:1@2 master - 0 0 1 connected 9-99999",
    ],
)
def test_other_texts_are_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        parse_nodes(text, "asked")


# --- CLUSTER SLOTS


@pytest.mark.parametrize(
    ("node", "host"),
    [
        ([b"10.0.0.1", 7000, A.encode()], "10.0.0.1"),
        ([b"10.0.0.1", 7000, A.encode(), []], "10.0.0.1"),
        ([b"host", 7000, A.encode(), [b"ip", b"10.0.0.1"]], "host"),
        ([b"", 7000, A.encode()], "asked"),
        ([None, 7000, A.encode(), []], "asked"),
        ([b"?", 7000, A.encode(), [b"ip", b"10.0.0.1"]], "10.0.0.1"),
        ([b"?", 7000, A.encode(), []], "asked"),
    ],
)
def test_slots(node: list[object], host: str) -> None:
    replica = [b"r", 1, b"d" * 40]
    reply = [[0, 5, node, replica], [7, 7, node], [8, 9, [b"b", 2, B.encode()]]]
    assert parse_slots(reply, "asked").primaries == (
        Shard(A, host, 7000, parse_slots_text("0-5,7")),
        Shard(B, "b", 2, parse_slots_text("8-9")),
    )


@pytest.mark.parametrize("reply", [None, b"", [[0, 1]], [[0, 1, [b"h", 1]]], [[b"0", 1, [b"h", 1, b"i"]]]])
def test_other_replies_are_refused(reply: object) -> None:
    with pytest.raises(ValueError):
        parse_slots(reply, "asked")


def test_clients_are_sent_where_slots_says() -> None:
    slots = frozenset((1,))
    nodes = View((Shard("a", "ip", 1, slots, 4), Shard("b", "ip", 2)), slots, "a")
    places = parse_places([[1, 1, [b"name", 9, b"a"]], [2, 2, [b"name", 8, b"c"]]], "asked")
    moved = View((Shard("a", "name", 9, slots, 4), Shard("b", "ip", 2)), slots, "a")
    assert nodes.at(places) == moved


# --- One picture


def test_what_a_node_says_of_itself_counts_first() -> None:
    late = view("a", {"a": "0-4", "b": "5-9", "c": "10-16383"})
    moved = view("b", {"a": "0-4", "b": "5-8", "c": "9-16383"})
    new = view("c", {"a": "0-4", "b": "5-8", "c": "9-16383"}, open_slots="3")
    found = merge([late, moved, new])
    assert owners(found) == {"a": "0-4", "b": "5-8", "c": "9-16383"}
    assert (found.open_slots, found.uncovered, found.idle) == (frozenset((3,)), frozenset(), ())


def test_a_slot_that_two_claim_is_open() -> None:
    found = merge([view("a", {"a": "0-5"}, epochs="ab"), view("b", {"b": "5-16383"}, epochs="ab")])
    assert owners(found) == {"a": "0-4", "b": "5-16383"}
    assert found.open_slots == {5}


def test_a_slot_that_each_gives_to_the_other_is_open() -> None:
    first = view("a", {"a": "0-4", "b": "5-16383"}, epochs="ab")
    second = view("b", {"a": "0-5", "b": "6-16383"}, epochs="ab")
    found = merge([first, second])
    assert owners(found) == {"a": "0-4", "b": "5-16383"}
    assert found.open_slots == {5}
    assert not found.uncovered


def test_who_was_not_asked_owns_what_others_say() -> None:
    found = merge([view("a", {"a": "0-4", "b": "5-16383"})])
    assert owners(found) == {"a": "0-4", "b": "5-16383"}
    assert not found.open_slots


def test_after_a_failover_the_old_primary_of_a_late_view_owns_nothing() -> None:
    late = view("a", {"a": "0-4", "b": "5-16383"}, epochs="abc")
    replica = view("b", {"a": "0-4", "c": "5-16383"}, epochs="abc")
    promoted = view("c", {"a": "0-4", "c": "5-16383"}, epochs="abc")
    found = merge([late, replica, promoted])
    assert owners(found) == {"a": "0-4", "c": "5-16383"}
    assert not found.open_slots


def test_slots_without_owner_and_primaries_without_slots() -> None:
    found = merge([view("a", {"a": "0-4", "b": ""}), view("b", {"a": "0-4", "b": ""})])
    assert (slots_text(found.uncovered), [shard.id for shard in found.idle]) == ("5-16383", ["b"])
    assert (found.shard_at("a", 1), found.shard_at("b", 1), found.shard_at("b", 2)) == ("a", "b", None)
    owner = found.owner(4)
    assert owner is not None
    assert owner.id == "a"
    assert found.owner(5) is None


def test_addresses_come_with_the_highest_epoch_and_from_the_node_itself() -> None:
    old = View((Shard("a", "old", 1, ALL_SLOTS, 1),), myself="b")
    own = View((Shard("a", "own", 2, ALL_SLOTS, 2),), myself="a")
    other = View((Shard("a", "other", 3, ALL_SLOTS, 2),), myself="c")
    for views in ([old, own, other], [other, own, old]):
        (shard,) = merge(views).shards
        assert (str(shard), shard.epoch) == ("own:2", 2)


def test_a_server_that_is_no_cluster_is_one_shard() -> None:
    found = standalone("h", 1)
    assert not found.uncovered
    assert found.shard_at("h", 1) == "0"


# --- Text


@pytest.mark.parametrize("text", ["", "0", "0-16383", "0-5460,5462", "1,3,5-6"])
def test_text_of_slots(text: str) -> None:
    assert slots_text(parse_slots_text(text)) == text


@given(slot_sets)
def test_text_of_slots_and_back(slots: frozenset[int]) -> None:
    assert parse_slots_text(slots_text(slots)) == slots


@pytest.mark.parametrize("text", ["x", "-1", "5-3", "16384", "0-", "1;2"])
def test_bad_text_of_slots(text: str) -> None:
    with pytest.raises(ValueError):
        parse_slots_text(text)
