"""Temporary names: in the key's slot, as our arithmetic and the servers themselves see it; one for each key."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from keyferry.model.keys import is_reserved
from keyferry.payload.names import SLOTS, slot, temporary_name
from keyferry.testing.cases import ODD_NAMES
from keyferry.testing.servers import Server

HARD_NAMES = [
    b"",
    b"}",
    b"{}",
    b"{}x",
    b"a}b",
    b"}{",
    b"{{}}",
    b"{a}{b}",
    b"{{a}",
    b"x{}y{z}",
    b"{\x00}",
    b"{" * 9,
]
KEYS = st.binary(max_size=40) | st.text("{}a", max_size=8).map(str.encode)


@given(KEYS)
def test_the_name_is_reserved_and_in_the_slot_of_the_key(key: bytes) -> None:
    name = temporary_name(key)
    assert slot(name) == slot(key)
    assert is_reserved(name)
    assert name != key
    assert temporary_name(key) == name


@given(st.sets(KEYS, min_size=2, max_size=5))
def test_different_keys_have_different_names(keys: set[bytes]) -> None:
    assert len({temporary_name(key) for key in keys}) == len(keys)


def test_slots_of_the_specification() -> None:
    assert slot(b"123456789") == 0x31C3
    assert slot(b"{user1000}.following") == slot(b"user1000")
    assert slot(b"foo{}{bar}") != slot(b"bar")


def test_every_slot_has_a_short_tag() -> None:
    """``N}`` is no tag itself; all slots are met by the first 200,000 or so."""
    keys: dict[int, bytes] = {}
    for number in count():
        key = b"%d}" % number
        keys.setdefault(slot(key), key)
        if len(keys) == SLOTS:
            break
    names = {index: temporary_name(key) for index, key in keys.items()}
    assert all(slot(name) == index for index, name in names.items())
    assert len(set(map(len, names.values()))) == 1


def test_servers_agree(server: Server, start_server: Callable[..., Server]) -> None:
    keys = [*HARD_NAMES, *ODD_NAMES.values(), *(b"%d}{%d" % (i, i) for i in range(50))]
    clustered = start_server(server.binary.name, cluster_enabled="yes")
    with clustered.session() as session:
        slots = session.pipeline([("CLUSTER", "KEYSLOT", key) for key in keys])
        temporary = session.pipeline([("CLUSTER", "KEYSLOT", temporary_name(key)) for key in keys])
    assert slots == [slot(key) for key in keys]
    assert temporary == slots
