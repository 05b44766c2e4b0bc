"""The command ``keyferry``: hides passwords first, then loads and runs the command (run.py)."""

from __future__ import annotations

import sys

from keyferry.app.hide import hide_passwords


def main() -> None:
    """The entry point that pyproject.toml names."""
    arguments = sys.argv[1:]
    hide_passwords(arguments)
    # Imported only now: see hide.py.
    from keyferry.app.run import run

    sys.exit(run(arguments))


if __name__ == "__main__":
    main()
