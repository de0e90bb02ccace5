"""A trio application that ends long connections.

Every few seconds it looks at the table and deletes the TCP connections that are older than it
allows, so that the kernel forgets them. That ends a connection only where a firewall then drops its
packets: ``sysctl -w net.netfilter.nf_conntrack_tcp_loose=0`` together with the rule ``ct state
invalid drop``. Without both, its packets still pass, and by default the next one makes a new entry.
Beside that it reports, by the events, the flows that end.
"""

import argparse
import signal
import time

import trio

import conntrack_aio
from conntrack_aio import Connection, EventsLost, EventType, Flow, NotFound


def age(flow: Flow) -> float:
    """Seconds since the flow began; 0 if nf_conntrack_timestamp was off when it did."""
    if flow.timestamp is None or flow.timestamp.start is None:
        return 0.0
    return time.time() - flow.timestamp.start / 1e9


async def end_old_ones(conn: Connection, limit: float, interval: float) -> None:
    """Delete TCP flows older than ``limit`` seconds, every ``interval`` seconds."""
    while True:
        async with conn.dump() as dump:
            async for flow in dump:
                if flow.orig.proto == 6 and age(flow) > limit:
                    try:
                        await conn.delete(flow)  # this very one: the id is checked
                    except NotFound:
                        continue  # it ended by itself
        await trio.sleep(interval)


async def report(conn: Connection) -> None:
    """Print the flows that end."""
    async with conn.events(EventType.DESTROY) as stream:
        while True:
            try:
                async for event in stream:
                    print("ended:", event.flow, flush=True)
            except EventsLost as loss:
                print(loss, flush=True)


async def end_on_signal(scope: trio.CancelScope) -> None:
    """Cancel everything at the first SIGINT or SIGTERM."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()


async def main(limit: float, interval: float) -> None:
    async with conntrack_aio.connect() as conn, trio.open_nursery() as nursery:
        nursery.start_soon(end_on_signal, nursery.cancel_scope)
        nursery.start_soon(report, conn)
        nursery.start_soon(end_old_ones, conn, limit, interval)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds")
    parser.add_argument("--interval", type=float, default=10.0, help="seconds")
    arguments = parser.parse_args()
    trio.run(main, arguments.limit, arguments.interval)
