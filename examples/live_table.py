"""Translate packets to the other side of NAT, with a live table that mirrors the kernel's.

The program receives requests as UDP datagrams. A request describes a packet as it was captured on
one side of the translation, for example ``tcp 198.51.100.9 443 192.0.2.1 61000``. The reply
describes the same packet on the other side. A flow collector needs this for each of its records. A
look-up sends no request to the kernel, because the live table is in the program's memory.
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


def reply_to(table: FlowTable, request: str) -> str:
    """Return the reply to a request, which describes a packet."""
    try:
        protocol, src, sport, dst, dport = request.split()
        packet = Tuple(
            src=ip_address(src),
            dst=ip_address(dst),
            proto=PROTOCOLS[protocol],
            sport=int(sport),
            dport=int(dport),
        )
    except (ValueError, KeyError):
        return "not a packet"
    translated = table.translate(packet)
    return "no such connection" if translated is None else str(translated)


async def serve(table: FlowTable, port: int) -> None:
    """Reply to requests until cancelled."""
    async with await anyio.create_udp_socket(local_host="127.0.0.1", local_port=port) as socket:
        print("listening on", socket.extra(SocketAttribute.local_port), flush=True)
        async for datagram, client in socket:
            reply = reply_to(table, datagram.decode(errors="replace"))
            await socket.sendto(reply.encode(), *client)


async def cancel_on_signal(scope: CancelScope) -> None:
    """Cancel the scope at the first SIGINT or SIGTERM."""
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
        tasks.start_soon(cancel_on_signal, tasks.cancel_scope)
        tasks.start_soon(serve, table, port)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=0, help="UDP port on the loopback; 0: any")
    parser.add_argument(
        "--reconcile",
        type=float,
        metavar="SECONDS",
        help="reconcile the live table with the kernel's table at this interval; needed if "
        "firewall rules select which flows emit events",
    )
    options = parser.parse_args()
    anyio.run(main, options.port, options.reconcile)
