"""What the core costs: a dump, queued events and creates, beside the floor of each."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Awaitable, Callable

import anyio

from conntrack_aio import Connection, EventStream, EventType, Flow, FlowEvent, connect
from conntrack_aio.codec.requests import flows as requests
from conntrack_aio.netlink.endpoint import Kernel
from conntrack_aio.netlink.exchange import DumpExchange
from conntrack_aio.netlink.namespaces import unshare
from conntrack_aio.netlink.socket import NetlinkSocket
from conntrack_aio.sandbox.namespace import enter_sandbox
from conntrack_aio.sysctls import set_sysctl
from conntrack_aio.uapi.sched import CLONE_NEWNET

Contender = Callable[[], Awaitable[tuple[float, int]]]
"""Runs once; the seconds it took, and how many flows it saw."""


def flow(number: int) -> Flow:
    source = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    return Flow.tcp(source, 40000, "192.0.2.1", 80, timeout=3600, mark=number & 0xFF)


def drain(socket: NetlinkSocket, *, until_done: DumpExchange | None = None) -> int:
    """Receive what there is, counting datagrams; entries too where the dump's end is looked for."""
    count = 0
    while True:
        try:
            size = socket.receive()
        except BlockingIOError:
            return count
        count += len(until_done.feed(socket.buffer, size)) if until_done else 1


class Bench:
    """A connection with a table to measure on."""

    def __init__(self, conn: Connection, flows: int) -> None:
        self.conn = conn
        self.flows = [flow(number) for number in range(flows)]

    async def dump_floor(self) -> tuple[float, int]:
        socket = Kernel().open()
        request = DumpExchange(requests.dump(), 1)
        start = time.perf_counter()
        socket.send(request.data)
        drain(socket)
        elapsed = time.perf_counter() - start
        socket.close()
        return elapsed, len(self.flows)

    async def dump(self) -> tuple[float, int]:
        start = time.perf_counter()
        count = 0
        async for batch in self.conn.dump().batches():
            count += len(batch)
        return time.perf_counter() - start, count

    async def create(self) -> tuple[float, int]:
        await self.conn.flush()
        start = time.perf_counter()
        outcomes = await self.conn._session.run([requests.create(new) for new in self.flows])
        elapsed = time.perf_counter() - start
        return elapsed, sum(outcome.error is None for outcome in outcomes)

    async def create_floor(self) -> tuple[float, int]:
        await self.conn.flush()
        ready = [requests.create(new) for new in self.flows]
        start = time.perf_counter()
        outcomes = await self.conn._session.run(ready)
        elapsed = time.perf_counter() - start
        return elapsed, sum(outcome.error is None for outcome in outcomes)

    async def events(self) -> tuple[float, int]:
        async with self.conn.events(EventType.NEW) as stream:
            count = await self._queue_up(stream)
            start = time.perf_counter()
            for _ in range(count):
                await anext(stream)
            return time.perf_counter() - start, count

    async def events_floor(self) -> tuple[float, int]:
        async with self.conn.events(EventType.NEW) as stream:
            await self._queue_up(stream)
            start = time.perf_counter()
            count = drain(stream.socket)
            return time.perf_counter() - start, count

    async def _queue_up(self, stream: EventStream[FlowEvent]) -> int:
        """Cause events, as many as surely fit: root has a larger buffer than others."""
        await self.conn.flush()
        count = min(10_000, len(self.flows), stream.receive_buffer // 2048)
        await self.conn._session.run([requests.create(new) for new in self.flows[:count]])
        return count


async def measure(name: str, runs: int, contender: Contender, floor: Contender) -> None:
    """Take turns, and print the medians of a flow's microseconds and their ratio."""
    figures: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs):
        for figure, run in zip(figures, (contender, floor), strict=True):
            elapsed, count = await run()
            figure.append(elapsed / count * 1e6)
    ours, least = (statistics.median(figure) for figure in figures)
    print(f"{name:<24} {ours:8.2f} µs {least:8.2f} µs {ours / least:8.2f} x")


async def main(flows: int, runs: int) -> None:
    print(f"{flows} flows, medians of {runs} runs")
    print(f"{'':<24} {'a flow':>11} {'floor':>11} {'ratio':>10}")
    async with connect(receive_buffer=16 << 20) as conn:
        bench = Bench(conn, flows)
        await measure("create, outcomes read", runs, bench.create, bench.create_floor)
        await measure("dump, batch by batch", runs, bench.dump, bench.dump_floor)
        await measure("queued events", runs, bench.events, bench.events_floor)


def enter_namespace() -> None:
    """As root stay in the user namespace, for the sake of the larger buffers."""
    try:
        unshare(CLONE_NEWNET)
    except PermissionError:
        enter_sandbox()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flows", type=int, default=50_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    enter_namespace()
    set_sysctl("net.netfilter.nf_conntrack_events", 1)
    anyio.run(main, options.flows, options.runs)
