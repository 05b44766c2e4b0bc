"""The stream commands of a workload, and those of its blocked readers. Decides only, as ``workload_ops``."""

from __future__ import annotations

from collections.abc import Callable

from keyferry.testing.workload_names import Draw
from keyferry.testing.workload_ops import SINCE_7, Command, Op
from keyferry.wire.resp import Argument

GROUPS = ("workers", "audit", "group three")
CONSUMERS = ("ann", "bob", "c \x7f")
BLOCK_MS = 150
BLOCK_S = "0.15"


def _group(d: Draw) -> str:
    return d.rng.choice(GROUPS)


def _consumer(d: Draw) -> str:
    return d.rng.choice(CONSUMERS)


def _xreadgroup(d: Draw, key: bytes, *options: Argument) -> Command:
    start = ">" if d.chance(0.9) else "0"
    return ("XREADGROUP", "GROUP", _group(d), _consumer(d), *options, "STREAMS", key, start)


_ACK_SCRIPT = """
local pending = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', ARGV[2])
local done = 0
for _, entry in ipairs(pending) do
  if ARGV[3] == 'ack' then
    done = done + redis.call('XACK', KEYS[1], ARGV[1], entry[1])
  elseif ARGV[3] == 'delete' then
    done = done + redis.call('XDEL', KEYS[1], entry[1])
  else
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[3], 0, entry[1])
  end
end
return done
"""
"""In one step, so that what is pending is what is answered for."""


def _pending(d: Draw, what: str) -> Command:
    return ("EVAL", _ACK_SCRIPT, 1, d.key("stream"), _group(d), d.rng.randint(1, 4), what)


STREAMS = (
    Op(6, "XADD", lambda d: [("XADD", d.key("stream"), "*", *d.pairs(2))]),
    Op(1, "XADD id", lambda d: [("XADD", d.key("stream"), d.stream_id(), "given", d.value())]),
    Op(1, "XADD MAXLEN", lambda d: [("XADD", d.key("stream"), "MAXLEN", "~", 50, "*", "f", d.value())]),
    Op(0.5, "XADD NOMKSTREAM", lambda d: [("XADD", d.key("stream"), "NOMKSTREAM", "*", "f", d.value())]),
    Op(1, "XTRIM", lambda d: [("XTRIM", d.key("stream"), "MAXLEN", d.rng.randrange(40))]),
    Op(2, "XGROUP CREATE", lambda d: [("XGROUP", "CREATE", d.key("stream"), _group(d), d.one_of("0", "$"))]),
    Op(0.5, "XGROUP MKSTREAM", lambda d: [("XGROUP", "CREATE", d.key("stream"), _group(d), "$", "MKSTREAM")]),
    Op(0.5, "XGROUP SETID", lambda d: [("XGROUP", "SETID", d.key("stream"), _group(d), d.one_of("0", "$"))]),
    Op(0.2, "XGROUP DESTROY", lambda d: [("XGROUP", "DESTROY", d.key("stream"), _group(d))]),
    Op(0.5, "XGROUP CREATECONSUMER", lambda d: [("XGROUP", "CREATECONSUMER", d.key("stream"), _group(d), _consumer(d))]),
    Op(0.3, "XGROUP DELCONSUMER", lambda d: [("XGROUP", "DELCONSUMER", d.key("stream"), _group(d), _consumer(d))]),
    Op(3, "XREADGROUP", lambda d: [_xreadgroup(d, d.key("stream"), "COUNT", d.rng.randint(1, 4))]),
    Op(0.5, "XREADGROUP NOACK", lambda d: [_xreadgroup(d, d.key("stream"), "COUNT", 2, "NOACK")]),
    Op(3, "XACK", lambda d: [_pending(d, "ack")]),
    Op(1, "XCLAIM", lambda d: [_pending(d, _consumer(d))]),
    Op(1, "XAUTOCLAIM", lambda d: [("XAUTOCLAIM", d.key("stream"), _group(d), _consumer(d), 0, "-", "COUNT", 3)]),
    Op(0.3, "XSETID", lambda d: [("XSETID", d.key("stream"), f"{d.now_ms + d.rng.randrange(500)}-0")]),
    Op(0.2, "XSETID counters", lambda d: [("XSETID", d.key("stream"), f"{d.now_ms + 300}-0", "ENTRIESADDED", 500, "MAXDELETEDID", "5-5")], needs=SINCE_7),
)  # fmt: skip

DANGLING = (Op(0.5, "XDEL", lambda d: [_pending(d, "delete")]),)
"""Entries that are gone and still pending, which some pairs of servers cannot carry."""

READS: tuple[tuple[str, Callable[[Draw], Command]], ...] = (
    ("BLPOP", lambda d: ("BLPOP", *d.keys("queue", "queue"), BLOCK_S)),
    ("BRPOP", lambda d: ("BRPOP", *d.keys("queue", "list"), BLOCK_S)),
    ("BLMOVE", lambda d: ("BLMOVE", *d.keys("queue", "queue"), "LEFT", "RIGHT", BLOCK_S)),
    ("BRPOPLPUSH", lambda d: ("BRPOPLPUSH", *d.keys("queue", "list"), BLOCK_S)),
    ("BLMPOP", lambda d: ("BLMPOP", BLOCK_S, 2, *d.keys("queue", "queue"), "LEFT", "COUNT", 3)),
    ("BZPOPMIN", lambda d: ("BZPOPMIN", *d.keys("zset", "zset"), BLOCK_S)),
    ("BZPOPMAX", lambda d: ("BZPOPMAX", d.key("zset"), BLOCK_S)),
    ("XREADGROUP", lambda d: _xreadgroup(d, d.key("stream"), "BLOCK", BLOCK_MS)),
)
"""Commands that wait for what others write; each ends by itself."""
