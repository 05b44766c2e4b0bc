"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

NONE = "–"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int = 1) -> str:
    """Columns from ``numbers_from`` on are set to the right; without rows there is no table."""
    if not rows:
        return ""
    rule = ["---" if column < numbers_from else "---:" for column in range(len(head))]
    return "\n".join(_line(cells) for cells in (head, rule, *rows))


def us(value: float | None) -> str:
    """Microseconds."""
    return NONE if value is None else f"{value:,.2f}"


def ms(value_us: float | None) -> str:
    """Microseconds, shown as milliseconds."""
    return NONE if value_us is None else f"{value_us / 1e3:.2f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
