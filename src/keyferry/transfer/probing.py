"""Whether keys are asked for by GETRANGE first. Pure."""

from __future__ import annotations

from keyferry.transfer.config import LOOK_KEYS, RelayConfig


class ProbeChoice:
    """Goes by what the last keys were: a probe that finds no short string was for nothing."""

    def __init__(self, config: RelayConfig) -> None:
        self.probing = config.short_bytes > 0
        self._on = self.probing
        self._short = self._others = 0

    def count(self, *, short: bool) -> None:
        """One more key has been seen, a short string or something else."""
        if not self._on:
            return
        self._short += short
        self._others += not short
        if self._short + self._others >= LOOK_KEYS:
            self.probing = self._short >= self._others
            self._short = self._others = 0


def is_long(config: RelayConfig, answer: bytes | None, expires: int, error: bytes | None) -> bool:
    """Whether an answer to GETRANGE is not the whole of a string: another type, longer, or perhaps not there."""
    if error is not None:
        return error.startswith(b"WRONGTYPE")
    return answer is not None and expires != -2 and len(answer) in (0, config.short_bytes)


def is_short(config: RelayConfig, payload: bytes) -> bool:
    """Whether a payload is that of a short string; of a compressed one (0xC3) the length is not looked for."""
    return payload[0] == 0 and len(payload) < config.short_bytes + 13 and payload[1] != 0xC3
