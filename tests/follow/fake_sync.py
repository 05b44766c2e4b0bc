"""A stand-in for ``keyferry sync`` that shows that the torture test judges right: it copies everything, again and
again, between servers of one version; with --lose it never brings a certain key.
"""

from __future__ import annotations

import signal
import sys

from keyferry.model.address import parse_endpoint
from keyferry.wire.resp import Argument
from keyferry.wire.session import Session

PAGE_KEYS = 1_000


def pages(session: Session) -> list[list[bytes]]:
    found, cursor = [], b"0"
    while True:
        reply = session.call("SCAN", cursor, "COUNT", PAGE_KEYS)
        assert isinstance(reply, list)
        assert isinstance(reply[0], bytes)
        assert isinstance(reply[1], list)
        found.append([key for key in reply[1] if isinstance(key, bytes)])
        cursor = reply[0]
        if cursor == b"0":
            return found


def carry(source: Session, target: Session, keys: list[bytes]) -> None:
    ask: list[tuple[Argument, ...]] = [("DUMP", key) for key in keys]
    replies = source.pipeline([*ask, *(("PEXPIRETIME", key) for key in keys)])
    commands: list[tuple[Argument, ...]] = []
    for key, payload, at in zip(keys, replies, replies[len(keys) :], strict=False):
        if isinstance(payload, bytes) and isinstance(at, int) and at != -2:
            commands.append(("RESTORE", key, max(0, at), payload, "REPLACE", "ABSTTL"))
        else:
            commands.append(("DEL", key))
    target.pipeline(commands)


def main() -> None:
    addresses = [parse_endpoint(text) for text in sys.argv[1:] if text.startswith("redis://")]
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background job begins with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    try:
        while True:
            for db in (0, 1):
                with (
                    Session(addresses[0], "source", db=db) as source,
                    Session(addresses[1], "target", db=db) as target,
                ):
                    for page in [*pages(source), *pages(target)]:
                        lost = [b"own:0:count:1"] if "--lose" in sys.argv else []
                        carry(source, target, [key for key in page if key not in lost])
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
