"""Announced addresses and where they are reached."""

from __future__ import annotations

import pytest

from keyferry.model.announced import AddressMap, parse_pair
from keyferry.model.errors import UsageError


def mapped(*pairs: str) -> AddressMap:
    return AddressMap.of(map(parse_pair, pairs))


@pytest.mark.parametrize(
    ("pairs", "reached"),
    [
        ([], ("10.0.0.1", 7000)),
        (["10.0.0.2=h"], ("10.0.0.1", 7000)),
        (["10.0.0.1=h"], ("h", 7000)),
        (["10.0.0.1=h:1"], ("h", 1)),
        (["10.0.0.1:7000=h:1"], ("h", 1)),
        (["10.0.0.1:7000=h"], ("h", 7000)),
        (["10.0.0.1:7001=h:1"], ("10.0.0.1", 7000)),
        (["10.0.0.1=any", "10.0.0.1:7000=exact:2"], ("exact", 2)),
        (["10.0.0.1=[::1]:5", "10.0.0.1=[::1]:5"], ("::1", 5)),
    ],
)
def test_reach(pairs: list[str], reached: tuple[str, int]) -> None:
    assert mapped(*pairs).reach("10.0.0.1", 7000) == reached


def test_names_are_the_same_in_any_case() -> None:
    assert mapped("[FE80::1]=a", "Node=b").reach("fe80::1", 1) == ("a", 1)
    assert mapped("[FE80::1]=a", "Node=b").reach("NODE", 1) == ("b", 1)


def test_one_address_has_one_place() -> None:
    with pytest.raises(UsageError, match="Two places are given for a:1: b and c:2"):
        mapped("a:1=b", "a:1=c:2")


@pytest.mark.parametrize("text", ["", "a", "a:1", "=b", "a=", "a=b:x", "a=b=c:1:2", "fe80::1=a"])
def test_bad_pairs(text: str) -> None:
    with pytest.raises(UsageError):
        parse_pair(text)
