"""A comparison in pieces between nodes of a cluster whose slots move: refused, and nothing half applied."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import pytest
from carrying import BUILDERS, KEY, done, ferry_between, names_of
from differing import settled

from keyferry.payload.differ import Refused
from keyferry.payload.exchange import Request
from keyferry.payload.names import slot
from keyferry.testing.cluster import Cluster
from keyferry.testing.servers import Server

SLOT = slot(KEY)
MOMENTS: dict[str, Callable[[int, Request], bool]] = {
    "at once": lambda index, request: index == 0,
    "after a page": lambda index, request: index == 5,
    "before the source's last word": lambda index, request: (
        names_of(request.source) == [b"MULTI", b"HLEN", b"EXEC"]
    ),
    "before the transaction": lambda index, request: names_of(request.target)[:2] == [b"MULTI", b"HSET"],
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("finish", [True, False], ids=["moved", "half moved"])
@pytest.mark.parametrize("side", ["source", "target"])
def test_a_slot_moves(
    server: Server, cluster: Callable[..., Cluster], side: str, finish: bool, moment: str
) -> None:
    nodes = cluster(server.binary.name)
    owner = nodes.owner_of(SLOT)
    source, target = (owner, server) if side == "source" else (server, owner)
    if side == "source" and moment == "before the transaction":
        pytest.skip("the source has had its last word")
    with ExitStack() as stack:
        ferry = ferry_between(source, target)
        stack.callback(ferry.close)
        for session in (ferry.source, ferry.onlooker):
            done(session, *BUILDERS["hash"])
        done(ferry.source, ("HSET", KEY, 7, "new", 8, "new"))
        left = [nodes.nodes.index(nodes.owner_of(SLOT))]

        def before(index: int, request: Request) -> None:
            if left and MOMENTS[moment](index, request):
                to = (left.pop() + 1) % len(nodes.nodes)
                nodes.move_slot(SLOT, to, keys_per_step=10, finish=finish)

        outcome = settled(ferry, before=before)
        assert not left, "the moment never came"
        assert isinstance(outcome, Refused)
        assert (outcome.code, outcome.side) == ("MOVED" if finish else "ASK", side)
        if side == "target":
            with nodes.nodes[(nodes.nodes.index(owner) + 1) % len(nodes.nodes)].session() as there:
                if not finish:
                    there.call("ASKING")
                assert there.call("HGET", KEY, 7) == b"value 7"
        else:
            assert ferry.onlooker.call("HMGET", KEY, 7, 8) == [b"value 7", b"value 8"]
