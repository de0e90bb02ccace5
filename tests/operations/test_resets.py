"""Test that reading and resetting counters reports each packet once, whatever the reader does."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import socket
import threading
from collections.abc import AsyncIterator, Iterable

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from support import flows
from support.attribute_encoding import be16
from support.lab import Lab
from support.scripted_kernel import ScriptedKernel

from conntrack_aio import (
    AlreadyExists,
    Connection,
    DecodeError,
    Dump,
    EventType,
    Flow,
    Match,
    NoReply,
    NotFound,
    connect,
)
from conntrack_aio.codec.messages import CT_NEW
from conntrack_aio.netlink import messages
from conntrack_aio.testing import FakeSocket, ReceivedRequest

pytestmark = pytest.mark.kernels

MANY = 700
"""A number of flows whose dump takes several chunks."""

GET, GET_CTRZERO = 0x101, 0x103


class Senders:
    """Sockets in the lab's namespace, each with a flow to one receiver there."""

    def __init__(self, lab: Lab, count: int) -> None:
        self.sent = 0
        self._receiver, self._senders = lab.run(self._open, count)

    @staticmethod
    def _open(count: int) -> tuple[socket.socket, list[socket.socket]]:
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        receiver.bind(("127.0.0.1", 0))
        senders = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
        for sender in senders:
            sender.connect(receiver.getsockname())
        return receiver, senders

    def send(self) -> None:
        """Send a UDP datagram from each socket. Those that the receiver drops are tracked, too."""
        for sender in self._senders:
            sender.send(b"count me")
            self.sent += 1

    def close(self) -> None:
        for socket_ in (self._receiver, *self._senders):
            socket_.close()


@pytest.fixture
def counting(lab: Lab) -> Lab:
    """Set up tracking and accounting, and a timeout long enough for a slow machine."""
    lab.sysctl("nf_conntrack_acct", 1)
    lab.sysctl("nf_conntrack_udp_timeout", 3600)
    lab.track()
    return lab


@pytest.fixture
async def conn(counting: Lab) -> AsyncIterator[Connection]:
    async with connect(netns=counting.netns) as connection:
        yield connection


def count_packets(reported: Iterable[Flow]) -> int:
    """Return the sum of the packet counters of these flows."""
    counters = [
        counter
        for flow in reported
        for counter in (flow.counters_orig, flow.counters_reply)
        if counter
    ]
    return sum(counter.packets or 0 for counter in counters)


@pytest.fixture
def senders(counting: Lab) -> Iterable[Senders]:
    opened = Senders(counting, MANY)
    opened.send()
    yield opened
    opened.close()


@pytest.mark.anyio
@pytest.mark.kernel
async def test_each_packet_is_reported_once(conn: Connection, senders: Senders) -> None:
    reported = await conn.list(reset_counters=True)
    assert len(reported) == MANY
    assert count_packets(reported) == senders.sent == MANY
    assert count_packets(await conn.list(reset_counters=True)) == 0
    senders.send()
    assert count_packets(await conn.list(reset_counters=True)) == MANY


@pytest.mark.anyio
@pytest.mark.kernel
async def test_each_packet_is_reported_once_while_flows_end(
    conn: Connection, senders: Senders
) -> None:
    """The counters of a flow that ends between two dumps are in its destroy event."""
    stop = threading.Event()

    def traffic() -> None:
        while not stop.is_set():
            senders.send()

    reported = 0
    thread = threading.Thread(target=traffic)
    async with conn.events(EventType.DESTROY, receive_buffer=64 << 20) as destroyed:
        ended = 0
        thread.start()
        try:
            for _ in range(5):
                async with conn.dump(reset_counters=True) as dump:
                    async for flow in dump:
                        reported += count_packets([flow])
                        if (flow.orig.sport or 0) % 50 == 0:
                            try:
                                await conn.delete(flow)
                                ended += 1
                            except NotFound:
                                continue
        finally:
            stop.set()
            await anyio.to_thread.run_sync(thread.join)
        with anyio.fail_after(10):
            for _ in range(ended):
                reported += count_packets([(await anext(destroyed)).flow])
    reported += count_packets(await conn.list(reset_counters=True))
    assert ended > 0
    assert reported == senders.sent


@pytest.mark.anyio
@pytest.mark.kernel
@pytest.mark.parametrize("leave", ["close", "drop"])
async def test_unread_flows_of_a_reset_come_in_the_next_dump(
    conn: Connection, senders: Senders, leave: str
) -> None:
    read: list[Flow] = []
    dump = conn.dump(reset_counters=True)
    async for flow in dump:
        read.append(flow)
        if len(read) == 10:
            break
    if leave == "close":
        await dump.aclose()
    else:
        del dump
        gc.collect()
    rest = await conn.list(reset_counters=True)
    assert count_packets(rest[:1]) == 1  # flows that were left unread come first
    assert count_packets(read) + count_packets(rest) == senders.sent


@pytest.mark.anyio
@pytest.mark.kernel
async def test_columns_report_each_packet_once(conn: Connection, senders: Senders) -> None:
    batches = conn.dump(reset_counters=True).columns("packets")
    first = await anext(batches)
    await batches.aclose()
    rest = await conn.list(reset_counters=True)
    assert 0 < sum(first["packets"].data) < senders.sent
    assert sum(first["packets"].data) + count_packets(rest) == senders.sent


@pytest.mark.anyio
@pytest.mark.kernel
async def test_unread_flows_come_only_in_a_dump_that_they_match(
    conn: Connection, senders: Senders
) -> None:
    (await anext(conn.dump(reset_counters=True))).id  # noqa: B018 - the rest of its chunk stays unread
    gc.collect()
    assert await conn.list(Match(mark=5), reset_counters=True) == []
    unread = await conn.list(reset_counters=True)
    assert count_packets(unread) == senders.sent - 1


@pytest.mark.anyio
@pytest.mark.kernel
@pytest.mark.parametrize("offload", [False, True], ids=["on the loop", "offloaded"])
@pytest.mark.long
async def test_each_packet_is_reported_once_despite_cancellations(
    counting: Lab, senders: Senders, offload: bool
) -> None:
    reported: list[Flow] = []
    async with connect(netns=counting.netns, offload=offload) as conn:
        for turns in range(60):

            async def read() -> None:
                async with conn.dump(reset_counters=True) as dump:
                    async for batch in dump.batches():
                        reported.extend(batch)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read)
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
            senders.send()
        reported += await conn.list(reset_counters=True)
    assert count_packets(reported) == senders.sent


@pytest.mark.anyio
@pytest.mark.kernel
@pytest.mark.parametrize("offload", [False, True], ids=["on the loop", "offloaded"])
@pytest.mark.long
async def test_a_dump_that_continues_after_cancellations_has_each_flow_once(
    counting: Lab, senders: Senders, offload: bool
) -> None:
    """Its reader may be cancelled at any point, and any number of times."""
    async with connect(netns=counting.netns, offload=offload) as conn:
        all_ids = {flow.id for flow in await conn.list()}
        for turns in (*range(1, 13), 17, 24, 40, 80):
            reported: list[Flow] = []
            exhausted = False
            async with conn.dump(reset_counters=True) as dump:
                while not exhausted:
                    async with anyio.create_task_group() as tasks:

                        async def cancel(turns: int = turns) -> None:
                            for _ in range(turns):
                                await anyio.lowlevel.checkpoint()
                            tasks.cancel_scope.cancel()

                        tasks.start_soon(cancel)
                        while batch := await dump.receive_batch():
                            reported += batch
                        exhausted = True
                        tasks.cancel_scope.cancel()
                    if turns < 4:
                        turns += 1  # with so few turns the reader would never progress
            assert sorted(flow.id or 0 for flow in reported) == sorted(id or 0 for id in all_ids)
            assert count_packets(reported) == senders.sent
            senders.sent = 0
            senders.send()


@pytest.mark.asyncio
@pytest.mark.kernel
@pytest.mark.parametrize("offload", [False, True], ids=["on the loop", "offloaded"])
@pytest.mark.long
async def test_a_dump_continued_by_another_task_has_each_flow_once(
    counting: Lab, senders: Senders, offload: bool
) -> None:
    """The thread of the cancelled task still runs when the other task begins."""
    async with connect(netns=counting.netns, offload=offload) as conn:
        all_ids = {flow.id for flow in await conn.list()}
        for turns in range(1, 80, 2):
            reported: list[Flow] = []
            async with conn.dump(reset_counters=True) as dump:

                async def read(dump: Dump[Flow] = dump, reported: list[Flow] = reported) -> None:
                    while batch := await dump.receive_batch():
                        reported += batch

                for _ in range(3):
                    task = asyncio.create_task(read())
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
                await read()
            assert sorted(flow.id or 0 for flow in reported) == sorted(id or 0 for id in all_ids)
            assert count_packets(reported) == senders.sent
            senders.sent = 0
            senders.send()


@pytest.mark.asyncio
@pytest.mark.kernel
@pytest.mark.parametrize("offload", [False, True], ids=["on the loop", "offloaded"])
@pytest.mark.long
async def test_each_packet_is_reported_once_despite_asyncio_cancellations(
    counting: Lab, senders: Senders, offload: bool
) -> None:
    """The next dump has the flows of a cancelled ``list``, and those of a thread that still ran."""
    reported: list[Flow] = []
    async with connect(netns=counting.netns, offload=offload) as conn:
        for turns in range(60):
            task = asyncio.create_task(conn.list(reset_counters=True))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            (result,) = await asyncio.gather(task, return_exceptions=True)
            if isinstance(result, list):
                reported += result
            senders.send()
        reported += await conn.list(reset_counters=True)
    assert count_packets(reported) == senders.sent


@pytest.mark.anyio
@pytest.mark.kernel
async def test_get_reads_and_resets_one_flow(conn: Connection, senders: Senders) -> None:
    flow = (await conn.list())[0]
    assert count_packets([await conn.get(flow)]) == 1
    assert count_packets([await conn.get(flow, reset_counters=True)]) == 1
    assert count_packets([await conn.get(flow)]) == 0
    with pytest.raises(NotFound):
        await conn.get(flows.tcp(), reset_counters=True)


@pytest.mark.anyio
@pytest.mark.kernel
async def test_the_counters_of_another_flow_with_the_tuple_are_kept(
    conn: Connection, senders: Senders
) -> None:
    flow = (await conn.list())[0]
    another = flow
    assert flow.id is not None
    another.id = flow.id ^ 1
    with pytest.raises(NotFound, match="another id"):
        await conn.get(another, reset_counters=True)
    assert count_packets(await conn.list(reset_counters=True)) == senders.sent


@pytest.mark.anyio
@pytest.mark.kernel
async def test_unread_flows_of_a_reset_are_logged_when_the_connection_closes(
    counting: Lab, senders: Senders, caplog: pytest.LogCaptureFixture
) -> None:
    async with connect(netns=counting.netns) as conn:
        dump = conn.dump(reset_counters=True)
        await anext(dump)
        await dump.aclose()
    with caplog.at_level(logging.WARNING):
        assert "undelivered results of resetting counters" in caplog.text
        caplog.clear()
        async with connect(netns=counting.netns) as conn:
            await conn.list(reset_counters=True)
    assert not caplog.records


# -- what the real kernel does not do on demand ------------------------------------------------


FLOW = flows.message_payload(flows.tcp())


def kernel_with_one_flow(reply: bytes | None, code: int = 0) -> ScriptedKernel:
    """Return a kernel with one entry, which sends this reply when the entry is read and reset."""

    def script(socket: FakeSocket, request: ReceivedRequest) -> None:
        if request.type == GET:
            socket.reply(request, CT_NEW, FLOW)
            socket.done(request)
        elif request.type == GET_CTRZERO:
            if reply is not None:
                socket.reply(request, CT_NEW, reply)
            if code >= 0:
                socket.ack(request, code)

    return ScriptedKernel(script)


@pytest.mark.anyio
async def test_the_kernel_is_never_requested_to_dump_and_reset() -> None:
    kernel = kernel_with_one_flow(FLOW)
    async with kernel.connect() as conn:
        assert await conn.list(reset_counters=True) == [flows.tcp()]
        await conn.get(flows.tcp(), reset_counters=True)
    requests = [request for socket in kernel.sockets for request in socket.requests]
    assert {request.type for request in requests} == {0x105, GET, GET_CTRZERO}
    assert all(request.type == GET or not request.flags & 0x300 for request in requests)


@pytest.mark.anyio
async def test_an_entry_that_ended_before_its_reset_is_left_out() -> None:
    async with kernel_with_one_flow(None, errno.ENOENT).connect() as conn:
        assert await conn.list(reset_counters=True) == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("kernel", "error"),
    [
        (kernel_with_one_flow(FLOW[:-2]), DecodeError),
        (kernel_with_one_flow(None), NoReply),
        (kernel_with_one_flow(None, -1), NoReply),
        (kernel_with_one_flow(None, errno.EEXIST), AlreadyExists),
    ],
)
async def test_a_malformed_or_missing_reply_raises_in_place_of_its_flow(
    kernel: ScriptedKernel, error: type[Exception]
) -> None:
    async with kernel.connect() as conn:
        dump: Dump[Flow] = conn.dump(reset_counters=True)
        with pytest.raises(error):
            await anext(dump)
        assert [flow async for flow in dump] == []


@pytest.mark.anyio
async def test_an_entry_that_cannot_be_requested_hides_no_other() -> None:
    incomplete = FLOW.replace(be16(3, 80), be16(9, 80))
    assert incomplete != FLOW

    def script(socket: FakeSocket, request: ReceivedRequest) -> None:
        if request.type == GET:
            entries = [messages.pack(CT_NEW, 2, request.seq, entry) for entry in (incomplete, FLOW)]
            socket.deliver(b"".join(entries))
            socket.done(request)
        else:
            socket.deliver(messages.pack(CT_NEW, 2, request.seq, FLOW))
            socket.ack(request)

    async with ScriptedKernel(script).connect() as conn:
        dump = conn.dump(reset_counters=True)
        with pytest.raises(DecodeError, match="must be present in a tuple of tcp") as caught:
            await anext(dump)
        assert caught.value.path == ("orig", "dport")
        assert [flow async for flow in dump] == [flows.tcp()]


@pytest.mark.anyio
async def test_replies_to_a_reset_that_was_closed_come_in_the_next_dump() -> None:
    """The replies that arrive after the close are kept for the next dump."""
    started, proceed = threading.Event(), threading.Event()

    def script(socket: FakeSocket, request: ReceivedRequest) -> None:
        if request.type == GET:
            socket.reply(request, CT_NEW, FLOW)
            socket.done(request)
        else:
            started.set()
            assert proceed.wait(5)
            socket.deliver(messages.pack(CT_NEW, 2, request.seq, FLOW))
            socket.ack(request)

    async with ScriptedKernel(script).connect(offload=True) as conn:
        dump = conn.dump(reset_counters=True)

        async def close() -> None:
            await anyio.to_thread.run_sync(started.wait)
            with pytest.raises(anyio.BusyResourceError):
                await anext(dump)
            await dump.aclose()
            proceed.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(close)
            with pytest.raises(anyio.ClosedResourceError):
                await anext(dump)
        assert await anext(conn.dump(reset_counters=True)) == flows.tcp()
