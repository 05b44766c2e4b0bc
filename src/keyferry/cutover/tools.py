"""All through which a migration reaches its two sides besides the run that follows: made once, shared by its parts."""

from __future__ import annotations

import getpass
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass

from keyferry.cutover.barring import Bar
from keyferry.cutover.books import SwitchBooks
from keyferry.cutover.pausing import Pause
from keyferry.cutover.reach import Reach
from keyferry.cutover.record_store import RecordStore
from keyferry.cutover.settings import MigrationSettings
from keyferry.cutover.writers_watch import WritersWatch
from keyferry.journal.migration import MigrationJournal
from keyferry.model.address import Endpoint
from keyferry.model.phases import Side
from keyferry.model.record import Stamp


@dataclass(frozen=True, slots=True)
class Tools:
    """Of one process; ``close`` ends their connections."""

    settings: MigrationSettings
    journal: MigrationJournal
    endpoints: Mapping[Side, Endpoint]
    store: RecordStore
    watch: WritersWatch
    reaches: Mapping[Side, Reach]
    pauses: Mapping[Side, Pause]
    bars: Mapping[Side, Bar]
    books: SwitchBooks

    def stamp(self) -> Stamp:
        """Of a record that is written now."""
        return Stamp(round(time.time() * 1000), f"keyferry migrate {self.settings.name}, {_operator()}")

    def close(self) -> None:
        """Ends their connections."""
        self.store.__exit__(None, None, None)
        for reach in self.reaches.values():
            reach.forget()


def tools_for(settings: MigrationSettings, journal: MigrationJournal) -> Tools:
    """Dials nothing yet."""
    copy = settings.sync.copy
    endpoints = {Side.SOURCE: copy.source, Side.TARGET: copy.target}
    maps = {Side.SOURCE: copy.source_map, Side.TARGET: copy.target_map}
    store = RecordStore(settings.name, endpoints, maps)
    reaches = {side: Reach(side, endpoints[side], maps[side]) for side in Side}
    return Tools(
        settings,
        journal,
        endpoints,
        store,
        WritersWatch(store),
        reaches,
        {side: Pause(reaches[side]) for side in Side},
        {side: Bar(reaches[side]) for side in Side},
        SwitchBooks(journal),
    )


def _operator() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}, pid {os.getpid()}"
