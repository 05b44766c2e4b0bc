"""What a copy is asked to do; made by the command line or by a program."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from keyferry.model.address import Endpoint
from keyferry.model.announced import DIRECT, AddressMap
from keyferry.model.selection import Selection

ConflictPolicy = Literal["replace", "skip", "fail"]


@dataclass(frozen=True, slots=True)
class CopySettings:
    """Everything that ``keyferry copy`` takes.

    Attributes:
        on_conflict: None refuses a target that holds foreign keys.
        batch: Keys asked of one SCAN.
        max_rate: Keys per second; None is unlimited.
        max_bandwidth: Payload bytes per second; None is unlimited.
        max_latency_ms: Added latency on either server at which the copy slows down; 0 is off.
        source_map: Where the nodes of the source's cluster are reached; ``target_map`` the target's.
        big_key_bytes: A key above this size travels in pieces; 0 is off, then ``big_key_members`` is too.
        big_key_members: A key of more members, fields or entries travels in pieces.
        retry_s: How long a lost or busy server is waited for before the run ends with exit 3.
        show_keys: Keys are called by their names in sentences, logs and answers; else by marks.
    """

    source: Endpoint
    target: Endpoint
    selection: Selection = field(default_factory=Selection)
    on_conflict: ConflictPolicy | None = None
    batch: int = 1000
    max_rate: float | None = None
    max_bandwidth: float | None = None
    max_latency_ms: float = 5.0
    keep_eviction_hints: bool = False
    drop_field_expiry: bool = False
    functions: bool = False
    state_dir: Path = Path(".keyferry")
    restart: bool = False
    failures_file: Path | None = None
    source_map: AddressMap = DIRECT
    target_map: AddressMap = DIRECT
    big_key_bytes: int = 1 << 20
    big_key_members: int = 20_000
    retry_s: float = 60.0
    show_keys: bool = False
