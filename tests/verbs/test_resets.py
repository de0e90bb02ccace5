"""Counters read and reset: every packet is told once, whatever the reader does."""

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
"""Flows of several chunks of a dump."""

GET, GET_CTRZERO = 0x101, 0x103


class Senders:
    """Sockets inside the lab that each have a flow to one receiver there."""

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
        """A datagram from each. What the receiver has no room for was tracked all the same."""
        for sender in self._senders:
            sender.send(b"count me")
            self.sent += 1

    def close(self) -> None:
        for end in (self._receiver, *self._senders):
            end.close()


@pytest.fixture
def counting(lab: Lab) -> Lab:
    """A namespace that tracks and counts, and keeps its flows while a slow machine tests."""
    lab.sysctl("nf_conntrack_acct", 1)
    lab.sysctl("nf_conntrack_udp_timeout", 3600)
    lab.track()
    return lab


@pytest.fixture
async def conn(counting: Lab) -> AsyncIterator[Connection]:
    async with connect(netns=counting.netns) as connection:
        yield connection


def packets(told: Iterable[Flow]) -> int:
    """How many packets these flows tell of."""
    counters = [c for flow in told for c in (flow.counters_orig, flow.counters_reply) if c]
    return sum(each.packets or 0 for each in counters)


@pytest.fixture
def senders(counting: Lab) -> Iterable[Senders]:
    made = Senders(counting, MANY)
    made.send()
    yield made
    made.close()


@pytest.mark.anyio
@pytest.mark.kernel
async def test_every_packet_once(conn: Connection, senders: Senders) -> None:
    told = await conn.list(reset_counters=True)
    assert len(told) == MANY
    assert packets(told) == senders.sent == MANY
    assert packets(await conn.list(reset_counters=True)) == 0
    senders.send()
    assert packets(await conn.list(reset_counters=True)) == MANY


@pytest.mark.anyio
@pytest.mark.kernel
async def test_with_traffic_running_and_flows_that_end(conn: Connection, senders: Senders) -> None:
    """What ends between two rounds reports in its destroy event."""
    stop = threading.Event()

    def traffic() -> None:
        while not stop.is_set():
            senders.send()

    told = 0
    thread = threading.Thread(target=traffic)
    async with conn.events(EventType.DESTROY, receive_buffer=64 << 20) as destroyed:
        ended = 0
        thread.start()
        try:
            for _ in range(5):
                async with conn.dump(reset_counters=True) as dump:
                    async for flow in dump:
                        told += packets([flow])
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
                told += packets([(await anext(destroyed)).flow])
    told += packets(await conn.list(reset_counters=True))
    assert ended > 0
    assert told == senders.sent


@pytest.mark.anyio
@pytest.mark.kernel
@pytest.mark.parametrize("leave", ["close", "drop"])
async def test_what_a_reader_leaves_comes_in_the_next_dump(
    conn: Connection, senders: Senders, leave: str
) -> None:
    told: list[Flow] = []
    dump = conn.dump(reset_counters=True)
    async for flow in dump:
        told.append(flow)
        if len(told) == 10:
            break
    if leave == "close":
        await dump.aclose()
    else:
        del dump
        gc.collect()
    rest = await conn.list(reset_counters=True)
    assert packets(rest[:1]) == 1  # the oldest first
    assert packets(told) + packets(rest) == senders.sent


@pytest.mark.anyio
@pytest.mark.kernel
async def test_what_waits_is_for_who_asks_for_it(conn: Connection, senders: Senders) -> None:
    (await anext(conn.dump(reset_counters=True))).id  # noqa: B018 - the rest of its chunk is left
    gc.collect()
    assert await conn.list(Match(mark=5), reset_counters=True) == []
    waiting = await conn.list(reset_counters=True)
    assert packets(waiting) == senders.sent - 1


@pytest.mark.anyio
@pytest.mark.kernel
@pytest.mark.parametrize("offload", [False, True], ids=["on the loop", "offloaded"])
@pytest.mark.long
async def test_cancelled_at_every_point(counting: Lab, senders: Senders, offload: bool) -> None:
    told: list[Flow] = []
    async with connect(netns=counting.netns, offload=offload) as conn:
        for turns in range(60):

            async def read() -> None:
                async with conn.dump(reset_counters=True) as dump:
                    async for batch in dump.batches():
                        told.extend(batch)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read)
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
            senders.send()
        told += await conn.list(reset_counters=True)
    assert packets(told) == senders.sent


@pytest.mark.anyio
@pytest.mark.kernel
@pytest.mark.parametrize("offload", [False, True], ids=["on the loop", "offloaded"])
@pytest.mark.long
async def test_cancelled_and_gone_on_with(counting: Lab, senders: Senders, offload: bool) -> None:
    """The same dump has every flow once, wherever its reader was cancelled, and however often."""
    async with connect(netns=counting.netns, offload=offload) as conn:
        everything = {flow.id for flow in await conn.list()}
        for turns in (*range(1, 13), 17, 24, 40, 80):
            told: list[Flow] = []
            ended = False
            async with conn.dump(reset_counters=True) as dump:
                while not ended:
                    async with anyio.create_task_group() as tasks:

                        async def cancel(turns: int = turns) -> None:
                            for _ in range(turns):
                                await anyio.lowlevel.checkpoint()
                            tasks.cancel_scope.cancel()

                        tasks.start_soon(cancel)
                        while batch := await dump.receive_batch():
                            told += batch
                        ended = True
                        tasks.cancel_scope.cancel()
                    if turns < 4:
                        turns += 1  # so few that it would never get anywhere
            assert sorted(flow.id or 0 for flow in told) == sorted(id or 0 for id in everything)
            assert packets(told) == senders.sent
            senders.sent = 0
            senders.send()


@pytest.mark.asyncio
@pytest.mark.kernel
@pytest.mark.parametrize("offload", [False, True], ids=["on the loop", "offloaded"])
@pytest.mark.long
async def test_a_task_cancelled_and_another_goes_on(
    counting: Lab, senders: Senders, offload: bool
) -> None:
    """The thread of the first one is still at work when the other begins."""
    async with connect(netns=counting.netns, offload=offload) as conn:
        everything = {flow.id for flow in await conn.list()}
        for turns in range(1, 80, 2):
            told: list[Flow] = []
            async with conn.dump(reset_counters=True) as dump:

                async def read(dump: Dump[Flow] = dump, told: list[Flow] = told) -> None:
                    while batch := await dump.receive_batch():
                        told += batch

                for _ in range(3):
                    task = asyncio.create_task(read())
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
                await read()
            assert sorted(flow.id or 0 for flow in told) == sorted(id or 0 for id in everything)
            assert packets(told) == senders.sent
            senders.sent = 0
            senders.send()


@pytest.mark.asyncio
@pytest.mark.kernel
@pytest.mark.parametrize("offload", [False, True], ids=["on the loop", "offloaded"])
@pytest.mark.long
async def test_cancelled_the_way_of_asyncio(counting: Lab, senders: Senders, offload: bool) -> None:
    """``list`` gives back what it has, and the thread that goes on alone leaves its answers."""
    told: list[Flow] = []
    async with connect(netns=counting.netns, offload=offload) as conn:
        for turns in range(60):
            task = asyncio.create_task(conn.list(reset_counters=True))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            (result,) = await asyncio.gather(task, return_exceptions=True)
            if isinstance(result, list):
                told += result
            senders.send()
        told += await conn.list(reset_counters=True)
    assert packets(told) == senders.sent


@pytest.mark.anyio
@pytest.mark.kernel
async def test_one_flow(conn: Connection, senders: Senders) -> None:
    flow = (await conn.list())[0]
    assert packets([await conn.get(flow)]) == 1
    assert packets([await conn.get(flow, reset_counters=True)]) == 1
    assert packets([await conn.get(flow)]) == 0
    with pytest.raises(NotFound):
        await conn.get(flows.tcp(), reset_counters=True)


@pytest.mark.anyio
@pytest.mark.kernel
async def test_another_flow_with_the_tuple_is_not_lost(conn: Connection, senders: Senders) -> None:
    flow = (await conn.list())[0]
    another = flow
    assert flow.id is not None
    another.id = flow.id ^ 1
    with pytest.raises(NotFound, match="another id"):
        await conn.get(another, reset_counters=True)
    assert packets(await conn.list(reset_counters=True)) == senders.sent


@pytest.mark.anyio
@pytest.mark.kernel
async def test_left_when_the_connection_closes_is_told(
    counting: Lab, senders: Senders, caplog: pytest.LogCaptureFixture
) -> None:
    async with connect(netns=counting.netns) as conn:
        dump = conn.dump(reset_counters=True)
        await anext(dump)
        await dump.aclose()
    with caplog.at_level(logging.WARNING):
        assert "flows whose counters had been reset" in caplog.text
        caplog.clear()
        async with connect(netns=counting.netns) as conn:
            await conn.list(reset_counters=True)
    assert not caplog.records


# -- what the real kernel does not do on demand ------------------------------------------------


FLOW = flows.message_payload(flows.tcp())


def table(answer: bytes | None, code: int = 0) -> ScriptedKernel:
    """A kernel with one flow, which is read and reset with this answer."""

    def script(socket: FakeSocket, asked: ReceivedRequest) -> None:
        if asked.type == GET:
            socket.reply(asked, CT_NEW, FLOW)
            socket.done(asked)
        elif asked.type == GET_CTRZERO:
            if answer is not None:
                socket.reply(asked, CT_NEW, answer)
            if code >= 0:
                socket.ack(asked, code)

    return ScriptedKernel(script)


@pytest.mark.anyio
async def test_the_kernels_own_dump_and_reset_is_never_asked_for() -> None:
    kernel = table(FLOW)
    async with kernel.connect() as conn:
        assert await conn.list(reset_counters=True) == [flows.tcp()]
        await conn.get(flows.tcp(), reset_counters=True)
    asked = [each for socket in kernel.sockets for each in socket.requests]
    assert {each.type for each in asked} == {0x105, GET, GET_CTRZERO}
    assert all(each.type == GET or not each.flags & 0x300 for each in asked)


@pytest.mark.anyio
async def test_a_flow_that_has_ended_is_left_out() -> None:
    async with table(None, errno.ENOENT).connect() as conn:
        assert await conn.list(reset_counters=True) == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("kernel", "error"),
    [
        (table(FLOW[:-2]), DecodeError),
        (table(None), NoReply),
        (table(None, -1), NoReply),
        (table(None, errno.EEXIST), AlreadyExists),
    ],
)
async def test_an_answer_that_is_none_is_told(
    kernel: ScriptedKernel, error: type[Exception]
) -> None:
    async with kernel.connect() as conn:
        dump: Dump[Flow] = conn.dump(reset_counters=True)
        with pytest.raises(error):
            await anext(dump)
        assert [flow async for flow in dump] == []


@pytest.mark.anyio
async def test_an_entry_that_cannot_be_asked_about_hides_no_other() -> None:
    incomplete = FLOW.replace(be16(3, 80), be16(9, 80))
    assert incomplete != FLOW

    def script(socket: FakeSocket, asked: ReceivedRequest) -> None:
        if asked.type == GET:
            entries = [messages.pack(CT_NEW, 2, asked.seq, each) for each in (incomplete, FLOW)]
            socket.deliver(b"".join(entries))
            socket.done(asked)
        else:
            socket.deliver(messages.pack(CT_NEW, 2, asked.seq, FLOW))
            socket.ack(asked)

    async with ScriptedKernel(script).connect() as conn:
        dump = conn.dump(reset_counters=True)
        with pytest.raises(DecodeError, match="must be present in a tuple of tcp") as caught:
            await anext(dump)
        assert caught.value.path == ("orig", "dport")
        assert [flow async for flow in dump] == [flows.tcp()]


@pytest.mark.anyio
async def test_closed_while_it_resets() -> None:
    """The answers wait for the next one."""
    started, go_on = threading.Event(), threading.Event()

    def script(socket: FakeSocket, asked: ReceivedRequest) -> None:
        if asked.type == GET:
            socket.reply(asked, CT_NEW, FLOW)
            socket.done(asked)
        else:
            started.set()
            assert go_on.wait(5)
            socket.deliver(messages.pack(CT_NEW, 2, asked.seq, FLOW))
            socket.ack(asked)

    async with ScriptedKernel(script).connect(offload=True) as conn:
        dump = conn.dump(reset_counters=True)

        async def close() -> None:
            await anyio.to_thread.run_sync(started.wait)
            with pytest.raises(anyio.BusyResourceError):
                await anext(dump)
            await dump.aclose()
            go_on.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(close)
            with pytest.raises(anyio.ClosedResourceError):
                await anext(dump)
        assert await anext(conn.dump(reset_counters=True)) == flows.tcp()
