"""One stream for all namespaces, on this machine's kernel."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import anyio
import anyio.to_thread
import pytest
from support import expectations as some
from support import flows, links
from support.lab import Lab
from support.open_files import OpenFiles
from support.other_namespaces import OtherNamespaces

from conntrack_aio import Connection, EventsLost, EventStream, EventType, FlowEvent, connect
from conntrack_aio.netlink import nsid_resolver
from conntrack_aio.netlink.nsid_resolver import NsidResolver
from conntrack_aio.proc_sys import SysctlTree
from conntrack_aio.sandbox import traffic
from conntrack_aio.streams import subscription as subscriptions

pytestmark = [pytest.mark.anyio, pytest.mark.kernel]


async def make(lab: Lab, *numbers: int) -> None:
    """Flows of these numbers."""
    async with connect(netns=lab.netns) as conn:
        for number in numbers:
            await conn.create(flows.tcp(number))


async def take(
    stream: EventStream[FlowEvent], count: int
) -> list[tuple[int, int | None, str | None]]:
    """The numbers of the flows in the next events, their ids and their names."""
    with anyio.fail_after(5):
        events = [await anext(stream) for _ in range(count)]
    return [(event.flow.orig.src.packed[3], event.nsid, event.netns) for event in events]


async def settle(stream: EventStream[FlowEvent]) -> None:
    """Have the stream hear the notices that wait, and find no event behind them."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anext, stream)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()


async def test_each_event_names_its_namespace(around: OtherNamespaces, conn: Connection) -> None:
    blue, green = around.new("blue", id=4), around.new("green", id=7)
    async with conn.events(all_netns=True) as stream:
        await make(blue, 1)
        await conn.create(flows.tcp(2))
        await make(green, 3)
        await make(blue, 4)
        assert await take(stream, 4) == [
            (1, 4, "blue"),
            (2, None, None),
            (3, 7, "green"),
            (4, 4, "blue"),
        ]


async def test_only_a_stream_of_all_hears_them(around: OtherNamespaces, conn: Connection) -> None:
    blue = around.new("blue", id=4)
    async with conn.events() as stream:
        await make(blue, 1)
        await conn.create(flows.tcp(2))
        assert await take(stream, 1) == [(2, None, None)]


async def test_all_types_with_traffic(around: OtherNamespaces, conn: Connection) -> None:
    blue = around.new("blue", id=0)
    blue.track()
    async with conn.events(EventType.NEW, EventType.DESTROY, all_netns=True) as stream:
        await anyio.to_thread.run_sync(blue.run, traffic.udp_exchange)
        async with connect(netns=blue.netns) as there:
            await there.flush()
        with anyio.fail_after(5):
            new, destroy = await anext(stream), await anext(stream)
    assert (new.type, new.nsid, new.netns, new.port_id) == (EventType.NEW, 0, "blue", 0)
    assert (destroy.type, destroy.nsid, destroy.netns) == (EventType.DESTROY, 0, "blue")
    assert " in blue" in str(new)


async def test_one_without_an_id_is_not_heard(around: OtherNamespaces, conn: Connection) -> None:
    blue = around.new("blue")
    around.new("green", id=3)
    around.name(around._lab, "own")  # which needs none
    (around._directory / "nothing").write_text("no namespace")
    async with conn.events(all_netns=True) as stream:
        spot = stream.blind_spots[-1]
        assert (spot.setting, spot.what) == ("", "no events of the namespaces blue arrive")
        await make(blue, 1)
        await conn.create(flows.tcp(2))
        around._lab.run(links.assign_nsid, blue.descriptor, 4)
        await make(blue, 3)
        assert await take(stream, 2) == [(2, None, None), (3, 4, "blue")]


@pytest.mark.parametrize(("count", "end"), [(1, "n0"), (8, "n7"), (9, "n7 and 1 more")])
async def test_many_without_an_id_are_not_all_named(count: int, end: str) -> None:
    resolver = SimpleNamespace(names_without_id=lambda: [f"n{number}" for number in range(count)])
    settings = SimpleNamespace(read=lambda name: "1")
    (spot,) = subscriptions._blind_spots(
        cast("SysctlTree", settings), 1, cast("NsidResolver", resolver)
    )
    assert spot.what.startswith("no events of the namespaces n0")
    assert spot.what.endswith(f"{end} arrive")


async def test_names_come_and_go(around: OtherNamespaces, conn: Connection) -> None:
    blue = around.new(id=4)
    async with conn.events(all_netns=True) as stream:
        await make(blue, 1)
        assert await take(stream, 1) == [(1, 4, None)]
        around.name(blue, "blue")
        await make(blue, 2)
        assert await take(stream, 1) == [(2, 4, "blue")]
        around.name(blue, "azure")
        around.unname("blue")
        await make(blue, 3)
        assert await take(stream, 1) == [(3, 4, "azure")]
        around.unname("azure")
        await make(blue, 4)
        assert await take(stream, 1) == [(4, 4, None)]
        assert str(FlowEvent(type=EventType.NEW, flow=flows.tcp(), nsid=4)).endswith("namespace 4")


async def test_an_id_that_changes_hands_while_events_wait(
    around: OtherNamespaces, conn: Connection
) -> None:
    async with conn.events(all_netns=True) as stream:
        blue = around.new("blue", id=4)
        await make(blue, 1)
        around.unname("blue")
        around.destroy(blue)
        green = around.new("green", id=4)
        await make(green, 2)
        # Which of them came from whom is not known.
        assert await take(stream, 2) == [(1, 4, None), (2, 4, None)]
        await settle(stream)
        await make(green, 3)
        assert await take(stream, 1) == [(3, 4, "green")]


async def test_an_id_that_changes_hands_between_events(
    around: OtherNamespaces, conn: Connection
) -> None:
    async with conn.events(all_netns=True) as stream:
        blue = around.new("blue", id=4)
        await make(blue, 1)
        assert await take(stream, 1) == [(1, 4, "blue")]
        await make(blue, 2)
        around.unname("blue")
        around.destroy(blue)
        # Nobody else can have had the id yet.
        assert await take(stream, 1) == [(2, 4, "blue")]
        green = around.new("green", id=4)
        await settle(stream)
        await make(green, 3)
        assert await take(stream, 1) == [(3, 4, "green")]


async def test_no_namespace_is_kept_alive(around: OtherNamespaces, conn: Connection) -> None:
    blue = around.new("blue", id=4)
    async with conn.events(all_netns=True) as stream:
        await make(blue, 1)
        assert await take(stream, 1) == [(1, 4, "blue")]
        around.destroy(blue)
        await conn.create(flows.tcp(2))
        assert await take(stream, 1) == [(2, None, None)]


async def test_no_descriptor_is_left(around: OtherNamespaces, conn: Connection) -> None:
    blue = around.new("blue", id=4)
    files = OpenFiles()
    async with conn.events(all_netns=True) as stream:
        held = OpenFiles()
        await make(blue, 1)
        assert await take(stream, 1) == [(1, 4, "blue")]
        assert not held.new()
    assert not files.new()


async def test_a_dropped_stream_closes_everything(
    around: OtherNamespaces, conn: Connection
) -> None:
    blue = around.new("blue", id=4)
    files = OpenFiles()
    stream = conn.events(all_netns=True)
    await make(blue, 1)
    assert await take(stream, 1) == [(1, 4, "blue")]
    del stream
    assert not files.new()


@pytest.mark.parametrize("what", ["stream", "connection"])
async def test_a_waiting_reader_is_woken_by_the_close(
    around: OtherNamespaces, lab: Lab, what: str
) -> None:
    conn = await connect(netns=lab.netns)
    stream = conn.events(all_netns=True)

    async def read() -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await anext(stream)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(5):
            await (stream if what == "stream" else conn).aclose()
    await conn.aclose()


async def test_cancelled_while_it_looks_for_names(
    around: OtherNamespaces, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, go_on = threading.Event(), threading.Event()
    plain = nsid_resolver._files

    def slow(directory: str) -> list[str]:
        started.set()
        assert go_on.wait(5)
        return plain(directory)

    blue = around.new("blue", id=4)
    async with conn.events(all_netns=True) as stream:
        monkeypatch.setattr(nsid_resolver, "_files", slow)
        await make(blue, 1, 2)
        told: list[FlowEvent] = []

        async def read() -> None:
            told.append(await anext(stream))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await anyio.to_thread.run_sync(started.wait)
            with pytest.raises(anyio.BusyResourceError):
                await anext(stream)
            tasks.cancel_scope.cancel()
            go_on.set()
        while len(told) < 2:
            await read()
    assert [event.flow.orig.src.packed[3] for event in told] == [1, 2]
    assert {event.netns for event in told} == {"blue"}


@pytest.mark.parametrize("turns", range(12))
async def test_cancelled_at_any_time(around: OtherNamespaces, conn: Connection, turns: int) -> None:
    """No event is lost, none goes without its name, and they come in order."""
    blue = around.new("blue", id=4)
    told: list[FlowEvent] = []

    async def read() -> None:
        told.append(await anext(stream))

    async with conn.events(all_netns=True) as stream:
        for number in range(1, 11):
            around.name(blue, f"blue{number}")  # so that there is something to look for
            await make(blue, number)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read)
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
        while len(told) < 10:
            await read()
    assert [event.flow.orig.src.packed[3] for event in told] == list(range(1, 11))
    assert {event.netns for event in told} == {"blue"}


async def test_a_loss_is_told(around: OtherNamespaces, conn: Connection) -> None:
    blue = around.new("blue", id=4)
    async with conn.events(EventType.NEW, receive_buffer=8192, all_netns=True) as stream:
        async with connect(netns=blue.netns) as there:
            await flows.fill(there, map(flows.tcp, range(1, 101)))
        received, lost = 0, None
        with anyio.fail_after(5):
            while lost is None:
                try:
                    assert (await anext(stream)).netns == "blue"
                    received += 1
                except EventsLost as loss:
                    lost = loss.lost
        assert lost == 100 - received > 0
        await make(blue, 200)
        assert await take(stream, 1) == [(200, 4, "blue")]


async def test_whether_older_flows_are_covered_is_of_the_own_namespace(
    around: OtherNamespaces, lab: Lab, conn: Connection
) -> None:
    around.new("blue", id=4).sysctl("nf_conntrack_events", 2)
    async with conn.events(all_netns=True) as stream:
        assert stream.covers_older_flows is True
    lab.sysctl("nf_conntrack_events", 2)
    async with conn.events(all_netns=True) as stream:
        assert stream.covers_older_flows is False


UNPRIVILEGED = """
import ctypes, os, sys
PR_CAPBSET_DROP, CAP_NET_BROADCAST = 24, 11
assert ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_NET_BROADCAST, 0, 0, 0) == 0
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
"""

SUBSCRIBE = """
import anyio, os
from conntrack_aio import PermissionDenied, connect

async def main():
    async with connect() as conn:
        before = len(os.listdir("/proc/self/fd"))
        async with conn.events():
            pass
        try:
            conn.events(all_netns=True)
        except PermissionDenied as error:
            print(error)
        assert len(os.listdir("/proc/self/fd")) == before

anyio.run(main)
"""


def python(lab: Lab, *arguments: str, before: tuple[str, ...] = ()) -> str:
    path = f"PYTHONPATH={Path(__file__).parents[1]}"
    return lab.program(*before, "env", path, sys.executable, "-c", *arguments)


def test_without_the_capability_it_says_so(lab: Lab) -> None:
    assert python(lab, UNPRIVILEGED, SUBSCRIBE) == (
        "listen to all network namespaces: setsockopt(NETLINK_LISTEN_ALL_NSID): Operation not "
        "permitted (EPERM). This needs CAP_NET_BROADCAST in the user namespace that owns the "
        "connection's network namespace: run as root, or give the program the capability; or a "
        "seccomp profile or a security module, such as that of a container or a service, "
        "forbids this system call\n"
    )


NAMED = """
import os
import subprocess
import anyio
from conntrack_aio import EventType, Flow, NetNS, connect
from conntrack_aio.model.settings import EventMode
from support import links
from support.namespaces import new_network_namespace

def run(*words):
    subprocess.run(words, check=True)

async def make(netns, number):
    async with connect(netns=netns) as conn:
        await conn.sysctls.set(events=EventMode.ALWAYS)
        await conn.create(Flow.udp("10.0.0.1", number, "10.0.0.2", 53, timeout=60))

async def tell(stream):
    with anyio.fail_after(20):
        event = await anext(stream)
    print(event.flow.orig.sport, event.nsid, event.netns)

async def main():
    async with connect() as conn, conn.events(EventType.NEW, all_netns=True) as stream:
        run("ip", "netns", "add", "blue")
        run("ip", "netns", "set", "blue", "5")
        await make("blue", 1)
        await tell(stream)
        run("ip", "netns", "del", "blue")
        run("ip", "netns", "add", "green")
        run("ip", "netns", "set", "green", "6")
        await make("green", 2)
        await tell(stream)

        # A file is there, and looked at, before a namespace is mounted on it.
        other = new_network_namespace()
        links.assign_nsid(other, 7)
        open("/run/netns/red", "w").close()
        os.utime("/run/netns", (0, 0))
        await make(NetNS.from_fd(other), 3)
        await tell(stream)
        run("mount", "--bind", f"/proc/{os.getpid()}/fd/{other}", "/run/netns/red")
        assert os.stat("/run/netns").st_mtime == 0
        await make(NetNS.from_fd(other), 4)
        await tell(stream)

anyio.run(main)
"""


@pytest.mark.program("ip", "iproute2")
def test_names_that_ip_netns_makes(lab: Lab) -> None:
    """In a mount namespace of its own, so that nothing of the machine's changes."""
    private = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /run && exec "$@"', "sh")
    assert python(lab, NAMED, before=private).splitlines() == [
        "1 5 blue",
        "2 6 green",
        "3 7 None",
        "4 7 red",
    ]


async def test_expectations_of_all_namespaces(around: OtherNamespaces, conn: Connection) -> None:
    blue = around.new("blue", id=4)
    async with conn.expectations.events(all_netns=True) as stream:
        async with connect(netns=blue.netns) as there:
            for each in (conn, there):
                master = await each.create(some.ftp())
                await each.expectations.create(some.data_connection(master))
        with anyio.fail_after(5):
            here, elsewhere = await anext(stream), await anext(stream)
    assert (here.type, here.nsid, here.netns) == (EventType.NEW, None, None)
    assert (elsewhere.type, elsewhere.nsid, elsewhere.netns) == (EventType.NEW, 4, "blue")
    assert str(elsewhere).endswith(f"in blue portid={elsewhere.port_id}")


async def test_closed_while_names_are_looked_for(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, go_on = anyio.Event(), anyio.Event()

    async def resolve(
        resolver: nsid_resolver.NsidResolver, ids: list[int | None], *, drained: bool
    ) -> list[None]:
        inside.set()
        await go_on.wait()
        return [None for _ in ids]

    monkeypatch.setattr(nsid_resolver.NsidResolver, "resolve", resolve)
    stream = conn.events(all_netns=True)
    await conn.create(flows.tcp(1))
    async with anyio.create_task_group() as tasks:

        async def reader() -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await anext(stream)

        tasks.start_soon(reader)
        await inside.wait()
        await stream.aclose()
        go_on.set()
