"""What a running comparison looks like."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from keyferry.app.pictures import (
    LINE_S,
    bar,
    columns,
    guard,
    heading,
    joined,
    latencies,
    servers,
    time_left,
    warned,
)
from keyferry.model.words import count, duration, share
from keyferry.telemetry.comparing import VerifyProgress


class VerifyView:
    """A line for each stage, and every few seconds."""

    def frame(self, title: str, progress: VerifyProgress) -> RenderableType:
        return frame(title, progress)

    def line(self, progress: VerifyProgress) -> str:
        return line(progress)

    def pause_s(self, said: VerifyProgress | None, progress: VerifyProgress) -> float:
        return 0.0 if said is not None and said.stage != progress.stage else LINE_S


def frame(title: str, progress: VerifyProgress) -> RenderableType:
    """One picture of a running comparison: 80 columns wide, always of the same height."""
    numbers = columns(
        (
            (
                "keys",
                Text(f"{count(progress.keys_done)} of {count(progress.keys_total)}", style="bold"),
                "rate",
                f"{count(progress.keys_per_second)} keys/s",
            ),
            ("suspects", count(progress.suspects), "latency", latencies(progress)),
            ("differ", warned(count(progress.differences), progress.differences), "guard", guard(progress)),
            ("round", _round(progress), "time", duration(progress.elapsed_s)),
            ("database", count(progress.database), "stage", Text(progress.stage, style="cyan")),
        )
    )
    return Group(heading(title), bar(progress), numbers)


def line(progress: VerifyProgress) -> str:
    """The same in one line of plain text."""
    percent = share(progress.keys_done, progress.keys_total)
    of = f"{count(progress.keys_done)} of {count(progress.keys_total)} keys"
    return joined(
        (
            f"{progress.stage}, database {progress.database}: {of}"
            + ("" if percent is None else f" ({percent} %)"),
            f"{count(progress.keys_per_second)} keys/s",
            time_left(progress),
            f"{count(progress.suspects)} suspects",
            f"round {_round(progress)}" if progress.round else "",
            f"{count(progress.differences)} differ",
            servers(progress),
        )
    )


def _round(progress: VerifyProgress) -> str:
    return f"{progress.round} of {progress.rounds}" if progress.round else "-"
