"""Test event streams of all network namespaces, on this machine's kernel."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import anyio
import anyio.to_thread
import pytest
from support import expectations, flows, links
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


async def create_flows(lab: Lab, *numbers: int) -> None:
    """Create a flow with each of these numbers in the namespace."""
    async with connect(netns=lab.netns) as conn:
        for number in numbers:
            await conn.create(flows.tcp(number))


async def take_events(
    stream: EventStream[FlowEvent], count: int
) -> list[tuple[int, int | None, str | None]]:
    """Return flow number, namespace id and namespace name of the next ``count`` events."""
    with anyio.fail_after(5):
        events = [await anext(stream) for _ in range(count)]
    return [(event.flow.orig.src.packed[3], event.nsid, event.netns) for event in events]


async def read_pending_notices(stream: EventStream[FlowEvent]) -> None:
    """Let the stream process the pending notices of namespace ids. No event must be pending."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anext, stream)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()


async def test_each_event_has_the_id_and_name_of_its_namespace(
    neighbors: OtherNamespaces, conn: Connection
) -> None:
    blue, green = neighbors.new("blue", id=4), neighbors.new("green", id=7)
    async with conn.events(all_netns=True) as stream:
        await create_flows(blue, 1)
        await conn.create(flows.tcp(2))
        await create_flows(green, 3)
        await create_flows(blue, 4)
        assert await take_events(stream, 4) == [
            (1, 4, "blue"),
            (2, None, None),
            (3, 7, "green"),
            (4, 4, "blue"),
        ]


async def test_a_plain_stream_receives_no_events_of_other_namespaces(
    neighbors: OtherNamespaces, conn: Connection
) -> None:
    blue = neighbors.new("blue", id=4)
    async with conn.events() as stream:
        await create_flows(blue, 1)
        await conn.create(flows.tcp(2))
        assert await take_events(stream, 1) == [(2, None, None)]


async def test_events_of_traffic_in_another_namespace_are_received(
    neighbors: OtherNamespaces, conn: Connection
) -> None:
    blue = neighbors.new("blue", id=0)
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


async def test_a_namespace_without_an_id_is_a_blind_spot(
    neighbors: OtherNamespaces, conn: Connection
) -> None:
    blue = neighbors.new("blue")
    neighbors.new("green", id=3)
    neighbors.name(neighbors._lab, "own")  # the connection's own namespace needs no id
    (neighbors._directory / "nothing").write_text("no namespace")
    async with conn.events(all_netns=True) as stream:
        spot = stream.blind_spots[-1]
        assert (spot.setting, spot.what) == ("", "no events of the namespaces blue arrive")
        await create_flows(blue, 1)
        await conn.create(flows.tcp(2))
        neighbors._lab.run(links.assign_nsid, blue.descriptor, 4)
        await create_flows(blue, 3)
        assert await take_events(stream, 2) == [(2, None, None), (3, 4, "blue")]


@pytest.mark.parametrize(("count", "end"), [(1, "n0"), (8, "n7"), (9, "n7 and 1 more")])
async def test_a_blind_spot_names_at_most_eight_namespaces(count: int, end: str) -> None:
    resolver = SimpleNamespace(names_without_id=lambda: [f"n{number}" for number in range(count)])
    settings = SimpleNamespace(read=lambda name: "1")
    (spot,) = subscriptions._blind_spots(
        cast("SysctlTree", settings), 1, cast("NsidResolver", resolver)
    )
    assert spot.what.startswith("no events of the namespaces n0")
    assert spot.what.endswith(f"{end} arrive")


async def test_names_of_namespaces_are_looked_up_again_after_changes(
    neighbors: OtherNamespaces, conn: Connection
) -> None:
    blue = neighbors.new(id=4)
    async with conn.events(all_netns=True) as stream:
        await create_flows(blue, 1)
        assert await take_events(stream, 1) == [(1, 4, None)]
        neighbors.name(blue, "blue")
        await create_flows(blue, 2)
        assert await take_events(stream, 1) == [(2, 4, "blue")]
        neighbors.name(blue, "azure")
        neighbors.unname("blue")
        await create_flows(blue, 3)
        assert await take_events(stream, 1) == [(3, 4, "azure")]
        neighbors.unname("azure")
        await create_flows(blue, 4)
        assert await take_events(stream, 1) == [(4, 4, None)]
        assert str(FlowEvent(type=EventType.NEW, flow=flows.tcp(), nsid=4)).endswith("namespace 4")


async def test_an_id_reassigned_while_events_are_pending_gives_no_name(
    neighbors: OtherNamespaces, conn: Connection
) -> None:
    async with conn.events(all_netns=True) as stream:
        blue = neighbors.new("blue", id=4)
        await create_flows(blue, 1)
        neighbors.unname("blue")
        neighbors.destroy(blue)
        green = neighbors.new("green", id=4)
        await create_flows(green, 2)
        # The stream cannot know which namespace each event came from.
        assert await take_events(stream, 2) == [(1, 4, None), (2, 4, None)]
        await read_pending_notices(stream)
        await create_flows(green, 3)
        assert await take_events(stream, 1) == [(3, 4, "green")]


async def test_an_id_reassigned_between_events_gives_the_new_name(
    neighbors: OtherNamespaces, conn: Connection
) -> None:
    async with conn.events(all_netns=True) as stream:
        blue = neighbors.new("blue", id=4)
        await create_flows(blue, 1)
        assert await take_events(stream, 1) == [(1, 4, "blue")]
        await create_flows(blue, 2)
        neighbors.unname("blue")
        neighbors.destroy(blue)
        # No other namespace can have had the id yet.
        assert await take_events(stream, 1) == [(2, 4, "blue")]
        green = neighbors.new("green", id=4)
        await read_pending_notices(stream)
        await create_flows(green, 3)
        assert await take_events(stream, 1) == [(3, 4, "green")]


async def test_a_stream_keeps_no_namespace_alive(
    neighbors: OtherNamespaces, conn: Connection
) -> None:
    blue = neighbors.new("blue", id=4)
    async with conn.events(all_netns=True) as stream:
        await create_flows(blue, 1)
        assert await take_events(stream, 1) == [(1, 4, "blue")]
        neighbors.destroy(blue)
        await conn.create(flows.tcp(2))
        assert await take_events(stream, 1) == [(2, None, None)]


async def test_a_closed_stream_leaves_no_descriptor_open(
    neighbors: OtherNamespaces, conn: Connection
) -> None:
    blue = neighbors.new("blue", id=4)
    files = OpenFiles()
    async with conn.events(all_netns=True) as stream:
        during = OpenFiles()
        await create_flows(blue, 1)
        assert await take_events(stream, 1) == [(1, 4, "blue")]
        assert not during.new()
    assert not files.new()


async def test_a_garbage_collected_stream_leaves_no_descriptor_open(
    neighbors: OtherNamespaces, conn: Connection
) -> None:
    blue = neighbors.new("blue", id=4)
    files = OpenFiles()
    stream = conn.events(all_netns=True)
    await create_flows(blue, 1)
    assert await take_events(stream, 1) == [(1, 4, "blue")]
    del stream
    assert not files.new()


@pytest.mark.parametrize("what", ["stream", "connection"])
async def test_closing_wakes_a_waiting_reader(
    neighbors: OtherNamespaces, lab: Lab, what: str
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


async def test_no_event_is_lost_when_cancelled_during_a_name_look_up(
    neighbors: OtherNamespaces, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, proceed = threading.Event(), threading.Event()
    original = nsid_resolver._files

    def slow(directory: str) -> list[str]:
        started.set()
        assert proceed.wait(5)
        return original(directory)

    blue = neighbors.new("blue", id=4)
    async with conn.events(all_netns=True) as stream:
        monkeypatch.setattr(nsid_resolver, "_files", slow)
        await create_flows(blue, 1, 2)
        received: list[FlowEvent] = []

        async def read() -> None:
            received.append(await anext(stream))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await anyio.to_thread.run_sync(started.wait)
            with pytest.raises(anyio.BusyResourceError):
                await anext(stream)
            tasks.cancel_scope.cancel()
            proceed.set()
        while len(received) < 2:
            await read()
    assert [event.flow.orig.src.packed[3] for event in received] == [1, 2]
    assert {event.netns for event in received} == {"blue"}


@pytest.mark.parametrize("turns", range(12))
async def test_no_event_is_lost_when_cancelled_at_any_point(
    neighbors: OtherNamespaces, conn: Connection, turns: int
) -> None:
    """All events arrive in order, each with the name of its namespace."""
    blue = neighbors.new("blue", id=4)
    received: list[FlowEvent] = []

    async def read() -> None:
        received.append(await anext(stream))

    async with conn.events(all_netns=True) as stream:
        for number in range(1, 11):
            neighbors.name(blue, f"blue{number}")  # so that the reader looks names up
            await create_flows(blue, number)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read)
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
        while len(received) < 10:
            await read()
    assert [event.flow.orig.src.packed[3] for event in received] == list(range(1, 11))
    assert {event.netns for event in received} == {"blue"}


async def test_lost_events_are_reported(neighbors: OtherNamespaces, conn: Connection) -> None:
    blue = neighbors.new("blue", id=4)
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
        await create_flows(blue, 200)
        assert await take_events(stream, 1) == [(200, 4, "blue")]


async def test_covers_older_flows_describes_the_connections_own_namespace(
    neighbors: OtherNamespaces, lab: Lab, conn: Connection
) -> None:
    neighbors.new("blue", id=4).sysctl("nf_conntrack_events", 2)
    async with conn.events(all_netns=True) as stream:
        assert stream.covers_older_flows is True
    lab.sysctl("nf_conntrack_events", 2)
    async with conn.events(all_netns=True) as stream:
        assert stream.covers_older_flows is False


WITHOUT_BROADCAST_CAPABILITY = """
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


def test_the_error_names_the_missing_capability(lab: Lab) -> None:
    assert python(lab, WITHOUT_BROADCAST_CAPABILITY, SUBSCRIBE) == (
        "listen to all network namespaces: setsockopt(NETLINK_LISTEN_ALL_NSID): Operation not "
        "permitted (EPERM). This needs CAP_NET_BROADCAST in the user namespace that owns the "
        "connection's network namespace: run as root, or give the program the capability; or a "
        "seccomp profile or a security module, such as that of a container or a service, "
        "forbids this system call\n"
    )


WITH_IP_NETNS = """
import os
import subprocess
import anyio
from conntrack_aio import EventType, Flow, NetNS, connect
from conntrack_aio.model.settings import EventMode
from support import links
from support.namespaces import new_network_namespace

def run(*command):
    subprocess.run(command, check=True)

async def create_flow(netns, number):
    async with connect(netns=netns) as conn:
        await conn.sysctls.set(events=EventMode.ALWAYS)
        await conn.create(Flow.udp("10.0.0.1", number, "10.0.0.2", 53, timeout=60))

async def print_event(stream):
    with anyio.fail_after(20):
        event = await anext(stream)
    print(event.flow.orig.sport, event.nsid, event.netns)

async def main():
    async with connect() as conn, conn.events(EventType.NEW, all_netns=True) as stream:
        run("ip", "netns", "add", "blue")
        run("ip", "netns", "set", "blue", "5")
        await create_flow("blue", 1)
        await print_event(stream)
        run("ip", "netns", "del", "blue")
        run("ip", "netns", "add", "green")
        run("ip", "netns", "set", "green", "6")
        await create_flow("green", 2)
        await print_event(stream)

        # The file exists, and is looked up, before a namespace is mounted on it.
        other = new_network_namespace()
        links.assign_nsid(other, 7)
        open("/run/netns/red", "w").close()
        os.utime("/run/netns", (0, 0))
        await create_flow(NetNS.from_fd(other), 3)
        await print_event(stream)
        run("mount", "--bind", f"/proc/{os.getpid()}/fd/{other}", "/run/netns/red")
        assert os.stat("/run/netns").st_mtime == 0
        await create_flow(NetNS.from_fd(other), 4)
        await print_event(stream)

anyio.run(main)
"""


@pytest.mark.program("ip", "iproute2")
def test_events_have_names_assigned_by_ip_netns(lab: Lab) -> None:
    """The program runs in its own mount namespace, so that nothing changes on the machine."""
    private = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /run && exec "$@"', "sh")
    assert python(lab, WITH_IP_NETNS, before=private).splitlines() == [
        "1 5 blue",
        "2 6 green",
        "3 7 None",
        "4 7 red",
    ]


async def test_expectation_events_have_the_id_and_name_of_their_namespace(
    neighbors: OtherNamespaces, conn: Connection
) -> None:
    blue = neighbors.new("blue", id=4)
    async with conn.expectations.events(all_netns=True) as stream:
        async with connect(netns=blue.netns) as other:
            for connection in (conn, other):
                master = await connection.create(expectations.ftp())
                await connection.expectations.create(expectations.data_connection(master))
        with anyio.fail_after(5):
            own_event, other_event = await anext(stream), await anext(stream)
    assert (own_event.type, own_event.nsid, own_event.netns) == (EventType.NEW, None, None)
    assert (other_event.type, other_event.nsid, other_event.netns) == (EventType.NEW, 4, "blue")
    assert str(other_event).endswith(f"in blue portid={other_event.port_id}")


async def test_a_stream_can_be_closed_during_a_name_look_up(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, proceed = anyio.Event(), anyio.Event()

    async def resolve(
        resolver: nsid_resolver.NsidResolver, ids: list[int | None], *, drained: bool
    ) -> list[None]:
        started.set()
        await proceed.wait()
        return [None for _ in ids]

    monkeypatch.setattr(nsid_resolver.NsidResolver, "resolve", resolve)
    stream = conn.events(all_netns=True)
    await conn.create(flows.tcp(1))
    async with anyio.create_task_group() as tasks:

        async def reader() -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await anext(stream)

        tasks.start_soon(reader)
        await started.wait()
        await stream.aclose()
        proceed.set()
