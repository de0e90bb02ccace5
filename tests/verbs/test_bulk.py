"""The life of a bulk: its windows, its socket, cancellation, and answers that don't come."""

from __future__ import annotations

import errno
import gc
import threading
from collections.abc import AsyncIterator

import anyio
import anyio.to_thread
import pytest
from support import flows
from support.effort import GUEST_STRIDE
from support.lab import Lab
from support.open_files import OpenFiles
from support.scripted_kernel import ScriptedKernel

from conntrack_aio import (
    BulkOperation,
    Connection,
    EncodeError,
    Flow,
    Match,
    NoReply,
    PermissionDenied,
    ResourceBusy,
    ResourceExhausted,
    Status,
    connect,
    session,
)
from conntrack_aio.testing import FakeKernel, FakeSocket, ReceivedRequest
from conntrack_aio.verbs.probes import Probes

pytestmark = [pytest.mark.kernels, pytest.mark.anyio]


# -- on this machine's kernel ---------------------------------------------------------------


@pytest.mark.kernel
@pytest.mark.parametrize("size", [4096, 20_000, 1 << 20])
@pytest.mark.long
async def test_no_answer_is_lost_whatever_the_buffer(
    conn: Connection, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(session, "RECEIVE_BUFFER", size)
    new = [flows.tcp(number) for number in range(1500)]
    assert all(outcome.ok for outcome in await conn.create_many(new))
    # Refusals, and replies beside the acknowledgements.
    assert not any(outcome.ok for outcome in await conn.create_many(new))
    live = await conn.list()
    assert all(outcome.ok for outcome in await conn.update_many(live, status=Status.ASSURED))
    assert all(outcome.ok for outcome in await conn.delete_many(live))
    assert conn.client_statistics().overruns == conn.client_statistics().stray_replies == 0


@pytest.mark.kernel
async def test_it_is_counted(conn: Connection) -> None:
    before = conn.client_statistics()
    bulk = conn.create_many(map(flows.tcp, range(300)))
    await anext(bulk)
    during = conn.client_statistics()
    assert during.open_bulks == 1
    assert during.requests > before.requests
    await bulk.aclose()
    after = conn.client_statistics()
    assert after.open_bulks == 0
    assert after.requests == before.requests + 300
    assert after.datagrams_received >= before.datagrams_received + 256


@pytest.mark.kernel
async def test_nothing_happens_before_it_is_iterated(conn: Connection) -> None:
    files = OpenFiles()
    bulk = conn.create_many([flows.tcp()])
    assert not files.new()
    assert await conn.count() == 0
    await bulk
    assert await conn.count() == 1
    with pytest.raises(anyio.ClosedResourceError):
        await bulk


@pytest.mark.kernel
async def test_left_early_it_sends_no_more(conn: Connection) -> None:
    files = OpenFiles()
    async with conn.create_many(map(flows.tcp, range(5000))) as bulk:
        async for _ in bulk:
            break
    async with conn.create_many(map(flows.tcp, range(5000, 10000))) as bulk:
        async for _ in bulk.batches():
            break
    await files.closed()
    assert await conn.count() <= 2 * 2 * 256


@pytest.mark.kernel
async def test_dropped_it_is_closed(conn: Connection) -> None:
    files = OpenFiles()
    bulk = conn.create_many(map(flows.tcp, range(5000)))
    await anext(bulk)
    del bulk
    gc.collect()
    assert conn.client_statistics().open_bulks == 0
    await files.closed()


@pytest.mark.kernel
async def test_cancelled_it_can_be_iterated_on(conn: Connection) -> None:
    """At whatever point: no item is missing, and none is twice."""
    new = [flows.tcp(number) for number in range(600)]
    for turns in range(60):
        told: list[Flow] = []
        bulk = conn.update_many(new, status=Status.ASSURED)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, bulk, told)
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        at_once = len(told) == len(new)
        await read(bulk, told)
        assert told == new
        assert conn.client_statistics().open_bulks == 0
        if at_once:
            break


async def read(bulk: BulkOperation[Flow], told: list[Flow]) -> None:
    async for outcome in bulk:
        told.append(outcome.item)


@pytest.mark.kernel
async def test_closing_the_connection_ends_it(lab: Lab) -> None:
    async with connect(netns=lab.netns) as conn:
        bulk = conn.create_many(map(flows.tcp, range(1000)))
        await anext(bulk)
    with pytest.raises(anyio.ClosedResourceError):
        await anext(bulk)
    with pytest.raises(anyio.ClosedResourceError):
        conn.create_many([])


@pytest.mark.kernel
async def test_many_at_a_time(conn: Connection) -> None:
    async def make(part: int) -> None:
        new = [flows.tcp(number) for number in range(part * 500, part * 500 + 500)]
        assert all(outcome.ok for outcome in await conn.create_many(new))

    async with anyio.create_task_group() as tasks:
        for part in range(20):
            tasks.start_soon(make, part)
    assert await conn.count() == 10_000


@pytest.mark.kernel
async def test_the_loop_goes_on(conn: Connection) -> None:
    """Other tasks get their turns between the windows."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(count)
        await conn.create_many(map(flows.tcp, range(256 * 20)))
        tasks.cancel_scope.cancel()
    assert turns >= 20


# -- misuse ---------------------------------------------------------------------------------


async def test_one_task_iterates() -> None:
    begun = anyio.Event()

    async def endless() -> AsyncIterator[Flow]:
        begun.set()
        await anyio.sleep_forever()
        yield flows.tcp()

    async with FakeKernel().connect() as conn, anyio.create_task_group() as tasks:
        bulk = conn.create_many(endless())

        async def wait() -> None:
            await begun.wait()
            with pytest.raises(anyio.BusyResourceError):
                await anext(bulk)
            tasks.cancel_scope.cancel()

        tasks.start_soon(wait)
        await anext(bulk)
    assert begun.is_set()


async def test_closed_by_another_task_while_its_iterable_is_waited_for() -> None:
    waiting, goes_on = anyio.Event(), anyio.Event()

    async def slow() -> AsyncIterator[Flow]:
        waiting.set()
        await goes_on.wait()
        yield flows.tcp()

    kernel = FakeKernel()
    async with kernel.connect() as conn, anyio.create_task_group() as tasks:
        bulk = conn.create_many(slow())

        async def read() -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await anext(bulk)

        tasks.start_soon(read)
        await waiting.wait()
        await bulk.aclose()
        goes_on.set()
    assert kernel.flows == []


# -- what the kernel does not do on demand --------------------------------------------------


async def test_answers_that_are_lost() -> None:
    def lose_one(socket: FakeSocket, asked: ReceivedRequest) -> None:
        if asked.seq == 3 and asked.verb == "delete":
            socket.overrun()
        else:
            socket.ack(asked)

    async with ScriptedKernel(lose_one).connect(reply_timeout=1000) as conn:
        outcomes = await conn.delete_many(map(flows.tcp, range(5)))
        assert [outcome.ok for outcome in outcomes] == [True, True, False, True, True]
        with pytest.raises(NoReply, match=r"delete tcp 10\.1\.0\.2.*may have been carried out"):
            outcomes[2].result()
        assert conn.client_statistics().overruns == 1


async def test_without_privileges_every_item_says_so() -> None:
    def refuse(socket: FakeSocket, asked: ReceivedRequest) -> None:
        if asked.seq == 1:
            socket.ack(asked, errno.EPERM)

    async with ScriptedKernel(refuse).connect() as conn:
        outcomes = await conn.create_many(map(flows.tcp, range(3)))
        assert [type(outcome.error) for outcome in outcomes] == [PermissionDenied] * 3


async def test_a_send_that_fails() -> None:
    kernel = ScriptedKernel()
    async with kernel.connect() as conn:
        bulk = conn.delete_many(map(flows.tcp, range(1000)))
        assert (await anext(bulk)).ok

        def refuse(data: bytes, address: tuple[int, int]) -> int:
            raise OSError(errno.ENOMEM, "no")

        kernel.sockets[1].sendto = refuse  # type: ignore[method-assign]
        errors = [outcome.error async for outcome in bulk]
        assert len(errors) == 999
        assert isinstance(errors[-1], ResourceExhausted)
        assert "delete tcp 10.1.3.231" in str(errors[-1])


async def test_a_status_that_stays_busy_is_given_up() -> None:
    def busy(socket: FakeSocket, asked: ReceivedRequest) -> None:
        if asked.verb == "get":
            socket.reply(asked, 0x100, flows.message_payload(flows.tcp(1)))
            socket.ack(asked)
        else:
            socket.ack(asked, errno.EBUSY)

    kernel = ScriptedKernel(busy)
    async with kernel.connect() as conn:
        (outcome,) = await conn.update_many([flows.tcp(1)], status=Status.ASSURED)
        assert isinstance(outcome.error, ResourceBusy)
        assert len(kernel.sockets[1].requests) == 10
        with pytest.raises(ResourceBusy):
            await conn.update(flows.tcp(1), status=Status.ASSURED)


@pytest.mark.parametrize("release", ["4.19", "5.4", "6.18"])
async def test_bits_of_the_mark_on_kernels_of_every_age(release: str) -> None:
    kernel = FakeKernel(release, flows=[flows.tcp(n, mark=0x50 + n) for n in range(3)])
    async with kernel.connect() as conn:
        outcomes = await conn.update_many(map(flows.tcp, range(3)), mark=0x90, mark_mask=0xF0)
        assert all(outcome.ok for outcome in outcomes)
    assert sorted(flow.mark or 0 for flow in kernel.flows) == [0x90, 0x91, 0x92]


async def test_delete_matching_tells_of_a_refusal() -> None:
    def refuse(socket: FakeSocket, asked: ReceivedRequest) -> bool:
        if asked.verb == "delete":
            socket.ack(asked, errno.EBUSY)
        return asked.verb == "delete"

    kernel = FakeKernel(flows=[flows.tcp(n, mark=7) for n in range(3)], on_request=refuse)
    async with kernel.connect() as conn:
        with pytest.raises(ResourceBusy, match="delete tcp"):
            await conn.delete_matching(Match(mark=7, orig_dport=range(65536)))
        assert conn.client_statistics().open_bulks == conn.client_statistics().open_dumps == 0


async def test_a_window_that_is_being_sent_when_it_is_left() -> None:
    """The thread ends it, and closes the socket."""
    gate, begun = threading.Event(), threading.Event()

    def wait(socket: FakeSocket, asked: ReceivedRequest) -> None:
        begun.set()
        assert gate.wait(10)
        socket.ack(asked)

    kernel = ScriptedKernel(wait)
    files = OpenFiles()
    async with kernel.connect() as conn:
        bulk = conn.create_many(map(flows.tcp, range(10)))
        with anyio.move_on_after(0.01) as scope:
            await anext(bulk)
        assert scope.cancelled_caught
        await anyio.to_thread.run_sync(begun.wait)
        await bulk.aclose()
        gate.set()
        assert conn.client_statistics().open_bulks == 0
    await files.closed()
    assert kernel.sockets[1].closed


@pytest.mark.parametrize("whole", [False, True], ids=["the bulk", "the connection"])
async def test_closed_at_any_turn_it_never_ends_as_if_it_were_complete(
    lab: Lab, whole: bool
) -> None:
    for turns in range(0, 12, GUEST_STRIDE):
        async with connect(netns=lab.netns) as conn, anyio.create_task_group() as group:
            bulk = conn.create_many(map(flows.tcp, range(5000)))
            told: list[Flow] = []

            async def reader(bulk: BulkOperation[Flow] = bulk, told: list[Flow] = told) -> None:
                with pytest.raises(anyio.ClosedResourceError):
                    await read(bulk, told)

            group.start_soon(reader)
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            if whole:
                await conn.aclose()
            else:
                bulk.close()


async def test_closed_while_it_finds_out_what_the_kernel_can_do(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sent, and nothing left open."""
    files = OpenFiles()
    inside, go_on = anyio.Event(), anyio.Event()

    async def has(probes: Probes, feature: str) -> bool:
        inside.set()
        await go_on.wait()
        return True

    monkeypatch.setattr(Probes, "has", has)
    async with connect(netns=lab.netns) as conn:
        made = await conn.create(flows.tcp(1))
        bulk = conn.update_many([made.orig], mark=7, mark_mask=7)
        async with anyio.create_task_group() as group:

            async def reader() -> None:
                with pytest.raises(anyio.ClosedResourceError):
                    await bulk.receive_batch()

            group.start_soon(reader)
            await inside.wait()
            bulk.close()
            go_on.set()
        assert not (await conn.get(made)).mark
    await files.closed()


async def test_an_item_that_is_not_at_all_what_it_should_be_is_refused_alone(
    conn: Connection,
) -> None:
    """Whatever is raised where it is written."""
    good = [flows.tcp(number) for number in range(600)]
    bad, worse = flows.tcp(1000), flows.tcp(1001)
    bad.master = 5  # type: ignore[assignment]
    worse.orig.proto = []  # type: ignore[assignment]
    vast = flows.tcp(1002)
    vast.mark = "x" * 10  # type: ignore[assignment]
    items = [*good[:100], bad, worse, vast, *good[100:]]
    outcomes = await conn.create_many(items)
    assert [outcome.item for outcome in outcomes] == items
    refused = [outcome for outcome in outcomes if not outcome.ok]
    assert [outcome.item for outcome in refused] == [bad, worse, vast]
    assert all(isinstance(outcome.error, EncodeError) for outcome in refused)
    wide = Status(1 << 20000)
    told = await conn.update_many(good[:20], status=wide)
    assert all(isinstance(outcome.error, EncodeError) for outcome in told)


async def test_where_no_thread_can_be_had_it_says_so(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("conntrack_aio_"):
            raise RuntimeError("can't start new thread")
        start(thread)  # what enters a namespace

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with anyio.fail_after(10):
            outcomes = await conn.create_many(map(flows.tcp, range(600)))
    assert len(outcomes) == 600
    for outcome in outcomes:
        with pytest.raises(ResourceExhausted, match="no thread can be started"):
            outcome.result()
    assert await conn.count() == 0
