"""Opens sockets: TCP, TLS and unix. Everything that fails here says which server and what to do."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import ssl
import time
from collections.abc import Callable

from keyferry.model.address import Endpoint, TlsSettings
from keyferry.model.errors import ServerAway, ServerError, Side, UsageError

CONNECT_TIMEOUT_S = 5.0
WAIT_SLICE_S = 0.2
"""How long a wait goes on before ``on_wait`` is asked whether it is still wanted."""

OnWait = Callable[[], None]
"""Called during every longer wait; ends it by raising."""


def no_wait_ends() -> None:
    """The ``OnWait`` that lets every wait go on."""


def dial(
    endpoint: Endpoint, side: Side, timeout_s: float = CONNECT_TIMEOUT_S, on_wait: OnWait = no_wait_ends
) -> socket.socket:
    """A connected socket in blocking mode with ``timeout_s`` set.

    Raises:
        ServerAway: The server cannot be reached.
        ServerError: TLS fails.
        UsageError: A TLS file cannot be read.
    """
    connection: socket.socket | None = None
    deadline_s = time.monotonic() + timeout_s
    try:
        connection = _connected(endpoint, deadline_s, on_wait)
        if endpoint.tls is not None:
            context = tls_context(endpoint.tls, side)
            connection = context.wrap_socket(
                connection, server_hostname=endpoint.host, do_handshake_on_connect=False
            )
            _shake_hands(connection, deadline_s, on_wait)
        connection.settimeout(timeout_s)
        return connection
    except ssl.SSLCertVerificationError as error:
        _close(connection)
        raise ServerError(
            side,
            f"The {side} {endpoint} shows a certificate that does not verify: {error.verify_message}.",
            f"Name the CA with --{side}-ca FILE, or turn verification off with --{side}-insecure.",
        ) from None
    except ssl.SSLError as error:
        _close(connection)
        raise ServerError(
            side,
            f"TLS with the {side} {endpoint} failed: {error.reason or error}.",
            f"Check that it speaks TLS there, and whether it asks for --{side}-cert and --{side}-key.",
        ) from None
    except TimeoutError:
        _close(connection)
        raise ServerAway(
            side,
            f"The {side} {endpoint} did not answer within {timeout_s:g} s.",
            "Check the address, the firewall, and whether it wants rediss:// instead of redis://.",
        ) from None
    except OSError as error:
        _close(connection)
        raise ServerAway(
            side,
            f"The {side} {endpoint} cannot be reached: {error.strerror or error}.",
            "Check that the server runs and listens there.",
        ) from None
    except BaseException:
        _close(connection)
        raise


def wait_for(connection: socket.socket, events: int, deadline_s: float, on_wait: OnWait) -> None:
    """Waits for poll()'s ``events``.

    Raises:
        TimeoutError: They did not come by ``deadline_s`` (of time.monotonic).
    """
    poll = select.poll()
    poll.register(connection.fileno(), events)
    while True:
        left_s = deadline_s - time.monotonic()
        if poll.poll(max(0.0, min(WAIT_SLICE_S, left_s)) * 1000):
            return
        if left_s <= 0:
            raise TimeoutError
        on_wait()


def _connected(endpoint: Endpoint, deadline_s: float, on_wait: OnWait) -> socket.socket:
    """The first of the host's addresses that takes the connection."""
    if endpoint.unix_path:
        return _connect(socket.AF_UNIX, endpoint.unix_path, deadline_s, on_wait)
    found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    last = OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))
    for i, (family, _, _, _, address) in enumerate(found):
        # An address that swallows packets must leave time for the others.
        share_s = (deadline_s - time.monotonic()) / (len(found) - i)
        try:
            connection = _connect(family, address, time.monotonic() + share_s, on_wait)
        except OSError as error:
            last = error
            continue
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return connection
    raise last


def _connect(
    family: int, address: str | tuple[object, ...], deadline_s: float, on_wait: OnWait
) -> socket.socket:
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        code = connection.connect_ex(address)
        if code == errno.EINPROGRESS:
            wait_for(connection, select.POLLOUT, deadline_s, on_wait)
            code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
    except BaseException:
        _close(connection)
        raise
    return connection


def _shake_hands(connection: ssl.SSLSocket, deadline_s: float, on_wait: OnWait) -> None:
    while True:
        try:
            connection.do_handshake()
            return
        except ssl.SSLWantReadError:
            wait_for(connection, select.POLLIN, deadline_s, on_wait)
        except ssl.SSLWantWriteError:
            wait_for(connection, select.POLLOUT, deadline_s, on_wait)


def tls_context(settings: TlsSettings, side: Side) -> ssl.SSLContext:
    """A client context with verification unless the user turned it off.

    Raises:
        UsageError: A file is missing or not PEM.
    """
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        if not settings.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if settings.cert_file:
            context.load_cert_chain(settings.cert_file, settings.key_file)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"A TLS file for the {side} cannot be used: {error.strerror or error}.",
            f"Check --{side}-ca, --{side}-cert and --{side}-key; they name files in PEM form.",
        ) from None
    return context


def _close(connection: socket.socket | None) -> None:
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.close()
