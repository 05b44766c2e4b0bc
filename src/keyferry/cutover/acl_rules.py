"""What a user of the server may run, without its right to write, and exactly back. Pure.

Rights are taken by command rules alone: passwords, keys, channels and flags of a user stay as they are, and nothing of
them is written down. ``-@write`` takes what the server itself calls a write; a module's command may write without
being in that category (VADD of Redis 8.2), so those that COMMAND flags as writes are taken by name as well.

A user's rights are its root rules and, since 7.0, further selectors, any of which may allow a command. A selector
cannot be changed, so all of a user's are cleared and set again, in their order.

Sources: https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/ and the replies of ACL GETUSER
(a map of flags, passwords, commands, keys, channels, and since 7.0 selectors, since Valkey 9.1 databases).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from keyferry.wire.resp import Argument, Reply

WRITE_CATEGORY = b"@write"
_DATABASES_ALL = b"alldbs"

Categories = Mapping[bytes, frozenset[bytes]]
"""Commands that write, in lower case and with a bar before the subcommand, and their categories (``@write``)."""


@dataclass(frozen=True, slots=True)
class Selector:
    """One set of rules, each as ACL GETUSER spells it: words with blanks between them, in the server's order."""

    commands: bytes
    keys: bytes = b""
    channels: bytes = b""
    databases: bytes = b""

    def rule(self, more: bytes = b"") -> bytes:
        """The one argument of ACL SETUSER that makes it, with ``more`` rules behind its commands."""
        databases = b"" if self.databases == _DATABASES_ALL else self.databases
        words = [self.keys, b"resetchannels", self.channels, databases, self.commands, more]
        return b"(%b)" % b" ".join(word for word in words if word)


@dataclass(frozen=True, slots=True)
class UserRules:
    """A user's command rules and selectors: all that taking rights away changes."""

    name: bytes
    commands: bytes
    selectors: tuple[Selector, ...] = ()

    def may_write(self, writes: Categories) -> bool:
        """Whether any of its rules allows any of these commands."""
        rules = [self.commands, *(selector.commands for selector in self.selectors)]
        return any(allows(rule, name, cats) for rule in rules for name, cats in writes.items())

    def barring(self, writes: Categories) -> tuple[Argument, ...]:
        """The command that takes them all away."""
        rules = [b"-@write", *(b"-" + name for name, cats in writes.items() if WRITE_CATEGORY not in cats)]
        more = b" ".join(rules)
        return self._command(*rules, *self._selected(more))

    def restoring(self) -> tuple[Argument, ...]:
        """The command after which the user has these rules and selectors, whatever they are now."""
        return self._command(b"-@all", *self.commands.split(), *self._selected())

    def _selected(self, more: bytes = b"") -> list[bytes]:
        if not self.selectors:
            return []
        return [b"clearselectors", *(selector.rule(more) for selector in self.selectors)]

    def _command(self, *rules: bytes) -> tuple[Argument, ...]:
        return ("ACL", "SETUSER", self.name, *rules)


def read_user(name: bytes, reply: Reply) -> UserRules | None:
    """What ACL GETUSER says; None: there is no such user.

    Raises:
        ValueError: It says something else.
    """
    if reply is None:
        return None
    found = _pairs(reply)
    commands, selectors = found.get(b"commands"), found.get(b"selectors", [])
    if not isinstance(commands, bytes) or not isinstance(selectors, list):
        raise ValueError("ACL GETUSER has another form")
    return UserRules(name, commands, tuple(_selector(_pairs(one)) for one in selectors))


def read_writes(reply: Reply) -> Categories:
    """The commands that COMMAND flags as writes, and their subcommands.

    Raises:
        ValueError: It says something else.
    """
    if not isinstance(reply, list):
        raise ValueError("COMMAND has another form")
    return dict(_writes(reply))


def _writes(rows: Iterable[Any]) -> Iterable[tuple[bytes, frozenset[bytes]]]:
    for row in rows:
        # name, arity, flags, first key, last key, step, categories (6.0), tips, key specs, subcommands (7.0)
        match row:
            case [bytes(name), _, list(flags), _, _, _, list(categories), *rest]:
                subcommands = rest[2] if len(rest) > 2 and isinstance(rest[2], list) else []
                yield from _writes(subcommands)
                # A family whose subcommands are judged one by one has no rule of its own.
                if b"write" in flags and not subcommands:
                    yield name.lower(), frozenset(categories)
            case _:
                raise ValueError("a row of COMMAND has another form")


def allows(rules: bytes, command: bytes, categories: frozenset[bytes]) -> bool:
    """Whether command rules allow a command: the last one that speaks of it counts.

    Args:
        rules: Such as ``+@all -@dangerous +xgroup|create``; without any, nothing is allowed.
        command: In lower case; a subcommand as ``xgroup|create``.
    """
    family = command.partition(b"|")[0]
    allowed = False
    for word in rules.lower().split():
        sign, named = word[:1], word[1:]
        if word in (b"allcommands", b"nocommands"):
            allowed = word == b"allcommands"
        elif named in (b"@all", command, family) or named in categories:
            allowed = sign == b"+"
        elif sign == b"+" and named.startswith(command + b"|"):
            # 6.2 gives single subcommands of what it knows as one command.
            allowed = True
    return allowed


def user_as_dict(found: UserRules) -> dict[str, Any]:
    """For a journal: plain texts, from which ``user_of_dict`` makes the same again."""
    return {
        "name": _text(found.name),
        "commands": _text(found.commands),
        "selectors": [
            {
                "commands": _text(one.commands),
                "keys": _text(one.keys),
                "channels": _text(one.channels),
                "databases": _text(one.databases),
            }
            for one in found.selectors
        ],
    }


def user_of_dict(data: Mapping[str, Any]) -> UserRules:
    """The reverse of ``user_as_dict``. Raises KeyError, TypeError or AttributeError for something else."""
    selectors = tuple(
        Selector(*(_bytes(one[part]) for part in ("commands", "keys", "channels", "databases")))
        for one in data["selectors"]
    )
    return UserRules(_bytes(data["name"]), _bytes(data["commands"]), selectors)


def _text(value: bytes) -> str:
    # A pattern may be any bytes; these come back from JSON as they were.
    return value.decode("utf-8", "surrogateescape")


def _bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")


def _pairs(reply: Any) -> dict[bytes, Any]:
    if not isinstance(reply, list) or len(reply) % 2:
        raise ValueError("ACL GETUSER has another form")
    return dict(zip(reply[::2], reply[1::2], strict=True))


def _selector(found: Mapping[bytes, Any]) -> Selector:
    parts = [found.get(name, b"") for name in (b"commands", b"keys", b"channels", b"databases")]
    if not all(isinstance(part, bytes) for part in parts):
        raise ValueError("a selector of ACL GETUSER has another form")
    return Selector(*parts)
