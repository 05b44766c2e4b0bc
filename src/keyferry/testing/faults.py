"""What goes wrong while a tool follows a server: each fault begins, lasts, and is over when its function returns.

Writers reach the source directly and notice nothing but its pauses. Each function says in a few words what it
did, for the log of a run that fails.
"""

from __future__ import annotations

import random
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from keyferry.testing.cluster import Cluster
from keyferry.testing.proxy import Direction
from keyferry.testing.proxy_process import ProxyProcess
from keyferry.testing.servers import Server
from keyferry.testing.sides import ProxiedSide
from keyferry.testing.tool import Tool
from keyferry.wire.resp import Argument, ReplyError
from keyferry.wire.session import CLIENT_NAME

PROXY_DELAY_S = 0.01, 0.05
RESTART_AWAY_S = 0.05, 1.5
CUT_AFTER_BYTES_MAX = 60_000
OOM_BELOW_USED = 0.9
TINY_BUFFER = "pubsub 4096 2048 1"
PUBSUB_BUFFER = "pubsub 33554432 8388608 60"
"""The limit that servers come with."""


@dataclass(frozen=True, slots=True)
class World:
    """What faults are done to."""

    source: ProxiedSide
    target: ProxiedSide
    tool: Tool
    rng: random.Random

    def side(self) -> ProxiedSide:
        return self.rng.choice((self.source, self.target))

    def proxies(self) -> list[ProxyProcess]:
        return [*self.source.proxies, *self.target.proxies]

    def source_node(self) -> Server:
        return self.rng.choice(self.source.deployment.primaries)

    def target_node(self) -> Server:
        return self.rng.choice(self.target.deployment.primaries)

    def seconds(self, least: float, most: float) -> float:
        return self.rng.uniform(least, most)


Fault = Callable[[World], str]


def cut_source(world: World) -> str:
    """All connections to one node of the source are reset, the feed's too."""
    return _cut(world, world.source)


def cut_target(world: World) -> str:
    """All connections to one node of the target are reset."""
    return _cut(world, world.target)


def cut_feed(world: World) -> str:
    """The server ends the connections that take pushes."""
    node = world.source_node()
    killed = _call(node, "CLIENT", "KILL", "TYPE", "pubsub")
    return f"{killed} feeds killed"


def kill_tracking(world: World) -> str:
    """Ends the connections on which tracking is on, whatever their class is."""
    node = world.source_node()
    return f"{_kill(node, tracking=True)} tracking connections killed"


def kill_clients(world: World) -> str:
    """CLIENT KILL of every connection of the tool, to the source or the target."""
    side = world.side()
    node = world.rng.choice(side.deployment.primaries)
    return f"{_kill(node, tracking=False)} connections of the {side.side} killed"


def kill_tool(world: World) -> str:
    """kill -9; the same command again after a while."""
    away_s = world.seconds(0, 1.5)
    world.tool.kill()
    time.sleep(away_s)
    world.tool.start()
    return f"killed, back after {away_s:.2f} s"


def end_tool(world: World) -> str:
    """SIGTERM or SIGINT; the same command again after a while."""
    away_s = world.seconds(0, 1.5)
    number = world.rng.choice((signal.SIGTERM, signal.SIGINT))
    world.tool.ask_to_end(number)
    time.sleep(away_s)
    world.tool.start()
    return f"{number.name}, back after {away_s:.2f} s"


def pause_tool(world: World) -> str:
    """The tool stands still, its connections stay open: what it read before is old when it goes on."""
    seconds = world.seconds(0.3, 2.0)
    world.tool.pause(seconds)
    return f"stood still for {seconds:.2f} s"


def restart_target(world: World) -> str:
    """SIGKILL, and back with its data (append-only file)."""
    node = world.target_node()
    away_s = world.seconds(*RESTART_AWAY_S)
    node.kill()
    time.sleep(away_s)
    if isinstance(world.target.deployment, Cluster):
        world.target.deployment.restart(world.target.deployment.nodes.index(node), keep_data=True)
    else:
        node.start()
    return f"away for {away_s:.2f} s"


def pause_target(world: World) -> str:
    """SIGSTOP for seconds."""
    return _pause(world.target_node(), world.seconds(1.0, 3.0))


def pause_source(world: World) -> str:
    return _pause(world.source_node(), world.seconds(0.5, 1.0))


def delay(world: World) -> str:
    """Everything takes longer, both ways."""
    delay_s, seconds = world.seconds(*PROXY_DELAY_S), world.seconds(1.0, 3.0)
    for proxy in world.proxies():
        proxy.delay(delay_s)
    time.sleep(seconds)
    for proxy in world.proxies():
        proxy.delay(0.0)
    return f"{1_000 * delay_s:.0f} ms each way for {seconds:.2f} s"


def cut_replies(world: World) -> str:
    """The next connections to one side end in the middle of what they carry."""
    side, times = world.side(), world.rng.randint(1, 4)
    direction: Direction = world.rng.choice(("to_client", "to_server"))
    proxy = world.rng.choice(side.proxies)
    sizes = [int(CUT_AFTER_BYTES_MAX ** world.rng.random()) for _ in range(times)]
    for size in sizes:
        proxy.cut_after(size, direction)
    proxy.cut()
    return f"connections to the {side.side} end after {sizes} bytes {direction}"


def stall(world: World) -> str:
    """No byte passes, no connection ends; then all of it arrives at once."""
    side, seconds = world.side(), world.seconds(0.3, 1.5)
    proxy = world.rng.choice(side.proxies)
    proxy.stall(True)
    time.sleep(seconds)
    proxy.stall(False)
    return f"no byte to or from the {side.side} for {seconds:.2f} s"


def tiny_buffer(world: World) -> str:
    """The server cuts a feed that does not read at once, and it does not."""
    node = world.source_node()
    seconds = world.seconds(0.5, 1.5)
    proxy = world.source.proxies[list(world.source.deployment.nodes).index(node)]
    _config(node, "client-output-buffer-limit", TINY_BUFFER)
    proxy.stall(True)
    time.sleep(seconds)
    proxy.stall(False)
    time.sleep(seconds)
    _config(node, "client-output-buffer-limit", PUBSUB_BUFFER)
    return f"feeds may hold 4 KiB for {2 * seconds:.2f} s"


def reset_statistics(world: World) -> str:
    """The counters of commands begin at 0 again."""
    _call(world.source_node(), "CONFIG", "RESETSTAT")
    return "statistics of the source reset"


def out_of_memory(world: World) -> str:
    """The target takes no writes for a while."""
    node, seconds = world.target_node(), world.seconds(0.5, 2.0)
    info = _call(node, "INFO", "memory")
    used = re.search(rb"used_memory:(\d+)", info if isinstance(info, bytes) else b"")
    _config(node, "maxmemory", int(OOM_BELOW_USED * int(used[1])) if used else 1)
    time.sleep(seconds)
    _config(node, "maxmemory", 0)
    return f"the target was full for {seconds:.2f} s"


FAULTS: dict[str, Fault] = {
    fault.__name__.replace("_", "-"): fault
    for fault in (
        cut_source, cut_target, cut_feed, kill_tracking, kill_clients, kill_tool, end_tool, pause_tool, restart_target, pause_target,
        pause_source, delay, cut_replies, stall, tiny_buffer, reset_statistics, out_of_memory,
    )
}  # fmt: skip


def _cut(world: World, side: ProxiedSide) -> str:
    proxy = world.rng.choice(side.proxies)
    open_connections = proxy.open_connections
    proxy.cut()
    return f"{open_connections} connections to the {side.side} reset"


def _pause(node: Server, seconds: float) -> str:
    node.pause()
    time.sleep(seconds)
    node.resume()
    return f"stood still for {seconds:.2f} s"


def _kill(node: Server, *, tracking: bool) -> int:
    """How many of the tool's connections were ended; with ``tracking`` only those that are told of changes."""
    listed = _call(node, "CLIENT", "LIST")
    killed = 0
    for line in (listed if isinstance(listed, bytes) else b"").splitlines():
        fields = dict(part.partition(b"=")[::2] for part in line.split(b" "))
        if not fields.get(b"name", b"").startswith(CLIENT_NAME.encode()):
            continue
        if tracking and b"t" not in fields.get(b"flags", b""):
            continue
        killed += _call(node, "CLIENT", "KILL", "ID", fields[b"id"]) == 1
    return killed


def _config(node: Server, name: str, value: Argument) -> None:
    reply = _call(node, "CONFIG", "SET", name, value)
    if isinstance(reply, ReplyError):
        raise RuntimeError(f"{node!r} does not take {name}: {reply.message}")


def _call(node: Server, *command: Argument) -> object:
    """Directly, under a name that is not the tool's."""
    with node.session(timeout_s=60.0) as session:
        session.call("CLIENT", "SETNAME", "fault")
        return session.call(*command)
