"""Where the control socket of a migration is, and who may be at its other end.

Whoever can speak to the socket can switch a service. So it belongs to its owner alone: mode 0600, set before anybody
can connect (a socket that is bound and does not listen yet refuses everybody), and both ends ask the kernel whose
process the other one is.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, unquote

from keyferry.model.errors import RefusedError, UsageError

PATH_BYTES_MAX = 107 if sys.platform == "linux" else 103
"""Of sun_path in struct sockaddr_un (unix(7)), its NUL not counted."""
CONNECT_S = 2.0
_BEFORE, _AFTER = "migrate-", ".sock"
_UCRED = struct.Struct("3i")
"""struct ucred of SO_PEERCRED (unix(7)): pid, uid, gid."""


def control_path(state_dir: Path, name: str) -> Path:
    """Of the migration of this name."""
    return state_dir / f"{_BEFORE}{quote(name, safe='')}{_AFTER}"


def name_of(path: Path) -> str:
    """The migration's name in a control path."""
    return unquote(path.name.removeprefix(_BEFORE).removesuffix(_AFTER))


def live_paths(state_dir: Path) -> Iterator[Path]:
    """Of the migrations that run with this state directory, by name."""
    for path in sorted(state_dir.glob(f"{_BEFORE}*{_AFTER}")):
        with suppress(OSError):
            connected(path).close()
            yield path


def check_length(path: Path) -> None:
    """Raises UsageError when no socket can have this path."""
    if len(os.fsencode(path)) > PATH_BYTES_MAX:
        raise UsageError(
            f"The path of the control socket, {path}, is longer than {PATH_BYTES_MAX} bytes.",
            "Name a shorter --state-dir, or give the migration a shorter name.",
        )


def connected(path: Path) -> socket.socket:
    """A connection to whoever listens there. Raises OSError when nobody does."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(CONNECT_S)
        connection.connect(os.fspath(path))
    except BaseException:
        connection.close()
        raise
    return connection


def listening(path: Path, backlog: int) -> socket.socket:
    """A socket for the owner only, at ``path``. Another one that nobody listens to any more makes room.

    The caller holds the migration's journal, so nobody else makes one at this path at the same time.

    Raises:
        RefusedError: Somebody listens there, or others could replace it.
        UsageError: The directory cannot be used, or the path is too long.
    """
    check_length(path)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_directory(path.parent)
        _make_room(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(os.fspath(path))
            path.chmod(0o600)
            listener.listen(backlog)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise UsageError(
            f"The control socket {path} cannot be made: {error.strerror}.", "Name another --state-dir."
        ) from None
    return listener


def _check_directory(directory: Path) -> None:
    mode = directory.stat().st_mode
    if not hasattr(socket, "SO_PEERCRED") and mode & 0o022:
        raise RefusedError(
            f"Others may write in the state directory {directory}, and so replace the control socket.",
            f"Take that away: chmod go-w {directory}",
        )


def _make_room(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise UsageError(f"{path} is there, and is no socket.", "Move it away, or name another --state-dir.")
    try:
        connected(path).close()
    except OSError as error:
        if error.errno == errno.ECONNREFUSED:
            path.unlink(missing_ok=True)
            return
        raise
    raise RefusedError(
        f"A migration of this name runs already: something listens on {path}.",
        "Talk to it with keyferry status, or stop it first.",
    )


def identity(path: Path) -> tuple[int, int]:
    """Tells the file at ``path`` from another one that takes its place. Raises OSError when there is none."""
    found = path.lstat()
    return found.st_dev, found.st_ino


def is_ours(connection: socket.socket) -> bool:
    """Whether the process at the other end has our user (or is root's). True where the kernel cannot be asked:
    there the file's mode alone keeps others out."""
    process = process_at(connection)
    return process is None or process[1] in (0, os.geteuid())


def process_at(connection: socket.socket) -> tuple[int, int] | None:
    """Number and user of the process that made the connection, by the kernel; None where that does not say."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    number, user, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, option, _UCRED.size))
    return number, user
