"""Which keys a run is about, and into which database they go."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field

from keyferry.model.glob import compile_glob
from keyferry.model.keys import RESERVED_PREFIX, escape

TYPES = ("string", "list", "set", "zset", "hash", "stream")
"""What ``--type`` takes, besides a module's own type name."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What ``--match``, ``--exclude``, ``--type``, ``--db``, ``--all-dbs`` and ``--db-map`` say.

    Attributes:
        match: Globs of which at least one must match; empty means every key.
        exclude: Globs of which none may match.
        types: Type names; empty means every type.
        databases: Source databases; None means all that hold keys.
        database_map: Source database -> target database, where they differ.
    """

    match: tuple[bytes, ...] = ()
    exclude: tuple[bytes, ...] = ()
    types: tuple[str, ...] = ()
    databases: tuple[int, ...] | None = (0,)
    database_map: dict[int, int] = field(default_factory=dict)

    def target_database(self, database: int) -> int:
        return self.database_map.get(database, database)

    def key_filter(self) -> Callable[[bytes], bool] | None:
        """None when every key passes but the reserved ones, which the relay leaves out by itself."""
        if not self.match and not self.exclude:
            return None
        wanted = [compile_glob(glob) for glob in self.match]
        unwanted = [compile_glob(glob) for glob in self.exclude]

        def passes(key: bytes) -> bool:
            if key.startswith(RESERVED_PREFIX):
                return False
            if wanted and not any(glob(key) for glob in wanted):
                return False
            return not any(glob(key) for glob in unwanted)

        return passes

    def fingerprint(self) -> str:
        """The same for the same selection, whatever the order in which it was written."""
        canonical = {
            "match": sorted(map(escape, self.match)),
            "exclude": sorted(map(escape, self.exclude)),
            "types": sorted(self.types),
            "databases": sorted(self.databases) if self.databases is not None else None,
            "map": sorted(self.database_map.items()),
        }
        return hashlib.sha256(json.dumps(canonical).encode()).hexdigest()[:16]
