"""Answers which address is behind a NAT, from a live copy of the kernel's table.

Each datagram that comes in is a packet as it was seen on one side of the translation, such as
``tcp 198.51.100.9 443 192.0.2.1 61000``; the answer is the same packet as it is on the other side.
That is what a flow collector asks for each of its records: no question goes to the kernel.
"""

import argparse
import signal
from ipaddress import ip_address

import anyio
from anyio import CancelScope
from anyio.abc import SocketAttribute

import conntrack_aio
from conntrack_aio import FlowTable, Tuple

PROTOCOLS = {"tcp": 6, "udp": 17}


def answer(table: FlowTable, question: str) -> str:
    """What is to be said to one question."""
    try:
        protocol, src, sport, dst, dport = question.split()
        packet = Tuple(
            src=ip_address(src),
            dst=ip_address(dst),
            proto=PROTOCOLS[protocol],
            sport=int(sport),
            dport=int(dport),
        )
    except (ValueError, KeyError):
        return "not a packet"
    other = table.translate(packet)
    return "of no connection" if other is None else str(other)


async def serve(table: FlowTable, port: int) -> None:
    """Answer until cancelled."""
    async with await anyio.create_udp_socket(local_host="127.0.0.1", local_port=port) as socket:
        print("listening on", socket.extra(SocketAttribute.local_port), flush=True)
        async for datagram, client in socket:
            reply = answer(table, datagram.decode(errors="replace"))
            await socket.sendto(reply.encode(), *client)


async def end_on_signal(scope: CancelScope) -> None:
    """Cancel everything at the first SIGINT or SIGTERM."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()


async def main(port: int, reconcile: float | None) -> None:
    async with (
        conntrack_aio.connect() as conn,
        conn.table(reconcile="auto" if reconcile is None else reconcile) as table,
        anyio.create_task_group() as tasks,
    ):
        print(f"{len(table)} connections, {table.mode.value}", flush=True)
        tasks.start_soon(end_on_signal, tasks.cancel_scope)
        tasks.start_soon(serve, table, port)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="UDP port on the loopback; 0: any")
    parser.add_argument(
        "--reconcile",
        type=float,
        metavar="SECONDS",
        help="compare with the kernel's table so often; give it where rules choose the events of "
        "flows",
    )
    options = parser.parse_args()
    anyio.run(main, options.port, options.reconcile)
