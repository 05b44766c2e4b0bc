"""A live display that steps aside: what others print meanwhile stays on the terminal."""

from __future__ import annotations

import io

from rich.console import Console, RenderableType
from rich.text import Text

from keyferry.app.screen import LiveScreen

UP = "\x1b[1A"


class Lines:
    """Draws as many lines as it is told."""

    def frame(self, title: str, progress: int) -> RenderableType:
        return Text("\n".join(f"{title} {number}" for number in range(progress)))

    def line(self, progress: int) -> str:
        return f"{progress}"

    def pause_s(self, said: int | None, progress: int) -> float:
        return 0.0


def test_nothing_is_drawn_over_what_others_print() -> None:
    out = io.StringIO()
    with LiveScreen(
        Console(file=out, force_terminal=True, width=80, _environ={}), "a line", Lines()
    ) as screen:
        screen.observe(5)
        with screen.aside():
            before = out.getvalue()
            out.write("what others say\n")
        after = out.getvalue()[len(before) :]
    assert before.count(UP) >= 4
    assert UP not in after
    assert "a line 4" in after
    assert screen.last == 5
