"""The shared request socket, when a thread sends for a task that was cancelled."""

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
async def test_a_thread_that_is_about_to_send_passes_on_the_responses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The cancelled caller does not report them as unanswered."""
    socket, _ = standalone_socket(lambda fake, request: fake.ack(request))
    begun, go_on = threading.Event(), threading.Event()
    use = socket.use

    def slowly(work: Callable[[], object]) -> None:
        begun.set()
        go_on.wait()
        use(work)

    monkeypatch.setattr(socket, "use", slowly)
    requester = Requester(socket, offload=True, reply_timeout=1.0)
    received: list[Response] = []
    task = asyncio.create_task(requester.run([GET], on_responses=received.extend))
    try:
        await anyio.to_thread.run_sync(begun.wait)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not received
    finally:
        go_on.set()
    await wait_until(lambda: bool(received))
    assert [response.error for response in received] == [None]
    socket.close()


class Slow:
    """A kernel that returns from its first system call only after ``go_on`` is set."""

    def __init__(self) -> None:
        self.inside, self.go_on = threading.Event(), threading.Event()

    def __call__(self, fake: FakeSocket, request: ReceivedRequest) -> None:
        if not self.inside.is_set():
            self.inside.set()
            assert self.go_on.wait(10)
        fake.ack(request)


@pytest.mark.asyncio
async def test_a_request_does_not_hold_up_the_loop_for_the_thread_of_another_one() -> None:
    """The other request is that of a cancelled task whose thread is still in the kernel."""
    slow = Slow()
    socket, _ = standalone_socket(slow)
    requester = Requester(socket, offload=False, reply_timeout=10.0)
    with table_walks.count():  # a walk of another connection offloads this request
        first = asyncio.create_task(requester.run([GET]))
        await anyio.to_thread.run_sync(slow.inside.wait)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert socket.in_use
    second = asyncio.create_task(requester.run([GET]))
    for _ in range(20):
        await asyncio.sleep(0)  # the loop goes on
    assert not second.done()
    slow.go_on.set()
    (response,) = await second
    assert response.error is None
    assert requester.offloaded == 2
    socket.close()


@pytest.mark.anyio
@pytest.mark.parametrize("walk", [False, True])
async def test_a_kernel_that_never_returns_times_out(
    walk: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The requests behind it time out too, and no response is lost when the kernel returns."""
    monkeypatch.setattr(requester_module, "SCHEDULING", 0.1)
    monkeypatch.setattr(requester_module, "WALK_TIMEOUT", 0.1)
    slow = Slow()
    socket, fake = standalone_socket(slow)
    requester = Requester(socket, offload=True, reply_timeout=0.1)
    received: list[Response] = []
    with anyio.fail_after(5):
        (response,) = await requester.run([GET], walk=walk, on_responses=received.extend)
        assert isinstance(response.error, NoReply)
        assert slow.inside.is_set()
        assert not received
        (response,) = await requester.run([GET])
        assert isinstance(response.error, NoReply)
        slow.go_on.set()
        await requester.wait_until_idle()
        assert [response.error for response in received] == [None]
        (response,) = await requester.run([GET])
        assert response.error is None
    assert len(fake.requests) == 2  # the request that timed out in the queue was never sent
    socket.close()


@pytest.mark.anyio
@pytest.mark.parametrize("turns", range(6))
async def test_calls_that_are_cancelled_leave_no_threads_that_wait(turns: int) -> None:
    """Such threads would run one after the other before the next call could."""
    slow = Slow()
    socket, fake = standalone_socket(slow)
    requester = Requester(socket, offload=True, reply_timeout=10.0)
    before = threading.active_count()
    for _ in range(200):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(requester.run, [GET])
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
    assert threading.active_count() <= before + 1
    slow.go_on.set()
    with anyio.fail_after(10):
        (response,) = await requester.run([GET])
    assert response.error is None
    assert len(fake.requests) <= 2
    requester.close()
