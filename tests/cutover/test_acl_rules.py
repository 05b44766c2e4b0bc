"""A user's rules read, taken and set again, without servers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.cutover.acl_rules import (
    Categories,
    Selector,
    UserRules,
    allows,
    read_user,
    read_writes,
    user_as_dict,
    user_of_dict,
)

WRITES: Categories = {
    b"set": frozenset((b"@write", b"@string")),
    b"xgroup|create": frozenset((b"@write", b"@stream")),
    b"vadd": frozenset((b"@vector",)),
}


@pytest.mark.parametrize(
    ("rules", "command", "allowed"),
    [
        (b"+@all", b"set", True),
        (b"allcommands", b"set", True),
        (b"-@all", b"set", False),
        (b"", b"set", False),
        (b"+@all -@write", b"set", False),
        (b"+@all -@write +set", b"set", True),
        (b"+@all -@write", b"vadd", True),
        (b"+@all -@write -vadd", b"vadd", False),
        (b"-@all +@string -set", b"set", False),
        (b"-@all +@read", b"set", False),
        (b"-@all +xgroup|create", b"xgroup|create", True),
        (b"-@all +xgroup", b"xgroup|create", True),
        (b"+@all -xgroup|create", b"xgroup|create", False),
        (b"-@all +xgroup|help", b"xgroup|create", False),
        (b"-@all +SET", b"set", True),
        (b"+@all nocommands", b"set", False),
    ],
)
def test_the_last_word_counts(rules: bytes, command: bytes, allowed: bool) -> None:
    assert allows(rules, command, WRITES[command]) is allowed


def test_a_single_subcommand_of_what_is_one_command() -> None:
    """6.2 knows XGROUP as one command and lists its single subcommands."""
    assert allows(b"-@all +xgroup|create", b"xgroup", frozenset((b"@write",)))


def test_any_selector_may_allow() -> None:
    user = UserRules(b"u", b"-@all +@read", (Selector(b"-@all +get"), Selector(b"-@all +vadd")))
    assert user.may_write(WRITES)
    assert not UserRules(b"u", b"-@all +@read", (Selector(b"-@all +get"),)).may_write(WRITES)


def test_taking_and_giving_back_are_one_command_each() -> None:
    user = UserRules(b"u", b"+@all -debug")
    assert user.barring(WRITES) == ("ACL", "SETUSER", b"u", b"-@write", b"-vadd")
    assert user.restoring() == ("ACL", "SETUSER", b"u", b"-@all", b"+@all", b"-debug")


def test_selectors_are_set_anew_in_their_order() -> None:
    one = Selector(b"-@all +@write", b"~b* %R~c*", b"&x*", b"alldbs")
    user = UserRules(b"u", b"-@all", (one, Selector(b"+@all", b"~d", b"", b"db=3")))
    assert user.restoring()[4:] == (
        b"-@all",
        b"clearselectors",
        b"(~b* %R~c* resetchannels &x* -@all +@write)",
        b"(~d resetchannels db=3 +@all)",
    )
    assert user.barring(WRITES)[3:] == (
        b"-@write",
        b"-vadd",
        b"clearselectors",
        b"(~b* %R~c* resetchannels &x* -@all +@write -@write -vadd)",
        b"(~d resetchannels db=3 +@all -@write -vadd)",
    )


def test_getuser_of_each_make() -> None:
    old: Any = [
        b"flags",
        [b"on"],
        b"passwords",
        [b"ff"],
        b"commands",
        b"+@all",
        b"keys",
        [b"*"],
        b"channels",
        [b"*"],
    ]
    assert read_user(b"u", old) == UserRules(b"u", b"+@all")
    selector = [b"commands", b"+@all", b"keys", b"~a", b"channels", b""]
    new: Any = [
        b"flags",
        [b"on"],
        b"passwords",
        [],
        b"commands",
        b"-@all",
        b"keys",
        b"~*",
        b"selectors",
        [selector],
    ]
    assert read_user(b"u", new) == UserRules(b"u", b"-@all", (Selector(b"+@all", b"~a"),))
    assert read_user(b"u", None) is None


@pytest.mark.parametrize("reply", [7, [b"commands"], [b"flags", []], [b"commands", b"", b"selectors", [7]]])
def test_getuser_of_another_form(reply: Any) -> None:
    with pytest.raises(ValueError, match="another form"):
        read_user(b"u", reply)


def test_command_of_each_make() -> None:
    rows: Any = [
        [b"get", 2, [b"readonly"], 1, 1, 1, [b"@read"]],
        [b"set", -3, [b"write"], 1, 1, 1, [b"@write"]],
        [b"VADD", -5, [b"write"], 1, 1, 1, [], [], [], []],
        [
            b"xgroup",
            -2,
            [b"write"],
            0,
            0,
            0,
            [],
            [],
            [],
            [[b"xgroup|create", -5, [b"write"], 2, 2, 1, [b"@write"]]],
        ],
    ]
    assert read_writes(rows) == {
        b"set": frozenset((b"@write",)),
        b"vadd": frozenset(),
        b"xgroup|create": frozenset((b"@write",)),
    }
    others: list[Any] = [b"x", [b"x"], [[b"get"]]]
    for other in others:
        with pytest.raises(ValueError, match="COMMAND"):
            read_writes(other)


PARTS = st.binary(max_size=12)


@given(
    st.builds(UserRules, PARTS, PARTS, st.lists(st.builds(Selector, PARTS, PARTS, PARTS, PARTS)).map(tuple))
)
def test_any_bytes_come_back_from_a_journal(user: UserRules) -> None:
    assert user_of_dict(json.loads(json.dumps(user_as_dict(user)))) == user
