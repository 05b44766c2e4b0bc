"""A blocking conversation with one server: handshake, single commands, pipelines.

For everything that is not the hot path. Replies are bytes; errors are values (``ReplyError``), so that the
caller decides by their kind.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import time
from types import TracebackType

from keyferry.model.address import Endpoint
from keyferry.model.errors import ServerAway, ServerError, Side
from keyferry.wire.dial import CONNECT_TIMEOUT_S, OnWait, dial, no_wait_ends, wait_for
from keyferry.wire.resp import (
    Argument,
    ProtocolError,
    Reply,
    ReplyError,
    ReplyParser,
    encode_command,
    encode_commands,
)

CLIENT_NAME = "keyferry"
LOADING_EVERY_S = 0.2
RECEIVE_BYTES = 256 * 1024


class ConnectionLost(ServerAway):
    """The connection broke or timed out after it had been made; dialling again may help."""


class Session:
    """One connection, authenticated and on its database."""

    def __init__(
        self,
        endpoint: Endpoint,
        side: Side,
        *,
        timeout_s: float = 30.0,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        db: int | None = None,
        on_wait: OnWait = no_wait_ends,
    ) -> None:
        """Connects.

        Args:
            timeout_s: Longest wait for a reply.
            connect_timeout_s: Longest wait for the connection and the handshake together.
            db: Database to select; None is the endpoint's own.
            on_wait: Called a few times a second while we wait; ends the wait by raising.

        Raises:
            ServerAway: It cannot be reached now.
            ServerError: It refuses us.
        """
        self.endpoint = endpoint
        self.side: Side = side
        self._parser = ReplyParser()
        self._pending: list[Reply] = []
        self._on_wait = on_wait
        self._timeout_s = timeout_s
        self._deadline_s: float | None = time.monotonic() + connect_timeout_s
        """Of the handshake; None after it."""
        self._socket: socket.socket = dial(endpoint, side, connect_timeout_s, on_wait)
        try:
            self._handshake(endpoint.db if db is None else db)
            self._deadline_s = None
            self._socket.settimeout(timeout_s)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def detach(self) -> socket.socket:
        """Hands the authenticated socket over; the session must not be used any more."""
        return self._socket

    def call(self, *args: Argument) -> Reply:
        """Sends one command and waits for its reply.

        Raises:
            ConnectionLost: The connection broke or no reply came in time.
            ProtocolError: The peer does not speak RESP.
        """
        self._send(encode_command(*args))
        return self._receive(1)[0]

    def pipeline(self, commands: list[tuple[Argument, ...]]) -> list[Reply]:
        """Sends all commands, then waits for all replies, in order. Raises as ``call``."""
        if not commands:
            return []
        return self.exchange(encode_commands(commands), len(commands))

    def exchange(self, commands: bytes, count: int) -> list[Reply]:
        """As ``pipeline``, for ``count`` commands that are encoded already."""
        self._send(commands)
        return self._receive(count)

    def send(self, commands: list[tuple[Argument, ...]]) -> None:
        """Sends without waiting, so that several servers can be at work at once; ``receive`` takes the replies.

        Raises:
            ConnectionLost: The connection broke.
        """
        self._send(encode_commands(commands))

    def receive(self, count: int) -> list[Reply]:
        """Waits for the replies to ``count`` commands that ``send`` has sent, in order. Raises as ``call``."""
        return self._receive(count)

    def exchange_raw(self, commands: bytes) -> bytes:
        """Sends commands that are encoded already; their replies as they came, for comparing byte by byte.

        An ECHO of a random text behind the commands marks the end. Raises as ``call``.
        """
        text = os.urandom(16).hex().encode()
        marker = b"$%d\r\n%b\r\n" % (len(text), text)
        self._send(commands + encode_command("ECHO", text))
        replies = bytearray()
        while not replies.endswith(marker):
            replies += self._read_some()
        return bytes(replies[: -len(marker)])

    def _handshake(self, db: int) -> None:
        endpoint = self.endpoint
        if endpoint.password or endpoint.username:
            credentials: tuple[Argument, ...] = (
                (endpoint.username, endpoint.password) if endpoint.username else (endpoint.password,)
            )
            self._expect_ok(self.call("AUTH", *credentials), "does not accept the credentials")
        if db:
            self._expect_ok(
                self.call("SELECT", db),
                f"does not give us database {db}",
                "Name another database, or raise the server's setting 'databases'.",
            )
        # PING shows NOAUTH and NOPERM here, with one sentence, instead of in the middle of the work.
        reply = self.call("PING")
        last_s = (self._deadline_s or 0.0) - 2 * LOADING_EVERY_S
        while isinstance(reply, ReplyError) and reply.code == "LOADING" and time.monotonic() < last_s:
            self._on_wait()
            time.sleep(LOADING_EVERY_S)
            reply = self.call("PING")
        if isinstance(reply, ReplyError) and (
            reply.code in ("NOAUTH", "LOADING", "BUSY", "DENIED") or _is_full(reply)
        ):
            self._expect_ok(reply, "refuses us")
        self.call("CLIENT", "SETNAME", CLIENT_NAME)

    def _expect_ok(self, reply: Reply, problem: str, hint: str = "") -> None:
        if not isinstance(reply, ReplyError):
            return
        hints = {
            "NOAUTH": f"Give the password in the address, in KEYFERRY_{self.side.upper()}_PASSWORD or with --{self.side}-password-file.",
            "WRONGPASS": "Check user name and password.",
            "LOADING": "It is still reading its data from disk; try again when it is done.",
            "BUSY": "A script or function runs there and lets nobody in; try again when it is done.",
            "NOPERM": "Give the user the missing right.",
        }
        message = _without_secrets(reply.message, self.endpoint)
        kind = ServerAway if reply.code in ("LOADING", "BUSY") or _is_full(reply) else ServerError
        raise kind(
            self.side,
            f"The {self.side} {self.endpoint} {problem}: {message.rstrip('.')}.",
            hints.get(reply.code, hint),
        )

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise self._lost(error) from None

    def _receive(self, count: int) -> list[Reply]:
        while len(self._pending) < count:
            self._parser.feed(self._read_some())
            self._pending += self._parser.replies()
        replies, self._pending = self._pending[:count], self._pending[count:]
        return replies

    def _read_some(self) -> bytes:
        deadline_s = self._deadline_s
        try:
            if not (isinstance(self._socket, ssl.SSLSocket) and self._socket.pending()):
                until_s = time.monotonic() + self._timeout_s if deadline_s is None else deadline_s
                wait_for(self._socket, select.POLLIN, until_s, self._on_wait)
            data = self._socket.recv(RECEIVE_BYTES)
        except OSError as error:
            raise self._lost(error) from None
        if not data:
            raise self._lost(None)
        return data

    def _lost(self, error: OSError | None) -> ConnectionLost:
        hint = ""
        if isinstance(error, TimeoutError):
            reason = "no reply came in time"
            hint = "Look whether it hangs, is stopped, or runs one long command; then give the same command again."
        else:
            reason = (error.strerror or str(error)) if error else "the server closed it"
        return ConnectionLost(
            self.side, f"The connection to the {self.side} {self.endpoint} is lost: {reason}.", hint
        )


def _is_full(reply: ReplyError) -> bool:
    return "max number of clients" in reply.message


def _without_secrets(message: str, endpoint: Endpoint) -> str:
    return message.replace(endpoint.password, "***") if endpoint.password else message


__all__ = ["ConnectionLost", "ProtocolError", "Session"]
