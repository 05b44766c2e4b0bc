"""The two servers of the recipes, and which phase: what an application has in its settings."""

from __future__ import annotations

import os

OLD = os.environ.get("OLD_REDIS", "redis://127.0.0.1:6379/0")
NEW = os.environ.get("NEW_REDIS", "redis://127.0.0.1:6380/0")

# A phase fixed in code, or the name of a migration whose shared record names the phase.
PHASE = {"migration": os.environ["MIGRATION"]} if "MIGRATION" in os.environ else {"phase": "dual"}
