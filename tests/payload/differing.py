"""Comparisons in pieces over real servers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from carrying import Ferry, done
from looking import without_negative_zero

from keyferry.payload.differ import Settlement, compare_in_pieces
from keyferry.payload.exchange import Carry, Request
from keyferry.payload.write_commands import Command


def settled(
    ferry: Ferry,
    *,
    apply: bool = True,
    fuzzy: bool = False,
    before: Callable[[int, Request], None] = lambda index, request: None,
    destination: dict[str, object] | None = None,
    **more: Any,
) -> Settlement:
    """Runs a comparison of ``carrying.KEY`` to its end."""
    steps = compare_in_pieces(
        ferry.destination(**(destination or {})), ferry.source_identity, apply=apply, fuzzy=fuzzy, **more
    )
    return cast("Settlement", ferry.drive(cast("Carry", steps), before=before))


def on_both(ferry: Ferry, *commands: Command) -> None:
    done(ferry.source, *commands)
    done(ferry.onlooker, *commands)


def views(ferry: Ferry) -> tuple[object, object]:
    """The key on the source and on the target, equal exactly when the values are."""
    return without_negative_zero(ferry.on_source()), without_negative_zero(ferry.on_target())
