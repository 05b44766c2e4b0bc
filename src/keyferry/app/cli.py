"""The command ``keyferry``: hides passwords first, then loads and runs the command (run.py)."""

from __future__ import annotations

import os
import signal
import sys

from keyferry.app.hide import hide_passwords

INTERRUPTED = 130
"""As ``ExitCode.INTERRUPTED``, without its import."""


def main() -> None:
    """The entry point that pyproject.toml names."""
    arguments = sys.argv[1:]
    hide_passwords(arguments)
    # Until a copy runs, SIGTERM unwinds as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        # Imported only now: see hide.py.
        from keyferry.app.run import run

        status = run(arguments)
    except KeyboardInterrupt:
        status = INTERRUPTED
    if status == INTERRUPTED:
        # The interpreter's own way out takes a moment without any handler, in which a second Ctrl-C would kill it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    main()
