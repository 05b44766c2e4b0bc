"""Opens sockets: TCP, TLS and unix. Everything that fails here says which server and what to do."""

from __future__ import annotations

import contextlib
import socket
import ssl

from keyferry.model.address import Endpoint, TlsSettings
from keyferry.model.errors import ServerError, Side, UsageError

CONNECT_TIMEOUT_S = 5.0


def dial(endpoint: Endpoint, side: Side, timeout_s: float = CONNECT_TIMEOUT_S) -> socket.socket:
    """A connected socket in blocking mode with ``timeout_s`` set.

    Raises:
        ServerError: The server cannot be reached, or TLS fails.
        UsageError: A TLS file cannot be read.
    """
    connection: socket.socket | None = None
    try:
        if endpoint.unix_path:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(timeout_s)
            connection.connect(endpoint.unix_path)
            return connection
        connection = socket.create_connection((endpoint.host, endpoint.port), timeout=timeout_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if endpoint.tls is None:
            return connection
        context = tls_context(endpoint.tls, side)
        return context.wrap_socket(connection, server_hostname=endpoint.host)
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
        raise ServerError(
            side,
            f"The {side} {endpoint} did not answer within {timeout_s:g} s.",
            "Check the address, the firewall, and whether it wants rediss:// instead of redis://.",
        ) from None
    except OSError as error:
        _close(connection)
        raise ServerError(
            side,
            f"The {side} {endpoint} cannot be reached: {error.strerror or error}.",
            "Check that the server runs and listens there.",
        ) from None


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
