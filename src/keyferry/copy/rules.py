"""What decides about single keys, for one pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from keyferry.copy.bigkeys import BigKeyLimits
from keyferry.copy.settings import ConflictPolicy
from keyferry.payload.plan import PayloadPlan


@dataclass(frozen=True, slots=True)
class Rules:
    """What decides about single keys, for one database of one run.

    Attributes:
        delete_vanished: A key that is gone on the source goes on the target (``replace`` was chosen).
        comparing: What is equal already is not written again.
        target_bulk_bytes_max: The target's proto-max-bulk-len.
        is_foreign: Whether the target held a key before this copy began.
        big_keys: From when on a key travels in pieces.
        owner: Of temporary names: this copy, in letters and digits.
        on_big: Takes keys that are too big for one DUMP, with their size or 0; None carries them here.
        on_big_met: Is told of every key that was large enough to be looked at; see ``BigKeyActions.met``.
        on_stream: Is told of every key that holds a stream.
        keeps: Whether a key that the source does not have stays on the target; None: none does.
    """

    plan: PayloadPlan
    database: int
    on_conflict: ConflictPolicy
    delete_vanished: bool
    drop_field_expiry: bool
    comparing: bool
    types: tuple[str, ...]
    target_bulk_bytes_max: int
    clock_offset_ms: int
    is_foreign: Callable[[bytes], bool]
    big_keys: BigKeyLimits
    owner: bytes
    on_big: Callable[[bytes, int], None] | None = None
    on_big_met: Callable[[bytes, int, str, int | None], None] | None = None
    on_stream: Callable[[bytes], None] | None = None
    keeps: Callable[[bytes], bool] | None = None

    @property
    def follows(self) -> bool:
        """The target follows the source: what the source does not have under a name goes."""
        return self.on_stream is not None
