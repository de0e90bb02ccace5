"""Test the interface to the event loops of asyncio and trio."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import threading
from collections.abc import Iterator

import anyio
import anyio.lowlevel
import pytest

from conntrack_aio import eventloop

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="")


class EndRecorder:
    """A callback that records how a task ended."""

    def __init__(self) -> None:
        self.event = anyio.Event()
        self.errors: list[BaseException | None] = []

    def __call__(self, error: BaseException | None) -> None:
        self.errors.append(error)
        self.event.set()

    async def wait(self) -> None:
        with anyio.fail_after(5):
            await self.event.wait()


class TaskError(Exception):
    """The exception that a task raises."""


async def nothing() -> None:
    pass


async def fail() -> None:
    raise TaskError


@pytest.mark.anyio
class TestTasks:
    async def test_a_task_outlives_the_task_that_started_it(self) -> None:
        end, finish = EndRecorder(), anyio.Event()

        async def starter() -> None:
            eventloop.current().start(finish.wait, "work", end)
            await anyio.sleep_forever()

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(starter)
                await anyio.wait_all_tasks_blocked()
                tasks.cancel_scope.cancel()
            assert not end.errors
            finish.set()
        await end.wait()
        assert end.errors == [None]

    async def test_a_task_has_the_context_of_its_starter(self) -> None:
        values: list[str] = []
        end = EndRecorder()

        async def work() -> None:
            values.append(variable.get())

        variable.set("value")
        eventloop.current().start(work, "work", end)
        await end.wait()
        assert values == ["value"]

    async def test_the_error_of_a_task_is_reported(self) -> None:
        end = EndRecorder()
        eventloop.current().start(fail, "work", end)
        await end.wait()
        assert [type(error) for error in end.errors] == [TaskError]

    async def test_a_task_can_be_cancelled(self) -> None:
        end = EndRecorder()
        cancel = eventloop.current().start(anyio.sleep_forever, "work", end)
        await anyio.wait_all_tasks_blocked()
        cancel()
        await end.wait()
        assert end.errors == [None]
        cancel()

    async def test_the_end_of_a_task_is_reported_though_it_never_ran(self) -> None:
        end = EndRecorder()
        cancel = eventloop.current().start(nothing, "work", end)
        cancel()
        await end.wait()
        assert end.errors == [None]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_task_ends_with_the_event_loop(backend: str) -> None:
    ended: list[type[BaseException]] = []
    ends: list[EndRecorder] = []

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        except BaseException as error:
            ended.append(type(error))
            raise

    async def main() -> None:
        ends.extend([EndRecorder(), EndRecorder()])
        eventloop.current().start(work, "running", ends[0])
        await anyio.wait_all_tasks_blocked()
        eventloop.current().start(anyio.sleep_forever, "not yet run", ends[1])

    anyio.run(main, backend=backend)
    assert ["Cancelled" in error.__name__ for error in ended] == [True]
    assert [end.errors for end in ends] == [[None], [None]]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_keyboardinterrupt_and_systemexit_are_no_internal_error(
    backend: str, kind: type[BaseException]
) -> None:
    """In asyncio the exception leaves the loop, as from any task. In trio the callback gets it."""
    ends: list[EndRecorder] = []

    async def work() -> None:
        raise kind

    async def main() -> None:
        ends.append(EndRecorder())
        eventloop.current().start(work, "work", ends[0])
        await ends[0].wait()

    try:
        anyio.run(main, backend=backend)
    except kind:
        assert backend == "asyncio"
    else:
        assert backend == "trio"
    assert [type(error) for error in ends[0].errors] == [kind]


def test_the_main_task_of_trio_gets_an_interrupt_in_a_started_task() -> None:
    """If the started task got it, trio would raise a TrioInternalError."""

    async def work() -> None:
        signal.raise_signal(signal.SIGINT)
        await anyio.sleep_forever()

    async def main() -> None:
        eventloop.current().start(work, "work", EndRecorder())
        await anyio.sleep(5)

    with pytest.raises(KeyboardInterrupt):
        anyio.run(main, backend="trio")


# -- the current event loop ---------------------------------------------------------------------


@pytest.mark.anyio
async def test_the_current_loop_runs_in_this_thread_alone() -> None:
    loop = eventloop.current()
    assert loop.is_running_here()
    assert eventloop.current().is_running_here()
    assert not await anyio.to_thread.run_sync(loop.is_running_here)
    assert loop.is_of_this_process


def test_without_a_running_loop_there_is_no_current_loop() -> None:
    with pytest.raises(RuntimeError):
        eventloop.current()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_loop_does_not_run_inside_another_loop(backend: str) -> None:
    async def current() -> eventloop.EventLoop:
        return eventloop.current()

    first = anyio.run(current, backend=backend)

    async def second() -> bool:
        return first.is_running_here()

    for other in ("asyncio", "trio"):
        assert not anyio.run(second, backend=other)


@pytest.mark.anyio
async def test_another_thread_may_schedule_a_call() -> None:
    loop, called = eventloop.current(), anyio.Event()
    threading.Thread(target=loop.call_soon, args=(called.set,)).start()
    with anyio.fail_after(5):
        await called.wait()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_loop_that_has_ended_makes_no_call(backend: str) -> None:
    async def current() -> eventloop.EventLoop:
        return eventloop.current()

    anyio.run(current, backend=backend).call_soon(lambda: pytest.fail("called"))


# -- waiting for a descriptor -------------------------------------------------------------------


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


@pytest.mark.anyio
async def test_a_wait_ends_when_the_descriptor_is_readable(pipe: tuple[int, int]) -> None:
    for _ in range(2):
        ready = anyio.Event()

        async def wait(ready: anyio.Event = ready) -> None:
            await eventloop.current().wait_readable(pipe[0]).finish()
            ready.set()

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                assert not ready.is_set()
                os.write(pipe[1], b"x")
        os.read(pipe[0], 1)


@pytest.mark.anyio
async def test_a_wait_can_be_given_up(pipe: tuple[int, int]) -> None:
    waits: list[eventloop.Wait] = []

    async def wait() -> None:
        waits.append(eventloop.current().wait_readable(pipe[0]))
        with pytest.raises(anyio.ClosedResourceError):
            await waits[0].finish()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            waits[0].give_up()


@pytest.mark.anyio
async def test_a_wait_can_be_cancelled(pipe: tuple[int, int]) -> None:
    for _ in range(2):
        with anyio.move_on_after(0.01) as scope:
            await eventloop.current().wait_readable(pipe[0]).finish()
        assert scope.cancelled_caught


def test_a_wait_can_be_given_up_while_the_loop_does_not_run(pipe: tuple[int, int]) -> None:
    async def wait() -> None:
        waits.append(eventloop.current().wait_readable(pipe[0]))
        await waits[0].finish()

    waits: list[eventloop.Wait] = []
    loop = asyncio.new_event_loop()
    task = loop.create_task(wait())
    loop.run_until_complete(asyncio.sleep(0))
    waits[0].give_up()
    with pytest.raises(anyio.ClosedResourceError):
        loop.run_until_complete(task)
    loop.close()
    waits[0].give_up()
