"""What the real kernel does not do on demand, by a scripted one."""

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


def silent(socket: FakeSocket, asked: ReceivedRequest) -> None:
    """A kernel that does not answer."""


async def test_a_kernel_without_ctnetlink() -> None:
    kernel = FakeKernel(without=["ctnetlink"])
    with pytest.raises(NotSupported, match="CONFIG_NF_CT_NETLINK"):
        await kernel.connect()
    assert kernel.sockets[0].closed


async def test_no_permission() -> None:
    kernel = FakeKernel(without=["CAP_NET_ADMIN"])
    with pytest.raises(PermissionDenied, match="CAP_NET_ADMIN"):
        await kernel.connect()
    assert kernel.sockets[0].closed


@pytest.mark.parametrize("offload", [False, True])
async def test_a_request_that_is_never_answered(offload: bool) -> None:
    kernel = ScriptedKernel(silent)
    async with kernel.connect(offload=offload) as conn:
        with pytest.raises(NoReply, match="delete tcp"):
            await conn.delete(flows.tcp())
        assert await conn.count() == 3


async def test_a_late_answer_is_waited_for() -> None:
    kernel = ScriptedKernel(silent)
    async with kernel.connect(reply_timeout=5) as conn, anyio.create_task_group() as tasks:
        tasks.start_soon(conn.delete, flows.tcp())
        await anyio.wait_all_tasks_blocked()
        socket = kernel.sockets[0]
        socket.ack(socket.requests[-1])


async def test_an_answer_after_its_caller_went_away_is_dropped() -> None:
    kernel = ScriptedKernel(silent)
    async with kernel.connect() as conn:
        with pytest.raises(NoReply):
            await conn.delete(flows.tcp())
        socket = kernel.sockets[0]
        socket.ack(socket.requests[-1], errno.ENOENT)
        assert await conn.count() == 3
        assert conn.client_statistics().stray_replies == 1


async def test_a_lost_answer_is_not_taken_for_success() -> None:
    def overrun(socket: FakeSocket, asked: ReceivedRequest) -> None:
        socket.fail(errno.ENOBUFS)

    async with ScriptedKernel(overrun).connect() as conn:
        with pytest.raises(NoReply, match="may have been carried out"):
            await conn.delete(flows.tcp())
        assert conn.client_statistics().overruns == 1
        assert await conn.count() == 3


async def test_a_refusal_ends_its_datagram() -> None:
    """The first of two requests is refused for want of privilege, the second is not answered."""
    seen: list[ReceivedRequest] = []

    def refuse_once(socket: FakeSocket, asked: ReceivedRequest) -> None:
        if not seen:
            socket.ack(asked, errno.EPERM)
        seen.append(asked)

    async with ScriptedKernel(refuse_once).connect() as conn:
        with pytest.raises(PermissionDenied):
            await conn.create(flows.tcp())


async def test_an_answer_that_is_marked_multipart_stands_alone() -> None:
    def answer(socket: FakeSocket, asked: ReceivedRequest) -> None:
        socket.reply(asked, CT_NEW, FLOW, flags=2)
        socket.ack(asked)

    async with ScriptedKernel(answer).connect() as conn:
        assert await conn.get(flows.tcp()) == flows.tcp()


async def test_an_answer_without_an_entry() -> None:
    async with ScriptedKernel().connect() as conn:
        with pytest.raises(NoReply, match="no entry"):
            await conn.get(flows.tcp())


async def test_garbage_for_an_answer() -> None:
    def garbage(socket: FakeSocket, asked: ReceivedRequest) -> None:
        socket.deliver(GARBAGE)
        socket.ack(asked)

    async with ScriptedKernel(garbage).connect() as conn:
        with pytest.raises(DecodeError):
            await conn.delete(flows.tcp())
        assert await conn.count() == 3


async def test_a_send_that_fails() -> None:
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


async def test_a_dump_that_stops_halfway() -> None:
    def half(socket: FakeSocket, asked: ReceivedRequest) -> None:
        socket.reply(asked, CT_NEW, FLOW)

    async with ScriptedKernel(half).connect() as conn:
        with pytest.raises(NoReply, match="did not continue the dump"):
            await read_all(conn)
        assert conn.client_statistics().open_dumps == 0


async def test_a_dump_that_comes_later() -> None:
    started = threading.Event()
    kernel = ScriptedKernel(lambda socket, asked: started.set())

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


async def test_a_dump_that_is_interrupted() -> None:
    def interrupted(socket: FakeSocket, asked: ReceivedRequest) -> None:
        socket.reply(asked, CT_NEW, FLOW, flags=2 | 0x10)
        socket.done(asked)

    async with ScriptedKernel(interrupted).connect() as conn:
        dump = conn.dump()
        assert await anext(dump) == flows.tcp()
        with pytest.raises(DumpInterrupted):
            await anext(dump)


@pytest.mark.parametrize(
    ("code", "error"), [(errno.EPERM, PermissionDenied), (errno.ENOENT, NotFound)]
)
async def test_a_dump_that_is_refused(code: int, error: type[KernelError]) -> None:
    async with ScriptedKernel(lambda socket, asked: socket.ack(asked, code)).connect() as conn:
        with pytest.raises(error, match="dump the table"):
            await conn.list()


async def test_a_dump_that_ends_with_an_acknowledgement_is_empty() -> None:
    async with ScriptedKernel().connect() as conn:
        assert await conn.list() == []


async def test_an_entry_that_is_none_is_told_in_its_place() -> None:
    def broken(socket: FakeSocket, asked: ReceivedRequest) -> None:
        good = messages.pack(CT_NEW, 2, asked.seq, FLOW)
        bad = messages.pack(CT_NEW, 2, asked.seq, FLOW[:-2])
        socket.deliver(good + bad + good)
        socket.done(asked)

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


async def test_a_dump_that_turns_into_garbage_ends() -> None:
    def garbage(socket: FakeSocket, asked: ReceivedRequest) -> None:
        socket.deliver(messages.pack(CT_NEW, 2, asked.seq, FLOW) + GARBAGE)

    async with ScriptedKernel(garbage).connect() as conn:
        dump = conn.dump()
        assert await anext(dump) == flows.tcp()
        with pytest.raises(KernelError, match="EBADMSG"):
            await anext(dump)


async def test_a_datagram_that_does_not_fit_is_not_read_as_a_shorter_one() -> None:
    def huge(socket: FakeSocket, asked: ReceivedRequest) -> None:
        socket.deliver(bytes(70_000))

    async with ScriptedKernel(huge).connect() as conn:
        with pytest.raises(DecodeError, match="70000 bytes"):
            await conn.list()
        with pytest.raises(DecodeError, match="70000 bytes"):
            await conn.delete(flows.tcp())


# -- off the loop -----------------------------------------------------------------------------


async def test_walks_run_off_the_loop_and_requests_beside_them_too() -> None:
    """While a walk holds the kernel's mutex, a request would block the loop in sendmsg."""
    walking, go_on = threading.Event(), threading.Event()
    threads: dict[int, int] = {}

    def script(socket: FakeSocket, asked: ReceivedRequest) -> None:
        threads[asked.type] = threading.get_ident()
        if asked.flags & 0x300 == 0x300:
            walking.set()
            assert go_on.wait(5)
            socket.done(asked)
        else:
            go_on.set()
            socket.ack(asked)

    async with ScriptedKernel(script).connect() as conn, anyio.create_task_group() as tasks:
        tasks.start_soon(conn.list)
        await anyio.to_thread.run_sync(walking.wait)
        await conn.delete(flows.tcp())
    loop = threading.get_ident()
    assert loop not in threads.values()
    assert conn.client_statistics().requests_offloaded == 1


async def test_a_flush_runs_off_the_loop() -> None:
    threads: list[int] = []

    def script(socket: FakeSocket, asked: ReceivedRequest) -> None:
        threads.append(threading.get_ident())
        socket.ack(asked)

    async with ScriptedKernel(script).connect() as conn:
        await conn.flush()
        await conn.delete(flows.tcp())
    flushed, deleted = threads
    assert deleted == threading.get_ident() != flushed


# -- events -----------------------------------------------------------------------------------


async def streaming(
    conn: Connection, kernel: ScriptedKernel
) -> tuple[EventStream[FlowEvent], FakeSocket]:
    return conn.events(), kernel.sockets[-1]


def event(number: int) -> bytes:
    return flows.new_event(flows.tcp(number))


async def numbers(stream: EventStream[FlowEvent], count: int) -> list[int | EventsLost]:
    """The flows' numbers of so many events, with the losses among them."""
    seen: list[int | EventsLost] = []
    with anyio.fail_after(5):
        while len(seen) < count:
            try:
                got: FlowEvent = await anext(stream)
                seen.append(int(str(got.flow.orig.src).rsplit(".", 1)[1]))
            except EventsLost as loss:
                seen.append(loss)
    return seen


async def test_messages_of_other_programs_are_dropped() -> None:
    kernel = ScriptedKernel()
    async with kernel.connect() as conn:
        stream, socket = await streaming(conn, kernel)
        socket.deliver(event(1), sender=FORGED_SENDER)
        socket.deliver(event(2))
        assert await numbers(stream, 1) == [2]
        assert conn.client_statistics().forged == 1


async def test_a_loss_stands_behind_what_waited_in_the_buffer() -> None:
    kernel = ScriptedKernel()
    async with kernel.connect() as conn:
        stream, socket = await streaming(conn, kernel)
        # As the kernel does it: the error first, then the older messages, then the gap.
        socket.fail(errno.ENOBUFS)
        socket.deliver(event(1))
        socket.deliver(event(2))
        socket.drops = 7
        one, two, loss = await numbers(stream, 3)
        socket.deliver(event(3))
        (three,) = await numbers(stream, 1)
        assert (one, two, three) == (1, 2, 3)
        assert isinstance(loss, EventsLost)
        assert loss.lost == 7


async def test_each_gap_is_told_once() -> None:
    kernel = ScriptedKernel()
    async with kernel.connect() as conn:
        stream, socket = await streaming(conn, kernel)
        for drops in (2, 5):
            socket.fail(errno.ENOBUFS)
            socket.deliver(event(1))
            socket.drops = drops
            one, loss = await numbers(stream, 2)
            assert one == 1
            assert isinstance(loss, EventsLost)
            assert loss.lost == (2 if drops == 2 else 3)
        assert conn.client_statistics().events_lost == 5


async def test_a_storm_does_not_postpone_the_news_for_ever() -> None:
    """The socket never runs dry; what its buffer can have held has been read by then."""
    kernel = ScriptedKernel()
    async with kernel.connect() as conn:
        stream, socket = await streaming(conn, kernel)
        socket.fail(errno.ENOBUFS)
        for _ in range(1000):
            socket.deliver(event(1))
        held = stream.receive_buffer // 512
        seen = await numbers(stream, held + 1)
        assert seen[:held] == [1] * held
        assert isinstance(seen[held], EventsLost)


async def test_a_message_that_is_none_is_told_and_the_stream_goes_on() -> None:
    kernel = ScriptedKernel()
    async with kernel.connect() as conn:
        stream, socket = await streaming(conn, kernel)
        for bad in (event(1)[:-2], GARBAGE, error_message(0), b"\1", bytes(70_000)):
            socket.deliver(bad)
            socket.deliver(event(2))
            with pytest.raises(DecodeError):
                await anext(stream)
            assert await numbers(stream, 1) == [2]
        assert conn.client_statistics().decode_errors == 5


async def test_events_of_all_namespaces() -> None:
    kernel = ScriptedKernel()
    async with kernel.connect() as conn:
        stream = conn.events(all_netns=True)
        socket, notices, asker = kernel.sockets[-3:]
        socket.deliver(event(1), nsid=5)
        socket.deliver(event(2))
        socket.deliver(event(3), sender=FORGED_SENDER, nsid=5)
        socket.deliver(GARBAGE, nsid=5)
        socket.deliver(event(4), nsid=6)
        with anyio.fail_after(5):
            assert [(await anext(stream)).nsid for _ in range(2)] == [5, None]
            with pytest.raises(DecodeError):
                await anext(stream)
            assert (await anext(stream)).nsid == 6
        await stream.aclose()
        assert all(each.closed for each in (socket, notices, asker))
