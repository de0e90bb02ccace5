"""End TCP connections that are older than a limit, and print the flows that end, on trio.

Every few seconds the application dumps the kernel's table and deletes the entries of old TCP
connections. That ends a connection only if the firewall then drops its packets. It does so with
``sysctl -w net.netfilter.nf_conntrack_tcp_loose=0`` and the rule ``ct state invalid drop``. Without
both, the packets still pass, and by default the next one creates a new entry.

The age of a flow is known only if ``net.netfilter.nf_conntrack_timestamp`` was 1 when it began. A
second task prints the flows that end, from their destroy events.
"""

import argparse
import signal
import time

import trio

import conntrack_aio
from conntrack_aio import Connection, EventsLost, EventType, Flow, NotFound


def age(flow: Flow) -> float:
    """Return the seconds since the flow began, or 0 if its entry has no start time."""
    if flow.timestamp is None or flow.timestamp.start is None:
        return 0.0
    return time.time() - flow.timestamp.start / 1e9


async def delete_old_flows(conn: Connection, limit: float, interval: float) -> None:
    """Delete TCP flows older than ``limit`` seconds, every ``interval`` seconds."""
    while True:
        async with conn.dump() as dump:
            async for flow in dump:
                if flow.orig.proto == 6 and age(flow) > limit:
                    try:
                        await conn.delete(flow)  # checks the id, so it deletes no newer entry
                    except NotFound:
                        pass  # the flow has already ended
        await trio.sleep(interval)


async def print_ended_flows(
    conn: Connection, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Print the flows that end, and report lost events. It has started once it has subscribed."""
    async with conn.events(EventType.DESTROY) as stream:
        task_status.started()
        while True:
            try:
                async for event in stream:
                    print("ended:", event.flow, flush=True)
            except EventsLost as loss:
                print(loss, flush=True)


async def cancel_on_signal(scope: trio.CancelScope) -> None:
    """Cancel the scope at the first SIGINT or SIGTERM."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()


async def main(limit: float, interval: float) -> None:
    async with conntrack_aio.connect() as conn, trio.open_nursery() as nursery:
        nursery.start_soon(cancel_on_signal, nursery.cancel_scope)
        await nursery.start(print_ended_flows, conn)
        nursery.start_soon(delete_old_flows, conn, limit, interval)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--limit",
        type=float,
        default=3600.0,
        metavar="SECONDS",
        help="delete TCP flows older than this (default: %(default)s)",
    )
    parser.add_argument(
        "--interval",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="time between two dumps of the table (default: %(default)s)",
    )
    options = parser.parse_args()
    trio.run(main, options.limit, options.interval)
