"""The shared request socket, when a thread talks to the kernel for a task that has gone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from support.scripted import lone_socket
from support.waiting import until

from conntrack_aio.errors import NoReply
from conntrack_aio.netlink import requester as module
from conntrack_aio.netlink.exchange import Outcome, Request
from conntrack_aio.netlink.requester import Requester
from conntrack_aio.netlink.walks import walking
from conntrack_aio.testing import FakeSocket, ReceivedRequest

GET = Request("get", "it", 0x101, 0, b"\0\0\0\0")


@pytest.mark.asyncio
async def test_a_thread_that_is_about_to_send_leaves_its_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody says for it that no answer came."""
    socket, _ = lone_socket(lambda fake, asked: fake.ack(asked))
    begun, go_on = threading.Event(), threading.Event()
    use = socket.use

    def slowly(work: Callable[[], object]) -> None:
        begun.set()
        go_on.wait()
        use(work)

    monkeypatch.setattr(socket, "use", slowly)
    requester = Requester(socket, offload=True, reply_timeout=1.0)
    taken: list[Outcome] = []
    task = asyncio.create_task(requester.run([GET], taker=taken.extend))
    try:
        await anyio.to_thread.run_sync(begun.wait)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not taken
    finally:
        go_on.set()
    await until(lambda: bool(taken))
    assert [outcome.error for outcome in taken] == [None]
    socket.close()


class Slow:
    """A kernel that returns from its first system call when it is told to."""

    def __init__(self) -> None:
        self.inside, self.go_on = threading.Event(), threading.Event()

    def __call__(self, fake: FakeSocket, asked: ReceivedRequest) -> None:
        if not self.inside.is_set():
            self.inside.set()
            assert self.go_on.wait(10)
        fake.ack(asked)


@pytest.mark.asyncio
async def test_a_request_does_not_hold_up_the_loop_for_the_thread_of_another_one() -> None:
    """Of a task that was cancelled, whose thread is still in the kernel."""
    slow = Slow()
    socket, _ = lone_socket(slow)
    requester = Requester(socket, offload=False, reply_timeout=10.0)
    with walking():  # of another connection, for which this one is offloaded
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
    (outcome,) = await second
    assert outcome.error is None
    assert requester.offloaded == 2
    socket.close()


@pytest.mark.anyio
@pytest.mark.parametrize("walk", [False, True])
async def test_a_kernel_that_never_returns_is_given_up(
    walk: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So are the requests behind it; nothing hangs, and nothing is lost when it returns at last."""
    monkeypatch.setattr(module, "SCHEDULING", 0.1)
    monkeypatch.setattr(module, "LONGEST_WALK", 0.1)
    slow = Slow()
    socket, fake = lone_socket(slow)
    requester = Requester(socket, offload=True, reply_timeout=0.1)
    taken: list[Outcome] = []
    with anyio.fail_after(5):
        (outcome,) = await requester.run([GET], walk=walk, taker=taken.extend)
        assert isinstance(outcome.error, NoReply)
        assert slow.inside.is_set()
        assert not taken
        (outcome,) = await requester.run([GET])
        assert isinstance(outcome.error, NoReply)
        slow.go_on.set()
        await requester.settle()
        assert [outcome.error for outcome in taken] == [None]
        (outcome,) = await requester.run([GET])
        assert outcome.error is None
    assert len(fake.requests) == 2  # the one that nobody waited for any more was never sent
    socket.close()


@pytest.mark.anyio
@pytest.mark.parametrize("turns", range(6))
async def test_calls_that_are_cancelled_leave_no_threads_that_wait(turns: int) -> None:
    """They would have to run, one after the other, before the next call may."""
    slow = Slow()
    socket, fake = lone_socket(slow)
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
        (outcome,) = await requester.run([GET])
    assert outcome.error is None
    assert len(fake.requests) <= 2
    requester.close()
