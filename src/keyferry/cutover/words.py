"""Sentences of a run that follows the target back to the source: there "source" means the side with authority."""

from __future__ import annotations

import re

_SIDES = {"source": "target", "target": "source"}
_WORD = re.compile(r"(?<![a-z])(source|target)(?![a-z])", re.IGNORECASE)


def swap_sides(text: str) -> str:
    """The same sentence with source and target in each other's place, whether capitalised or not."""

    def other(match: re.Match[str]) -> str:
        word = match[0]
        swapped = _SIDES[word.lower()]
        return swapped.capitalize() if word[0].isupper() else swapped

    return _WORD.sub(other, text)
