"""``python -m keyferry``."""

from keyferry.app.cli import main

main()
