"""How numbers are written for people, where the commands look for it; it lives where all layers can reach it."""

from __future__ import annotations

from keyferry.model.words import count, counted, duration, latency, moment, share, size

__all__ = ["count", "counted", "duration", "latency", "moment", "share", "size"]
