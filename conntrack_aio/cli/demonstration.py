"""Run the demo: open connections in a new network namespace, and print their events.

- The connections are real, and this kernel tracks them.
- The demo runs in a child process. Only a process with a single thread can enter a new user
  namespace (``unshare()``), and it cannot return to the old one.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from functools import partial

import anyio
import anyio.to_thread

from ..connecting import connect
from ..connection import Connection
from ..errors import EventsLost
from ..model.enums import EventType
from ..model.events import FlowEvent
from ..model.protocols import PROTOCOL_NAMES
from ..model.sysctl_names import CONNTRACK
from ..proc_sys import set_sysctl
from ..sandbox import namespace, rules, traffic
from ..streams.events import EventStream
from .failures import guarded, report_failure
from .output import write_line, write_lines
from .render import Render, renderer
from .running import run_async

_EVENT_TIMEOUT = 10.0
"""Seconds to wait for the events, which normally arrive at once."""

_INTERRUPT_TIMEOUT = 1.0
"""Seconds to wait for the child process to exit after an interrupt, before it is terminated."""

_SYSCTLS = {"events": 1, "acct": 1, "timestamp": 1}

_INTRODUCTION = """\
This process now opens some connections over loopback, in a network namespace of its own.
The kernel tracks them and reports these events:
"""


def run_demo(*, json: bool) -> int:
    """Run the demo in a child process, and return the exit status.

    :param json: whether to print JSON Lines instead of text.
    """
    command = [
        sys.executable,
        "-m",
        "conntrack_aio.cli.demonstration",
        *(["--json"] if json else []),
    ]
    with subprocess.Popen(command) as child:
        try:
            status = child.wait()
        except KeyboardInterrupt:
            # A terminal interrupts the child too. Other senders may interrupt this process alone.
            try:
                child.wait(_INTERRUPT_TIMEOUT)
            except subprocess.TimeoutExpired:
                child.terminate()
            child.wait()
            raise
    return status if status >= 0 else 128 - status  # 128 + the signal's number, as in shells


def main() -> int:
    """Run the child process: enter the sandbox, print the events and a summary."""
    return guarded(lambda: _run_child(json="--json" in sys.argv[1:]))


def _run_child(*, json: bool) -> None:
    namespace.enter_sandbox()
    for name, value in _SYSCTLS.items():
        set_sysctl(f"{CONNTRACK}{name}", value)
    rules.track_connections()
    if not json:
        write_line(_INTRODUCTION, flush=True)
    summary = run_async(partial(_watch, renderer(json=json)))
    if not json:
        write_line(f"\n{summary}")


async def _watch(render: Render) -> str:
    """Generate traffic, delete its flows, print all events, and return the summary."""
    async with connect() as conn, conn.events() as stream:
        await anyio.to_thread.run_sync(_generate_traffic)
        tracked = await conn.list()
        await conn.flush()
        counts: Counter[str] = Counter()
        with anyio.move_on_after(_EVENT_TIMEOUT):
            await _print_events(stream, render, counts)
        protocols = Counter(flow.orig.proto for flow in tracked)
        return _summary(conn, counts, protocols)


def _generate_traffic() -> None:
    for address in ("127.0.0.1", "::1"):
        traffic.tcp_exchange(address)
        traffic.udp_exchange(address)
        traffic.ping(address, id=7)


async def _print_events(
    stream: EventStream[FlowEvent], render: Render, counts: Counter[str]
) -> None:
    """Print events until every flow that was created has been destroyed.

    :param stream: the events.
    :param render: returns the lines for events.
    :param counts: the numbers of events, by the name of the type. It is updated.
    """
    while True:
        try:
            async for event in stream:
                write_lines(render([event]), flush=True)
                counts[event.type.name] += 1
                if counts[EventType.DESTROY.name] == counts[EventType.NEW.name]:
                    return
        except EventsLost as error:
            report_failure(error)


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
