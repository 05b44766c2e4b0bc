"""What a client in a dual phase does with each command, and why: decided here, by hand, one group at a time.

Everything else follows from the server's own flags: a command without the write flag that is about data is read
from the authority alone, a write that always repeats is repeated as it is. The pages of the documentation are
made of these groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Treatment(StrEnum):
    """What happens to a command in a dual phase.

    Attributes:
        READ: writes nothing; the authority answers.
        MIRROR: repeated on the other side as it is.
        REWRITE: what the other side gets is made of the arguments and of the authority's reply.
        REPORT: not repeated; its keys are reported, to be settled.
        LOCAL: about one server or one connection; only the authority gets it.
        BOTH: names no key and is wanted on both sides.
        SESSION: the state of a connection; the client keeps it itself.
    """

    READ = "read"
    MIRROR = "mirror"
    REWRITE = "rewrite"
    REPORT = "report"
    LOCAL = "local"
    BOTH = "both"
    SESSION = "session"


@dataclass(frozen=True, slots=True)
class Group:
    """Commands that share a treatment and the reason for it.

    Attributes:
        names: as in the table, separated by blanks; a subcommand with "|" after its command.
        effect: what the other side gets, as the documentation says it.
    """

    treatment: Treatment
    names: str
    effect: str

    @property
    def commands(self) -> tuple[str, ...]:
        """The names, a subcommand with a blank before it."""
        return tuple(name.replace("|", " ") for name in self.names.split())


_REWRITE = Treatment.REWRITE
_REPORT = Treatment.REPORT

SCRIPTS = "EVAL EVALSHA FCALL TFCALL TFCALLASYNC"

GROUPS: tuple[Group, ...] = (
    # Strings.
    Group(
        _REWRITE,
        "SET",
        "`SET` when it took effect: without `NX`, `XX`, `IFEQ` and `GET`, its expiry absolute",
    ),
    Group(_REWRITE, "SETEX PSETEX", "`SET` with an absolute expiry"),
    Group(_REWRITE, "SETNX GETSET", "`SET`, when it took effect"),
    Group(_REWRITE, "MSETNX", "`MSET`, when it took effect"),
    Group(_REWRITE, "MSETEX", "`MSET`, or a `SET` with an absolute expiry for each key, when it took effect"),
    Group(_REWRITE, "INCRBYFLOAT", "`SET ... KEEPTTL` of the value it came to"),
    Group(_REWRITE, "GETDEL DELIFEQ DELEX", "`DEL`, when there was something to delete"),
    Group(_REWRITE, "GETEX", "`PEXPIREAT`, `PERSIST` or nothing, as its option says"),
    Group(_REWRITE, "BITFIELD", "as it is, unless it only reads"),
    # Any type.
    Group(
        _REWRITE,
        "EXPIRE PEXPIRE EXPIREAT PEXPIREAT",
        "`PEXPIREAT` when it took effect, without its condition; `DEL` when that time is past",
    ),
    Group(_REWRITE, "COPY", "`COPY ... REPLACE`, when it took effect"),
    Group(_REWRITE, "RENAMENX", "`RENAME`, when it took effect"),
    Group(_REWRITE, "MOVE", "as it is, when it took effect"),
    Group(
        _REWRITE,
        "RESTORE",
        "`RESTORE ... REPLACE ABSTTL`; where the other side refuses the payload, the key is reported",
    ),
    Group(_REWRITE, "SORT GEORADIUS GEORADIUSBYMEMBER", "as it is with `STORE`, nothing without"),
    # Lists.
    Group(_REWRITE, "LPUSHX RPUSHX", "`LPUSH`, `RPUSH`, when the list was there"),
    Group(_REWRITE, "LINSERT", "as it is, when it took effect"),
    Group(
        _REWRITE,
        "LPOP RPOP BLPOP BRPOP LMPOP BLMPOP",
        "`LPOP` or `RPOP` of as many as were popped, from the list they were popped from",
    ),
    Group(_REWRITE, "LMOVE RPOPLPUSH BLMOVE BRPOPLPUSH", "`LMOVE`, `RPOPLPUSH`, when something was moved"),
    # Sets and sorted sets.
    Group(_REWRITE, "SPOP", "`SREM` of the members that were popped"),
    Group(_REWRITE, "SMOVE", "as it is, when the member was there"),
    Group(
        _REWRITE,
        "ZPOPMIN ZPOPMAX BZPOPMIN BZPOPMAX ZMPOP BZMPOP",
        "`ZREM` of the members that were popped, from the key they were popped from",
    ),
    Group(
        _REWRITE,
        "ZADD GEOADD",
        "with `NX`, `XX`, `GT`, `LT`: without them when the reply says that all took effect, nothing when it says "
        "that none did, as it is when it cannot say; with `INCR` the score that it came to",
    ),
    # Hashes.
    Group(_REWRITE, "HSETNX", "`HSET`, when it took effect"),
    Group(
        _REWRITE,
        "HINCRBYFLOAT",
        "as it is: what it came to is in its reply, and `HSET` would take a field's expiry off",
    ),
    Group(
        _REWRITE,
        "HEXPIRE HPEXPIRE HEXPIREAT HPEXPIREAT",
        "`HPEXPIREAT` of the fields that it took effect on, `HDEL` of those whose time was past",
    ),
    Group(_REWRITE, "HGETEX", "`HPEXPIREAT`, `HPERSIST` or nothing, of the fields that were there"),
    Group(_REWRITE, "HGETDEL", "`HDEL` of the fields that were there"),
    Group(
        _REWRITE, "HSETEX", "`HSETEX` without its conditions and with an absolute expiry, when it took effect"
    ),
    # Streams.
    Group(
        _REWRITE,
        "XADD",
        "with the id that the authority gave; a trim with `~` goes along, and the key is reported, because where "
        "such a trim stops depends on the server's memory blocks",
    ),
    Group(_REWRITE, "XTRIM", "as it is; with `~` the key is reported instead, when something was trimmed"),
    Group(
        _REWRITE,
        "XREADGROUP XCLAIM XAUTOCLAIM",
        "nothing; the keys of the entries in the reply are reported: who got what and when is the server's own",
    ),
    # Modules.
    Group(_REWRITE, "JSON.SET", "as it is without `NX` and `XX`, when it took effect"),
    Group(_REWRITE, "TS.ADD TS.MADD TS.INCRBY TS.DECRBY", "with the timestamp that the authority gave"),
    # What cannot be repeated.
    Group(
        _REPORT,
        SCRIPTS,
        "nothing; its keys are reported, and everything when it names none "
        "(with `mirror_scripts=True` it is repeated as it is)",
    ),
    Group(
        _REPORT,
        "MIGRATE RESTORE-ASKING",
        "nothing: it is about moving keys between servers; its keys are reported",
    ),
    Group(
        _REPORT,
        "INCREX LMOVEM BLMOVEM XNACK XCFGSET",
        "nothing: too new to be known by heart; its keys are reported",
    ),
    Group(_REPORT, "CLUSTER|FLUSHSLOT", "nothing: slots may be cut otherwise there; everything is reported"),
    Group(
        _REPORT,
        "TOPK.ADD TOPK.INCRBY GRAPH.QUERY GRAPH.PROFILE GRAPH.BULK",
        "nothing: it decides by chance, or runs a program; its key is reported",
    ),
    Group(_REPORT, "PFDEBUG", "nothing: a test of the server's own; its key is reported"),
    # Without keys, and wanted on both sides.
    Group(Treatment.BOTH, "FLUSHALL FLUSHDB SWAPDB", "as it is; when that fails, everything is reported"),
    Group(
        Treatment.BOTH,
        "SCRIPT|LOAD SCRIPT|FLUSH FUNCTION|LOAD FUNCTION|DELETE FUNCTION|FLUSH FUNCTION|RESTORE "
        "TFUNCTION|LOAD TFUNCTION|DELETE",
        "as it is: scripts and functions are no keys",
    ),
    Group(
        Treatment.BOTH,
        "FT.CREATE FT.ALTER FT.DROPINDEX FT.ALIASADD FT.ALIASDEL FT.ALIASUPDATE FT.DICTADD FT.DICTDEL FT.SYNUPDATE "
        "FT._CREATEIFNX FT._ALTERIFNX FT._DROPIFX FT._DROPINDEXIFX FT._ALIASADDIFNX FT._ALIASDELIFX FT.DROP FT.SYNADD",
        "as it is: an index is no key",
    ),
    Group(
        Treatment.MIRROR, "PFCOUNT", "as it is: it may renew a cache inside the key, and servers replicate it"
    ),
    # Connections.
    Group(
        Treatment.SESSION,
        "MULTI EXEC DISCARD WATCH UNWATCH SELECT AUTH HELLO RESET QUIT ASKING READONLY READWRITE",
        "the state of a connection, which the client keeps itself",
    ),
    Group(Treatment.LOCAL, "LOLWUT POST HOST:", "nothing: there is no data in it"),
    Group(
        Treatment.LOCAL,
        "PUBLISH SPUBLISH SUBSCRIBE PSUBSCRIBE SSUBSCRIBE UNSUBSCRIBE PUNSUBSCRIBE SUNSUBSCRIBE",
        "nothing: a message that is published on both sides would arrive twice",
    ),
)

SCRIPTED = frozenset(SCRIPTS.split())
EVERYTHING = frozenset({"FLUSHALL", "FLUSHDB", "SWAPDB"})
"""Of the commands for both sides those that change keys, any of them."""


def treatments() -> dict[str, Treatment]:
    """The treatments that are decided here, by name."""
    return {name: group.treatment for group in GROUPS for name in group.commands}
