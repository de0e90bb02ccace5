"""Dumps received ahead of their reader: how far, and what happens on errors."""

from __future__ import annotations

import errno
import threading
from collections.abc import Generator

import anyio
import pytest
from support.polling import wait_until
from support.scripted_kernel import Script, standalone_socket

from conntrack_aio.errors import DecodeError, KernelError, NoReply
from conntrack_aio.netlink import dump_receiver, messages
from conntrack_aio.netlink.dump_receiver import DumpReceiver
from conntrack_aio.netlink.exchange import Request
from conntrack_aio.netlink.messages import walk as messages_in
from conntrack_aio.netlink.socket import NetlinkSocket
from conntrack_aio.netlink.threads import Threads
from conntrack_aio.testing import FakeSocket, ReceivedRequest

pytestmark = [pytest.mark.anyio]

GET = Request("dump", "it", 0x101, 0, b"\0\0\0\0")
PATIENCE = 0.05


class Bench:
    """Make receivers of dumps from scripted kernels."""

    def __init__(self) -> None:
        self.threads = Threads(2)
        self.sockets: list[FakeSocket] = []
        self.open: list[NetlinkSocket] = []

    def receiver(self, *scripts: Script, patience: float = PATIENCE) -> DumpReceiver:
        """Return a receiver of one dump per script, in sequence."""
        ready: list[NetlinkSocket] = []
        for script in scripts:
            socket, fake = standalone_socket(script)
            self.sockets.append(fake)
            ready.append(socket)
        self.open += ready
        receiver = DumpReceiver(lambda: ready.pop(0), GET, self.threads, patience)
        receiver.set_requests([GET] * len(scripts))
        return receiver


@pytest.fixture
def bench() -> Generator[Bench]:
    bench = Bench()
    yield bench
    bench.threads.close()
    for socket in bench.open:
        socket.close()


def entry(asked: ReceivedRequest, number: int) -> bytes:
    return messages.pack(0x100, 2, asked.seq, number.to_bytes(4, "big"))


def entries(count: int, *, end: bool = True) -> Script:
    def script(socket: FakeSocket, asked: ReceivedRequest) -> None:
        for number in range(count):
            socket.deliver(entry(asked, number))
        if end:
            socket.done(asked)

    return script


async def read(receiver: DumpReceiver) -> list[int]:
    """Return the numbers of all entries."""
    numbers: list[int] = []
    while (chunk := await receiver.receive()) is not None:
        for message in messages_in(chunk, len(chunk)):
            if receiver.exchange.takes(chunk, message):
                numbers.append(int.from_bytes(chunk[message.start : message.end], "big"))
    return numbers


async def test_all_of_it_in_order(bench: Bench) -> None:
    receiver = bench.receiver(entries(100))
    assert await read(receiver) == list(range(100))
    assert receiver.closed
    await wait_until(lambda: bench.sockets[0].closed)


async def test_nothing_happens_before_the_first_receive(bench: Bench) -> None:
    receiver = bench.receiver(entries(1))
    assert not receiver.sockets
    assert not bench.sockets[0].sent
    receiver.close()
    with pytest.raises(anyio.ClosedResourceError):
        await receiver.receive()


async def test_several_are_one(bench: Bench) -> None:
    receiver = bench.receiver(entries(20), entries(0), entries(3))
    assert await read(receiver) == [*range(20), *range(3)]
    assert receiver.closed
    assert [len(fake.sent) for fake in bench.sockets] == [1, 1, 1]
    assert sum(socket.datagrams_received for socket in receiver.sockets) == 23 + 3


async def test_one_of_several_fails(bench: Bench) -> None:
    def script(socket: FakeSocket, asked: ReceivedRequest) -> None:
        socket.reply(asked, messages.ERROR, (-errno.EIO).to_bytes(4, "little", signed=True))

    receiver = bench.receiver(entries(1), script, entries(1))
    assert await receiver.receive()
    with pytest.raises(KernelError):
        await read(receiver)
    assert receiver.closed
    assert not bench.sockets[2].sent


async def test_only_so_much_is_received_ahead(bench: Bench) -> None:
    """A slow reader holds a few chunks, regardless of the size of the table."""
    receiver = bench.receiver(entries(100))
    assert await receiver.receive()
    (socket,) = receiver.sockets
    await wait_until(
        lambda: socket.datagrams_received >= dump_receiver.PREFETCHED_CHUNKS and not socket.in_use
    )
    assert socket.datagrams_received <= dump_receiver.PREFETCHED_CHUNKS + 1
    assert await read(receiver) == list(range(1, 100))


async def test_what_came_before_a_failure_is_handed_out_first(bench: Bench) -> None:
    def script(socket: FakeSocket, asked: ReceivedRequest) -> None:
        socket.deliver(entry(asked, 0))
        socket.reply(asked, messages.ERROR, (-errno.EIO).to_bytes(4, "little", signed=True))

    receiver = bench.receiver(script)
    assert await receiver.receive()
    with pytest.raises(KernelError):
        await read(receiver)
    assert receiver.closed


@pytest.mark.parametrize("code", [errno.ENOBUFS, errno.EIO])
async def test_a_read_that_fails(bench: Bench, code: int) -> None:
    receiver = bench.receiver(lambda socket, asked: socket.fail(code))
    with pytest.raises(KernelError) as refused:
        await receiver.receive()
    assert refused.value.errno == code
    assert receiver.closed


async def test_a_datagram_that_is_too_large_is_an_error_in_its_place(bench: Bench) -> None:
    def script(socket: FakeSocket, asked: ReceivedRequest) -> None:
        socket.deliver(entry(asked, 0))
        socket.deliver(bytes(70_000))

    receiver = bench.receiver(script)
    assert await receiver.receive()
    with pytest.raises(DecodeError, match="70000"):
        await receiver.receive()
    assert receiver.closed


async def test_an_unexpected_error_on_the_thread_is_raised(bench: Bench) -> None:
    def script(socket: FakeSocket, asked: ReceivedRequest) -> None:
        raise ZeroDivisionError

    receiver = bench.receiver(script)
    with pytest.raises(ZeroDivisionError):
        await receiver.receive()
    assert receiver.closed


async def test_a_dump_without_an_end_times_out(bench: Bench) -> None:
    receiver = bench.receiver(entries(3, end=False))
    with pytest.raises(NoReply):
        await read(receiver)
    assert receiver.closed


async def test_more_may_come_later(bench: Bench) -> None:
    """The real kernel has the next chunk ready at once; a scripted one may be slower."""
    asked_by: list[ReceivedRequest] = []
    receiver = bench.receiver(lambda socket, asked: asked_by.append(asked), patience=10)
    fake = bench.sockets[0]

    async def deliver() -> None:
        for number in range(3):
            await anyio.wait_all_tasks_blocked()
            fake.deliver(entry(asked_by[0], number))
        await anyio.wait_all_tasks_blocked()
        fake.done(asked_by[0])

    async with anyio.create_task_group() as group:
        group.start_soon(deliver)
        assert await read(receiver) == [0, 1, 2]


async def test_closed_while_the_thread_is_in_a_system_call(bench: Bench) -> None:
    """The task wakes at once; the socket closes when the thread is done with it."""
    inside, go_on = threading.Event(), threading.Event()

    def script(socket: FakeSocket, asked: ReceivedRequest) -> None:
        inside.set()
        go_on.wait(10)

    receiver = bench.receiver(script)
    async with anyio.create_task_group() as group:

        async def reader() -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await receiver.receive()

        group.start_soon(reader)
        await wait_until(inside.is_set)
        receiver.close()
    assert not bench.sockets[0].closed
    go_on.set()
    await wait_until(lambda: bench.sockets[0].closed)


async def test_a_kernel_that_never_returns_times_out(bench: Bench) -> None:
    """The thread stays in its system call; the socket closes when that returns."""
    inside, go_on = threading.Event(), threading.Event()

    def script(socket: FakeSocket, asked: ReceivedRequest) -> None:
        inside.set()
        go_on.wait(10)

    receiver = bench.receiver(script)
    with anyio.fail_after(5), pytest.raises(NoReply):
        await receiver.receive()
    assert inside.is_set()
    assert receiver.closed
    go_on.set()
    await wait_until(lambda: bench.sockets[0].closed)


async def test_a_reader_may_take_its_time(bench: Bench) -> None:
    """The timeout applies to the kernel, not to the reader."""
    receiver = bench.receiver(entries(60))
    assert await receiver.receive()
    await anyio.sleep(3 * PATIENCE)
    assert await read(receiver) == list(range(1, 60))


async def test_a_second_reader_is_refused(bench: Bench) -> None:
    receiver = bench.receiver(lambda socket, asked: None, patience=10)
    async with anyio.create_task_group() as group:

        async def reader() -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await receiver.receive()

        group.start_soon(reader)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            await receiver.receive()
        receiver.close()


async def test_cancelled_and_continued(bench: Bench) -> None:
    """No chunk is lost, whenever the reader is cancelled."""
    receiver = bench.receiver(entries(60))
    numbers: list[int] = []
    turns, ended = 0, False
    while not ended:
        with anyio.CancelScope() as scope:

            async def cancel(scope: anyio.CancelScope = scope, turns: int = turns) -> None:
                for _ in range(turns % 7):
                    await anyio.lowlevel.checkpoint()
                scope.cancel()

            async with anyio.create_task_group() as group:
                group.start_soon(cancel)
                chunk = await receiver.receive()
                if chunk is None:
                    ended = True
                    continue
                for message in messages_in(chunk, len(chunk)):
                    if receiver.exchange.takes(chunk, message):
                        numbers.append(int.from_bytes(chunk[message.start : message.end], "big"))
        turns += 1
    assert numbers == list(range(60))
