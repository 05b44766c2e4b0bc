"""How a key is written for people and machines, and which slot's tag it has."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.model.keys import escape, hash_tag, machine_names


@given(st.binary(max_size=30))
def test_escape_is_printable_and_reversible(key: bytes) -> None:
    text = escape(key)
    assert text.isascii()
    assert text.isprintable()
    restored = re.sub(rb"\\x([0-9a-f]{2})", lambda match: bytes([int(match[1], 16)]), text.encode())
    assert restored == key
    assert base64.b64decode(machine_names(key)["key_base64"]) == key


@pytest.mark.parametrize(
    ("key", "tag"),
    [
        (b"a", b"a"),
        (b"{t}a", b"t"),
        (b"a{t}{u}", b"t"),
        (b"{}x", b"{}x"),
        (b"a}b", b"a}b"),
        (b"", b""),
        (b"{a", b"{a"),
        (b"{{a}}", b"{a"),
    ],
)
def test_hash_tag(key: bytes, tag: bytes) -> None:
    assert hash_tag(key) == tag
