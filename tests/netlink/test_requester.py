"""Check the shared request socket while a thread sends for a task that was cancelled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from support.polling import wait_until
from support.scripted_kernel import standalone_socket

from conntrack_aio.errors import NoReply
from conntrack_aio.netlink import requester as requester_module
from conntrack_aio.netlink.exchange import Request, Response
from conntrack_aio.netlink.requester import Requester
from conntrack_aio.netlink.table_walks import table_walks
from conntrack_aio.testing import FakeSocket, ReceivedRequest

GET = Request("get", "it", 0x101, 0, b"\0\0\0\0")


@pytest.mark.asyncio
async def test_a_thread_that_sends_after_a_cancellation_passes_on_the_responses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The cancelled caller does not report them as unanswered."""
    socket, _ = standalone_socket(lambda fake, request: fake.ack(request))
    started, proceed = threading.Event(), threading.Event()
    call_kept_open = socket.call_kept_open

    def call_later(work: Callable[[], object]) -> None:
        started.set()
        proceed.wait()
        call_kept_open(work)

    monkeypatch.setattr(socket, "call_kept_open", call_later)
    requester = Requester(socket, offload=True, reply_timeout=1.0)
    received: list[Response] = []
    task = asyncio.create_task(requester.run([GET], on_responses=received.extend))
    try:
        await anyio.to_thread.run_sync(started.wait)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not received
    finally:
        proceed.set()
    await wait_until(lambda: bool(received))
    assert [response.error for response in received] == [None]
    socket.close()


class BlockingKernel:
    """A script whose first system call returns only after ``proceed`` is set.

    ``inside`` is set when that call begins.
    """

    def __init__(self) -> None:
        self.inside, self.proceed = threading.Event(), threading.Event()

    def __call__(self, fake: FakeSocket, request: ReceivedRequest) -> None:
        if not self.inside.is_set():
            self.inside.set()
            assert self.proceed.wait(10)
        fake.ack(request)


@pytest.mark.asyncio
async def test_a_request_does_not_block_the_event_loop_while_another_thread_sends() -> None:
    """The other request is that of a cancelled task whose thread is still in the kernel."""
    kernel = BlockingKernel()
    socket, _ = standalone_socket(kernel)
    requester = Requester(socket, offload=False, reply_timeout=10.0)
    with table_walks.count():  # while another connection walks the table, requests are offloaded
        first = asyncio.create_task(requester.run([GET]))
        await anyio.to_thread.run_sync(kernel.inside.wait)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert socket.in_use
    second = asyncio.create_task(requester.run([GET]))
    for _ in range(20):
        await asyncio.sleep(0)  # the event loop is not blocked
    assert not second.done()
    kernel.proceed.set()
    (response,) = await second
    assert response.error is None
    assert requester.offloaded == 2
    socket.close()


@pytest.mark.anyio
@pytest.mark.parametrize("walks_table", [False, True])
async def test_a_kernel_that_never_returns_times_out(
    walks_table: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests queued behind it time out too. When the kernel returns, no response is lost."""
    monkeypatch.setattr(requester_module, "THREAD_START_TIMEOUT", 0.1)
    monkeypatch.setattr(requester_module, "TABLE_WALK_TIMEOUT", 0.1)
    kernel = BlockingKernel()
    socket, fake = standalone_socket(kernel)
    requester = Requester(socket, offload=True, reply_timeout=0.1)
    received: list[Response] = []
    with anyio.fail_after(5):
        (response,) = await requester.run(
            [GET], walks_table=walks_table, on_responses=received.extend
        )
        assert isinstance(response.error, NoReply)
        assert kernel.inside.is_set()
        assert not received
        (response,) = await requester.run([GET])
        assert isinstance(response.error, NoReply)
        kernel.proceed.set()
        await requester.wait_until_idle()
        assert [response.error for response in received] == [None]
        (response,) = await requester.run([GET])
        assert response.error is None
    assert len(fake.requests) == 2  # the request that timed out in the queue was never sent
    socket.close()


@pytest.mark.anyio
@pytest.mark.parametrize("turns", range(6))
async def test_cancelled_calls_leave_no_waiting_threads(turns: int) -> None:
    """Otherwise all waiting threads would run, one after another, before the next call."""
    kernel = BlockingKernel()
    socket, fake = standalone_socket(kernel)
    requester = Requester(socket, offload=True, reply_timeout=10.0)
    before = threading.active_count()
    for _ in range(200):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(requester.run, [GET])
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
    assert threading.active_count() <= before + 1
    kernel.proceed.set()
    with anyio.fail_after(10):
        (response,) = await requester.run([GET])
    assert response.error is None
    assert len(fake.requests) <= 2
    requester.close()
