"""A key is called by its name only where names are asked for."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from keyferry.model.keynames import NAME_BYTES_MAX, KeyNames


@given(st.binary(max_size=300))
def test_a_mark_says_nothing_of_the_name(key: bytes) -> None:
    mark = KeyNames().name(key)
    assert re.fullmatch("#[0-9a-f]{8}", mark)
    assert mark == KeyNames(show=False).name(key)


def test_two_keys_are_told_apart() -> None:
    assert len({KeyNames().name(b"user:%d" % number) for number in range(100)}) == 100


def test_a_name_is_one_short_line_of_printable_ascii() -> None:
    names = KeyNames(show=True)
    assert names.name(b"user:42") == "user:42"
    assert names.name(b"a\nb\xff\\") == "a\\x0ab\\xff\\x5c"
    long = names.name(b"k" * 10_000_000)
    assert long == "k" * NAME_BYTES_MAX + "..."
