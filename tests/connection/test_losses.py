"""Test lost events: losses as items, growing receive buffers, and retries of reliable streams."""

from __future__ import annotations

import errno
import socket
from collections import Counter

import anyio
import anyio.lowlevel
import pytest
from support import flows
from support.effort import TIMEOUT_FACTOR
from support.lab import Lab
from support.scripted_kernel import ScriptedKernel

from conntrack_aio import (
    Connection,
    DecodeError,
    EventsLost,
    EventStream,
    EventType,
    FlowEvent,
    connect,
)
from conntrack_aio.testing import FakeKernel
from conntrack_aio.uapi.netlink import AF_NETLINK, NETLINK

pytestmark = [pytest.mark.kernels, pytest.mark.anyio]


def summary(batch: list[FlowEvent | EventsLost]) -> list[object]:
    """Return the flow number of each event and, for each loss, how many events were lost."""
    return [
        ("lost", item.lost)
        if isinstance(item, EventsLost)
        else int.from_bytes(item.flow.orig.src.packed[2:])
        for item in batch
    ]


def event_message(number: int) -> bytes:
    return flows.new_event(flows.tcp(number))


def queued_events(stream: EventStream[FlowEvent | EventsLost]) -> list[FlowEvent | EventsLost]:
    """Return all events that were queued before the call."""
    position, items = stream.position(), stream.receive_batch_nowait()
    while not stream.has_passed(position):
        items += stream.receive_batch_nowait()
    return items


# -- as items -------------------------------------------------------------------------------


async def test_a_loss_is_an_item_at_its_position() -> None:
    kernel = ScriptedKernel()
    async with kernel.connect() as conn, conn.events(on_loss="item") as stream:
        raw = kernel.sockets[-1]
        for read in (stream.receive_batch, stream.batches().__anext__, None):
            raw.overrun(3)
            raw.deliver(event_message(1))
            raw.deliver(event_message(2))
            items: list[FlowEvent | EventsLost] = []
            with anyio.fail_after(5):
                while len(items) < 3:
                    items += [await anext(stream)] if read is None else await read()
            assert summary(items) == [1, 2, ("lost", 3)]
        raw.overrun(2)
        raw.deliver(event_message(1))
        assert summary(stream.receive_batch_nowait() + stream.receive_batch_nowait()) == [
            1,
            ("lost", 2),
        ]


async def test_other_errors_than_losses_are_raised() -> None:
    kernel = ScriptedKernel()
    async with kernel.connect() as conn, conn.events(on_loss="item") as stream:
        raw = kernel.sockets[-1]
        raw.deliver(event_message(1))
        raw.deliver(b"\1")
        raw.deliver(event_message(2))
        raw.overrun(1)
        assert summary(await stream.receive_batch()) == [1]
        with pytest.raises(DecodeError):
            await stream.receive_batch()
        with anyio.fail_after(5):
            assert summary([await anext(stream), await anext(stream)]) == [2, ("lost", 1)]


async def test_streams_of_all_namespaces_return_losses_as_items() -> None:
    kernel = ScriptedKernel()
    async with kernel.connect() as conn, conn.events(on_loss="item", all_netns=True) as stream:
        raw = kernel.sockets[-3]
        raw.overrun(1)
        raw.deliver(event_message(1), nsid=5)
        with anyio.fail_after(5):
            assert summary([await anext(stream), await anext(stream)]) == [1, ("lost", 1)]


async def test_expectation_streams_return_losses_as_items() -> None:
    kernel = ScriptedKernel()
    async with kernel.connect() as conn, conn.expectations.events(on_loss="item") as stream:
        kernel.sockets[-1].overrun(1)
        with anyio.fail_after(5):
            assert isinstance(await anext(stream), EventsLost)


@pytest.mark.parametrize("on_loss", ["Raise", "", None, 1])
async def test_another_on_loss_is_refused(on_loss: object) -> None:
    async with ScriptedKernel().connect() as conn:
        with pytest.raises(ValueError, match="on_loss"):
            conn.events(on_loss=on_loss)  # type: ignore[call-overload]
        with pytest.raises(ValueError, match="on_loss"):
            conn.expectations.events(on_loss=on_loss)  # type: ignore[call-overload]
        assert conn.client_statistics().open_streams == 0


async def test_a_gap_counted_with_the_previous_one_has_no_number() -> None:
    """The loss is reported, but its number cannot be separated from the previous one."""
    kernel = ScriptedKernel()
    async with kernel.connect() as conn, conn.events(on_loss="item") as stream:
        raw = kernel.sockets[-1]
        raw.deliver(event_message(1))
        raw.drops = 5
        raw.fail(errno.ENOBUFS)
        batches = summary(await stream.receive_batch() + await stream.receive_batch())
        assert batches == [1, ("lost", 5)]
        raw.fail(errno.ENOBUFS)
        raw.deliver(event_message(2))
        with anyio.fail_after(5):
            assert summary([await anext(stream), await anext(stream)]) == [2, ("lost", None)]
        assert stream.statistics().events_lost == 5
        assert stream.statistics().overruns == 2


@pytest.mark.kernel
async def test_received_and_lost_events_add_up(lab: Lab) -> None:
    """Create bursts of several sizes with a small receive buffer, which some of them overrun."""
    async with (
        connect(netns=lab.netns, receive_buffer=16384) as conn,
        conn.events(EventType.NEW, on_loss="item") as stream,
    ):
        created = received = lost = 0
        for size in (1, 20, 26, 40, 100, 3, 300, 27):
            await flows.fill(conn, map(flows.tcp, range(created, created + size)))
            created += size
            items = queued_events(stream)
            losses = [item.lost or 0 for item in items if isinstance(item, EventsLost)]
            assert len(losses) == (size > 32768 // 1280)
            received += len(items) - len(losses)
            lost += sum(losses)
        assert received + lost == created
        assert stream.statistics().events_lost == lost


# -- buffers that grow ----------------------------------------------------------------------


async def cause_overrun(stream: EventStream[FlowEvent], kernel: ScriptedKernel) -> None:
    kernel.sockets[-1].overrun(1)
    with pytest.raises(EventsLost), anyio.fail_after(5):
        await anext(stream)


async def test_a_buffer_grows_up_to_its_limit_after_overruns() -> None:
    kernel = ScriptedKernel()
    async with kernel.connect() as conn:
        stream = conn.events(receive_buffer=10_000, receive_buffer_max=35_000)
        for size in (20_000, 40_000, 70_000, 70_000):
            assert stream.receive_buffer == stream.statistics().receive_buffer == size
            await cause_overrun(stream, kernel)


async def test_a_loss_is_reported_after_the_capacity_of_the_buffer_that_overran() -> None:
    kernel = ScriptedKernel()
    async with kernel.connect() as conn:
        stream = conn.events(receive_buffer=10_240, receive_buffer_max=1 << 20, on_loss="item")
        raw = kernel.sockets[-1]
        raw.fail(errno.ENOBUFS)
        for _ in range(100):
            raw.deliver(event_message(1))
        seen = [await anext(stream) for _ in range(101)]
        assert summary(seen).index(("lost", None)) == 20_480 // 512


async def test_without_privileges_a_buffer_grows_up_to_rmem_max() -> None:
    kernel = FakeKernel(without=["initial CAP_NET_ADMIN"])
    kernel.sysctls["net.core.rmem_max"] = 15_000
    async with kernel.connect(receive_buffer=10_000, receive_buffer_max=1 << 20) as conn:
        stream = conn.events()
        for size in (20_000, 30_000, 30_000):
            assert stream.receive_buffer == size
            kernel.sockets[-1].overrun(1)
            with pytest.raises(EventsLost):
                await anext(stream)


async def test_a_buffer_does_not_shrink_after_privileges_are_dropped() -> None:
    kernel = FakeKernel()
    kernel.sysctls["net.core.rmem_max"] = 15_000
    async with kernel.connect(receive_buffer=50_000, receive_buffer_max=1 << 20) as conn:
        stream = conn.events()
        kernel._state.unavailable |= {"initial CAP_NET_ADMIN"}
        kernel.sockets[-1].overrun(1)
        with pytest.raises(EventsLost):
            await anext(stream)
        assert stream.receive_buffer == 100_000


async def test_the_limit_of_a_stream_is_its_own_or_the_connections() -> None:
    kernel = ScriptedKernel()
    async with kernel.connect() as conn:  # with a receive_buffer of 106496, and no maximum
        with pytest.raises(ValueError, match="below the receive_buffer of 106496"):
            conn.events(receive_buffer_max=100_000)
        with pytest.raises(ValueError, match="below the receive_buffer of 20"):
            conn.expectations.events(receive_buffer=20, receive_buffer_max=19)
        stream = conn.events(receive_buffer=10_000)
        await cause_overrun(stream, kernel)
        assert stream.receive_buffer == 20_000
    fake_kernel = FakeKernel()
    async with fake_kernel.connect(receive_buffer=10_000, receive_buffer_max=20_000) as conn:
        for requested, grown in ((None, 40_000), (15_000, 40_000), (30_000, 60_000)):
            stream = conn.events(receive_buffer=requested)
            fake_kernel.sockets[-1].overrun(1)
            with pytest.raises(EventsLost):
                await anext(stream)
            assert stream.receive_buffer == grown
    for bad, error in ((1, ValueError), (1 << 30, ValueError), ("5", TypeError)):
        with pytest.raises(error, match="receive_buffer_max"):
            connect(receive_buffer_max=bad)  # type: ignore[arg-type]


async def test_the_cache_of_namespace_names_grows_with_the_buffer() -> None:
    kernel = ScriptedKernel()
    async with kernel.connect() as conn:
        stream = conn.events(all_netns=True, receive_buffer_max=1 << 20)
        kernel.sockets[-3].overrun(1)
        with pytest.raises(EventsLost):
            await anext(stream)
        assert stream.receive_buffer == 4 * 106496
        assert stream._nsid_resolver is not None
        assert stream._nsid_resolver._cache._capacity == stream.receive_buffer // 512


@pytest.mark.kernel
async def test_a_buffer_grows_until_bursts_fit(lab: Lab) -> None:
    """The buffer doubles with each overrun. Once the bursts fit, nothing is lost."""
    async with (
        connect(netns=lab.netns) as conn,
        conn.events(
            EventType.UPDATE, receive_buffer=8192, receive_buffer_max=1 << 20, on_loss="item"
        ) as stream,
    ):
        created = map(flows.tcp, range(200))
        await flows.fill(conn, created)
        sizes = []
        for mark in range(1, 8):
            await conn.update_many((flows.tcp(number) for number in range(200)), mark=mark)
            losses = sum(isinstance(item, EventsLost) for item in queued_events(stream))
            sizes.append((stream.receive_buffer, losses))
        assert sizes == [(16384 << min(burst, 4), int(burst <= 4)) for burst in range(1, 8)]


# -- reliable -------------------------------------------------------------------------------


@pytest.mark.kernel
@pytest.mark.long
async def test_a_reliable_stream_receives_each_of_10000_destroy_events_once(lab: Lab) -> None:
    count = 10_000
    async with connect(netns=lab.netns) as conn:
        await flows.fill(conn, map(flows.tcp, range(count)))
        stream = conn.events(EventType.DESTROY, receive_buffer=65536, reliable=True)
        assert stream.receive_buffer == 131072
        await conn.flush()
        assert len([flow async for flow in conn.dying()]) == await conn.count() > count - 200
        ended: Counter[int] = Counter()
        with anyio.fail_after(30):
            while ended.total() < count:
                for event in await stream.receive_batch():
                    ended[int.from_bytes(event.flow.orig.src.packed[2:])] += 1
        assert ended == Counter(range(count))
        assert stream.receive_batch_nowait() == []
        await wait_until_empty(conn)
        statistics = stream.statistics()
        assert statistics.events_lost == 0 < statistics.overruns


@pytest.mark.kernel
async def test_lost_new_events_of_a_reliable_stream_have_no_number(lab: Lab) -> None:
    async with connect(netns=lab.netns, receive_buffer=8192) as conn:
        stream = conn.events(reliable=True, on_loss="item")
        await flows.fill(conn, map(flows.tcp, range(50)))
        losses = [item for item in queued_events(stream) if isinstance(item, EventsLost)]
        assert [loss.lost for loss in losses] == [None]
        assert stream.statistics().events_lost == 0
        assert stream.statistics().overruns == 1
        await conn.flush()
        ended: set[int] = set()
        with anyio.fail_after(10):
            while len(ended) < 50:
                received = await anext(stream)
                if isinstance(received, FlowEvent) and received.type is EventType.DESTROY:
                    ended.add(received.flow.id or 0)


@pytest.mark.kernel
async def test_closing_a_reliable_stream_releases_dying_entries(lab: Lab) -> None:
    async with connect(netns=lab.netns, receive_buffer=8192) as conn:
        stream = conn.events(EventType.DESTROY, reliable=True)
        await flows.fill(conn, map(flows.tcp, range(50)))
        await conn.flush()
        assert await conn.count() > 0
        await stream.aclose()
        await wait_until_empty(conn)


async def wait_until_empty(conn: Connection) -> None:
    """Wait until the kernel has freed all entries, some time after their destroy events."""
    with anyio.fail_after(10):
        while await conn.count():
            await anyio.lowlevel.checkpoint()


async def test_a_reliable_stream_of_the_fake_kernel_receives_each_event_once() -> None:
    kernel = FakeKernel(flows=map(flows.tcp, range(500)), sysctls={"nf_conntrack_events": 1})
    async with kernel.connect() as conn:
        stream = conn.events(EventType.DESTROY, receive_buffer=8192, reliable=True)
        await conn.flush()
        assert len(kernel.dying) > 400
        seen: list[int] = []
        with anyio.fail_after(5 * TIMEOUT_FACTOR):
            while len(seen) < 500:
                seen += [event.flow.id or 0 for event in await stream.receive_batch()]
        assert len(set(seen)) == 500
        assert kernel.dying == []
        assert stream.has_passed(stream.position())


# -- forged messages ------------------------------------------------------------------------


@pytest.mark.kernel
@pytest.mark.long
async def test_a_flood_of_forged_events_hides_no_event_of_the_kernel(lab: Lab) -> None:
    """Forged events are dropped and counted, and all events of the kernel arrive."""
    foreign_socket = lab.run(lambda: socket.socket(AF_NETLINK, socket.SOCK_RAW, NETLINK.NETFILTER))
    with foreign_socket:
        async with connect(netns=lab.netns) as conn, conn.events(on_loss="item") as stream:
            sent = 0
            for number in range(500):
                for group in (1, 2, 4) * 4:
                    foreign_socket.sendto(event_message(60_000), (0, group))
                    sent += 1
                await conn.create(flows.tcp(number))
            port = stream._socket.raw.getsockname()[0]  # type: ignore[attr-defined]
            for _ in range(1000):
                with pytest.raises(ConnectionRefusedError):
                    foreign_socket.sendto(event_message(60_000), (port, 0))
            assert summary(queued_events(stream)) == list(range(500))
            assert stream.statistics().forged == sent == 6000
            assert stream.statistics().overruns == 0


@pytest.mark.kernel
@pytest.mark.long
async def test_an_overrun_by_forged_events_is_reported(lab: Lab) -> None:
    foreign_socket = lab.run(lambda: socket.socket(AF_NETLINK, socket.SOCK_RAW, NETLINK.NETFILTER))
    with foreign_socket:
        async with (
            connect(netns=lab.netns, receive_buffer=65536) as conn,
            conn.events(on_loss="item") as stream,
        ):
            created_count = sent = 0
            seen: list[object] = []
            for _ in range(5):
                for _ in range(1000):
                    foreign_socket.sendto(event_message(60_000), (0, 1))
                sent += 1000
                await conn.create(flows.tcp(created_count))
                created_count += 1
                seen += summary(queued_events(stream))
                await conn.create(flows.tcp(created_count))
                created_count += 1
            seen += summary(queued_events(stream))
            losses = [item[1] for item in seen if isinstance(item, tuple)]
            assert len(losses) == 5
            received = [item for item in seen if not isinstance(item, tuple)]
            assert received == [1, 3, 5, 7, 9]
            statistics = stream.statistics()
            assert (
                statistics.forged + statistics.events_lost + len(received) == sent + created_count
            )
