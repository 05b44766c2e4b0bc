"""How a command's outcome gets out, for machines: --json and --report, whether it came to its end or not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keyferry.app.output import emit_json, error_dict, write_report, write_text
from keyferry.model.errors import InterruptedRun, KeyferryError, UsageError

PAGES = (".html", ".htm")
Page = Callable[[Mapping[str, Any]], str]
"""Makes a page for people of what goes to --report."""


def deliver(data: Mapping[str, Any], options: Mapping[str, Any], page: Page | None = None) -> None:
    """As --json and --report wish; ``page``: for a --report whose name ends in one of PAGES."""
    if options["as_json"]:
        emit_json(data)
    file: Path | None = options["report"]
    if file is None:
        return
    if page is not None and file.suffix.lower() in PAGES:
        write_text(file, page(data))
    else:
        write_report(file, data)


@contextmanager
def errors_delivered(
    options: Mapping[str, Any],
    too_early: str,
    so_far: Callable[[], Mapping[str, Any]],
    page: Page | None = None,
) -> Iterator[None]:
    """Errors of the block are delivered too, and still raised.

    Args:
        too_early: What is said of a Ctrl-C before there is anything to go on from.
        so_far: How far the run was when it was last looked at; empty before the first look.
        page: As of ``deliver``.

    Raises:
        InterruptedRun: In place of KeyboardInterrupt.
        UsageError: In place of an OSError: files that cannot be read or written (state, failures) are the user's to
            mend.
    """
    try:
        with _file_errors():
            yield
    except KeyboardInterrupt:
        raise _delivered(InterruptedRun(too_early), {}, options, page) from None
    except KeyferryError as error:
        raise _delivered(error, so_far(), options, page) from None


def _delivered(
    error: KeyferryError, so_far: Mapping[str, Any], options: Mapping[str, Any], page: Page | None
) -> KeyferryError:
    """The error itself. A report that cannot be written must not take its place."""
    try:
        deliver(error_dict(error) | dict(so_far), options, page)
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
