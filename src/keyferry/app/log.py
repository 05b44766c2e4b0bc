"""The log of one run: what happens, as events with a level, on top of the standard library's ``logging``.

Beside the display, or in its place on standard error. It is for the one who was not there: what was asked for and by
whom, which stage it was in, what went wrong, how it ended.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Any

import click

from keyferry import __version__
from keyferry.app.log_lines import EVENT, FIELDS, LineFormatter, Value
from keyferry.app.log_writer import FilePlace, LineWriter, Place, StreamPlace
from keyferry.model.errors import ExitCode, KeyferryError

LOGGER = "keyferry.run"
OWN_FAULT = 70
"""As run.py says it."""


class Level(IntEnum):
    """As ``--log-level`` names them, with the numbers of ``logging``."""

    DEBUG = logging.DEBUG
    INFO = logging.INFO
    WARNING = logging.WARNING
    ERROR = logging.ERROR


@dataclass(frozen=True, slots=True)
class LogWishes:
    """What the command line says of the log.

    Attributes:
        file: Appended to; None: standard error.
        level: None: nothing was said, which is ``Level.INFO``.
    """

    file: Path | None = None
    as_json: bool = False
    level: Level | None = None

    @property
    def any(self) -> bool:
        return self.file is not None or self.as_json or self.level is not None


@dataclass(frozen=True, slots=True)
class LogEvent:
    """Something that happened.

    Attributes:
        event: One word for programs; docs/logging.md lists them.
        msg: A sentence for people; may be empty.
    """

    event: str
    level: Level
    msg: str
    fields: Mapping[str, Value]


class RunLog:
    """Where events go; nowhere when no log was asked for.

    Args:
        common: Fields of every line.

    Raises:
        UsageError: The file cannot be opened.
    """

    def __init__(self, wishes: LogWishes, common: Mapping[str, Value] | None = None) -> None:
        self._wishes = wishes
        self._began_s = time.monotonic()
        self._logger: logging.Logger | None = None
        if wishes.any:
            place = FilePlace(wishes.file) if wishes.file is not None else _standard_error()
            self._handler = _LineHandler(LineFormatter(as_json=wishes.as_json, common=common or {}), place)
            self._logger = logging.getLogger(LOGGER)
            self._logger.propagate = False
            self._logger.setLevel(wishes.level or Level.INFO)
            self._logger.addHandler(self._handler)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def replaces_display(self) -> bool:
        """Standard error holds nothing but its lines."""
        return self._wishes.any and self._wishes.file is None

    def takes(self, level: Level) -> bool:
        """Whether a line of this level is written."""
        return self._logger is not None and self._logger.isEnabledFor(level)

    def say(self, event: str, msg: str = "", level: Level = Level.INFO, /, **fields: Value) -> None:
        """One event, from any thread; never waits for its line."""
        logger = self._logger
        if logger is not None:
            logger.log(level, "%s", msg, extra={EVENT: event, FIELDS: fields})

    def tell(self, event: LogEvent) -> None:
        """As ``say``."""
        self.say(event.event, event.msg, event.level, **event.fields)

    def started(self, source: str, target: str) -> None:
        """The command line made sense; ``source`` and ``target`` are locations."""
        words = f"keyferry {__version__}, process {os.getpid()}"
        self.say("run_started", words, version=__version__, pid=os.getpid(), source=source, target=target)

    def result(self, found: Mapping[str, Any]) -> None:
        """What came of it: the plain values of a report."""
        plain = {name: value for name, value in found.items() if isinstance(value, bool | int | float | str)}
        self.say("result", "", **plain)

    def watch(self, command: Callable[[], Any]) -> int:
        """Runs a command, and notes how it ends.

        Returns:
            Its exit status; that of its error, too, where standard error is the log's: the error stands there.

        Raises:
            KeyferryError: The command's, where it is still to be said.
        """
        try:
            status = int(command() or ExitCode.DONE)
        except KeyferryError as error:
            self._end(error.exit_code, error.message, error.hint)
            if self.replaces_display:
                return int(error.exit_code)
            raise
        except click.exceptions.Exit as end:
            self._end(end.exit_code)
            raise
        except (KeyboardInterrupt, click.Abort):
            self._end(ExitCode.INTERRUPTED, "Interrupted.")
            raise
        except click.ClickException as error:
            self._end(ExitCode.USAGE, error.format_message())
            raise
        except BaseException as error:
            # Not its text: it may hold what a key or an address holds.
            self._end(OWN_FAULT, f"This is a mistake in Keyferry itself ({type(error).__name__}).")
            raise
        self._end(status)
        return status

    def _end(self, exit_code: int, error: str = "", hint: str = "") -> None:
        code = int(exit_code)
        seconds = time.monotonic() - self._began_s
        words = error or ("Done." if code == ExitCode.DONE else "Done, but something is left to look at.")
        self.say(
            "run_ended", words, _level_of(code), exit_code=code, hint=hint or None, seconds=round(seconds, 3)
        )

    def close(self) -> None:
        """Harmless when called again."""
        if self._logger is not None:
            self._logger.removeHandler(self._handler)
            self._handler.close()
            self._logger = None


NO_LOG = RunLog(LogWishes())


def log_of(options: Mapping[str, Any]) -> RunLog:
    """The log among the options of a command."""
    log = options.get("log", NO_LOG)
    assert isinstance(log, RunLog)
    return log


class _LineHandler(logging.Handler):
    """Formats in the thread that speaks, which is all it does there."""

    def __init__(self, formatter: LineFormatter, place: Place) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._writer = LineWriter(place, self._lost)

    def emit(self, record: logging.LogRecord) -> None:
        self._writer.put(self.format(record))

    def close(self) -> None:
        super().close()
        self._writer.close()

    def _lost(self, lines: int) -> str:
        words = f"{lines:,} lines before this one could not be written."
        record = logging.makeLogRecord({"msg": words, "levelno": Level.WARNING, "levelname": "WARNING"})
        return self.format(_with(record, "log_lines_lost", {"lines": lines}))


def _with(record: logging.LogRecord, event: str, fields: Mapping[str, Value]) -> logging.LogRecord:
    setattr(record, EVENT, event)
    setattr(record, FIELDS, fields)
    return record


def _level_of(exit_code: int) -> Level:
    if exit_code in (ExitCode.DONE, ExitCode.INTERRUPTED):
        return Level.INFO
    return Level.WARNING if exit_code == ExitCode.KEYS_FAILED else Level.ERROR


def _standard_error() -> Place:
    if sys.stderr is None:
        return _Nowhere()
    sys.stderr.flush()
    return StreamPlace(sys.stderr.fileno())


class _Nowhere:
    """Standard error was closed before we began: its number may be another file's by now."""

    def write(self, data: bytes) -> None:
        return None

    def close(self) -> None:
        return None
