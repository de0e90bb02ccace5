"""Test bulk operations: their windows and sockets, cancellation, and missing replies."""

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
)
from conntrack_aio.netlink import pipeline
from conntrack_aio.netlink.pipeline import MAX_WINDOWS_IN_FLIGHT, REQUESTS_PER_WINDOW
from conntrack_aio.operations.probes import Probes
from conntrack_aio.testing import FakeKernel, FakeSocket, ReceivedRequest

pytestmark = [pytest.mark.kernels, pytest.mark.anyio]


# -- on this machine's kernel ---------------------------------------------------------------


@pytest.mark.kernel
@pytest.mark.parametrize("size", [4096, 20_000, 1 << 20])
@pytest.mark.long
async def test_no_reply_is_lost_with_any_receive_buffer(
    conn: Connection, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(pipeline, "RECEIVE_BUFFER", size)
    new = [flows.tcp(number) for number in range(1500)]
    assert all(outcome.ok for outcome in await conn.create_many(new))
    # Refusals, and replies beside the acknowledgements.
    assert not any(outcome.ok for outcome in await conn.create_many(new))
    live = await conn.list()
    assert all(outcome.ok for outcome in await conn.update_many(live, status=Status.ASSURED))
    assert all(outcome.ok for outcome in await conn.delete_many(live))
    assert conn.client_statistics().overruns == conn.client_statistics().stray_replies == 0


@pytest.mark.kernel
async def test_a_bulk_operation_is_in_the_client_statistics(conn: Connection) -> None:
    before = conn.client_statistics()
    bulk = conn.create_many(map(flows.tcp, range(300)))
    await anext(bulk)
    during = conn.client_statistics()
    assert during.open_bulk_operations == 1
    assert during.requests > before.requests
    await bulk.aclose()
    after = conn.client_statistics()
    assert after.open_bulk_operations == 0
    assert after.requests == before.requests + 300
    assert after.datagrams_received >= before.datagrams_received + 256


@pytest.mark.kernel
async def test_a_bulk_operation_does_nothing_before_it_is_started(conn: Connection) -> None:
    files = OpenFiles()
    bulk = conn.create_many([flows.tcp()])
    assert not files.new()
    assert await conn.count() == 0
    await bulk
    assert await conn.count() == 1
    with pytest.raises(anyio.ClosedResourceError):
        await bulk


@pytest.mark.kernel
async def test_a_bulk_operation_left_early_sends_no_more(conn: Connection) -> None:
    files = OpenFiles()
    async with conn.create_many(map(flows.tcp, range(5000))) as bulk:
        async for _ in bulk:
            break
    async with conn.create_many(map(flows.tcp, range(5000, 10000))) as bulk:
        async for _ in bulk.batches():
            break
    await files.closed()
    assert await conn.count() <= 2 * MAX_WINDOWS_IN_FLIGHT * REQUESTS_PER_WINDOW


@pytest.mark.kernel
async def test_a_garbage_collected_bulk_operation_is_closed(conn: Connection) -> None:
    files = OpenFiles()
    bulk = conn.create_many(map(flows.tcp, range(5000)))
    await anext(bulk)
    del bulk
    gc.collect()
    assert conn.client_statistics().open_bulk_operations == 0
    await files.closed()


@pytest.mark.kernel
async def test_iteration_can_continue_after_a_cancellation(conn: Connection) -> None:
    """After a cancellation at any point, each item has exactly one outcome."""
    new = [flows.tcp(number) for number in range(600)]
    for turns in range(60):
        items: list[Flow] = []
        bulk = conn.update_many(new, status=Status.ASSURED)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(collect_items, bulk, items)
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        completed = len(items) == len(new)
        await collect_items(bulk, items)
        assert items == new
        assert conn.client_statistics().open_bulk_operations == 0
        if completed:
            break


async def collect_items(bulk: BulkOperation[Flow], items: list[Flow]) -> None:
    async for outcome in bulk:
        items.append(outcome.item)


@pytest.mark.kernel
async def test_closing_the_connection_closes_a_bulk_operation(lab: Lab) -> None:
    async with connect(netns=lab.netns) as conn:
        bulk = conn.create_many(map(flows.tcp, range(1000)))
        await anext(bulk)
    with pytest.raises(anyio.ClosedResourceError):
        await anext(bulk)
    with pytest.raises(anyio.ClosedResourceError):
        conn.create_many([])


@pytest.mark.kernel
async def test_many_bulk_operations_run_concurrently(conn: Connection) -> None:
    async def create_part(part: int) -> None:
        new = [flows.tcp(number) for number in range(part * 500, part * 500 + 500)]
        assert all(outcome.ok for outcome in await conn.create_many(new))

    async with anyio.create_task_group() as tasks:
        for part in range(20):
            tasks.start_soon(create_part, part)
    assert await conn.count() == 10_000


@pytest.mark.kernel
async def test_other_tasks_run_between_windows(conn: Connection) -> None:
    """The operation yields to the event loop at least once per window."""
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


async def test_a_second_concurrent_reader_gets_busy_resource_error() -> None:
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


async def test_a_bulk_operation_can_be_closed_while_it_awaits_its_iterable() -> None:
    waiting, proceed = anyio.Event(), anyio.Event()

    async def slow() -> AsyncIterator[Flow]:
        waiting.set()
        await proceed.wait()
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
        proceed.set()
    assert kernel.flows == []


# -- what the kernel does not do on demand --------------------------------------------------


async def test_a_lost_reply_fails_only_its_item() -> None:
    def lose_one(socket: FakeSocket, request: ReceivedRequest) -> None:
        if request.seq == 3 and request.verb == "delete":
            socket.overrun()
        else:
            socket.ack(request)

    async with ScriptedKernel(lose_one).connect(reply_timeout=1000) as conn:
        outcomes = await conn.delete_many(map(flows.tcp, range(5)))
        assert [outcome.ok for outcome in outcomes] == [True, True, False, True, True]
        with pytest.raises(NoReply, match=r"delete tcp 10\.1\.0\.2.*may have been carried out"):
            outcomes[2].result()
        assert conn.client_statistics().overruns == 1


async def test_without_privileges_every_item_is_refused() -> None:
    def refuse(socket: FakeSocket, request: ReceivedRequest) -> None:
        if request.seq == 1:
            socket.ack(request, errno.EPERM)

    async with ScriptedKernel(refuse).connect() as conn:
        outcomes = await conn.create_many(map(flows.tcp, range(3)))
        assert [type(outcome.error) for outcome in outcomes] == [PermissionDenied] * 3


async def test_items_of_a_failed_send_have_its_error() -> None:
    kernel = ScriptedKernel()
    async with kernel.connect() as conn:
        bulk = conn.delete_many(map(flows.tcp, range(3000)))
        assert (await anext(bulk)).ok

        def refuse(data: bytes, address: tuple[int, int]) -> int:
            raise OSError(errno.ENOMEM, "no")

        kernel.sockets[1].sendto = refuse  # type: ignore[method-assign]
        errors = [outcome.error async for outcome in bulk]
        assert len(errors) == 2999
        assert isinstance(errors[-1], ResourceExhausted)
        assert "delete tcp 10.1.11.183" in str(errors[-1])


async def test_an_update_of_the_status_is_retried_only_a_few_times() -> None:
    def busy(socket: FakeSocket, request: ReceivedRequest) -> None:
        if request.verb == "get":
            socket.reply(request, 0x100, flows.message_payload(flows.tcp(1)))
            socket.ack(request)
        else:
            socket.ack(request, errno.EBUSY)

    kernel = ScriptedKernel(busy)
    async with kernel.connect() as conn:
        (outcome,) = await conn.update_many([flows.tcp(1)], status=Status.ASSURED)
        assert isinstance(outcome.error, ResourceBusy)
        assert len(kernel.sockets[1].requests) == 10
        with pytest.raises(ResourceBusy):
            await conn.update(flows.tcp(1), status=Status.ASSURED)


@pytest.mark.parametrize("release", ["4.19", "5.4", "6.18"])
async def test_masked_marks_can_be_updated_on_all_releases(release: str) -> None:
    kernel = FakeKernel(release, flows=[flows.tcp(n, mark=0x50 + n) for n in range(3)])
    async with kernel.connect() as conn:
        outcomes = await conn.update_many(map(flows.tcp, range(3)), mark=0x90, mark_mask=0xF0)
        assert all(outcome.ok for outcome in outcomes)
    assert sorted(flow.mark or 0 for flow in kernel.flows) == [0x90, 0x91, 0x92]


async def test_delete_matching_raises_a_refusal() -> None:
    def refuse(socket: FakeSocket, request: ReceivedRequest) -> bool:
        if request.verb == "delete":
            socket.ack(request, errno.EBUSY)
        return request.verb == "delete"

    kernel = FakeKernel(flows=[flows.tcp(n, mark=7) for n in range(3)], on_request=refuse)
    async with kernel.connect() as conn:
        with pytest.raises(ResourceBusy, match="delete tcp"):
            await conn.delete_matching(Match(mark=7, orig_dport=range(65536)))
        assert (
            conn.client_statistics().open_bulk_operations
            == conn.client_statistics().open_dumps
            == 0
        )


async def test_a_bulk_operation_can_be_closed_while_a_thread_sends() -> None:
    """The thread finishes the window and closes the socket."""
    proceed, started = threading.Event(), threading.Event()

    def wait(socket: FakeSocket, request: ReceivedRequest) -> None:
        started.set()
        assert proceed.wait(10)
        socket.ack(request)

    kernel = ScriptedKernel(wait)
    files = OpenFiles()
    async with kernel.connect() as conn:
        bulk = conn.create_many(map(flows.tcp, range(10)))
        with anyio.move_on_after(0.01) as scope:
            await anext(bulk)
        assert scope.cancelled_caught
        await anyio.to_thread.run_sync(started.wait)
        await bulk.aclose()
        proceed.set()
        assert conn.client_statistics().open_bulk_operations == 0
    await files.closed()
    assert kernel.sockets[1].closed


@pytest.mark.parametrize(
    "close_connection", [False, True], ids=["close the operation", "close the connection"]
)
async def test_a_bulk_operation_closed_at_any_point_does_not_look_complete(
    lab: Lab, close_connection: bool
) -> None:
    for turns in range(0, 12, GUEST_STRIDE):
        async with connect(netns=lab.netns) as conn, anyio.create_task_group() as group:
            bulk = conn.create_many(map(flows.tcp, range(5000)))
            items: list[Flow] = []

            async def reader(bulk: BulkOperation[Flow] = bulk, items: list[Flow] = items) -> None:
                with pytest.raises(anyio.ClosedResourceError):
                    await collect_items(bulk, items)

            group.start_soon(reader)
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            if close_connection:
                await conn.aclose()
            else:
                bulk.close()


async def test_a_bulk_operation_closed_during_a_probe_sends_nothing(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sent, and nothing stays open."""
    files = OpenFiles()
    started, proceed = anyio.Event(), anyio.Event()

    async def has(probes: Probes, feature: str) -> bool:
        started.set()
        await proceed.wait()
        return True

    monkeypatch.setattr(Probes, "has", has)
    async with connect(netns=lab.netns) as conn:
        created = await conn.create(flows.tcp(1))
        bulk = conn.update_many([created.orig], mark=7, mark_mask=7)
        async with anyio.create_task_group() as group:

            async def reader() -> None:
                with pytest.raises(anyio.ClosedResourceError):
                    await bulk.receive_batch()

            group.start_soon(reader)
            await started.wait()
            bulk.close()
            proceed.set()
        assert not (await conn.get(created)).mark
    await files.closed()


async def test_an_invalid_item_is_refused_alone(
    conn: Connection,
) -> None:
    """Errors that encoding an item raises become an :exc:`EncodeError` of the item."""
    good = [flows.tcp(number) for number in range(600)]
    bad_master, bad_protocol = flows.tcp(1000), flows.tcp(1001)
    bad_master.master = 5  # type: ignore[assignment]
    bad_protocol.orig.proto = []  # type: ignore[assignment]
    bad_mark = flows.tcp(1002)
    bad_mark.mark = "x" * 10  # type: ignore[assignment]
    items = [*good[:100], bad_master, bad_protocol, bad_mark, *good[100:]]
    outcomes = await conn.create_many(items)
    assert [outcome.item for outcome in outcomes] == items
    refused = [outcome for outcome in outcomes if not outcome.ok]
    assert [outcome.item for outcome in refused] == [bad_master, bad_protocol, bad_mark]
    assert all(isinstance(outcome.error, EncodeError) for outcome in refused)
    too_many_bits = Status(1 << 20000)
    updates = await conn.update_many(good[:20], status=too_many_bits)
    assert all(isinstance(outcome.error, EncodeError) for outcome in updates)


async def test_without_threads_every_item_is_refused(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("conntrack_aio_"):
            raise RuntimeError("can't start new thread")
        start(thread)  # a thread that enters a namespace

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with anyio.fail_after(10):
            outcomes = await conn.create_many(map(flows.tcp, range(600)))
    assert len(outcomes) == 600
    for outcome in outcomes:
        with pytest.raises(ResourceExhausted, match="no thread can be started"):
            outcome.result()
    assert await conn.count() == 0
