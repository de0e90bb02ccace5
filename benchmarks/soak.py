"""Run everything at once for minutes, with little memory, and check the result.

Example::

    python -m benchmarks.soak --minutes 3 --memory-limit 512M --backend trio

- These run at the same time: storms of changes that overrun receive buffers, event streams of all
  kinds, two live tables with fast and slow readers, dumps, bulk operations, forged events, and
  calls that are cancelled at random times.
- The soak also causes shortages of descriptors and threads, forks processes, and interrupts
  other programs.
- At the end each table and each reader must have the entries of the kernel's table. No descriptor
  and no task may be left open. Memory must not have grown.
- A line every few seconds shows what was done so far and the memory of the process.
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
from conntrack_aio.model.sysctl_names import CONNTRACK
from conntrack_aio.proc_sys import set_sysctl
from conntrack_aio.uapi.netlink import AF_NETLINK, NETLINK

from .contenders.ours import BACKENDS, on_backend
from .faults import SHORT_OF, Faults
from .figures.memory import resident
from .isolation import enter_namespace

# The tests have the storms, and the comparison with the kernel's table.
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
"""How many different storms are planned beforehand, so that their memory does not grow."""
_SAMPLE: Final = 5.0
"""Seconds between two lines of output."""
_GROWTH: Final = 1.1
"""The factor by which memory may grow from the second quarter of the time to the last."""
_WARM: Final = 60.0
"""Seconds below which a soak is too short to check the growth of memory."""
_LAST: Final = flows.tcp(60_000)
"""The flow that is created at the end. A reader that has it has applied all earlier changes."""
_STACK: Final = 1 << 19
"""Bytes of the stack of each thread."""
_MIB: Final = 1 << 20


@attrs.frozen
class SoakOptions:
    """The options of the soak."""

    seconds: float
    """How long it runs."""
    limit: int
    """The limit of memory, in bytes."""
    backend: str
    """The event loop."""
    seed: int
    """The seed of the random numbers."""


@attrs.define
class Sample:
    """The size of the process at one time."""

    at: float
    """Seconds since the start."""
    resident: int
    """Resident memory in bytes."""
    descriptors: int
    """The number of open files."""


class Soak:
    """All activities that run at once, and the checks at the end."""

    def __init__(self, options: SoakOptions, conn: Connection, tables: Sequence[FlowTable]) -> None:
        self.options = options
        self.conn = conn
        self.tables = tables
        self.rng = random.Random(options.seed)
        self.done: Counter[str] = Counter()
        """How often each thing was done."""
        self.samples: list[Sample] = []
        self.fast_readers = [Replay(table) for table in tables]
        self.slow_readers = [Replay(table) for table in tables]
        self._plans = [
            plan_storm(options.seed * _STORMS + number, steps=12_000) for number in range(_STORMS)
        ]
        self._lab = Lab(os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        self._started = time.monotonic()
        self._faults = Faults(self.rng, options.backend, conn, tables)

    def close(self) -> None:
        os.close(self._lab.descriptor)

    # -- activities --------------------------------------------------------------------------

    async def run(self) -> None:
        """Run all activities until the time is up."""
        activities: list[Callable[[], Coroutine[object, object, None]]] = [
            partial(self._despite_shortages, self._storm),
            partial(self._despite_shortages, self._dump),
            partial(self._despite_shortages, self._forge_events),
            partial(self._despite_shortages, self._reconcile),
            *[partial(self._despite_shortages, partial(self._bulk, number)) for number in range(2)],
            *[
                partial(self._despite_shortages, each)
                for each in (self._read_raising, self._read_losses_as_items, self._read_reliably)
            ],
            self._take_samples,
            self._cancel_calls,
            *[partial(self._read_slowly, replay) for replay in self.slow_readers],
            *self._faults.activities,
        ]
        with anyio.move_on_after(self.options.seconds):
            async with anyio.create_task_group() as group:
                for each in activities:
                    group.start_soon(each)

    async def _despite_shortages(
        self, activity: Callable[[], Coroutine[object, object, None]]
    ) -> None:
        """Run an activity, and start it again whenever a shortage makes it fail."""
        while True:
            try:
                await activity()
            except OSError as error:
                if error.errno not in SHORT_OF:
                    raise
                self.done["failures by shortage"] += 1
                await self._pause(0.5)

    async def _pause(self, longest: float) -> None:
        await anyio.sleep(self.rng.random() * longest)

    async def _storm(self) -> None:
        while True:
            with Storm(self._lab, self.rng.choice(self._plans)) as storm:
                await storm.run(self.rng.randint(1, 8), pause=self.rng.choice([0, 0, 0.001]))
            self.done["storms"] += 1
            await self._pause(1)

    async def _read_raising(self) -> None:
        """Read a stream that raises EventsLost."""
        async with self.conn.events(receive_buffer=SMALL_BUFFER) as stream:
            while True:
                try:
                    async for _ in stream:
                        self.done["events"] += 1
                except EventsLost:
                    self.done["losses raised"] += 1

    async def _read_losses_as_items(self) -> None:
        """Read a stream that returns EventsLost as items."""
        async with self.conn.events(
            on_loss="item", receive_buffer=SMALL_BUFFER, receive_buffer_max=1 << 20
        ) as stream:
            async for item in stream:
                self.done["losses as items" if isinstance(item, EventsLost) else "events"] += 1

    async def _read_reliably(self) -> None:
        """Read a reliable stream of destroy events."""
        # Not with a small receive buffer: the entries whose destroy events the kernel could not
        # deliver would fill the table. It retries some hundred of them every 10 ms.
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
        """Create, update and delete many flows, which no other task uses."""
        first = 10_000 * (number + 1)
        batch = [flows.tcp(first + offset) for offset in range(2_000)]
        while True:
            for bulk in (
                self.conn.create_many(batch),
                self.conn.update_many(batch, mark=self.rng.randrange(1 << 32)),
                self.conn.delete_many(batch),
            ):
                async with bulk:
                    async for outcome in bulk:
                        self.done["bulk"] += 1
                        self.done["not sent"] += isinstance(outcome.error, ResourceExhausted)
                        if self.rng.random() < 0.0001:
                            break  # while requests are under way
            await self._pause(1)

    async def _forge_events(self) -> None:
        """Send forged events, as any program with CAP_NET_ADMIN can."""
        with socket.socket(AF_NETLINK, socket.SOCK_RAW, NETLINK.NETFILTER) as sender:
            sender.setblocking(False)
            forged = [flows.new_event(flows.tcp(1)), flows.destroy_event(flows.tcp(10_001))]
            while True:
                for group in (1, 2, 4):
                    for each in forged:
                        try:
                            sender.sendto(each, (0, group))
                        except OSError:
                            self.done["forged events refused"] += 1  # a receive buffer is full
                self.done["forged events"] += 1
                await self._pause(0.05)

    async def _reconcile(self) -> None:
        while True:
            await self._pause(5)
            await self.rng.choice(self.tables).reconcile()
            self.done["reconciliations"] += 1

    async def _cancel_calls(self) -> None:
        """Cancel calls at random times."""
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
            self.done["cancelled"] += 1
            await self._pause(0.02)

    # -- samples -----------------------------------------------------------------------------

    async def _take_samples(self) -> None:
        print(_HEADER, flush=True)
        while True:
            await anyio.sleep(min(_SAMPLE, self.options.seconds / 12))
            sample = Sample(time.monotonic() - self._started, resident(), descriptors())
            self.samples.append(sample)
            print(self._line(sample), flush=True)

    def _line(self, sample: Sample) -> str:
        statistics = [table.statistics() for table in self.tables]
        cells = (
            f"{sample.at:.0f}",
            f"{sample.resident / _MIB:.1f}",
            sample.descriptors,
            sum(len(table) for table in self.tables),
            self.done["events"] + sum(each.events_applied for each in statistics),
            self.conn.client_statistics().events_lost,
            sum(each.resyncs for each in statistics),
            max(each.changes_waiting for each in statistics),
            self.done["storms"],
            self.done["dumped"],
            self.done["bulk"],
            self.done["cancelled"],
        )
        return " ".join(f"{cell:>10}" for cell in cells)

    # -- checks ------------------------------------------------------------------------------

    async def problems(self) -> list[str]:
        """Check the tables and the readers after the activities, and describe what is wrong."""
        for table in self.tables:
            await table.synced()
        last = key_of(await self.conn.create(_LAST))
        found: list[str] = [*self._faults.problems]
        self.done += self._faults.done
        for table, fast, slow in zip(
            self.tables, self.fast_readers, self.slow_readers, strict=True
        ):
            await table.synced()
            truth = await kernel_flows(self.conn)
            found += [f"table: {each}" for each in differences(by_key(table), truth)]
            found += wrong_look_ups(table, truth.values())
            await fast.wait_until_present(last)
            await slow.read_until_present(last)
            found += [f"fast reader: {each}" for each in differences(fast.flows, truth)]
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
        return [f"the process grew from {before / _MIB:.1f} to {after / _MIB:.1f} MiB"]


_HEADER = " ".join(
    f"{name:>10}"
    for name in (
        *("seconds", "MiB", "open", "entries", "events", "lost", "resyncs", "waiting"),
        *("storms", "dumped", "bulk", "cancelled"),
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
    """Return the number of open file descriptors."""
    return len(os.listdir("/proc/self/fd"))


def living_tasks(backend: str) -> int:
    """Return the number of tasks on the running event loop."""
    if backend != "trio":
        return len(asyncio.all_tasks())
    import trio

    return trio.lowlevel.current_statistics().tasks_living


@asynccontextmanager
async def soaking(options: SoakOptions) -> AsyncGenerator[Soak]:
    """Open the connection and its tables, and run the fast readers."""
    async with (
        connect() as conn,
        conn.table() as table,
        conn.table(receive_buffer=SMALL_BUFFER) as small,
        anyio.create_task_group() as readers,
    ):
        soak = Soak(options, conn, (table, small))
        try:
            for replay in soak.fast_readers:
                readers.start_soon(replay.follow)
            yield soak
            readers.cancel_scope.cancel()
            for replay in soak.slow_readers:
                await replay.aclose()
        finally:
            soak.close()


async def _soak(options: SoakOptions) -> list[str]:
    async with connect() as conn:
        await conn.list()  # opens what stays open for the life of the process
    opened, living = descriptors(), living_tasks(options.backend)
    async with soaking(options) as soak:
        await soak.run()
        problems = await soak.problems()
        print(dict(soak.done), soak.conn.client_statistics(), sep="\n")
    with anyio.move_on_after(10):
        while (  # noqa: ASYNC110 - there is no event to wait for
            descriptors() > opened or living_tasks(options.backend) > living
        ):
            await anyio.sleep(0.05)  # worker threads still close their descriptors
    if (left := descriptors() - opened) > 0:
        problems.append(f"{left} descriptors are still open")
    if (left := living_tasks(options.backend) - living) > 0:
        problems.append(f"{left} tasks still run")
    return problems


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the soak, print what went wrong, and return the exit status: 1 if anything did."""
    options = _options(arguments)
    enter_namespace()
    set_sysctl(f"{CONNTRACK}events", 1)
    lab = Lab(os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
    enable_labels(lab)
    os.close(lab.descriptor)
    # RLIMIT_DATA limits private writable memory. RLIMIT_AS would also count stacks and arenas
    # that are reserved but never used.
    threading.stack_size(_STACK)
    resource.setrlimit(resource.RLIMIT_DATA, (options.limit, options.limit))
    print(f"{options.backend}, seed {options.seed}, {options.limit / _MIB:.0f} MiB at most")
    problems = on_backend(partial(_soak, options), options.backend)
    print(
        *(problems or ["No problems: all tables agree with the kernel, and nothing is left open."]),
        sep="\n",
    )
    return int(bool(problems))


def _options(arguments: Sequence[str] | None) -> SoakOptions:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=3.0,
        metavar="N",
        help="how long to run (default: %(default)s)",
    )
    parser.add_argument(
        "--memory-limit",
        type=_size,
        default=_size("512M"),
        metavar="SIZE",
        help="the limit of the process's memory, such as 512M or 2G (default: 512M)",
    )
    parser.add_argument(
        "--backend",
        choices=[*BACKENDS],
        default="asyncio",
        help="the event loop (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=1,
        metavar="N",
        help="the seed of the random numbers (default: %(default)s)",
    )
    parsed = parser.parse_args(arguments)
    return SoakOptions(parsed.minutes * 60, parsed.memory_limit, parsed.backend, parsed.seed)


def _size(text: str) -> int:
    """Return a number of bytes, which may be written as ``512M`` or ``2G``."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1)
    return int(number) * unit


if __name__ == "__main__":
    sys.exit(main())
