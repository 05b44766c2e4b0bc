"""Binds the cutters of feeds to one of its twins: the compiled one where it was built, else pure Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from keyferry.capture.pushes_pure import Named, PureCutter, PureEventCutter
from keyferry.model.build import wanted
from keyferry.wire.resp import Reply


class Cutter(Protocol):
    """What both twins are."""

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Takes bytes, cut anywhere.

        Raises:
            ProtocolError: They are not what a tracking connection sends. The cutter is of no more use then.
        """

    def take_keys(self) -> list[bytes]:
        """Names since the last take, in order of arrival, without those that begin with ``keyferry:``."""

    def take_everything(self) -> bool:
        """Whether the server has said since the last take that any key may have changed."""

    def take_replies(self) -> list[Reply]:
        """Everything else since the last take, in order; pushes as lists."""


class EventCutter(Protocol):
    """The same for keyspace notifications."""

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """As ``Cutter.feed``."""

    def take_keys(self) -> Named:
        """Names since the last take, by database; without reads that found nothing and names of ``keyferry:``."""

    def take_replies(self) -> list[Reply]:
        """Everything else since the last take, in order."""


def _bind() -> tuple[Callable[[], Cutter], Callable[[], EventCutter], str]:
    if wanted() != "pure":
        try:
            from keyferry.capture._pushes import CompiledCutter, CompiledEventCutter
        except ImportError:
            if wanted() == "compiled":
                raise
        else:
            return CompiledCutter, CompiledEventCutter, "compiled"
    return PureCutter, PureEventCutter, "pure Python"


make_cutter, make_event_cutter, IMPLEMENTATION = _bind()
