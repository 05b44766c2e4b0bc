"""How a command's outcome gets out, for machines: --json and --report, whether it came to its end or not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from keyferry.app.output import emit_json, error_dict, write_report
from keyferry.model.errors import InterruptedRun, KeyferryError, UsageError


def deliver(data: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """As --json and --report wish."""
    if options["as_json"]:
        emit_json(data)
    if options["report"]:
        write_report(options["report"], data)


@contextmanager
def errors_delivered(
    options: Mapping[str, Any], too_early: str, so_far: Callable[[], Mapping[str, Any]]
) -> Iterator[None]:
    """Errors of the block are delivered too, and still raised.

    Args:
        too_early: What is said of a Ctrl-C before there is anything to go on from.
        so_far: How far the run was when it was last looked at; empty before the first look.

    Raises:
        InterruptedRun: In place of KeyboardInterrupt.
        UsageError: In place of an OSError: files that cannot be read or written (state, failures) are the user's to
            mend.
    """
    try:
        with _file_errors():
            yield
    except KeyboardInterrupt:
        raise _delivered(InterruptedRun(too_early), {}, options) from None
    except KeyferryError as error:
        raise _delivered(error, so_far(), options) from None


def _delivered(error: KeyferryError, so_far: Mapping[str, Any], options: Mapping[str, Any]) -> KeyferryError:
    """The error itself. A report that cannot be written must not take its place."""
    try:
        deliver(error_dict(error) | dict(so_far), options)
    except UsageError as report:
        error.hint = f"{error.hint}\n{report.message}".lstrip()
    return error


@contextmanager
def _file_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        raise UsageError(
            f"{place}{error.strerror or error}.", "Everything acknowledged until then is in the checkpoint."
        ) from error
