"""What the documentation says of every metric, from the table that they are served by."""

from __future__ import annotations

from keyferry.app.dashboard.metric_table import GROUPS, Described


def metrics_section() -> str:
    """The generated part of docs/metrics.md: a table for each group."""
    parts = []
    for heading, group in GROUPS.items():
        rows = ["| metric | type | labels | unit | meaning |", "|---|---|---|---|---|", *map(_row, group)]
        parts.append(f"### {heading}\n\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _row(one: Described) -> str:
    labels = ", ".join(f"`{label}`" for label in one.labels)
    return f"| `{one.name}` | {one.kind} | {labels} | {one.unit} | {one.meaning} |"
