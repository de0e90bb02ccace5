"""Check how far dumps are received ahead of their reader, and what happens on errors."""

from __future__ import annotations

import errno
import threading
from collections.abc import Generator

import anyio
import pytest
from support.polling import wait_until
from support.scripted_kernel import Script, standalone_socket

from conntrack_aio.errors import DecodeError, KernelError, NoReply
from conntrack_aio.netlink import messages, prefetching
from conntrack_aio.netlink.dump_receiver import DumpReceiver
from conntrack_aio.netlink.exchange import Request
from conntrack_aio.netlink.messages import walk as messages_in
from conntrack_aio.netlink.socket import NetlinkSocket
from conntrack_aio.netlink.threads import Threads
from conntrack_aio.testing import FakeSocket, ReceivedRequest

pytestmark = [pytest.mark.anyio]

GET = Request("dump", "it", 0x101, 0, b"\0\0\0\0")
REPLY_TIMEOUT = 0.05
"""The seconds that a scripted kernel may take for one chunk."""


class ReceiverFactory:
    """Create receivers of dumps from scripted kernels, and close their sockets in the end."""

    def __init__(self) -> None:
        self.threads = Threads(2)
        self.sockets: list[FakeSocket] = []
        """The kernel's end of each socket, in the order of the scripts."""
        self.library_sockets: list[NetlinkSocket] = []

    def create(self, *scripts: Script, reply_timeout: float = REPLY_TIMEOUT) -> DumpReceiver:
        """Return a receiver that reads one dump per script, in sequence."""
        ready: list[NetlinkSocket] = []
        for script in scripts:
            socket, fake = standalone_socket(script)
            self.sockets.append(fake)
            ready.append(socket)
        self.library_sockets += ready
        receiver = DumpReceiver(lambda: ready.pop(0), GET, self.threads, reply_timeout)
        receiver.set_requests([GET] * len(scripts))
        return receiver


@pytest.fixture
def factory() -> Generator[ReceiverFactory]:
    factory = ReceiverFactory()
    yield factory
    factory.threads.close()
    for socket in factory.library_sockets:
        socket.close()


def pack_entry(request: ReceivedRequest, number: int) -> bytes:
    return messages.pack(0x100, 2, request.seq, number.to_bytes(4, "big"))


def send_entries(count: int, *, end: bool = True) -> Script:
    """Return a script that sends entries numbered from 0, one per datagram.

    :param end: whether it sends the end of the dump.
    """

    def script(socket: FakeSocket, request: ReceivedRequest) -> None:
        for number in range(count):
            socket.deliver(pack_entry(request, number))
        if end:
            socket.done(request)

    return script


async def read_entries(receiver: DumpReceiver) -> list[int]:
    """Receive the rest of the dumps, and return the numbers of the entries."""
    numbers: list[int] = []
    while (chunk := await receiver.receive()) is not None:
        for message in messages_in(chunk, len(chunk)):
            if receiver.exchange.accepts(chunk, message):
                numbers.append(int.from_bytes(chunk[message.start : message.end], "big"))
    return numbers


async def test_all_entries_are_received_in_order(factory: ReceiverFactory) -> None:
    receiver = factory.create(send_entries(100))
    assert await read_entries(receiver) == list(range(100))
    assert receiver.closed
    await wait_until(lambda: factory.sockets[0].closed)


async def test_no_request_is_sent_before_the_first_receive(factory: ReceiverFactory) -> None:
    receiver = factory.create(send_entries(1))
    assert not receiver.sockets
    assert not factory.sockets[0].sent
    receiver.close()
    with pytest.raises(anyio.ClosedResourceError):
        await receiver.receive()


async def test_several_dumps_are_read_as_one(factory: ReceiverFactory) -> None:
    receiver = factory.create(send_entries(20), send_entries(0), send_entries(3))
    assert await read_entries(receiver) == [*range(20), *range(3)]
    assert receiver.closed
    assert [len(fake.sent) for fake in factory.sockets] == [1, 1, 1]
    assert sum(socket.datagrams_received for socket in receiver.sockets) == 23 + 3


async def test_a_dump_that_fails_ends_the_dumps_after_it(factory: ReceiverFactory) -> None:
    def script(socket: FakeSocket, request: ReceivedRequest) -> None:
        socket.reply(request, messages.ERROR, (-errno.EIO).to_bytes(4, "little", signed=True))

    receiver = factory.create(send_entries(1), script, send_entries(1))
    assert await receiver.receive()
    with pytest.raises(KernelError):
        await read_entries(receiver)
    assert receiver.closed
    assert not factory.sockets[2].sent


async def test_a_limited_number_of_chunks_is_received_ahead(factory: ReceiverFactory) -> None:
    """With a slow reader, memory use does not depend on the size of the table."""
    receiver = factory.create(send_entries(100))
    assert await receiver.receive()
    (socket,) = receiver.sockets
    await wait_until(
        lambda: socket.datagrams_received >= prefetching.PREFETCHED_CHUNKS and not socket.in_use
    )
    assert socket.datagrams_received <= prefetching.PREFETCHED_CHUNKS + 1
    assert await read_entries(receiver) == list(range(1, 100))


async def test_a_call_receives_more_chunks_while_calls_are_fast(factory: ReceiverFactory) -> None:
    """Where each chunk takes long, as with a filter that few flows match, it is handed out soon."""
    receiver = factory.create(send_entries(3))
    assert await receiver.receive()
    prefetcher = receiver._chunks
    assert isinstance(prefetcher, prefetching.PrefetchThread)

    def limits(duration: float) -> list[int]:
        found: list[int] = []
        for _ in range(6):
            prefetcher._adapt_limit(duration)
            found.append(prefetcher._limit)
        return found

    most, usual = prefetching.CHUNKS_PER_CALL, prefetching._CALL_TIME
    assert limits(0.0)[-2:] == [most, most]
    assert limits(usual) == [most] * 6
    assert limits(3 * usual)[-2:] == [1, 1]
    assert limits(usual) == [1] * 6
    assert await read_entries(receiver) == [1, 2]


async def test_chunks_before_a_failure_are_returned_first(factory: ReceiverFactory) -> None:
    def script(socket: FakeSocket, request: ReceivedRequest) -> None:
        socket.deliver(pack_entry(request, 0))
        socket.reply(request, messages.ERROR, (-errno.EIO).to_bytes(4, "little", signed=True))

    receiver = factory.create(script)
    assert await receiver.receive()
    with pytest.raises(KernelError):
        await read_entries(receiver)
    assert receiver.closed


@pytest.mark.parametrize("code", [errno.ENOBUFS, errno.EIO])
async def test_a_failed_read_raises_its_error(factory: ReceiverFactory, code: int) -> None:
    receiver = factory.create(lambda socket, request: socket.fail(code))
    with pytest.raises(KernelError) as refused:
        await receiver.receive()
    assert refused.value.errno == code
    assert receiver.closed


async def test_a_datagram_that_is_too_large_raises_an_error_in_sequence(
    factory: ReceiverFactory,
) -> None:
    def script(socket: FakeSocket, request: ReceivedRequest) -> None:
        socket.deliver(pack_entry(request, 0))
        socket.deliver(bytes(70_000))

    receiver = factory.create(script)
    assert await receiver.receive()
    with pytest.raises(DecodeError, match="70000"):
        await receiver.receive()
    assert receiver.closed


async def test_an_unexpected_error_in_the_thread_is_raised(factory: ReceiverFactory) -> None:
    def script(socket: FakeSocket, request: ReceivedRequest) -> None:
        raise ZeroDivisionError

    receiver = factory.create(script)
    with pytest.raises(ZeroDivisionError):
        await receiver.receive()
    assert receiver.closed


async def test_a_dump_without_an_end_times_out(factory: ReceiverFactory) -> None:
    receiver = factory.create(send_entries(3, end=False))
    with pytest.raises(NoReply):
        await read_entries(receiver)
    assert receiver.closed


async def test_later_chunks_are_waited_for(factory: ReceiverFactory) -> None:
    """A real kernel has the next chunk ready at once; this scripted one does not."""
    requests: list[ReceivedRequest] = []
    receiver = factory.create(lambda socket, request: requests.append(request), reply_timeout=10)
    fake = factory.sockets[0]

    async def deliver() -> None:
        for number in range(3):
            await anyio.wait_all_tasks_blocked()
            fake.deliver(pack_entry(requests[0], number))
        await anyio.wait_all_tasks_blocked()
        fake.done(requests[0])

    async with anyio.create_task_group() as group:
        group.start_soon(deliver)
        assert await read_entries(receiver) == [0, 1, 2]


async def test_closing_while_the_thread_is_in_a_system_call_wakes_the_reader(
    factory: ReceiverFactory,
) -> None:
    """The task wakes at once. The socket is closed when the thread no longer uses it."""
    inside, go_on = threading.Event(), threading.Event()

    def script(socket: FakeSocket, request: ReceivedRequest) -> None:
        inside.set()
        go_on.wait(10)

    receiver = factory.create(script)
    async with anyio.create_task_group() as group:

        async def reader() -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await receiver.receive()

        group.start_soon(reader)
        await wait_until(inside.is_set)
        receiver.close()
    assert not factory.sockets[0].closed
    go_on.set()
    await wait_until(lambda: factory.sockets[0].closed)


async def test_a_kernel_that_never_returns_times_out(factory: ReceiverFactory) -> None:
    """The thread stays in its system call. The socket is closed when the call returns."""
    inside, go_on = threading.Event(), threading.Event()

    def script(socket: FakeSocket, request: ReceivedRequest) -> None:
        inside.set()
        go_on.wait(10)

    receiver = factory.create(script)
    with anyio.fail_after(5), pytest.raises(NoReply):
        await receiver.receive()
    assert inside.is_set()
    assert receiver.closed
    go_on.set()
    await wait_until(lambda: factory.sockets[0].closed)


async def test_a_slow_reader_causes_no_timeout(factory: ReceiverFactory) -> None:
    """The timeout applies to the kernel, not to the reader."""
    receiver = factory.create(send_entries(60))
    assert await receiver.receive()
    await anyio.sleep(3 * REPLY_TIMEOUT)
    assert await read_entries(receiver) == list(range(1, 60))


async def test_a_second_reader_is_refused(factory: ReceiverFactory) -> None:
    receiver = factory.create(lambda socket, request: None, reply_timeout=10)
    async with anyio.create_task_group() as group:

        async def reader() -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await receiver.receive()

        group.start_soon(reader)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            await receiver.receive()
        receiver.close()


async def test_a_cancelled_reader_can_continue(factory: ReceiverFactory) -> None:
    """No chunk is lost, no matter when the reader is cancelled."""
    receiver = factory.create(send_entries(60))
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
                    if receiver.exchange.accepts(chunk, message):
                        numbers.append(int.from_bytes(chunk[message.start : message.end], "big"))
        turns += 1
    assert numbers == list(range(60))
