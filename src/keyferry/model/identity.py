"""Which server it is: make, version, payload version, process."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Family(StrEnum):
    """Servers whose payload type bytes mean the same."""

    REDIS = "redis"
    VALKEY = "valkey"


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """One server as its INFO and a probing DUMP describe it.

    Attributes:
        family: The family whose type table applies.
        version: (major, minor, patch).
        rdb_version: The RDB version that the server writes into its own payloads (the highest that its
            RESTORE accepts); 0 when it is not known yet.
        run_id: 40 hex digits, new with every process of the server.
    """

    family: Family
    version: tuple[int, int, int]
    rdb_version: int
    run_id: str = ""

    def __str__(self) -> str:
        return f"{self.family.value.capitalize()} {'.'.join(map(str, self.version))}"
