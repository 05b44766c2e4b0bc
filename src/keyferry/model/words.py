"""How numbers are written for people: short, of steady width, in thousands."""

from __future__ import annotations


def count(number: float) -> str:
    return f"{number:,.0f}"


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun if number == 1 else noun + 's'}"


def size(number: float) -> str:
    """Bytes: 999 B, 1.5 KB, 24.1 MB (thousands, as network rates are)."""
    for unit in ("B", "KB", "MB", "GB"):
        if number < 999.95 or unit == "GB":
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    raise AssertionError("unreachable")


def duration(seconds: float) -> str:
    """0.4 s, 12 s, 3 min 20 s, 2 h 05 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(whole / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def moment(seconds: float) -> str:
    """As ``duration``, but 12 ms where that would be a share of a second."""
    return f"{seconds * 1000:.0f} ms" if seconds < 0.9995 else duration(seconds)


def latency(milliseconds: float | None) -> str:
    if milliseconds is None:
        return "-"
    return f"{milliseconds:.1f} ms" if milliseconds < 99.95 else f"{milliseconds:.0f} ms"


def share(done: int, total: int) -> int | None:
    """Percent, never 100 before all is done and never above; None when there is no total."""
    if total <= 0:
        return None
    return 100 if done >= total else min(99, done * 100 // total)
