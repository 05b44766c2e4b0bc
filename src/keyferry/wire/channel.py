"""A non-blocking stream over an authenticated socket: what is queued goes out as the socket takes it.

Plain TCP, TLS and unix sockets look the same here; TLS's own wishes to read or write are folded in.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from collections import deque

from keyferry.model.errors import Side
from keyferry.wire.session import ConnectionLost, Session


class Channel:
    """One side of a pipeline. Takes the session's socket over."""

    def __init__(self, session: Session) -> None:
        self.side: Side = session.side
        self._where = str(session.endpoint)
        self._socket: socket.socket = session.detach()
        self._socket.setblocking(False)
        self._tls = isinstance(self._socket, ssl.SSLSocket)
        self._out: deque[memoryview] = deque()
        self._low_water_bytes = 1
        self.out_bytes = 0

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()

    @property
    def wants(self) -> int:
        """What to ask of poll() besides reading."""
        return select.POLLOUT if self._out else 0

    @property
    def buffered(self) -> bool:
        """TLS holds decrypted bytes that poll() does not know of."""
        return self._tls and isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0

    def wake_at(self, low_water_bytes: int) -> None:
        """Asks not to be woken for fewer bytes than this, where the platform can (TCP on Linux).

        Only to be raised while many more bytes than that are sure to come. TLS needs every byte at once.
        """
        if low_water_bytes != self._low_water_bytes and not self._tls:
            self._low_water_bytes = low_water_bytes
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, low_water_bytes)

    def queue(self, data: bytes) -> None:
        if data:
            self._out.append(memoryview(data))
            self.out_bytes += len(data)

    def flush(self) -> None:
        """Sends what the socket takes now.

        Raises:
            ConnectionLost: It broke.
        """
        try:
            while self._out:
                data = self._out[0]
                sent = self._socket.send(data)
                self.out_bytes -= sent
                if sent < len(data):
                    self._out[0] = data[sent:]
                    # A short send means a full socket; TLS may still take the rest.
                    if not self._tls:
                        return
                else:
                    self._out.popleft()
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return
        except OSError as error:
            raise self._lost(error) from None

    def receive(self, into: memoryview) -> int:
        """Reads into ``into``; returns the number of bytes, 0 when there are none now.

        Raises:
            ConnectionLost: It broke, or the server closed it.
        """
        try:
            count = self._socket.recv_into(into)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        except OSError as error:
            raise self._lost(error) from None
        if count == 0:
            raise self._lost(None)
        return count

    def _lost(self, error: OSError | None) -> ConnectionLost:
        reason = (error.strerror or str(error)) if error else "the server closed it"
        return ConnectionLost(
            self.side, f"The connection to the {self.side} {self._where} is lost: {reason}."
        )
