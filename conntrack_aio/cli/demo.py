"""The demo: real connections, tracked by this kernel, in a namespace that the demo makes.

A user namespace can only be made by a process with one thread, and one does not come back from
it; so the demo runs in a child process of its own.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import anyio
import anyio.to_thread

from ..connecting import connect
from ..connection import Connection
from ..errors import EventsLost
from ..model.enums import EventType
from ..model.events import FlowEvent
from ..model.protocols import PROTOCOL_NAMES
from ..proc_sys import CONNTRACK, set_sysctl
from ..sandbox import namespace, rules, traffic
from ..streams.events import EventStream
from .failures import complain, guarded
from .output import interrupting_writes, write_line
from .render import Render, renderer

_PATIENCE = 10.0
"""Seconds that the demo waits for events that ought to come at once."""

_INTERRUPTED_WITHIN = 1.0
"""Seconds that an interrupted demo has to end."""

_SYSCTLS = {"events": 1, "acct": 1, "timestamp": 1}

_INTRODUCTION = """\
In a network namespace of its own, this process now opens some connections over loopback.
The kernel tracks them; here is what it says of them:
"""


def run_demo(*, json: bool) -> int:
    """Run the demo in a child process; its exit status."""
    command = [sys.executable, "-m", "conntrack_aio.cli.demo", *(["--json"] if json else [])]
    with subprocess.Popen(command) as child:
        try:
            status = child.wait()
        except KeyboardInterrupt:
            # A terminal interrupts the child too; from elsewhere this may be the only process.
            try:
                child.wait(_INTERRUPTED_WITHIN)
            except subprocess.TimeoutExpired:
                child.terminate()
            child.wait()
            raise
    return status if status >= 0 else 128 - status  # as a shell has that of a signal


def main() -> int:
    """The child: enter the sandbox, show the events, sum up."""
    return guarded(lambda: _demonstrate(json="--json" in sys.argv[1:]))


def _demonstrate(*, json: bool) -> None:
    namespace.enter_sandbox()
    for name, value in _SYSCTLS.items():
        set_sysctl(f"{CONNTRACK}{name}", value)
    rules.track_connections()
    if not json:
        write_line(_INTRODUCTION, flush=True)
    summary = anyio.run(_watch, renderer(json=json))
    if not json:
        write_line(f"\n{summary}")


async def _watch(render: Render) -> str:
    with interrupting_writes():
        return await _watch_traffic(render)


async def _watch_traffic(render: Render) -> str:
    async with connect() as conn, conn.events() as stream:
        await anyio.to_thread.run_sync(_traffic)
        tracked = await conn.list()
        await conn.flush()
        counts: Counter[str] = Counter()
        with anyio.move_on_after(_PATIENCE):
            await _show(stream, render, counts)
        protocols = Counter(flow.orig.proto for flow in tracked)
        return _summary(conn, counts, protocols)


def _traffic() -> None:
    for address in ("127.0.0.1", "::1"):
        traffic.tcp_exchange(address)
        traffic.udp_exchange(address)
        traffic.ping(address, id=7)


async def _show(stream: EventStream[FlowEvent], render: Render, counts: Counter[str]) -> None:
    """Until every flow that began has ended."""
    while True:
        try:
            async for event in stream:
                write_line(render(event), flush=True)
                counts[event.type.name] += 1
                if counts[EventType.DESTROY.name] == counts[EventType.NEW.name]:
                    return
        except EventsLost as error:
            complain(error)


def _summary(conn: Connection, counts: Counter[str], protocols: Counter[int]) -> str:
    events = ", ".join(f"{counts[kind.name]} {kind.name}" for kind in EventType)
    flows = ", ".join(
        f"{number} {PROTOCOL_NAMES[protocol]}" for protocol, number in sorted(protocols.items())
    )
    lost = conn.client_statistics().events_lost
    return (
        f"{counts.total()} events ({events}), {lost} lost, of {protocols.total()} flows ({flows})."
    )


if __name__ == "__main__":
    sys.exit(main())
