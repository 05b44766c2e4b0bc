"""Names that stay bytes: sifted, woven, parted and picked by both twins."""

from __future__ import annotations

import random
import struct
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from relay_script import scan_page

from keyferry.model.build import wanted
from keyferry.payload.names import SLOTS, slot
from keyferry.transfer import comparing_names
from keyferry.transfer.comparing_config import Names, Sieve
from keyferry.transfer.comparing_names import framed
from keyferry.wire.resp import ProtocolError, ReplyParser, encode_command, encode_commands

try:
    from keyferry.transfer import _comparing
except ImportError:
    if wanted() == "compiled":
        raise
    TWINS: list[ModuleType | None] = [None]
else:
    TWINS = [None, _comparing]

KEYS = st.lists(
    st.binary(max_size=12)
    | st.sampled_from(
        [b"", b"\r\n", b"$5\r\n", b"keyferry:x", b"keyferry", b"{a}b", b"k" * 200, b"\x00\xff"]
    ),
    max_size=12,
)


class Twin:
    """The functions of one implementation."""

    def __init__(self, module: ModuleType | None) -> None:
        names = comparing_names
        self.sifted = names.sifted_pure if module is None else module.sifted
        self.woven = names.woven_pure if module is None else module.woven
        self.exists = names.exists_pure if module is None else module.exists
        self.picked = names.picked_pure if module is None else module.picked
        self.parted = names.parted_pure if module is None else module.parted


@pytest.fixture(params=TWINS, ids=lambda module: "pure" if module is None else "compiled", scope="module")
def twin(request: pytest.FixtureRequest) -> Twin:
    return Twin(request.param)


def commands(data: bytes) -> list[Any]:
    parser = ReplyParser()
    parser.feed(data)
    found = parser.replies()
    assert not parser.buffered_bytes
    return list(found)


@given(
    keys=KEYS,
    seed=st.integers(0, 5),
    lanes=st.sampled_from([0, 1, 3]),
    choosy=st.booleans(),
    filtered=st.booleans(),
)
def test_keys_of_a_page_by_lane(
    twin: Twin, keys: list[bytes], seed: int, lanes: int, choosy: bool, filtered: bool
) -> None:
    rnd = random.Random(seed)
    table = [rnd.randrange(max(1, lanes)) for _ in range(SLOTS)]
    flags = rnd.choices([0, 1], k=SLOTS)
    sieve = Sieve(
        lanes=max(1, lanes),
        slots=struct.pack(f"<{SLOTS}H", *table) if lanes else b"",
        wanted_slots=bytes(flags) if choosy else b"",
        passes=(lambda key: len(key) % 2 == 0) if filtered else None,
    )
    wanted_keys = [
        key
        for key in keys
        if not key.startswith(b"keyferry:")
        and (not choosy or flags[slot(key)])
        and (not filtered or len(key) % 2 == 0)
    ]
    by_lane: dict[int, list[bytes]] = {}
    for key in wanted_keys:
        by_lane.setdefault(table[slot(key)] if lanes else 0, []).append(key)
    assert twin.sifted(scan_page(b"17", keys), sieve) == (
        b"17",
        [(lane, framed(by_lane[lane])) for lane in sorted(by_lane)],
    )


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b":1\r\n",
        b"*1\r\n$1\r\n0\r\n",
        b"*2\r\n$1\r\nx\r\n*0\r\n",
        b"*2\r\n$-1\r\n*0\r\n",
        b"*2\r\n$1\r\n0\r\n*-1\r\n",
        b"*2\r\n$1\r\n0\r\n*1\r\n$-1\r\n",
        b"*2\r\n$1\r\n0\r\n*2\r\n$1\r\na\r\n",
        b"*2\r\n$1\r\n0\r\n*0\r\n:1\r\n",
    ],
)
def test_what_is_no_page(twin: Twin, reply: bytes) -> None:
    with pytest.raises(ProtocolError):
        twin.sifted(reply, Sieve())


@given(keys=KEYS)
def test_commands_are_woven_around_names(twin: Twin, keys: list[bytes]) -> None:
    pieces = [b"*3\r\n$8\r\nGETRANGE\r\n", b"$1\r\n0\r\n*2\r\n$4\r\nPTTL\r\n", b""]
    assert commands(twin.woven(framed(keys), pieces)) == [
        command for key in keys for command in ([b"GETRANGE", key, b"0"], [b"PTTL", key])
    ]


@given(keys=KEYS, each=st.integers(1, 14))
def test_exists_for_many_at_once(twin: Twin, keys: list[bytes], each: int) -> None:
    chunks = [keys[begin : begin + each] for begin in range(0, len(keys), each)]
    assert twin.exists(framed(keys), each) == encode_commands([("EXISTS", *chunk) for chunk in chunks])


@given(keys=KEYS, data=st.data())
def test_names_are_picked_and_parted(twin: Twin, keys: list[bytes], data: st.DataObject) -> None:
    numbers = sorted(data.draw(st.sets(st.integers(0, max(0, len(keys) - 1)), max_size=len(keys))))
    if keys:
        assert twin.picked(framed(keys), numbers) == [keys[number] for number in numbers]
    count = data.draw(st.integers(0, len(keys) + 1))
    assert twin.parted(framed(keys), count) == (framed(keys[:count]), framed(keys[count:]))


@pytest.mark.parametrize(
    "names",
    [
        Names(1, b""),
        Names(2, b"$1\r\na\r\n"),
        Names(1, b"$-1\r\n"),
        Names(1, b"$1\r\nab\r\n"),
        Names(1, b":1\r\n"),
    ],
)
def test_what_are_no_names(twin: Twin, names: Names) -> None:
    for call in (
        lambda: twin.woven(names, [b"a", b"b"]),
        lambda: twin.exists(names, 2),
        lambda: twin.picked(names, list(range(names.number))),
    ):
        with pytest.raises((ValueError, ProtocolError)):
            call()


def test_a_command_that_is_woven_is_the_one_that_is_encoded(twin: Twin) -> None:
    pieces = [b"*2\r\n$4\r\nDUMP\r\n", b""]
    assert twin.woven(framed([b"a b"]), pieces) == encode_command("DUMP", b"a b")
