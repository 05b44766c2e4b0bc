"""An application that knows nothing of Keyferry: a user of its own, and threads that write as it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from keyferry.cutover.reach import Reach
from keyferry.model.address import Endpoint
from keyferry.model.phases import Side
from keyferry.testing.deployment import Deployment
from keyferry.testing.servers import Server
from keyferry.wire.resp import Argument, Reply, ReplyError
from keyferry.wire.session import ConnectionLost, Session

APP, OURS, PASSWORD = "shop", "mover", "secret"
INCR_SCRIPT = "return redis.call('incr', KEYS[1])"
REFUSALS = ("NOPERM", "EXECABORT", "ACL failure in script", "can't run this command")
"""What a barred user hears; the last two from within a script, since 7.2 and before."""
WAIT_S = 10.0


@contextlib.contextmanager
def apart(deployment: Deployment, *rules: str) -> Iterator[tuple[Endpoint, Endpoint]]:
    """Two users on every node: the endpoints as ours and as the application's, whose rules are given."""
    nodes = deployment.nodes
    for node in nodes:
        with node.session() as session:
            for name, words in ((OURS, ("+@all",)), (APP, rules or ("+@all", "-debug"))):
                made = session.call("ACL", "SETUSER", name, "on", f">{PASSWORD}", "~*", "&*", *words)
                assert made == b"OK", made
    endpoint = nodes[0].endpoint
    try:
        yield (
            replace(endpoint, username=OURS, password=PASSWORD),
            replace(endpoint, username=APP, password=PASSWORD),
        )
    finally:
        for node in nodes:
            with contextlib.suppress(ConnectionLost), node.session() as session:
                session.call("ACL", "DELUSER", OURS, APP)


@contextlib.contextmanager
def reaching(endpoint: Endpoint) -> Iterator[Reach]:
    with Reach(Side.SOURCE, endpoint) as reach:
        yield reach


def users_of(session: Session) -> list[Reply]:
    listed = session.call("ACL", "LIST")
    assert isinstance(listed, list)
    return listed


def until(true: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.001)


Send = Callable[[Session, str], Reply]


def incr(session: Session, key: str) -> Reply:
    return session.call("INCR", key)


def script(session: Session, key: str) -> Reply:
    return session.call("EVAL", INCR_SCRIPT, 1, key)


def transaction(session: Session, key: str) -> Reply:
    return _executed(session.pipeline([("MULTI",), ("INCR", key), ("EXEC",)]))


def slow_transaction(session: Session, key: str) -> Reply:
    """Queued before, executed later."""
    queued = session.pipeline([("MULTI",), ("INCR", key)])
    time.sleep(0.003)
    return _executed([*queued, session.call("EXEC")])


def pipeline(session: Session, key: str) -> Reply:
    replies = session.pipeline([("INCR", key)] * 5)
    numbers = [reply for reply in replies if isinstance(reply, int)]
    return numbers[-1] if numbers else replies[-1]


def _executed(replies: list[Reply]) -> Reply:
    last = replies[-1]
    return last[0] if isinstance(last, list) else last


SENDERS: dict[str, Send] = {
    "incr": incr,
    "script": script,
    "transaction": transaction,
    "slow-transaction": slow_transaction,
    "pipeline": pipeline,
}


class Writer(threading.Thread):
    """Counts up its own key, one write at a time, with ``every_s`` between them.

    Attributes:
        acknowledged: The highest number that the server has answered.
        refusals: How often it was refused.
    """

    def __init__(self, endpoint: Endpoint, key: str, send: Send, every_s: float) -> None:
        super().__init__(daemon=True)
        self.key = key
        self.acknowledged = self.refusals = 0
        self.surprise: object = None
        self.stopping = threading.Event()
        self._endpoint, self._send, self._every_s = endpoint, send, every_s

    def run(self) -> None:
        with Session(self._endpoint, "source") as session:
            session.call("CLIENT", "SETNAME", APP)  # ours says keyferry, and counts as ours then
            while not self.stopping.is_set():
                reply = self._send(session, self.key)
                if isinstance(reply, int):
                    self.acknowledged = reply
                    time.sleep(self._every_s)
                elif isinstance(reply, ReplyError) and any(word in reply.message for word in REFUSALS):
                    self.refusals += 1
                    time.sleep(0.001)
                else:
                    self.surprise = reply
                    return


@contextlib.contextmanager
def writing(endpoint: Endpoint, prefix: str = "plain", every_s: float = 0.0) -> Iterator[list[Writer]]:
    """One writer of each kind; all have written when the block begins."""
    writers = [Writer(endpoint, f"{prefix}:{name}", send, every_s) for name, send in SENDERS.items()]
    for writer in writers:
        writer.start()
    try:
        until(lambda: all(writer.acknowledged for writer in writers), "the writers do not write")
        yield writers
    finally:
        for writer in writers:
            writer.stopping.set()
        for writer in writers:
            writer.join(WAIT_S)


def counts(session: Session, writers: list[Writer]) -> dict[str, int]:
    """What stands on the server: a settled and compared copy would have the same."""
    replies = session.pipeline([("GET", writer.key) for writer in writers])
    return {
        writer.key: int(reply)
        for writer, reply in zip(writers, replies, strict=True)
        if isinstance(reply, bytes)
    }


def all_write(writers: list[Writer], seen: dict[str, int]) -> None:
    """Returns when each has written more than was seen."""
    until(
        lambda: all(writer.acknowledged > seen.get(writer.key, 0) for writer in writers),
        "a writer does not write again",
    )


def all_refused(writers: list[Writer]) -> None:
    """Returns when each has been refused twice from now on: what it had sent before is answered then."""
    before = [writer.refusals for writer in writers]
    until(
        lambda: all(writer.refusals >= one + 2 for writer, one in zip(writers, before, strict=True)),
        "a writer is not refused",
    )


def acknowledged(writers: list[Writer]) -> dict[str, int]:
    return {writer.key: writer.acknowledged for writer in writers}


def counted(server: Server, writers: list[Writer]) -> dict[str, int]:
    with server.session() as session:
        return counts(session, writers)


class Blocked(threading.Thread):
    """Waits in one command; ``ended`` is its reply, or the loss of the connection."""

    def __init__(self, endpoint: Endpoint, *command: Argument) -> None:
        super().__init__(daemon=True)
        self.ended: Reply | ConnectionLost = None
        self._endpoint, self._command = endpoint, command

    def run(self) -> None:
        with Session(self._endpoint, "source") as session:
            try:
                self.ended = session.call(*self._command)
            except ConnectionLost as error:
                self.ended = error
