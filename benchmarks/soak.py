"""Everything at once, for minutes, with little memory: does it stay whole, and does it stay small?

::

    python -m benchmarks.soak --minutes 3 --memory-limit 512M --backend trio

Storms, streams of all kinds, two live tables with quick and slow readers, dumps, bulk verbs, forged
events, and calls that are cancelled whenever it suits least; shortages of descriptors and threads,
forks, and programs beside it that are interrupted. In the end each table and each reader
must have what the kernel has, and nothing may be left: no descriptor, no task. A line every few
seconds tells what was done so far, and what memory it takes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import resource
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import attrs

from conntrack_aio import (
    Connection,
    ConntrackError,
    EventsLost,
    EventType,
    FlowTable,
    ResourceExhausted,
    connect,
)
from conntrack_aio.proc_sys import CONNTRACK, set_sysctl
from conntrack_aio.uapi.netlink import AF_NETLINK, NETLINK

from .contenders.ours import BACKENDS, on_backend
from .faults import SHORT_OF, Faults
from .figures.memory import resident
from .isolation import enter_namespace

# The storms, and what is compared after them, are those of the tests.
sys.path.append(str(Path(__file__).parents[1] / "tests"))
from support import flows
from support.event_storm import SMALL_BUFFER, Storm, enable_labels, plan_storm
from support.lab import Lab
from support.table_comparison import (
    Replay,
    by_key,
    differences,
    kernel_flows,
    key_of,
    wrong_look_ups,
)

_STORMS: Final = 4
"""Storms that differ, made before all begins, so that what they take does not grow."""
_SAMPLE: Final = 5.0
"""Seconds between two lines."""
_GROWTH: Final = 1.1
"""By how much memory may have grown between the second quarter and the last."""
_WARM: Final = 60.0
"""Seconds within which it may still grow."""
_LAST: Final = flows.tcp(60_000)
_STACK: Final = 1 << 19
_MIB: Final = 1 << 20


@attrs.frozen
class Options:
    """How long, how much memory, and on what."""

    seconds: float
    limit: int
    backend: str
    seed: int


@attrs.define
class Sample:
    """How large the process was."""

    at: float
    resident: int
    descriptors: int


class Soak:
    """All that happens at once, and what came of it."""

    def __init__(self, options: Options, conn: Connection, tables: Sequence[FlowTable]) -> None:
        self.options = options
        self.conn = conn
        self.tables = tables
        self.rng = random.Random(options.seed)
        self.done: Counter[str] = Counter()
        self.samples: list[Sample] = []
        self.quick = [Replay(table) for table in tables]
        self.slow = [Replay(table) for table in tables]
        self._plans = [
            plan_storm(options.seed * _STORMS + each, steps=12_000) for each in range(_STORMS)
        ]
        self._lab = Lab(os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        self._started = time.monotonic()
        self._faults = Faults(self.rng, options.backend, conn, tables)

    def close(self) -> None:
        os.close(self._lab.descriptor)

    # -- what happens -----------------------------------------------------------------------

    async def run(self) -> None:
        """Until the time is up."""
        what: list[Callable[[], Coroutine[object, object, None]]] = [
            partial(self._through_shortages, self._storm),
            partial(self._through_shortages, self._dump),
            partial(self._through_shortages, self._forge),
            partial(self._through_shortages, self._reconcile),
            *[partial(self._through_shortages, partial(self._bulk, number)) for number in range(2)],
            *[
                partial(self._through_shortages, each)
                for each in (self._raising, self._telling, self._reliable)
            ],
            self._sample,
            self._cancel,
            *[partial(self._read_slowly, replay) for replay in self.slow],
            *self._faults.works,
        ]
        with anyio.move_on_after(self.options.seconds):
            async with anyio.create_task_group() as group:
                for each in what:
                    group.start_soon(each)

    async def _through_shortages(self, work: Callable[[], Coroutine[object, object, None]]) -> None:
        """Begin it anew whenever it fails for a shortage."""
        while True:
            try:
                await work()
            except OSError as error:
                if error.errno not in SHORT_OF:
                    raise
                self.done["shortages met"] += 1
                await self._pause(0.5)

    async def _pause(self, longest: float) -> None:
        await anyio.sleep(self.rng.random() * longest)

    async def _storm(self) -> None:
        while True:
            with Storm(self._lab, self.rng.choice(self._plans)) as storm:
                await storm.run(self.rng.randint(1, 8), pause=self.rng.choice([0, 0, 0.001]))
            self.done["storms"] += 1
            await self._pause(1)

    async def _raising(self) -> None:
        async with self.conn.events(receive_buffer=SMALL_BUFFER) as stream:
            while True:
                try:
                    async for _ in stream:
                        self.done["events"] += 1
                except EventsLost:
                    self.done["losses raised"] += 1

    async def _telling(self) -> None:
        async with self.conn.events(
            on_loss="item", receive_buffer=SMALL_BUFFER, receive_buffer_max=1 << 20
        ) as stream:
            async for item in stream:
                self.done["losses told" if isinstance(item, EventsLost) else "events"] += 1

    async def _reliable(self) -> None:
        # With little room, what waits to be told would fill the table: some hundred every 10 ms.
        async with self.conn.events(EventType.DESTROY, reliable=True) as stream:
            async for _ in stream:
                self.done["ends"] += 1

    async def _read_slowly(self, replay: Replay) -> None:
        while True:
            await self._pause(2)
            await replay.read_at_most(self.rng.randint(0, 5_000))

    async def _dump(self) -> None:
        while True:
            async with self.conn.dump() as dump:
                stop = self.rng.choice([10, 1_000, 1_000_000])
                async for _ in dump:
                    self.done["dumped"] += 1
                    stop -= 1
                    if not stop:
                        break
            await self._pause(0.5)

    async def _bulk(self, number: int) -> None:
        first = 10_000 * (number + 1)
        some = [flows.tcp(first + each) for each in range(2_000)]
        while True:
            for bulk in (
                self.conn.create_many(some),
                self.conn.update_many(some, mark=self.rng.randrange(1 << 32)),
                self.conn.delete_many(some),
            ):
                async with bulk:
                    async for outcome in bulk:
                        self.done["bulk"] += 1
                        self.done["not sent"] += isinstance(outcome.error, ResourceExhausted)
                        if self.rng.random() < 0.0001:
                            break  # with some of it under way
            await self._pause(1)

    async def _forge(self) -> None:
        """As another program with CAP_NET_ADMIN might."""
        with socket.socket(AF_NETLINK, socket.SOCK_RAW, NETLINK.NETFILTER) as forger:
            forger.setblocking(False)
            forged = [flows.new_event(flows.tcp(1)), flows.destroy_event(flows.tcp(10_001))]
            while True:
                for group in (1, 2, 4):
                    for each in forged:
                        try:
                            forger.sendto(each, (0, group))
                        except OSError:
                            self.done["forgeries refused"] += 1  # some listener's buffer is full
                self.done["forgeries"] += 1
                await self._pause(0.05)

    async def _reconcile(self) -> None:
        while True:
            await self._pause(5)
            await self.rng.choice(self.tables).reconcile()
            self.done["reconciled"] += 1

    async def _cancel(self) -> None:
        """Calls that end in their middle."""
        table, other = self.tables
        flow = flows.tcp(9_000)
        calls: list[Callable[[], Awaitable[object]]] = [
            self.conn.list,
            self.conn.count,
            partial(self.conn.create, flow),
            partial(self.conn.update, flow, mark=self.rng.randrange(9)),
            partial(self.conn.delete, flow),
            table.synced,
            other.synced,
            other.reconcile,
            partial(_first_changes, table),
            partial(_first_events, self.conn),
        ]
        while True:
            with anyio.move_on_after(self.rng.random() ** 3 * 0.05):
                try:
                    await self.rng.choice(calls)()
                except ConntrackError:
                    self.done["refused"] += 1
            self.done["cut short"] += 1
            await self._pause(0.02)

    # -- what it costs ----------------------------------------------------------------------

    async def _sample(self) -> None:
        print(_HEADER, flush=True)
        while True:
            await anyio.sleep(min(_SAMPLE, self.options.seconds / 12))
            sample = Sample(time.monotonic() - self._started, resident(), descriptors())
            self.samples.append(sample)
            print(self._line(sample), flush=True)

    def _line(self, sample: Sample) -> str:
        every = [table.statistics() for table in self.tables]
        cells = (
            f"{sample.at:.0f}",
            f"{sample.resident / _MIB:.1f}",
            sample.descriptors,
            sum(len(table) for table in self.tables),
            self.done["events"] + sum(each.events_applied for each in every),
            self.conn.client_statistics().events_lost,
            sum(each.resyncs for each in every),
            max(each.changes_waiting for each in every),
            self.done["storms"],
            self.done["dumped"],
            self.done["bulk"],
            self.done["cut short"],
        )
        return " ".join(f"{cell:>10}" for cell in cells)

    # -- what must be true ------------------------------------------------------------------

    async def complaints(self) -> list[str]:
        """After all is over: what is not as it has to be."""
        for table in self.tables:
            await table.synced()
        last = key_of(await self.conn.create(_LAST))
        found: list[str] = [*self._faults.complaints]
        self.done += self._faults.done
        for table, quick, slow in zip(self.tables, self.quick, self.slow, strict=True):
            await table.synced()
            truth = await kernel_flows(self.conn)
            found += [f"table: {each}" for each in differences(by_key(table), truth)]
            found += wrong_look_ups(table, truth.values())
            await quick.wait_until_present(last)
            await slow.read_until_present(last)
            found += [f"quick reader: {each}" for each in differences(quick.flows, truth)]
            found += [f"slow reader: {each}" for each in differences(slow.flows, truth)]
        found += self._growth()
        return found

    def _growth(self) -> list[str]:
        quarter = len(self.samples) // 4
        if self.options.seconds < _WARM:
            return []
        before = max(each.resident for each in self.samples[quarter : 2 * quarter])
        after = max(each.resident for each in self.samples[-quarter:])
        if after <= before * _GROWTH:
            return []
        return [f"it grew from {before / _MIB:.1f} to {after / _MIB:.1f} MiB"]


_HEADER = " ".join(
    f"{name:>10}"
    for name in (
        *("seconds", "MiB", "open", "entries", "events", "lost", "resyncs", "waiting"),
        *("storms", "dumped", "bulk", "cut"),
    )
)


async def _first_changes(table: FlowTable) -> None:
    async with table.changes() as changes:
        for _ in range(1_000):
            await anext(changes)


async def _first_events(conn: Connection) -> None:
    async with conn.events(receive_buffer=SMALL_BUFFER) as stream:
        for _ in range(100):
            await anext(stream)


def descriptors() -> int:
    """How many files are open."""
    return len(os.listdir("/proc/self/fd"))


def living_tasks(backend: str) -> int:
    """How many tasks there are on this loop."""
    if backend != "trio":
        return len(asyncio.all_tasks())
    import trio

    return trio.lowlevel.current_statistics().tasks_living


@asynccontextmanager
async def soaking(options: Options) -> AsyncGenerator[Soak]:
    """The connection, its tables and those who read their changes at once."""
    async with (
        connect() as conn,
        conn.table() as table,
        conn.table(receive_buffer=SMALL_BUFFER) as small,
        anyio.create_task_group() as readers,
    ):
        soak = Soak(options, conn, (table, small))
        try:
            for replay in soak.quick:
                readers.start_soon(replay.follow)
            yield soak
            readers.cancel_scope.cancel()
            for replay in soak.slow:
                await replay.aclose()
        finally:
            soak.close()


async def _soak(options: Options) -> list[str]:
    async with connect() as conn:  # what is opened once and for all is open then
        await conn.list()
    opened, living = descriptors(), living_tasks(options.backend)
    async with soaking(options) as soak:
        await soak.run()
        complaints = await soak.complaints()
        print(dict(soak.done), soak.conn.client_statistics(), sep="\n")
    with anyio.move_on_after(10):
        while (  # noqa: ASYNC110 - nobody tells
            descriptors() > opened or living_tasks(options.backend) > living
        ):
            await anyio.sleep(0.05)  # threads still close what they used
    if (left := descriptors() - opened) > 0:
        complaints.append(f"{left} descriptors are left open")
    if (left := living_tasks(options.backend) - living) > 0:
        complaints.append(f"{left} tasks are left")
    return complaints


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak, and tell what went wrong; the exit status."""
    options = _options(arguments)
    enter_namespace()
    set_sysctl(f"{CONNTRACK}events", 1)
    own = Lab(os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
    enable_labels(own)
    os.close(own.descriptor)
    # Of all that may be written to: the address space has stacks and arenas that never are.
    threading.stack_size(_STACK)
    resource.setrlimit(resource.RLIMIT_DATA, (options.limit, options.limit))
    print(f"{options.backend}, seed {options.seed}, {options.limit / _MIB:.0f} MiB at most")
    complaints = on_backend(partial(_soak, options), options.backend)
    print(*(complaints or ["All is as the kernel has it, and nothing is left."]), sep="\n")
    return int(bool(complaints))


def _options(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0, metavar="N")
    parser.add_argument("--memory-limit", type=_size, default=_size("512M"), metavar="SIZE")
    parser.add_argument("--backend", choices=[*BACKENDS], default="asyncio")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parsed = parser.parse_args(arguments)
    return Options(parsed.minutes * 60, parsed.memory_limit, parsed.backend, parsed.seed)


def _size(text: str) -> int:
    """Bytes, also as ``512M`` or ``2G``."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1)
    return int(number) * unit


if __name__ == "__main__":
    sys.exit(main())
