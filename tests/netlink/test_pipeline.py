"""The pipeline: windows of requests that a thread sends, with a scripted kernel."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio
import anyio.to_thread
import pytest
from support.open_files import OpenFiles
from support.scripted_kernel import FORGED_SENDER, Script, standalone_socket

from conntrack_aio.netlink import messages
from conntrack_aio.netlink.exchange import Reply
from conntrack_aio.netlink.messages import Failure
from conntrack_aio.netlink.pipeline import (
    ACKNOWLEDGEMENT_COST,
    ANSWER_COST,
    DEPTH,
    WINDOW_SIZE,
    Pipeline,
    RequestWindow,
)
from conntrack_aio.netlink.threads import Threads
from conntrack_aio.testing import FakeSocket, ReceivedRequest

pytestmark = pytest.mark.anyio

DONE = Failure(0)


def acknowledge(socket: FakeSocket, request: ReceivedRequest) -> None:
    socket.ack(request)


def silent(socket: FakeSocket, request: ReceivedRequest) -> None:
    """A kernel that does not answer."""


@contextmanager
def pipeline(
    script: Script = acknowledge,
    *,
    reply_timeout: float = 5,
    answer_cost: int = ACKNOWLEDGEMENT_COST,
) -> Iterator[tuple[Pipeline, FakeSocket]]:
    socket, fake = standalone_socket(script)
    threads = Threads(4)
    made = Pipeline(socket, threads, reply_timeout, answer_cost)
    yield made, fake
    made.close()
    threads.close()


def push(pipe: Pipeline, count: int, size: int = 4) -> RequestWindow:
    seq = pipe.reserve(count)
    requests = [messages.pack(0x101, 5, seq + i, bytes([i % 256]) * size) for i in range(count)]
    return pipe.push(requests, seq)


async def test_every_request_is_answered() -> None:
    with pipeline() as (pipe, fake):
        windows = [push(pipe, 3), push(pipe, 2)]
        for window in windows:
            await pipe.finish(window)
        assert [window.failures for window in windows] == [[DONE] * 3, [DONE] * 2]
        assert [len(request.payload) for request in fake.requests] == [4] * 5
        assert len(fake.sent) == 2
        assert pipe.requests == 5
        assert pipe.stray_replies == pipe.overruns == 0


async def test_refusals_are_of_the_request_that_was_refused() -> None:
    def refuse_some(socket: FakeSocket, request: ReceivedRequest) -> None:
        socket.ack(request, errno.EEXIST if request.payload[0] % 2 else 0)

    with pipeline(refuse_some) as (pipe, _):
        window = push(pipe, 4)
        await pipe.finish(window)
        refused = Failure(errno.EEXIST)
        assert window.failures == [DONE, refused, DONE, refused]


async def test_replies_are_of_the_request_that_was_answered() -> None:
    def answer(socket: FakeSocket, request: ReceivedRequest) -> None:
        socket.reply(request, 0x100, request.payload)
        socket.ack(request)

    with pipeline(answer) as (pipe, _):
        windows = [push(pipe, 2), push(pipe, 1)]
        for window in windows:
            await pipe.finish(window)
        assert windows[0].replies == {
            0: [Reply(0x100, 2, b"\0\0\0\0")],
            1: [Reply(0x100, 2, b"\1\1\1\1")],
        }
        assert windows[1].replies == {0: [Reply(0x100, 2, b"\0\0\0\0")]}


async def test_windows_may_be_finished_in_any_order() -> None:
    with pipeline() as (pipe, _):
        first, second = push(pipe, 2), push(pipe, 3)
        await pipe.finish(second)
        await pipe.finish(first)
        assert first.failures + second.failures == [DONE] * 5
        assert pipe.stray_replies == 0


async def test_no_requests_send_nothing() -> None:
    with pipeline() as (pipe, fake):
        await pipe.finish(push(pipe, 0))
        assert fake.sent == []


async def test_the_window_is_what_the_buffer_holds_answers_for() -> None:
    with pipeline() as (pipe, fake):
        assert (
            pipe.window_size == fake.receive_buffer // (DEPTH * ACKNOWLEDGEMENT_COST) < WINDOW_SIZE
        )
    with pipeline(answer_cost=ANSWER_COST) as (pipe, fake):
        assert pipe.window_size == fake.receive_buffer // (DEPTH * ANSWER_COST)
    socket, _ = standalone_socket()
    socket.raw.setsockopt(1, 33, 1 << 24)  # SO_RCVBUFFORCE
    assert Pipeline(socket, Threads(1), 1, ANSWER_COST).window_size == WINDOW_SIZE
    socket.raw.setsockopt(1, 33, 1)
    assert Pipeline(socket, Threads(1), 1, ANSWER_COST).window_size == 1
    socket.close()


async def test_a_window_that_is_too_large_goes_in_several_datagrams() -> None:
    with pipeline() as (pipe, fake):
        window = push(pipe, 100, size=5000)
        await pipe.finish(window)
        assert window.failures == [DONE] * 100
        assert len(fake.sent) == 4
        assert max(map(len, fake.sent)) <= 128 * 1024
        assert [request.seq for request in fake.requests] == list(range(1, 101))


async def test_the_loop_goes_on_while_a_thread_sends() -> None:
    gate = threading.Event()

    def wait(socket: FakeSocket, request: ReceivedRequest) -> None:
        assert gate.wait(10)
        socket.ack(request)

    with pipeline(wait) as (pipe, _):
        windows = [push(pipe, 1), push(pipe, 1)]
        finished = anyio.Event()

        async def finish() -> None:
            for window in windows:
                await pipe.finish(window)
            finished.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(finish)
            await anyio.wait_all_tasks_blocked()
            assert not finished.is_set()
            gate.set()
        assert [window.failures for window in windows] == [[DONE], [DONE]]


async def test_finishing_can_be_cancelled_and_called_again() -> None:
    gate = threading.Event()

    def wait(socket: FakeSocket, request: ReceivedRequest) -> None:
        assert gate.wait(10)
        socket.ack(request)

    with pipeline(wait) as (pipe, _):
        window = push(pipe, 2)
        with anyio.move_on_after(0.01) as scope:
            await pipe.finish(window)
        assert scope.cancelled_caught
        gate.set()
        await pipe.finish(window)
        assert window.failures == [DONE] * 2


# -- answers that do not come ---------------------------------------------------------------


async def test_a_refusal_for_lack_of_privilege_ends_its_datagram_alone() -> None:
    """The kernel does not answer the rest of the datagram, but answers the next one."""
    seen: list[ReceivedRequest] = []

    def refuse_first(socket: FakeSocket, request: ReceivedRequest) -> None:
        seen.append(request)
        if len(seen) == 1:
            socket.ack(request, errno.EPERM)
        elif len(seen) > 3:
            socket.ack(request)

    with pipeline(refuse_first) as (pipe, _):
        windows = [push(pipe, 3), push(pipe, 2)]
        await anyio.to_thread.run_sync(wait_for, lambda: all(each.sent for each in windows))
        for window in windows:
            await pipe.finish(window)
        assert windows[0].failures == [Failure(errno.EPERM)] * 3
        assert windows[1].failures == [DONE] * 2


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait on a thread until the condition holds."""
    pause = threading.Event()
    while not condition():
        pause.wait(0.001)


async def test_an_answer_that_was_lost_is_not_waited_for() -> None:
    def lose_one(socket: FakeSocket, request: ReceivedRequest) -> None:
        if request.seq == 2:
            socket.overrun()
        else:
            socket.ack(request)

    with pipeline(lose_one, reply_timeout=1000) as (pipe, _):
        window = push(pipe, 3)
        await pipe.finish(window)
        assert window.failures == [DONE, None, DONE]
        assert pipe.overruns == 1
        again = push(pipe, 1)
        await pipe.finish(again)
        assert again.failures == [DONE]


async def test_garbage_among_the_answers() -> None:
    def garbage(socket: FakeSocket, request: ReceivedRequest) -> None:
        if request.seq == 1:
            socket.deliver(b"\xff\xff\xff\xff" * 6)
        else:
            socket.ack(request)

    with pipeline(garbage, reply_timeout=1000) as (pipe, _):
        window = push(pipe, 2)
        await pipe.finish(window)
        assert window.failures == [None, DONE]


async def test_a_late_answer_is_waited_for() -> None:
    with pipeline(silent) as (pipe, fake):
        window = push(pipe, 2)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pipe.finish, window)
            await anyio.to_thread.run_sync(wait_for, lambda: window.sent)
            await anyio.wait_all_tasks_blocked()
            for request in fake.requests:
                fake.ack(request)
        assert window.failures == [DONE] * 2


async def test_an_answer_that_never_comes_is_given_up() -> None:
    with pipeline(silent, reply_timeout=0.01) as (pipe, fake):
        window = push(pipe, 1)
        await pipe.finish(window)
        assert window.failures == [None]
        # If the answer comes after all, it is a stray reply.
        fake.ack(fake.requests[0])
        last = push(pipe, 1)
        await anyio.to_thread.run_sync(wait_for, lambda: last.sent)
        fake.ack(fake.requests[1])
        await pipe.finish(last)
        assert last.failures == [DONE]
        assert pipe.stray_replies == 1


async def test_what_another_program_sends_is_ignored() -> None:
    def forge(socket: FakeSocket, request: ReceivedRequest) -> None:
        socket.deliver(socket.error_message(request, errno.ENOENT), FORGED_SENDER)
        socket.ack(request)

    with pipeline(forge) as (pipe, _):
        window = push(pipe, 2)
        await pipe.finish(window)
        assert window.failures == [DONE] * 2
        assert pipe.socket.forged == 2


async def test_a_send_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(data: bytes, address: tuple[int, int]) -> int:
        raise OSError(errno.ENOMEM, "no")

    with pipeline() as (pipe, fake):
        monkeypatch.setattr(fake, "sendto", refuse)
        window = push(pipe, 2)
        await pipe.finish(window)
        assert window.failures == [Failure(errno.ENOMEM)] * 2
        monkeypatch.undo()
        again = push(pipe, 1)
        await pipe.finish(again)
        assert again.failures == [DONE]


async def test_an_error_on_the_thread_is_raised_by_finish() -> None:
    def fault(socket: FakeSocket, request: ReceivedRequest) -> None:
        raise ZeroDivisionError

    with pipeline(fault) as (pipe, _):
        window = push(pipe, 1)
        with pytest.raises(ZeroDivisionError):
            await pipe.finish(window)


# -- closing --------------------------------------------------------------------------------


async def test_closing_wakes_the_waiting_task_and_sends_no_more() -> None:
    files = OpenFiles()
    gate, begun = threading.Event(), threading.Event()

    def wait(socket: FakeSocket, request: ReceivedRequest) -> None:
        begun.set()
        assert gate.wait(10)

    with pipeline(wait) as (pipe, fake):
        windows = [push(pipe, 1), push(pipe, 1)]
        await anyio.to_thread.run_sync(begun.wait)

        async def finish() -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await pipe.finish(windows[0])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(finish)
            await anyio.wait_all_tasks_blocked()
            pipe.close()
        assert not fake.closed  # a thread is inside
        gate.set()
        await anyio.to_thread.run_sync(wait_for, lambda: fake.closed)
        assert len(fake.sent) == 1
        assert not windows[1].sent
    await files.closed()


async def test_what_is_pushed_into_a_closed_one_is_not_sent() -> None:
    with pipeline() as (pipe, fake):
        pipe.close()
        window = push(pipe, 1)
        with pytest.raises(anyio.ClosedResourceError):
            await pipe.finish(window)
        assert fake.sent == []
