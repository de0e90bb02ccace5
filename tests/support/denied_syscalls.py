"""A program that runs the library while the kernel denies system calls.

The program imports everything once, and then forks for each job, because a seccomp filter cannot be
removed. A job is a :class:`Job` as a line of JSON on standard input. For each job the program
writes a line of JSON with the results of the scenarios. It leaves the network namespace that it was
started in, so it needs root.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import logging
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn, Self

import anyio
import trio  # noqa: F401  (imported here once, not in each child)

from conntrack_aio.sandbox.links import set_up

with suppress(ImportError):
    import uvloop  # noqa: F401

from conntrack_aio import (
    Connection,
    ConntrackError,
    EventsLost,
    EventStream,
    EventType,
    Flow,
    FlowEvent,
    FlowTable,
    Match,
    NetNS,
    connect,
)
from conntrack_aio.codec.requests import flows as requests
from conntrack_aio.netlink import namespaces
from conntrack_aio.netlink.exchange import Exchange
from conntrack_aio.netlink.namespaces import run_inside, unshare
from conntrack_aio.netlink.receiving import run_exchange
from conntrack_aio.proc_sys import set_sysctl
from conntrack_aio.uapi.netlink import NETLINK
from conntrack_aio.uapi.sched import CLONE_NEWNET

from . import links
from .namespaces import new_network_namespace
from .polling import wait_until
from .seccomp import Denial, deny

BACKENDS: Final[dict[str, tuple[str, dict[str, bool]]]] = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}

SCENARIO_TIMEOUT: Final = 10.0
"""The seconds within which a scenario must end."""
_JOB_TIMEOUT: Final = 40.0
"""The seconds after which a job is killed."""

_OVERFLOWING_EVENTS: Final = 400
"""A number of events that overflows the default receive buffer."""

Results = dict[str, Any]


class Job(NamedTuple):
    """The system calls to deny, and the scenarios to run."""

    backend: str
    denials: list[Denial]
    scenarios: list[str]
    late: bool = False
    """Whether the scenario denies the calls itself, when everything is open and in use."""
    ctypes: str | None = None
    """The name of the exception that importing ctypes raises."""


class Worker:
    """The program, started by a test."""

    def __init__(self) -> None:
        here = Path(__file__).parent.parent
        path = os.pathsep.join([str(here), str(here.parent)])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.denied_syscalls"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            text=True,
        )

    def run(self, job: Job) -> Results:
        """Run a job, and return the result of each scenario.

        For a scenario that raised, the result is that of :func:`_describe_error`.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], _JOB_TIMEOUT + 10)[0]:
            raise TimeoutError
        results: Results = json.loads(self._process.stdout.readline())
        return results

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self._process:
            self._process.kill()


class Environment:
    """The network namespace of a child, another one named blue, and the denials of the job."""

    def __init__(self, directory: str, job: Job) -> None:
        unshare(CLONE_NEWNET)
        set_up("lo")
        set_sysctl("net.netfilter.nf_conntrack_events", 1)
        self.other = new_network_namespace()
        run_inside(self.other, lambda: set_sysctl("net.netfilter.nf_conntrack_events", 1))
        links.assign_nsid(self.other, 7)
        namespaces.NAMES_DIRECTORY = directory
        self.name = Path(directory) / "blue"
        self.name.symlink_to(f"/proc/{os.getpid()}/fd/{self.other}")
        self._job = job

    def deny(self) -> None:
        """Make importing ctypes and the system calls of the job fail from now on."""
        if self._job.ctypes is not None:
            _hide_ctypes(self._job.ctypes)
        deny(self._job.denials)


def _hide_ctypes(error: str) -> None:
    class Finder:
        @staticmethod
        def find_spec(name: str, *arguments: object) -> None:
            if name == "ctypes":
                raise {"ImportError": ImportError, "MemoryError": MemoryError}[error](name)

    deny([])  # import everything that deny() needs while ctypes can still be imported
    for name in [name for name in sys.modules if name.split(".")[0] == "ctypes"]:
        del sys.modules[name]
    sys.meta_path.insert(0, Finder)  # type: ignore[arg-type]


# -- scenarios -----------------------------------------------------------------------------------


FLOWS: Final = [Flow.udp("10.0.0.1", port, "10.0.0.2", 53, timeout=600) for port in range(1, 9)]
MATCH: Final = Match.parse("proto udp and orig.sport <= 3")
EVENTS: Final = Match.parse("orig.sport in {1, 3}")


def ports(flows: list[Flow]) -> list[int | None]:
    return sorted(flow.orig.sport or 0 for flow in flows)


def many_flows(start: int = 100) -> list[Flow]:
    return [
        Flow.udp("10.0.0.1", port, "10.0.0.3", 53, timeout=600)
        for port in range(start, start + _OVERFLOWING_EVENTS)
    ]


def create_overflowing_flows(first: int = 100) -> None:
    """Create more flows than a receive buffer holds events, without yielding to another task."""
    flows = many_flows(first)
    for start in range(0, _OVERFLOWING_EVENTS, 100):
        created = [requests.create(flow) for flow in flows[start : start + 100]]
        run_exchange(NETLINK.NETFILTER, Exchange(created, seq=1))


async def count_created(conn: Connection, flows: list[Flow]) -> int:
    return sum(outcome.ok for outcome in await conn.create_many(flows))


async def dump(environment: Environment) -> object:
    async with connect() as conn:
        await count_created(conn, FLOWS)
        found = [ports(await conn.list()), ports(await conn.list(MATCH)), await conn.count(MATCH)]
        async with conn.dump() as entries:
            await anext(entries)  # and leave the rest unread
        return [found, len(await conn.list(reset_counters=True)), await conn.delete_matching(MATCH)]


async def large_dump(environment: Environment) -> object:
    async with connect() as conn:
        create_overflowing_flows()
        return ports(await conn.list()) == list(range(100, 100 + _OVERFLOWING_EVENTS))


async def events(environment: Environment) -> object:
    async with connect() as conn, conn.events(match=EVENTS) as stream:
        return await use_events(conn, stream)


async def use_events(conn: Connection, stream: EventStream[FlowEvent]) -> object:
    idle = stream.position()
    seen: list[object] = [
        stream.has_passed(idle),
        stream.receive_batch_nowait(),
        stream.has_passed(idle),
    ]
    await count_created(conn, FLOWS)
    for _ in range(2):
        event = await anext(stream)
        seen.append([event.type.name, event.flow.orig.sport])
    await conn.flush()
    mark = stream.position()
    seen.append(stream.has_passed(mark))
    while batch := stream.receive_batch_nowait():
        seen.append([batch[0].type.name, ports([event.flow for event in batch])])
    seen.append(stream.has_passed(mark))
    seen.append([stream.statistics().events_lost, stream.statistics().queued])
    return seen


async def loss(environment: Environment) -> object:
    async with connect() as conn, conn.events(EventType.NEW, receive_buffer=20_000) as stream:
        create_overflowing_flows()
        mark, before, lost = stream.position(), 0, False
        while not (lost and stream.has_passed(mark)):
            try:
                before += (await anext(stream)) is not None
            except EventsLost as gap:
                if gap.lost is not None and gap.lost + before != _OVERFLOWING_EVENTS:
                    return gap.lost
                lost = True
        assert 0 < before < _OVERFLOWING_EVENTS
        await conn.create(FLOWS[0])
        return (await anext(stream)).flow.orig.sport


async def growing(environment: Environment) -> object:
    stream: EventStream[FlowEvent | EventsLost]
    async with (
        connect() as conn,
        conn.events(
            EventType.NEW, receive_buffer=20_000, receive_buffer_max=1 << 24, on_loss="item"
        ) as stream,
    ):
        losses = 0
        for start in range(100, 100 + 3 * _OVERFLOWING_EVENTS, _OVERFLOWING_EVENTS):
            create_overflowing_flows(start)
            mark = stream.position()
            while not stream.has_passed(mark):
                losses += sum(
                    isinstance(item, EventsLost) for item in stream.receive_batch_nowait()
                )
        return losses > 0


async def reliable(environment: Environment) -> object:
    async with connect() as conn, conn.events(EventType.DESTROY, reliable=True) as stream:
        await count_created(conn, FLOWS)
        await conn.flush()
        return ports([(await anext(stream)).flow for _ in FLOWS])


async def table(environment: Environment) -> object:
    async with connect() as conn, conn.table(reconcile=None) as live:
        return await use_table(conn, live)


async def matched_table(environment: Environment) -> object:
    async with connect() as conn, conn.table(MATCH) as live:
        await count_created(conn, FLOWS)
        await live.synced()
        return ports(list(live))


async def use_table(conn: Connection, live: FlowTable) -> object:
    await live.synced()
    seen: list[object] = [len(live)]
    await count_created(conn, FLOWS)
    await live.synced()
    seen.append(ports(list(live)))
    await conn.update(FLOWS[0], mark=5)
    await live.synced()
    seen.append(sorted(flow.mark or 0 for flow in live))
    await live.reconcile()
    await conn.flush()
    await live.synced()
    return [*seen, len(live), live.mode.name, live.behind]


async def lossy_table(environment: Environment) -> object:
    async with connect() as conn, conn.table(receive_buffer=20_000, reconcile=None) as live:
        create_overflowing_flows()
        await live.synced()
        same = ports(list(live)) == ports(await conn.list())
        return [same, live.statistics().resyncs > 0, live.behind]


async def bulk(environment: Environment) -> object:
    async with connect() as conn:
        count = [await count_created(conn, FLOWS), await count_created(conn, FLOWS)]
        count.append(sum([outcome.ok async for outcome in conn.update_many(FLOWS, mark=3)]))
        flows = await conn.list()
        count.append(sum(flow.mark == 3 for flow in flows))
        count.append(sum([outcome.ok async for outcome in conn.delete_many(FLOWS[:2])]))
        return [*count, await conn.delete_matching(MATCH), await conn.count()]


async def netns(environment: Environment) -> object:
    async with connect(netns="blue") as conn:
        return await use_netns(conn)


async def use_netns(conn: Connection) -> object:
    await count_created(conn, FLOWS)
    async with conn.events(EventType.DESTROY) as stream, conn.table() as live:
        found = [ports(await conn.list()), len(live), (await conn.sysctls.read()).count]
        await conn.flush()
        return [found, ports([(await anext(stream)).flow for _ in FLOWS])]


async def replaced_name(environment: Environment) -> object:
    async with connect(netns="blue") as conn:
        environment.name.unlink()
        environment.name.symlink_to("/proc/self/ns/net")  # a different namespace
        environment.deny()
        return len(await conn.list())


async def all_netns(environment: Environment) -> object:
    async with (
        connect() as conn,
        connect(netns=NetNS.from_fd(environment.other)) as other,
        conn.events(EventType.NEW, all_netns=True) as stream,
    ):
        return await use_all(conn, other, stream)


async def use_all(conn: Connection, other: Connection, stream: EventStream[FlowEvent]) -> object:
    seen: list[object] = []
    for connection in (conn, other, other):
        await connection.create(FLOWS[len(seen)])
        event = await anext(stream)
        seen.append([event.flow.orig.sport, event.nsid, event.netns])
    await conn.flush()
    await other.flush()
    return seen


async def sysctls(environment: Environment) -> object:
    async with connect() as conn:
        await conn.sysctls.set(acct=True)
        return (await conn.sysctls.read()).acct


async def count(environment: Environment) -> object:
    async with connect() as conn:
        return await conn.count()


async def all_at_once(environment: Environment) -> object:
    """Deny the calls while everything is open and in use, and check that it continues to work."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        conn = await enter(connect())
        other = await enter(connect(netns="blue"))
        stream = await enter(conn.events(match=EVENTS))
        everywhere = await enter(conn.events(EventType.NEW, all_netns=True))
        live = await enter(conn.table(reconcile=None))

        async def use() -> list[object]:
            seen = [await use_events(conn, stream), await use_table(conn, live)]
            seen.append(await use_netns(other))
            while not everywhere.has_passed(everywhere.position()):
                await everywhere.receive_batch()
            seen.append(await use_all(conn, other, everywhere))
            while stream.receive_batch_nowait():  # discard the events of use_table() and the rest
                pass
            return [*seen, len(await conn.list(MATCH))]

        before = await use()
        environment.deny()
        assert await use() == before
        return before


async def sending_later(environment: Environment) -> object:
    """Deny sending while everything is open and in use, and return the errors."""
    async with connect() as conn, conn.table(reconcile=None) as live, conn.dump() as opened:
        await count_created(conn, FLOWS)
        await live.synced()
        environment.deny()
        errors: list[str] = []

        async def fails(call: Callable[[], Awaitable[object]]) -> None:
            try:
                errors.append(f"returned {await call()}")
            except ConntrackError as error:
                errors.append(str(error))

        await fails(conn.count)
        await fails(conn.list)
        await fails(lambda: anext(opened))
        await fails(lambda: conn.create(FLOWS[0]))
        for outcome in await conn.create_many(FLOWS[:2]):
            errors.append(str(outcome.error))
        await fails(live.reconcile)
        return errors


SCENARIOS: Final[dict[str, Callable[[Environment], Awaitable[object]]]] = {
    scenario.__name__: scenario
    for scenario in (
        *(dump, large_dump, events, loss, growing, reliable, table, matched_table, lossy_table),
        *(bulk, netns, all_netns, sysctls, count, replaced_name, all_at_once, sending_later),
    )
}
SELF_CONTAINED: Final = list(SCENARIOS)[:13]
"""The scenarios that open everything themselves and succeed when nothing is denied."""


# -- the program ---------------------------------------------------------------------------------


async def _run_scenarios(environment: Environment, job: Job) -> Results:
    results: Results = {}
    if not job.late:  # the event loop runs already and has all its descriptors
        environment.deny()
    for name in job.scenarios:
        before = _open_files()
        started = time.monotonic()
        try:
            with anyio.fail_after(SCENARIO_TIMEOUT):
                results[name] = await SCENARIOS[name](environment)
        except TimeoutError:
            results[name] = "hung"
        except Exception as error:
            results[name] = _describe_error(error, time.monotonic() - started)
        with suppress(ConntrackError, RuntimeError):  # this may be denied, too
            async with connect() as conn:
                await conn.flush()
        gc.collect()
        with anyio.move_on_after(5):  # a thread closes its descriptors when it has finished
            await wait_until(partial(_open_no_more_than, before))
        if (new := _open_files() - before) > 0:
            results[name] = f"{results[name]}, and {new} descriptors are left open"
    return results


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def _open_no_more_than(number: int) -> bool:
    return _open_files() <= number


def _describe_error(error: Exception, seconds: float) -> dict[str, object]:
    return {
        "error": type(error).__name__,
        "is_library_error": isinstance(error, ConntrackError),
        "text": str(error),
        "prompt": seconds < 2,
    }


def _run_child(job: Job, output: int) -> NoReturn:
    logging.disable()  # warnings of lost events, which are intended
    faulthandler.dump_traceback_later(_JOB_TIMEOUT - 2, exit=True)
    with tempfile.TemporaryDirectory() as directory:
        environment = Environment(directory, job)
        backend, options = BACKENDS[job.backend]
        results = anyio.run(
            _run_scenarios, environment, job, backend=backend, backend_options=options
        )
    os.write(output, json.dumps(results).encode() + b"\n")
    os._exit(0)


def _denial(call: str, code: int, arguments: dict[str, int], flags: dict[str, int]) -> Denial:
    """Return a denial that was read from JSON, whose keys are strings, not numbers."""
    numbers = [{int(index): value for index, value in each.items()} for each in (arguments, flags)]
    return Denial(call, code, *numbers)


def main() -> None:
    gc.collect()
    gc.freeze()  # keep the garbage collections of the children short
    for line in sys.stdin:
        job = Job(*json.loads(line))
        job = job._replace(denials=[_denial(*each) for each in job.denials])
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(reader)
            try:
                _run_child(job, writer)
            except BaseException as error:
                os.write(writer, json.dumps({"": repr(error)}).encode() + b"\n")
            finally:
                os._exit(1)
        os.close(writer)
        with open(reader) as result:
            if not select.select([result], [], [], _JOB_TIMEOUT)[0]:
                os.kill(child, signal.SIGKILL)
            print(result.readline().strip() or json.dumps({"": "killed"}), flush=True)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
