"""Dumps received ahead: how far, and what becomes of it when something goes wrong."""

from __future__ import annotations

import errno
import threading
from collections.abc import Generator

import anyio
import pytest
from support.scripted import Script, lone_socket
from support.waiting import until

from conntrack_aio.errors import DecodeError, KernelError, NoReply
from conntrack_aio.netlink import messages, walks
from conntrack_aio.netlink.exchange import Request
from conntrack_aio.netlink.messages import walk as messages_in
from conntrack_aio.netlink.socket import NetlinkSocket
from conntrack_aio.netlink.threads import Threads
from conntrack_aio.netlink.walks import Walk
from conntrack_aio.testing import FakeSocket, ReceivedRequest

pytestmark = [pytest.mark.anyio]

GET = Request("dump", "it", 0x101, 0, b"\0\0\0\0")
PATIENCE = 0.05


class Bench:
    """Walks of a kernel that a script stands in for."""

    def __init__(self) -> None:
        self.threads = Threads(2)
        self.sockets: list[FakeSocket] = []
        self.open: list[NetlinkSocket] = []

    def walk(self, *scripts: Script, patience: float = PATIENCE) -> Walk:
        """Of so many dumps, one after the other."""
        ready: list[NetlinkSocket] = []
        for script in scripts:
            socket, fake = lone_socket(script)
            self.sockets.append(fake)
            ready.append(socket)
        self.open += ready
        walk = Walk(lambda: ready.pop(0), GET, self.threads, patience)
        walk.ask([GET] * len(scripts))
        return walk


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


async def read(walk: Walk) -> list[int]:
    """The numbers of all entries."""
    numbers: list[int] = []
    while (chunk := await walk.receive()) is not None:
        for message in messages_in(chunk, len(chunk)):
            if walk.exchange.takes(chunk, message):
                numbers.append(int.from_bytes(chunk[message.start : message.end], "big"))
    return numbers


async def test_all_of_it_in_order(bench: Bench) -> None:
    walk = bench.walk(entries(100))
    assert await read(walk) == list(range(100))
    assert walk.closed
    await until(lambda: bench.sockets[0].closed)


async def test_nothing_happens_before_it_is_asked_for(bench: Bench) -> None:
    walk = bench.walk(entries(1))
    assert not walk.sockets
    assert not bench.sockets[0].sent
    walk.close()
    with pytest.raises(anyio.ClosedResourceError):
        await walk.receive()


async def test_several_are_one(bench: Bench) -> None:
    walk = bench.walk(entries(20), entries(0), entries(3))
    assert await read(walk) == [*range(20), *range(3)]
    assert walk.closed
    assert [len(fake.sent) for fake in bench.sockets] == [1, 1, 1]
    assert sum(socket.datagrams_received for socket in walk.sockets) == 23 + 3


async def test_one_of_several_fails(bench: Bench) -> None:
    def script(socket: FakeSocket, asked: ReceivedRequest) -> None:
        socket.reply(asked, messages.ERROR, (-errno.EIO).to_bytes(4, "little", signed=True))

    walk = bench.walk(entries(1), script, entries(1))
    assert await walk.receive()
    with pytest.raises(KernelError):
        await read(walk)
    assert walk.closed
    assert not bench.sockets[2].sent


async def test_only_so_much_is_received_ahead(bench: Bench) -> None:
    """Whoever is slow holds some chunks, whatever the table's size."""
    walk = bench.walk(entries(100))
    assert await walk.receive()
    (socket,) = walk.sockets
    await until(lambda: socket.datagrams_received >= walks.AHEAD and not socket.in_use)
    assert socket.datagrams_received <= walks.AHEAD + 1
    assert await read(walk) == list(range(1, 100))


async def test_what_came_before_a_failure_is_handed_out_first(bench: Bench) -> None:
    def script(socket: FakeSocket, asked: ReceivedRequest) -> None:
        socket.deliver(entry(asked, 0))
        socket.reply(asked, messages.ERROR, (-errno.EIO).to_bytes(4, "little", signed=True))

    walk = bench.walk(script)
    assert await walk.receive()
    with pytest.raises(KernelError):
        await read(walk)
    assert walk.closed


@pytest.mark.parametrize("code", [errno.ENOBUFS, errno.EIO])
async def test_a_read_that_fails(bench: Bench, code: int) -> None:
    walk = bench.walk(lambda socket, asked: socket.fail(code))
    with pytest.raises(KernelError) as refused:
        await walk.receive()
    assert refused.value.errno == code
    assert walk.closed


async def test_a_datagram_that_is_too_large_is_an_error_in_its_place(bench: Bench) -> None:
    def script(socket: FakeSocket, asked: ReceivedRequest) -> None:
        socket.deliver(entry(asked, 0))
        socket.deliver(bytes(70_000))

    walk = bench.walk(script)
    assert await walk.receive()
    with pytest.raises(DecodeError, match="70000"):
        await walk.receive()
    assert walk.closed


async def test_what_nobody_expected_is_not_swallowed_by_the_thread(bench: Bench) -> None:
    def script(socket: FakeSocket, asked: ReceivedRequest) -> None:
        raise ZeroDivisionError

    walk = bench.walk(script)
    with pytest.raises(ZeroDivisionError):
        await walk.receive()
    assert walk.closed


async def test_a_dump_without_an_end_is_given_up(bench: Bench) -> None:
    walk = bench.walk(entries(3, end=False))
    with pytest.raises(NoReply):
        await read(walk)
    assert walk.closed


async def test_more_may_come_later(bench: Bench) -> None:
    """The real kernel has the next chunk ready at once; another may take its time."""
    asked_by: list[ReceivedRequest] = []
    walk = bench.walk(lambda socket, asked: asked_by.append(asked), patience=10)
    fake = bench.sockets[0]

    async def deliver() -> None:
        for number in range(3):
            await anyio.wait_all_tasks_blocked()
            fake.deliver(entry(asked_by[0], number))
        await anyio.wait_all_tasks_blocked()
        fake.done(asked_by[0])

    async with anyio.create_task_group() as group:
        group.start_soon(deliver)
        assert await read(walk) == [0, 1, 2]


async def test_closed_while_the_thread_is_in_a_system_call(bench: Bench) -> None:
    """The task is woken at once; the socket closes when the thread is done with it."""
    inside, go_on = threading.Event(), threading.Event()

    def script(socket: FakeSocket, asked: ReceivedRequest) -> None:
        inside.set()
        go_on.wait(10)

    walk = bench.walk(script)
    async with anyio.create_task_group() as group:

        async def reader() -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await walk.receive()

        group.start_soon(reader)
        await until(inside.is_set)
        walk.close()
    assert not bench.sockets[0].closed
    go_on.set()
    await until(lambda: bench.sockets[0].closed)


async def test_a_kernel_that_never_returns_is_given_up(bench: Bench) -> None:
    """The thread is left in its system call; the socket closes when that is over."""
    inside, go_on = threading.Event(), threading.Event()

    def script(socket: FakeSocket, asked: ReceivedRequest) -> None:
        inside.set()
        go_on.wait(10)

    walk = bench.walk(script)
    with anyio.fail_after(5), pytest.raises(NoReply):
        await walk.receive()
    assert inside.is_set()
    assert walk.closed
    go_on.set()
    await until(lambda: bench.sockets[0].closed)


async def test_a_reader_may_take_its_time(bench: Bench) -> None:
    """Only the kernel has a deadline."""
    walk = bench.walk(entries(60))
    assert await walk.receive()
    await anyio.sleep(3 * PATIENCE)
    assert await read(walk) == list(range(1, 60))


async def test_a_second_reader_is_told(bench: Bench) -> None:
    walk = bench.walk(lambda socket, asked: None, patience=10)
    async with anyio.create_task_group() as group:

        async def reader() -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await walk.receive()

        group.start_soon(reader)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            await walk.receive()
        walk.close()


async def test_cancelled_and_gone_on_with(bench: Bench) -> None:
    """No chunk is lost, whenever the reader is cancelled."""
    walk = bench.walk(entries(60))
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
                chunk = await walk.receive()
                if chunk is None:
                    ended = True
                    continue
                for message in messages_in(chunk, len(chunk)):
                    if walk.exchange.takes(chunk, message):
                        numbers.append(int.from_bytes(chunk[message.start : message.end], "big"))
        turns += 1
    assert numbers == list(range(60))
