"""What feeds say."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Heard:
    """What a feed has named.

    Attributes:
        keys: Database (None: the feed does not say) and names, in order of arrival.
        everything: The server says that any key may have changed.
    """

    keys: list[tuple[int | None, list[bytes]]] = field(default_factory=list)
    everything: bool = False
