"""Losses: told as items, kept small by buffers that grow, and avoided by retries."""

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


def kinds(batch: list[FlowEvent | EventsLost]) -> list[object]:
    """The number of each event's flow; of each loss, how many it tells."""
    return [
        ("lost", each.lost)
        if isinstance(each, EventsLost)
        else int.from_bytes(each.flow.orig.src.packed[2:])
        for each in batch
    ]


def event(number: int) -> bytes:
    return flows.new_event(flows.tcp(number))


def drained(stream: EventStream[FlowEvent | EventsLost]) -> list[FlowEvent | EventsLost]:
    """All that was queued by now."""
    mark, drained = stream.position(), stream.receive_batch_nowait()
    while not stream.has_passed(mark):
        drained += stream.receive_batch_nowait()
    return drained


# -- as items -------------------------------------------------------------------------------


async def test_a_loss_is_an_item_in_its_place() -> None:
    kernel = ScriptedKernel()
    async with kernel.connect() as conn, conn.events(on_loss="item") as stream:
        raw = kernel.sockets[-1]
        for read in (stream.receive_batch, stream.batches().__anext__, None):
            raw.overrun(3)
            raw.deliver(event(1))
            raw.deliver(event(2))
            got: list[FlowEvent | EventsLost] = []
            with anyio.fail_after(5):
                while len(got) < 3:
                    got += [await anext(stream)] if read is None else await read()
            assert kinds(got) == [1, 2, ("lost", 3)]
        raw.overrun(2)
        raw.deliver(event(1))
        assert kinds(stream.receive_batch_nowait() + stream.receive_batch_nowait()) == [
            1,
            ("lost", 2),
        ]


async def test_of_errors_only_losses_are_items() -> None:
    kernel = ScriptedKernel()
    async with kernel.connect() as conn, conn.events(on_loss="item") as stream:
        raw = kernel.sockets[-1]
        raw.deliver(event(1))
        raw.deliver(b"\1")
        raw.deliver(event(2))
        raw.overrun(1)
        assert kinds(await stream.receive_batch()) == [1]
        with pytest.raises(DecodeError):
            await stream.receive_batch()
        with anyio.fail_after(5):
            assert kinds([await anext(stream), await anext(stream)]) == [2, ("lost", 1)]


async def test_of_all_namespaces() -> None:
    kernel = ScriptedKernel()
    async with kernel.connect() as conn, conn.events(on_loss="item", all_netns=True) as stream:
        raw = kernel.sockets[-3]
        raw.overrun(1)
        raw.deliver(event(1), nsid=5)
        with anyio.fail_after(5):
            assert kinds([await anext(stream), await anext(stream)]) == [1, ("lost", 1)]


async def test_of_expectations() -> None:
    kernel = ScriptedKernel()
    async with kernel.connect() as conn, conn.expectations.events(on_loss="item") as stream:
        kernel.sockets[-1].overrun(1)
        with anyio.fail_after(5):
            assert isinstance(await anext(stream), EventsLost)


@pytest.mark.parametrize("on_loss", ["Raise", "", None, 1])
async def test_a_bad_value(on_loss: object) -> None:
    async with ScriptedKernel().connect() as conn:
        with pytest.raises(ValueError, match="on_loss"):
            conn.events(on_loss=on_loss)  # type: ignore[call-overload]
        with pytest.raises(ValueError, match="on_loss"):
            conn.expectations.events(on_loss=on_loss)  # type: ignore[call-overload]
        assert conn.client_statistics().open_streams == 0


async def test_a_gap_whose_drops_were_counted_with_the_one_before() -> None:
    """It is told all the same, though not with its number."""
    kernel = ScriptedKernel()
    async with kernel.connect() as conn, conn.events(on_loss="item") as stream:
        raw = kernel.sockets[-1]
        raw.deliver(event(1))
        raw.drops = 5
        raw.fail(errno.ENOBUFS)
        batches = kinds(await stream.receive_batch() + await stream.receive_batch())
        assert batches == [1, ("lost", 5)]
        raw.fail(errno.ENOBUFS)
        raw.deliver(event(2))
        with anyio.fail_after(5):
            assert kinds([await anext(stream), await anext(stream)]) == [2, ("lost", None)]
        assert stream.statistics().events_lost == 5
        assert stream.statistics().overruns == 2


@pytest.mark.kernel
async def test_every_gap_once_and_no_message_unaccounted(lab: Lab) -> None:
    """Bursts of all sizes into a small buffer: what came and what was lost is what was made."""
    async with (
        connect(netns=lab.netns, receive_buffer=16384) as conn,
        conn.events(EventType.NEW, on_loss="item") as stream,
    ):
        made = came = lost = 0
        for size in (1, 20, 26, 40, 100, 3, 300, 27):
            await flows.fill(conn, map(flows.tcp, range(made, made + size)))
            made += size
            told = drained(stream)
            losses = [each.lost or 0 for each in told if isinstance(each, EventsLost)]
            assert len(losses) == (size > 32768 // 1280)
            came += len(told) - len(losses)
            lost += sum(losses)
        assert came + lost == made
        assert stream.statistics().events_lost == lost


# -- buffers that grow ----------------------------------------------------------------------


async def overrun(stream: EventStream[FlowEvent], kernel: ScriptedKernel) -> None:
    kernel.sockets[-1].overrun(1)
    with pytest.raises(EventsLost), anyio.fail_after(5):
        await anext(stream)


async def test_a_buffer_grows_up_to_its_limit() -> None:
    kernel = ScriptedKernel()
    async with kernel.connect() as conn:
        stream = conn.events(receive_buffer=10_000, receive_buffer_max=35_000)
        for size in (20_000, 40_000, 70_000, 70_000):
            assert stream.receive_buffer == stream.statistics().receive_buffer == size
            await overrun(stream, kernel)


async def test_the_bound_of_a_gap_is_that_of_the_buffer_before() -> None:
    kernel = ScriptedKernel()
    async with kernel.connect() as conn:
        stream = conn.events(receive_buffer=10_240, receive_buffer_max=1 << 20, on_loss="item")
        raw = kernel.sockets[-1]
        raw.fail(errno.ENOBUFS)
        for _ in range(100):
            raw.deliver(event(1))
        seen = [await anext(stream) for _ in range(101)]
        assert kinds(seen).index(("lost", None)) == 20_480 // 512


async def test_without_privileges_it_grows_as_far_as_the_system_grants() -> None:
    kernel = FakeKernel(without=["initial CAP_NET_ADMIN"])
    kernel.sysctls["net.core.rmem_max"] = 15_000
    async with kernel.connect(receive_buffer=10_000, receive_buffer_max=1 << 20) as conn:
        stream = conn.events()
        for size in (20_000, 30_000, 30_000):
            assert stream.receive_buffer == size
            kernel.sockets[-1].overrun(1)
            with pytest.raises(EventsLost):
                await anext(stream)


async def test_it_never_shrinks_when_privileges_are_dropped() -> None:
    kernel = FakeKernel()
    kernel.sysctls["net.core.rmem_max"] = 15_000
    async with kernel.connect(receive_buffer=50_000, receive_buffer_max=1 << 20) as conn:
        stream = conn.events()
        kernel._state.unavailable |= {"initial CAP_NET_ADMIN"}
        kernel.sockets[-1].overrun(1)
        with pytest.raises(EventsLost):
            await anext(stream)
        assert stream.receive_buffer == 100_000


async def test_whose_limit_it_is() -> None:
    kernel = ScriptedKernel()
    async with kernel.connect() as conn:  # 106496, and no limit
        with pytest.raises(ValueError, match="below the receive_buffer of 106496"):
            conn.events(receive_buffer_max=100_000)
        with pytest.raises(ValueError, match="below the receive_buffer of 20"):
            conn.expectations.events(receive_buffer=20, receive_buffer_max=19)
        stream = conn.events(receive_buffer=10_000)
        await overrun(stream, kernel)
        assert stream.receive_buffer == 20_000
    fake = FakeKernel()
    async with fake.connect(receive_buffer=10_000, receive_buffer_max=20_000) as conn:
        for asked, grown in ((None, 40_000), (15_000, 40_000), (30_000, 60_000)):
            stream = conn.events(receive_buffer=asked)
            fake.sockets[-1].overrun(1)
            with pytest.raises(EventsLost):
                await anext(stream)
            assert stream.receive_buffer == grown
    for bad, error in ((1, ValueError), (1 << 30, ValueError), ("5", TypeError)):
        with pytest.raises(error, match="receive_buffer_max"):
            connect(receive_buffer_max=bad)  # type: ignore[arg-type]


async def test_names_of_namespaces_are_doubted_for_as_long_as_the_larger_buffer_holds() -> None:
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
async def test_growing_in_a_storm(lab: Lab) -> None:
    """Until the bursts fit; from then on nothing is lost."""
    async with (
        connect(netns=lab.netns) as conn,
        conn.events(
            EventType.UPDATE, receive_buffer=8192, receive_buffer_max=1 << 20, on_loss="item"
        ) as stream,
    ):
        made = map(flows.tcp, range(200))
        await flows.fill(conn, made)
        sizes = []
        for mark in range(1, 8):
            await conn.update_many((flows.tcp(number) for number in range(200)), mark=mark)
            losses = sum(isinstance(each, EventsLost) for each in drained(stream))
            sizes.append((stream.receive_buffer, losses))
        assert sizes == [(16384 << min(n, 4), int(n <= 4)) for n in range(1, 8)]


# -- reliable -------------------------------------------------------------------------------


@pytest.mark.kernel
@pytest.mark.long
async def test_every_one_of_ten_thousand_destroys_arrives_once(lab: Lab) -> None:
    many = 10_000
    async with connect(netns=lab.netns) as conn:
        await flows.fill(conn, map(flows.tcp, range(many)))
        stream = conn.events(EventType.DESTROY, receive_buffer=65536, reliable=True)
        assert stream.receive_buffer == 131072
        await conn.flush()
        assert len([flow async for flow in conn.dying()]) == await conn.count() > many - 200
        ended: Counter[int] = Counter()
        with anyio.fail_after(30):
            while ended.total() < many:
                for each in await stream.receive_batch():
                    ended[int.from_bytes(each.flow.orig.src.packed[2:])] += 1
        assert ended == Counter(range(many))
        assert stream.receive_batch_nowait() == []
        await all_gone(conn)
        told = stream.statistics()
        assert told.events_lost == 0 < told.overruns


@pytest.mark.kernel
async def test_what_is_not_retried_is_told_without_a_number(lab: Lab) -> None:
    async with connect(netns=lab.netns, receive_buffer=8192) as conn:
        stream = conn.events(reliable=True, on_loss="item")
        await flows.fill(conn, map(flows.tcp, range(50)))
        lost = [each for each in drained(stream) if isinstance(each, EventsLost)]
        assert [each.lost for each in lost] == [None]
        assert stream.statistics().events_lost == 0
        assert stream.statistics().overruns == 1
        await conn.flush()
        ended: set[int] = set()
        with anyio.fail_after(10):
            while len(ended) < 50:
                told = await anext(stream)
                if isinstance(told, FlowEvent) and told.type is EventType.DESTROY:
                    ended.add(told.flow.id or 0)


@pytest.mark.kernel
async def test_closing_lets_the_dying_go(lab: Lab) -> None:
    async with connect(netns=lab.netns, receive_buffer=8192) as conn:
        stream = conn.events(EventType.DESTROY, reliable=True)
        await flows.fill(conn, map(flows.tcp, range(50)))
        await conn.flush()
        assert await conn.count() > 0
        await stream.aclose()
        await all_gone(conn)


async def all_gone(conn: Connection) -> None:
    """The kernel lets entries go some time after it has told of their end."""
    with anyio.fail_after(10):
        while await conn.count():
            await anyio.lowlevel.checkpoint()


async def test_reliable_with_the_fake_kernel() -> None:
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


# -- forged ---------------------------------------------------------------------------------


@pytest.mark.kernel
@pytest.mark.long
async def test_a_flood_of_forged_events(lab: Lab) -> None:
    """None gets through, all are counted, and the real ones come or are told as lost."""
    forger = lab.run(lambda: socket.socket(AF_NETLINK, socket.SOCK_RAW, NETLINK.NETFILTER))
    with forger:
        async with connect(netns=lab.netns) as conn, conn.events(on_loss="item") as stream:
            sent = 0
            for number in range(500):
                for group in (1, 2, 4) * 4:
                    forger.sendto(event(60_000), (0, group))
                    sent += 1
                await conn.create(flows.tcp(number))
            port = stream._socket.raw.getsockname()[0]  # type: ignore[attr-defined]
            for _ in range(1000):
                with pytest.raises(ConnectionRefusedError):
                    forger.sendto(event(60_000), (port, 0))
            assert kinds(drained(stream)) == list(range(500))
            assert stream.statistics().forged == sent == 6000
            assert stream.statistics().overruns == 0


@pytest.mark.kernel
@pytest.mark.long
async def test_an_overrun_that_a_flood_caused(lab: Lab) -> None:
    forger = lab.run(lambda: socket.socket(AF_NETLINK, socket.SOCK_RAW, NETLINK.NETFILTER))
    with forger:
        async with (
            connect(netns=lab.netns, receive_buffer=65536) as conn,
            conn.events(on_loss="item") as stream,
        ):
            real = sent = 0
            seen: list[object] = []
            for _ in range(5):
                for _ in range(1000):
                    forger.sendto(event(60_000), (0, 1))
                sent += 1000
                await conn.create(flows.tcp(real))
                real += 1
                seen += kinds(drained(stream))
                await conn.create(flows.tcp(real))
                real += 1
            seen += kinds(drained(stream))
            losses = [each[1] for each in seen if isinstance(each, tuple)]
            assert len(losses) == 5
            came = [each for each in seen if not isinstance(each, tuple)]
            assert came == [1, 3, 5, 7, 9]
            told = stream.statistics()
            assert told.forged + told.events_lost + len(came) == sent + real
