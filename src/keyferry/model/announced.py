"""Where the nodes of a cluster are reached, when they announce addresses that mean nothing here.

A node in a container or behind a tunnel names itself by an address of its own network, in CLUSTER SLOTS and in
every redirection. ``--source-map A=B`` and ``--target-map A=B`` say where we find it instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from keyferry.model.address import parse_place, place_text
from keyferry.model.errors import UsageError

Place = tuple[str, int | None]
"""A host in lower case, and its port; None stands for every port."""


@dataclass(frozen=True, slots=True)
class AddressMap:
    """Announced place -> where it is reached. Empty: every node is where it says.

    Attributes:
        pairs: (announced, reached). An announced place without a port stands for every port of that host; a
            reached one without a port keeps the announced port.
    """

    pairs: tuple[tuple[Place, Place], ...] = ()

    @classmethod
    def of(cls, pairs: Iterable[tuple[Place, Place]]) -> AddressMap:
        """The map of these pairs.

        Raises:
            UsageError: One announced place is given two others.
        """
        places: dict[Place, Place] = {}
        for announced, reached in pairs:
            if places.setdefault(announced, reached) != reached:
                raise UsageError(
                    f"Two places are given for {_text(announced)}: {_text(places[announced])} and {_text(reached)}.",
                    "Give each announced address one.",
                )
        return cls(tuple(places.items()))

    def reach(self, host: str, port: int) -> tuple[str, int]:
        """Where to dial for a node that announces ``host`` and ``port``; a pair with the port counts first."""
        places = dict(self.pairs)
        name = host.lower()
        reached = places.get((name, port)) or places.get((name, None))
        if reached is None:
            return host, port
        return reached[0], port if reached[1] is None else reached[1]


DIRECT = AddressMap()
"""Every node is where it says."""


def parse_pair(text: str) -> tuple[Place, Place]:
    """Reads ``A=B``, both ``host[:port]``.

    Raises:
        UsageError: It is something else.
    """
    announced, equals, reached = text.partition("=")
    if not equals:
        raise UsageError(f"{text!r} is not of the form A=B, such as 10.0.0.1:6379=localhost:7001.")
    return parse_place(announced), parse_place(reached)


def _text(place: Place) -> str:
    host, port = place
    return place_text(host, port) if port is not None else host
