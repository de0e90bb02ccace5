"""Check the pipeline, whose thread sends windows of requests to a scripted kernel."""

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
from conntrack_aio.netlink.messages import Completion
from conntrack_aio.netlink.pipeline import (
    MAX_WINDOWS_IN_FLIGHT,
    REQUESTS_PER_WINDOW,
    Pipeline,
    RequestWindow,
)
from conntrack_aio.netlink.receive_buffer import ACKNOWLEDGEMENT_COST, ANSWER_COST
from conntrack_aio.netlink.threads import Threads
from conntrack_aio.testing import FakeSocket, ReceivedRequest

pytestmark = pytest.mark.anyio

DONE = Completion(0)


def acknowledge(socket: FakeSocket, request: ReceivedRequest) -> None:
    socket.ack(request)


def silent(socket: FakeSocket, request: ReceivedRequest) -> None:
    """Handle a request without answering it."""


@contextmanager
def make_pipeline(
    script: Script = acknowledge,
    *,
    reply_timeout: float = 5,
    answer_cost: int = ACKNOWLEDGEMENT_COST,
) -> Iterator[tuple[Pipeline, FakeSocket]]:
    """Create a pipeline, and close it in the end."""
    socket, fake = standalone_socket(script)
    threads = Threads(4)
    pipe = Pipeline(socket, threads, reply_timeout, answer_cost)
    yield pipe, fake
    pipe.close()
    threads.close()


def push(pipe: Pipeline, count: int, size: int = 4) -> RequestWindow:
    """Push a window of requests with payloads of this size, in bytes."""
    seq = pipe.reserve(count)
    requests = [messages.pack(0x101, 5, seq + i, bytes([i % 256]) * size) for i in range(count)]
    return pipe.push(requests, seq)


async def test_every_request_is_answered() -> None:
    with make_pipeline() as (pipe, fake):
        windows = [push(pipe, 3), push(pipe, 2)]
        for window in windows:
            await pipe.finish(window)
        assert [window.completions for window in windows] == [[DONE] * 3, [DONE] * 2]
        assert [len(request.payload) for request in fake.requests] == [4] * 5
        assert pipe.requests == 5
        assert pipe.stray_replies == pipe.overruns == 0


async def test_an_error_belongs_to_the_request_that_was_refused() -> None:
    def refuse_some(socket: FakeSocket, request: ReceivedRequest) -> None:
        socket.ack(request, errno.EEXIST if request.payload[0] % 2 else 0)

    with make_pipeline(refuse_some) as (pipe, _):
        window = push(pipe, 4)
        await pipe.finish(window)
        refused = Completion(errno.EEXIST)
        assert window.completions == [DONE, refused, DONE, refused]


async def test_replies_belong_to_the_request_that_was_answered() -> None:
    def answer(socket: FakeSocket, request: ReceivedRequest) -> None:
        socket.reply(request, 0x100, request.payload)
        socket.ack(request)

    with make_pipeline(answer) as (pipe, _):
        windows = [push(pipe, 2), push(pipe, 1)]
        for window in windows:
            await pipe.finish(window)
        assert windows[0].replies == {
            0: [Reply(0x100, 2, b"\0\0\0\0")],
            1: [Reply(0x100, 2, b"\1\1\1\1")],
        }
        assert windows[1].replies == {0: [Reply(0x100, 2, b"\0\0\0\0")]}


async def test_windows_may_be_finished_in_any_order() -> None:
    with make_pipeline() as (pipe, _):
        first, second = push(pipe, 2), push(pipe, 3)
        await pipe.finish(second)
        await pipe.finish(first)
        assert first.completions + second.completions == [DONE] * 5
        assert pipe.stray_replies == 0


async def test_a_window_without_requests_sends_no_datagram() -> None:
    with make_pipeline() as (pipe, fake):
        await pipe.finish(push(pipe, 0))
        assert fake.sent == []


async def test_the_receive_buffer_has_room_for_the_answers_to_all_windows() -> None:
    with make_pipeline() as (pipe, fake):
        assert (
            pipe.requests_per_window
            == fake.receive_buffer // (MAX_WINDOWS_IN_FLIGHT * ACKNOWLEDGEMENT_COST)
            < REQUESTS_PER_WINDOW
        )
    with make_pipeline(answer_cost=ANSWER_COST) as (pipe, fake):
        assert pipe.requests_per_window == fake.receive_buffer // (
            MAX_WINDOWS_IN_FLIGHT * ANSWER_COST
        )
    socket, _ = standalone_socket()
    socket.raw.setsockopt(1, 33, 1 << 24)  # SO_RCVBUFFORCE
    assert Pipeline(socket, Threads(1), 1, ANSWER_COST).requests_per_window == REQUESTS_PER_WINDOW
    socket.raw.setsockopt(1, 33, 1)
    assert Pipeline(socket, Threads(1), 1, ANSWER_COST).requests_per_window == 1
    socket.close()


async def test_a_window_that_is_too_large_is_sent_in_several_datagrams() -> None:
    with make_pipeline() as (pipe, fake):
        window = push(pipe, 100, size=5000)
        await pipe.finish(window)
        assert window.completions == [DONE] * 100
        assert len(fake.sent) == 4
        assert max(map(len, fake.sent)) <= 128 * 1024
        assert [request.seq for request in fake.requests] == list(range(1, 101))


async def test_the_event_loop_runs_while_a_thread_sends() -> None:
    gate = threading.Event()

    def wait(socket: FakeSocket, request: ReceivedRequest) -> None:
        assert gate.wait(10)
        socket.ack(request)

    with make_pipeline(wait) as (pipe, _):
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
        assert [window.completions for window in windows] == [[DONE], [DONE]]


async def test_finishing_can_be_cancelled_and_called_again() -> None:
    gate = threading.Event()

    def wait(socket: FakeSocket, request: ReceivedRequest) -> None:
        assert gate.wait(10)
        socket.ack(request)

    with make_pipeline(wait) as (pipe, _):
        window = push(pipe, 2)
        with anyio.move_on_after(0.01) as scope:
            await pipe.finish(window)
        assert scope.cancelled_caught
        gate.set()
        await pipe.finish(window)
        assert window.completions == [DONE] * 2


# -- missing answers ------------------------------------------------------------------------


async def test_a_lack_of_privilege_answers_only_its_own_datagram() -> None:
    """The kernel does not answer the rest of the datagram, but answers the next one."""

    def refuse_first(socket: FakeSocket, request: ReceivedRequest) -> None:
        if request.seq == 1:
            socket.ack(request, errno.EPERM)
        elif request.seq > 3:
            socket.ack(request)

    with make_pipeline(refuse_first) as (pipe, _):
        windows = [push(pipe, 3)]
        await anyio.to_thread.run_sync(wait_in_thread, lambda: windows[0].sent)
        windows.append(push(pipe, 2))
        await anyio.to_thread.run_sync(wait_in_thread, lambda: windows[1].sent)
        for window in windows:
            await pipe.finish(window)
        assert windows[0].completions == [Completion(errno.EPERM)] * 3
        assert windows[1].completions == [DONE] * 2


@contextmanager
def pushed_while_sending(script: Script) -> Iterator[tuple[Pipeline, FakeSocket]]:
    """Create a pipeline whose thread goes on when the ``with`` block waits for a window.

    It is busy with a first request, so it sends the windows of the ``with`` block together.
    """
    gate, busy = threading.Event(), threading.Event()

    def wait_first(socket: FakeSocket, request: ReceivedRequest) -> None:
        if request.seq == 1:
            busy.set()
            assert gate.wait(10)
            socket.ack(request)
        else:
            script(socket, request)

    with make_pipeline(wait_first) as (pipe, fake):
        push(pipe, 1)
        assert busy.wait(10)
        finish = pipe.finish

        async def open_gate(window: RequestWindow) -> None:
            gate.set()
            await finish(window)

        pipe.finish = open_gate  # type: ignore[method-assign]
        yield pipe, fake


async def test_windows_that_wait_are_sent_together() -> None:
    with pushed_while_sending(acknowledge) as (pipe, fake):
        windows = [push(pipe, 2), push(pipe, 0), push(pipe, 3)]
        for window in windows:
            await pipe.finish(window)
        assert [window.completions for window in windows] == [[DONE] * 2, [], [DONE] * 3]
        assert [request.seq for request in fake.requests] == [1, 2, 3, 4, 5, 6]
        assert len(fake.sent) == 2


async def test_windows_are_sent_together_if_they_fit_into_a_datagram() -> None:
    with pushed_while_sending(acknowledge) as (pipe, fake):
        windows = [push(pipe, 10, size=5000) for _ in range(3)]
        for window in windows:
            await pipe.finish(window)
        assert [window.completions for window in windows] == [[DONE] * 10] * 3
        assert len(fake.sent) == 3
        assert max(map(len, fake.sent)) <= 128 * 1024


async def test_a_lack_of_privilege_answers_all_windows_of_its_datagram() -> None:
    def refuse_second(socket: FakeSocket, request: ReceivedRequest) -> None:
        if request.seq == 2:
            socket.ack(request, errno.EPERM)

    with pushed_while_sending(refuse_second) as (pipe, _):
        windows = [push(pipe, 2), push(pipe, 0), push(pipe, 3), push(pipe, 1)]
        with anyio.fail_after(3):
            for window in windows:
                await pipe.finish(window)
        refused = Completion(errno.EPERM)
        assert [window.completions for window in windows] == [
            [refused] * 2,
            [],
            [refused] * 3,
            [refused],
        ]


async def test_a_failed_send_fails_all_windows_of_its_datagram() -> None:
    with pushed_while_sending(acknowledge) as (pipe, fake):
        windows = [push(pipe, 2), push(pipe, 1)]

        def refuse(data: bytes, address: tuple[int, int]) -> int:
            raise OSError(errno.ENOMEM, "no")

        fake.sendto = refuse  # type: ignore[method-assign]
        for window in windows:
            await pipe.finish(window)
        failed = Completion(errno.ENOMEM)
        assert [window.completions for window in windows] == [[failed] * 2, [failed]]


def wait_in_thread(condition: Callable[[], bool]) -> None:
    """Block this thread until a condition is true."""
    pause = threading.Event()
    while not condition():
        pause.wait(0.001)


async def test_an_answer_that_was_lost_is_not_waited_for() -> None:
    def lose_one(socket: FakeSocket, request: ReceivedRequest) -> None:
        if request.seq == 2:
            socket.overrun()
        else:
            socket.ack(request)

    with make_pipeline(lose_one, reply_timeout=1000) as (pipe, _):
        window = push(pipe, 3)
        await pipe.finish(window)
        assert window.completions == [DONE, None, DONE]
        assert pipe.overruns == 1
        next_window = push(pipe, 1)
        await pipe.finish(next_window)
        assert next_window.completions == [DONE]


async def test_a_malformed_answer_counts_as_lost() -> None:
    def send_malformed(socket: FakeSocket, request: ReceivedRequest) -> None:
        if request.seq == 1:
            socket.deliver(b"\xff\xff\xff\xff" * 6)
        else:
            socket.ack(request)

    with make_pipeline(send_malformed, reply_timeout=1000) as (pipe, _):
        window = push(pipe, 2)
        await pipe.finish(window)
        assert window.completions == [None, DONE]


async def test_a_late_answer_is_waited_for() -> None:
    with make_pipeline(silent) as (pipe, fake):
        window = push(pipe, 2)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pipe.finish, window)
            await anyio.to_thread.run_sync(wait_in_thread, lambda: window.sent)
            await anyio.wait_all_tasks_blocked()
            for request in fake.requests:
                fake.ack(request)
        assert window.completions == [DONE] * 2


async def test_waiting_for_an_answer_ends_after_the_reply_timeout() -> None:
    with make_pipeline(silent, reply_timeout=0.01) as (pipe, fake):
        window = push(pipe, 1)
        await pipe.finish(window)
        assert window.completions == [None]
        # An answer that arrives later is a stray reply.
        fake.ack(fake.requests[0])
        last = push(pipe, 1)
        await anyio.to_thread.run_sync(wait_in_thread, lambda: last.sent)
        fake.ack(fake.requests[1])
        await pipe.finish(last)
        assert last.completions == [DONE]
        assert pipe.stray_replies == 1


async def test_messages_of_another_program_are_ignored_and_counted() -> None:
    def forge(socket: FakeSocket, request: ReceivedRequest) -> None:
        socket.deliver(socket.error_message(request, errno.ENOENT), FORGED_SENDER)
        socket.ack(request)

    with make_pipeline(forge) as (pipe, _):
        window = push(pipe, 2)
        await pipe.finish(window)
        assert window.completions == [DONE] * 2
        assert pipe.socket.forged == 2


async def test_a_failed_send_fails_the_requests_of_its_window(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(data: bytes, address: tuple[int, int]) -> int:
        raise OSError(errno.ENOMEM, "no")

    with make_pipeline() as (pipe, fake):
        monkeypatch.setattr(fake, "sendto", refuse)
        window = push(pipe, 2)
        await pipe.finish(window)
        assert window.completions == [Completion(errno.ENOMEM)] * 2
        monkeypatch.undo()
        next_window = push(pipe, 1)
        await pipe.finish(next_window)
        assert next_window.completions == [DONE]


async def test_an_unexpected_error_in_the_thread_is_raised_by_finish() -> None:
    def fail(socket: FakeSocket, request: ReceivedRequest) -> None:
        raise ZeroDivisionError

    with make_pipeline(fail) as (pipe, _):
        window = push(pipe, 1)
        with pytest.raises(ZeroDivisionError):
            await pipe.finish(window)


# -- closing --------------------------------------------------------------------------------


async def test_closing_wakes_the_waiting_task_and_stops_sending() -> None:
    files = OpenFiles()
    gate, started = threading.Event(), threading.Event()

    def wait(socket: FakeSocket, request: ReceivedRequest) -> None:
        started.set()
        assert gate.wait(10)

    with make_pipeline(wait) as (pipe, fake):
        windows = [push(pipe, 1), push(pipe, 1)]
        await anyio.to_thread.run_sync(started.wait)

        async def finish() -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await pipe.finish(windows[0])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(finish)
            await anyio.wait_all_tasks_blocked()
            pipe.close()
        assert not fake.closed  # the thread still uses it
        gate.set()
        await anyio.to_thread.run_sync(wait_in_thread, lambda: fake.closed)
        assert len(fake.sent) == 1
        assert not windows[1].sent
    await files.closed()


async def test_a_closed_pipeline_sends_no_requests() -> None:
    with make_pipeline() as (pipe, fake):
        pipe.close()
        window = push(pipe, 1)
        with pytest.raises(anyio.ClosedResourceError):
            await pipe.finish(window)
        assert fake.sent == []
