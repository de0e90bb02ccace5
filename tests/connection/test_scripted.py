"""Test replies and failures that a real kernel does not produce on demand."""

from __future__ import annotations

import errno
import threading

import anyio
import anyio.to_thread
import pytest
from support import flows
from support.scripted_kernel import FORGED_SENDER, ScriptedKernel, error_message

from conntrack_aio import (
    Connection,
    DecodeError,
    DumpInterrupted,
    EventsLost,
    EventStream,
    FlowEvent,
    KernelError,
    NoReply,
    NotFound,
    NotSupported,
    PermissionDenied,
)
from conntrack_aio.codec.messages import CT_NEW
from conntrack_aio.netlink import messages
from conntrack_aio.testing import FakeKernel, FakeSocket, ReceivedRequest

pytestmark = pytest.mark.anyio

GARBAGE = b"\xff\xff\xff\xff" * 6
FLOW = flows.message_payload(flows.tcp())


def send_no_reply(socket: FakeSocket, request: ReceivedRequest) -> None:
    """Send no reply, whatever is requested."""


async def test_the_error_names_the_option_of_a_kernel_without_ctnetlink() -> None:
    kernel = FakeKernel(without=["ctnetlink"])
    with pytest.raises(NotSupported, match="CONFIG_NF_CT_NETLINK"):
        await kernel.connect()
    assert kernel.sockets[0].closed


async def test_the_error_names_the_missing_capability() -> None:
    kernel = FakeKernel(without=["CAP_NET_ADMIN"])
    with pytest.raises(PermissionDenied, match="CAP_NET_ADMIN"):
        await kernel.connect()
    assert kernel.sockets[0].closed


@pytest.mark.parametrize("offload", [False, True])
async def test_a_request_without_a_reply_raises_no_reply(offload: bool) -> None:
    kernel = ScriptedKernel(send_no_reply)
    async with kernel.connect(offload=offload) as conn:
        with pytest.raises(NoReply, match="delete tcp"):
            await conn.delete(flows.tcp())
        assert await conn.count() == 3


async def test_a_reply_within_the_timeout_is_awaited() -> None:
    kernel = ScriptedKernel(send_no_reply)
    async with kernel.connect(reply_timeout=5) as conn, anyio.create_task_group() as tasks:
        tasks.start_soon(conn.delete, flows.tcp())
        await anyio.wait_all_tasks_blocked()
        socket = kernel.sockets[0]
        socket.ack(socket.requests[-1])


async def test_a_reply_after_the_timeout_is_dropped_and_counted() -> None:
    kernel = ScriptedKernel(send_no_reply)
    async with kernel.connect() as conn:
        with pytest.raises(NoReply):
            await conn.delete(flows.tcp())
        socket = kernel.sockets[0]
        socket.ack(socket.requests[-1], errno.ENOENT)
        assert await conn.count() == 3
        assert conn.client_statistics().stray_replies == 1


async def test_a_lost_reply_is_not_taken_for_success() -> None:
    def overrun(socket: FakeSocket, request: ReceivedRequest) -> None:
        socket.fail(errno.ENOBUFS)

    async with ScriptedKernel(overrun).connect() as conn:
        with pytest.raises(NoReply, match="may have been carried out"):
            await conn.delete(flows.tcp())
        assert conn.client_statistics().overruns == 1
        assert await conn.count() == 3


async def test_missing_privileges_end_the_processing_of_a_datagram() -> None:
    """The kernel refuses the first of two requests with EPERM, and does not reply to the second."""
    received: list[ReceivedRequest] = []

    def refuse_once(socket: FakeSocket, request: ReceivedRequest) -> None:
        if not received:
            socket.ack(request, errno.EPERM)
        received.append(request)

    async with ScriptedKernel(refuse_once).connect() as conn:
        with pytest.raises(PermissionDenied):
            await conn.create(flows.tcp())


async def test_a_reply_marked_multipart_is_complete_by_itself() -> None:
    def answer(socket: FakeSocket, request: ReceivedRequest) -> None:
        socket.reply(request, CT_NEW, FLOW, flags=2)
        socket.ack(request)

    async with ScriptedKernel(answer).connect() as conn:
        assert await conn.get(flows.tcp()) == flows.tcp()


async def test_an_acknowledgement_without_an_entry_raises_no_reply() -> None:
    async with ScriptedKernel().connect() as conn:
        with pytest.raises(NoReply, match="no entry"):
            await conn.get(flows.tcp())


async def test_a_malformed_reply_raises_decode_error() -> None:
    def garbage(socket: FakeSocket, request: ReceivedRequest) -> None:
        socket.deliver(GARBAGE)
        socket.ack(request)

    async with ScriptedKernel(garbage).connect() as conn:
        with pytest.raises(DecodeError):
            await conn.delete(flows.tcp())
        assert await conn.count() == 3


async def test_a_failed_send_raises_kernel_error() -> None:
    kernel = ScriptedKernel()
    async with kernel.connect() as conn:

        def refuse(data: bytes, address: tuple[int, int]) -> int:
            raise OSError(errno.ECONNREFUSED, "refused")

        kernel.sockets[0].sendto = refuse  # type: ignore[method-assign]
        with pytest.raises(KernelError, match="ECONNREFUSED"):
            await conn.delete(flows.tcp())


# -- dumps ----------------------------------------------------------------------------------


async def read_all(conn: Connection) -> int:
    return len([flow async for flow in conn.dump()])


async def test_a_dump_that_does_not_continue_raises_no_reply() -> None:
    def half(socket: FakeSocket, request: ReceivedRequest) -> None:
        socket.reply(request, CT_NEW, FLOW)

    async with ScriptedKernel(half).connect() as conn:
        with pytest.raises(NoReply, match="did not continue the dump"):
            await read_all(conn)
        assert conn.client_statistics().open_dumps == 0


async def test_a_dump_waits_for_late_datagrams() -> None:
    started = threading.Event()
    kernel = ScriptedKernel(lambda socket, request: started.set())

    async def answer() -> None:
        await anyio.to_thread.run_sync(started.wait)
        socket = kernel.sockets[1]
        socket.reply(socket.requests[0], CT_NEW, FLOW)
        await read.wait()
        socket.done(socket.requests[0])

    read = anyio.Event()
    async with kernel.connect(reply_timeout=5) as conn, anyio.create_task_group() as tasks:
        tasks.start_soon(answer)
        dump = conn.dump()
        assert await anext(dump) == flows.tcp()
        read.set()
        assert [flow async for flow in dump] == []


async def test_an_interrupted_dump_raises_dump_interrupted() -> None:
    def interrupted(socket: FakeSocket, request: ReceivedRequest) -> None:
        socket.reply(request, CT_NEW, FLOW, flags=2 | 0x10)
        socket.done(request)

    async with ScriptedKernel(interrupted).connect() as conn:
        dump = conn.dump()
        assert await anext(dump) == flows.tcp()
        with pytest.raises(DumpInterrupted):
            await anext(dump)


@pytest.mark.parametrize(
    ("code", "error"), [(errno.EPERM, PermissionDenied), (errno.ENOENT, NotFound)]
)
async def test_a_refused_dump_raises_the_error_of_its_code(
    code: int, error: type[KernelError]
) -> None:
    async with ScriptedKernel(lambda socket, request: socket.ack(request, code)).connect() as conn:
        with pytest.raises(error, match="dump the table"):
            await conn.list()


async def test_a_dump_that_ends_with_an_acknowledgement_is_empty() -> None:
    async with ScriptedKernel().connect() as conn:
        assert await conn.list() == []


async def test_a_malformed_entry_raises_at_its_position_in_the_dump() -> None:
    def broken(socket: FakeSocket, request: ReceivedRequest) -> None:
        good = messages.pack(CT_NEW, 2, request.seq, FLOW)
        bad = messages.pack(CT_NEW, 2, request.seq, FLOW[:-2])
        socket.deliver(good + bad + good)
        socket.done(request)

    async with ScriptedKernel(broken).connect() as conn:
        dump = conn.dump()
        assert await anext(dump) == flows.tcp()
        with pytest.raises(DecodeError):
            await anext(dump)
        assert [flow async for flow in dump] == [flows.tcp()]
        batches = conn.dump().batches()
        assert await anext(batches) == [flows.tcp()]
        with pytest.raises(DecodeError):
            await anext(batches)
        assert [batch async for batch in batches] == [[flows.tcp()]]


async def test_a_malformed_datagram_ends_a_dump() -> None:
    def garbage(socket: FakeSocket, request: ReceivedRequest) -> None:
        socket.deliver(messages.pack(CT_NEW, 2, request.seq, FLOW) + GARBAGE)

    async with ScriptedKernel(garbage).connect() as conn:
        dump = conn.dump()
        assert await anext(dump) == flows.tcp()
        with pytest.raises(KernelError, match="EBADMSG"):
            await anext(dump)


async def test_a_truncated_datagram_raises_decode_error() -> None:
    def huge(socket: FakeSocket, request: ReceivedRequest) -> None:
        socket.deliver(bytes(70_000))

    async with ScriptedKernel(huge).connect() as conn:
        with pytest.raises(DecodeError, match="70000 bytes"):
            await conn.list()
        with pytest.raises(DecodeError, match="70000 bytes"):
            await conn.delete(flows.tcp())


# -- off the loop -----------------------------------------------------------------------------


async def test_table_walks_and_concurrent_requests_run_on_threads() -> None:
    """While a dump holds the kernel's mutex, a request would block the event loop in sendmsg."""
    walking, proceed = threading.Event(), threading.Event()
    threads: dict[int, int] = {}

    def script(socket: FakeSocket, request: ReceivedRequest) -> None:
        threads[request.type] = threading.get_ident()
        if request.flags & 0x300 == 0x300:
            walking.set()
            assert proceed.wait(5)
            socket.done(request)
        else:
            proceed.set()
            socket.ack(request)

    async with ScriptedKernel(script).connect() as conn, anyio.create_task_group() as tasks:
        tasks.start_soon(conn.list)
        await anyio.to_thread.run_sync(walking.wait)
        await conn.delete(flows.tcp())
    loop = threading.get_ident()
    assert loop not in threads.values()
    assert conn.client_statistics().requests_offloaded == 1


async def test_a_flush_runs_on_a_thread() -> None:
    threads: list[int] = []

    def script(socket: FakeSocket, request: ReceivedRequest) -> None:
        threads.append(threading.get_ident())
        socket.ack(request)

    async with ScriptedKernel(script).connect() as conn:
        await conn.flush()
        await conn.delete(flows.tcp())
    flushed, deleted = threads
    assert deleted == threading.get_ident() != flushed


# -- events -----------------------------------------------------------------------------------


async def open_stream(
    conn: Connection, kernel: ScriptedKernel
) -> tuple[EventStream[FlowEvent], FakeSocket]:
    return conn.events(), kernel.sockets[-1]


def event_message(number: int) -> bytes:
    return flows.new_event(flows.tcp(number))


async def read_numbers(stream: EventStream[FlowEvent], count: int) -> list[int | EventsLost]:
    """Read ``count`` items, and return the flow number of each event, and each loss."""
    seen: list[int | EventsLost] = []
    with anyio.fail_after(5):
        while len(seen) < count:
            try:
                event: FlowEvent = await anext(stream)
                seen.append(int(str(event.flow.orig.src).rsplit(".", 1)[1]))
            except EventsLost as loss:
                seen.append(loss)
    return seen


async def test_messages_of_other_programs_are_dropped_and_counted() -> None:
    kernel = ScriptedKernel()
    async with kernel.connect() as conn:
        stream, socket = await open_stream(conn, kernel)
        socket.deliver(event_message(1), sender=FORGED_SENDER)
        socket.deliver(event_message(2))
        assert await read_numbers(stream, 1) == [2]
        assert conn.client_statistics().forged == 1


async def test_a_loss_is_reported_after_the_events_queued_before_it() -> None:
    kernel = ScriptedKernel()
    async with kernel.connect() as conn:
        stream, socket = await open_stream(conn, kernel)
        # The kernel reports the overrun first, then delivers the older messages. The gap is next.
        socket.fail(errno.ENOBUFS)
        socket.deliver(event_message(1))
        socket.deliver(event_message(2))
        socket.drops = 7
        one, two, loss = await read_numbers(stream, 3)
        socket.deliver(event_message(3))
        (three,) = await read_numbers(stream, 1)
        assert (one, two, three) == (1, 2, 3)
        assert isinstance(loss, EventsLost)
        assert loss.lost == 7


async def test_each_gap_is_reported_once() -> None:
    kernel = ScriptedKernel()
    async with kernel.connect() as conn:
        stream, socket = await open_stream(conn, kernel)
        for drops in (2, 5):
            socket.fail(errno.ENOBUFS)
            socket.deliver(event_message(1))
            socket.drops = drops
            one, loss = await read_numbers(stream, 2)
            assert one == 1
            assert isinstance(loss, EventsLost)
            assert loss.lost == (2 if drops == 2 else 3)
        assert conn.client_statistics().events_lost == 5


async def test_a_loss_is_reported_even_if_the_socket_is_never_empty() -> None:
    """The loss is reported after as many events as the receive buffer can have held."""
    kernel = ScriptedKernel()
    async with kernel.connect() as conn:
        stream, socket = await open_stream(conn, kernel)
        socket.fail(errno.ENOBUFS)
        for _ in range(1000):
            socket.deliver(event_message(1))
        capacity = stream.receive_buffer // 512
        items = await read_numbers(stream, capacity + 1)
        assert items[:capacity] == [1] * capacity
        assert isinstance(items[capacity], EventsLost)


async def test_a_stream_continues_after_a_malformed_message() -> None:
    kernel = ScriptedKernel()
    async with kernel.connect() as conn:
        stream, socket = await open_stream(conn, kernel)
        malformed = (event_message(1)[:-2], GARBAGE, error_message(0), b"\1", bytes(70_000))
        for data in malformed:
            socket.deliver(data)
            socket.deliver(event_message(2))
            with pytest.raises(DecodeError):
                await anext(stream)
            assert await read_numbers(stream, 1) == [2]
        assert conn.client_statistics().decode_errors == 5


async def test_a_stream_of_all_namespaces_reports_ids_and_errors() -> None:
    kernel = ScriptedKernel()
    async with kernel.connect() as conn:
        stream = conn.events(all_netns=True)
        socket, notices, requester = kernel.sockets[-3:]
        socket.deliver(event_message(1), nsid=5)
        socket.deliver(event_message(2))
        socket.deliver(event_message(3), sender=FORGED_SENDER, nsid=5)
        socket.deliver(GARBAGE, nsid=5)
        socket.deliver(event_message(4), nsid=6)
        with anyio.fail_after(5):
            assert [(await anext(stream)).nsid for _ in range(2)] == [5, None]
            with pytest.raises(DecodeError):
                await anext(stream)
            assert (await anext(stream)).nsid == 6
        await stream.aclose()
        assert all(opened.closed for opened in (socket, notices, requester))
