"""What writers were told is written, and whether it is there: every acknowledged write, counted.

Writers keep a ledger of keys that nobody else writes to; each knows exactly what those hold. A write whose
outcome is unknown, because the connection was lost, makes its key doubtful: less may not be there, more may.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from keyferry.model.errors import KeyferryError
from keyferry.model.keys import escape
from keyferry.testing.deployment import Client
from keyferry.wire.resp import Argument, Reply, ReplyError

Kind = Literal["number", "text", "items", "members", "fields", "entries", "absent"]
FINDINGS_MAX = 20
KEYS_PER_READ = 100

_READS: dict[Kind, tuple[tuple[Argument, ...], tuple[Argument, ...]]] = {
    "number": (("GET",), ()),
    "text": (("GET",), ()),
    "items": (("LRANGE",), (0, -1)),
    "members": (("SMEMBERS",), ()),
    "fields": (("HGETALL",), ()),
    "entries": (("XRANGE",), ("-", "+")),
    "absent": (("TYPE",), ()),
}
"""What stands before and after the key in the command that reads it."""


@dataclass(slots=True)
class Account:
    """One key.

    Attributes:
        items: Its value in pieces, in the order of their writing: of a number or a text one piece, of a hash
            "field=value", of a stream "id value"; of an absent key none.
        writes: How many acknowledged writes it stands for.
        doubtful: How many writes of unknown outcome it has seen.
    """

    kind: Kind
    items: list[bytes] = field(default_factory=list)
    writes: int = 0
    doubtful: int = 0


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found when ledgers were held against a server.

    Attributes:
        writes: Acknowledged writes that the ledgers stand for.
        missing: Of what they wrote is not there.
        doubled: Is there more than once, or although it was taken away.
        findings: The first keys that are not as they should be, in a sentence each.
    """

    keys: int
    writes: int
    missing: int
    doubled: int
    findings: tuple[str, ...]

    @property
    def exact(self) -> bool:
        return not (self.missing or self.doubled or self.findings)


class Ledger:
    """The accounts of one writer, all in one database."""

    def __init__(self) -> None:
        self.accounts: dict[bytes, Account] = {}

    def account(self, key: bytes, kind: Kind) -> Account:
        """The key's account, opened if there is none; a change of kind begins it anew."""
        account = self.accounts.get(key)
        if account is None:
            account = self.accounts[key] = Account(kind)
        elif account.kind != kind:
            account.kind = kind
            account.items.clear()
        return account

    def as_json(self) -> dict[str, Any]:
        """Bytes as text of one character each."""
        return {
            key.decode("latin-1"): [
                account.kind,
                [item.decode("latin-1") for item in account.items],
                account.writes,
                account.doubtful,
            ]
            for key, account in self.accounts.items()
        }

    @classmethod
    def of_json(cls, data: dict[str, Any]) -> Ledger:
        ledger = cls()
        for key, (kind, items, writes, doubtful) in data.items():
            encoded = [item.encode("latin-1") for item in items]
            ledger.accounts[key.encode("latin-1")] = Account(kind, encoded, writes, doubtful)
        return ledger


def audit(client: Client, ledgers: Iterable[Ledger]) -> Audit:
    """Counts every write of the ledgers on a server, whose client stands on their database.

    Raises:
        KeyferryError: The server refuses to be read.
    """
    accounts = [pair for ledger in ledgers for pair in ledger.accounts.items()]
    missing = doubled = 0
    findings: list[str] = []
    for first in range(0, len(accounts), KEYS_PER_READ):
        part = accounts[first : first + KEYS_PER_READ]
        for (key, account), reply in zip(part, client.pipeline([_read(*pair) for pair in part]), strict=True):
            less, more, text = judge(account, reply)
            missing += less
            doubled += more
            if text and len(findings) < FINDINGS_MAX:
                findings.append(f"{escape(key)}: {text}")
    writes = sum(account.writes for _, account in accounts)
    return Audit(len(accounts), writes, missing, doubled, tuple(findings))


def judge(account: Account, reply: Reply) -> tuple[int, int, str]:
    """Writes that are missing, writes that are there too often, and a sentence when something is not right."""
    if isinstance(reply, ReplyError):
        if reply.code != "WRONGTYPE":
            raise KeyferryError(f"A ledger cannot be counted: {reply.message}.")
        return len(account.items), 0, "holds another type"
    if account.kind == "absent":
        there = reply != b"none" and not account.doubtful
        return 0, int(there), "is there, and was deleted" if there else ""
    if account.kind == "number":
        expected = int(account.items[0]) if account.items else 0
        found = int(reply) if isinstance(reply, bytes) else 0
        if account.doubtful:
            return max(0, expected - found), 0, f"{found}, at least {expected} expected" * (found < expected)
        wrong = f"{found} instead of {expected}" if found != expected else ""
        return max(0, expected - found), max(0, found - expected), wrong
    return _pieces(account, pieces_of(account.kind, reply))


def pieces_of(kind: Kind, reply: Reply) -> list[bytes]:
    """A value as ``Account.items`` has it."""
    if isinstance(reply, bytes):
        return [reply]
    if not isinstance(reply, list):
        return []
    if kind == "fields":
        return [
            b"%b=%b" % (_bytes(name), _bytes(value))
            for name, value in zip(reply[::2], reply[1::2], strict=True)
        ]
    if kind == "entries":
        return [_entry(item) for item in reply]
    return [_bytes(item) for item in reply]


def _pieces(account: Account, found: Sequence[bytes]) -> tuple[int, int, str]:
    expected, there = Counter(account.items), Counter(found)
    missing, more = (expected - there).total(), (there - expected).total()
    if account.doubtful:
        missing = 0 if account.kind in ("text", "fields") else missing
        return missing, 0, f"{missing} pieces are missing" * bool(missing)
    if account.kind in ("text", "fields"):
        # Another value stands where the last one belongs: it is that one that is missing.
        more = max(0, more - missing)
    if missing or more:
        lost = next(iter(expected - there), next(iter(there - expected), b""))
        return missing, more, f"{missing} missing, {more} too many, such as {escape(lost)[:80]}"
    if account.kind in ("items", "entries") and list(found) != account.items:
        return 0, 0, "another order"
    return 0, 0, ""


def _read(key: bytes, account: Account) -> tuple[Argument, ...]:
    before, after = _READS[account.kind]
    return (*before, key, *after)


def _entry(item: Reply) -> bytes:
    """Of a stream's entry its id and its first value."""
    if not isinstance(item, list) or not isinstance(item[1], list):
        return b""
    return b"%b %b" % (_bytes(item[0]), _bytes(item[1][1]))


def _bytes(reply: Reply) -> bytes:
    return reply if isinstance(reply, bytes) else repr(reply).encode()
