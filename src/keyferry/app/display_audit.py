"""What a running audit looks like."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from keyferry.app.pictures import BAR_WIDTH, LINE_S, heading
from keyferry.capture.audit_run import AuditProgress
from keyferry.model.words import counted, duration


class AuditView:
    """A line for each stage, and every few seconds."""

    def frame(self, title: str, progress: AuditProgress) -> RenderableType:
        grid = Table.grid(padding=(0, 1))
        grid.add_row(
            ProgressBar(total=progress.seconds, completed=progress.elapsed_s, width=BAR_WIDTH),
            Text(self.line(progress), style="dim", no_wrap=True, overflow="ellipsis"),
        )
        return Group(heading(title), grid)

    def line(self, progress: AuditProgress) -> str:
        left = duration(max(0.0, progress.seconds - progress.elapsed_s))
        heard = f", {counted(progress.lines, 'line')} of MONITOR" if progress.lines else ""
        return f"{progress.stage}, {left} left{heard}"

    def pause_s(self, said: AuditProgress | None, progress: AuditProgress) -> float:
        return 0.0 if said is not None and said.stage != progress.stage else LINE_S
