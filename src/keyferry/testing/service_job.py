"""What one process of a service is told, as its parent and itself read it. Needs no redis-py, which only the process has."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from keyferry.testing.service import Habits


@dataclass(frozen=True, slots=True)
class Job:
    """What one process is told.

    Attributes:
        directory: Of the service: the board, and the files with the calls' times.
        kind: "threads" or "asyncio": which client.
        settings: Further ones of the client.
    """

    source: str
    target: str
    migration: str
    directory: str
    number: int = 0
    workers: int = 1
    seed: int = 1
    kind: str = "threads"
    habits: Habits = field(default_factory=Habits)
    settings: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def of_json(cls, text: str) -> Job:
        given = json.loads(text)
        return cls(**{**given, "habits": Habits(**given["habits"])})

    @property
    def board_file(self) -> Path:
        return Path(self.directory) / "board"

    @property
    def calls_file(self) -> Path:
        """Three numbers of 8 bytes per call: when it began and ended (monotonic ns), and kind + 8 * outcome."""
        return Path(self.directory) / f"calls-{self.number}"
