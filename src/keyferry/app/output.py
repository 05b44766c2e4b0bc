"""What goes to standard output and to report files: written once, at the end, whole."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, TextIO

from rich.console import Console, RenderableType

from keyferry.model.errors import KeyferryError, UsageError

WIDE = 10_000
"""Columns where no terminal folds the lines: what is one line stays one for grep."""


class _Console(Console):
    """Goes on in silence when its reader has gone: `2>&1 | head` must not end a run, nor change its status."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        _forget(self.file)


class CalmConsole(_Console):
    """For what is said on the way: goes on in silence also when the disk of the log is full."""

    def print(self, *objects: Any, **named: Any) -> None:
        try:
            super().print(*objects, **named)
        except OSError:
            self.on_broken_pipe()


def console_on(stream: TextIO) -> Console:
    """For plain output: on a terminal as wide as it is, elsewhere unfolded."""
    return CalmConsole(**_plain(stream))


def _plain(stream: TextIO) -> dict[str, Any]:
    return {
        "file": stream,
        "highlight": False,
        "soft_wrap": True,
        "width": None if stream.isatty() else WIDE,
    }


def emit(renderable: RenderableType) -> None:
    """Prints for people on standard output. Raises UsageError when that cannot be written."""
    with _result():
        _Console(**_plain(sys.stdout)).print(renderable)


def emit_json(data: Mapping[str, Any]) -> None:
    """Prints one JSON object on one line. Raises as ``emit``."""
    with _result():
        sys.stdout.write(json.dumps(data) + "\n")


@contextlib.contextmanager
def _result() -> Iterator[None]:
    """A reader that has gone knows why; a result that is lost otherwise must not look like success."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _forget(sys.stdout)
    except OSError as error:
        _forget(sys.stdout)
        raise UsageError(
            f"Standard output cannot be written: {error.strerror}.",
            "What the command was to do is done; --report FILE writes what it says elsewhere.",
        ) from None


def _forget(stream: IO[str]) -> None:
    # Else the interpreter tries again at its end, and complains.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def error_dict(error: KeyferryError) -> dict[str, Any]:
    """Why a run did not come to its end."""
    return {"error": error.message, "hint": error.hint, "exit_code": int(error.exit_code)}


def check_writable(option: str, file: Path | None) -> None:
    """Says so before the run, not after it, when a file to be written cannot be.

    Raises:
        UsageError: Its directory is missing or not ours to write, or it is a device or a pipe.
    """
    if file is not None and file.exists() and not file.is_file():
        raise UsageError(f"{option} {file} is not a regular file.", "Name a file that may be replaced.")
    if file is not None and not os.access(file.parent, os.W_OK | os.X_OK):
        raise UsageError(
            f"{option} {file} cannot be written.", f"Is there a directory {file.parent} that we may write?"
        )


def write_report(file: Path, data: Mapping[str, Any]) -> None:
    """Writes JSON to ``file``. As ``write_text``."""
    write_text(file, json.dumps(data, indent=2) + "\n")


def write_text(file: Path, text: str) -> None:
    """Writes a report to ``file``, never half of it.

    Raises:
        UsageError: The file cannot be written.
    """
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise UsageError(f"The report {file} cannot be written: {error.strerror}.") from None
