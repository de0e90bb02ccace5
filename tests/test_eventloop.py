"""The event loops behind one interface."""

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


class End:
    """Takes what a task ended with."""

    def __init__(self) -> None:
        self.event = anyio.Event()
        self.errors: list[BaseException | None] = []

    def __call__(self, error: BaseException | None) -> None:
        self.errors.append(error)
        self.event.set()

    async def wait(self) -> None:
        with anyio.fail_after(5):
            await self.event.wait()


class Trouble(Exception):
    """What a task raises."""


async def nothing() -> None:
    pass


async def trouble() -> None:
    raise Trouble


@pytest.mark.anyio
class TestTasks:
    async def test_a_task_outlives_the_one_that_started_it(self) -> None:
        end, go = End(), anyio.Event()

        async def starter() -> None:
            eventloop.current().start(go.wait, "work", end)
            await anyio.sleep_forever()

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(starter)
                await anyio.wait_all_tasks_blocked()
                tasks.cancel_scope.cancel()
            assert not end.errors
            go.set()
        await end.wait()
        assert end.errors == [None]

    async def test_it_has_the_context_of_the_one_that_started_it(self) -> None:
        seen: list[str] = []
        end = End()

        async def work() -> None:
            seen.append(variable.get())

        variable.set("theirs")
        eventloop.current().start(work, "work", end)
        await end.wait()
        assert seen == ["theirs"]

    async def test_its_error_is_reported(self) -> None:
        end = End()
        eventloop.current().start(trouble, "work", end)
        await end.wait()
        assert [type(error) for error in end.errors] == [Trouble]

    async def test_it_can_be_cancelled(self) -> None:
        end = End()
        cancel = eventloop.current().start(anyio.sleep_forever, "work", end)
        await anyio.wait_all_tasks_blocked()
        cancel()
        await end.wait()
        assert end.errors == [None]
        cancel()

    async def test_its_end_is_seen_though_it_never_began(self) -> None:
        end = End()
        cancel = eventloop.current().start(nothing, "work", end)
        cancel()
        await end.wait()
        assert end.errors == [None]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_task_ends_with_the_event_loop(backend: str) -> None:
    ended: list[type[BaseException]] = []
    ends: list[End] = []

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        except BaseException as error:
            ended.append(type(error))
            raise

    async def main() -> None:
        ends.extend([End(), End()])
        eventloop.current().start(work, "begun", ends[0])
        await anyio.wait_all_tasks_blocked()
        eventloop.current().start(anyio.sleep_forever, "not begun", ends[1])

    anyio.run(main, backend=backend)
    assert ["Cancelled" in each.__name__ for each in ended] == [True]
    assert [end.errors for end in ends] == [[None], [None]]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_what_ends_a_program_is_no_internal_error(backend: str, kind: type[BaseException]) -> None:
    """In asyncio it leaves the loop, as it does from any task; in trio the owner has it."""
    ends: list[End] = []

    async def work() -> None:
        raise kind

    async def main() -> None:
        ends.append(End())
        eventloop.current().start(work, "work", ends[0])
        await ends[0].wait()

    try:
        anyio.run(main, backend=backend)
    except kind:
        assert backend == "asyncio"
    else:
        assert backend == "trio"
    assert [type(error) for error in ends[0].errors] == [kind]


def test_an_interrupt_while_a_task_runs_is_the_main_tasks() -> None:
    """Of trio, where the task's own frames would make a TrioInternalError of it."""

    async def work() -> None:
        signal.raise_signal(signal.SIGINT)
        await anyio.sleep_forever()

    async def main() -> None:
        eventloop.current().start(work, "work", End())
        await anyio.sleep(5)

    with pytest.raises(KeyboardInterrupt):
        anyio.run(main, backend="trio")


# -- where a caller is --------------------------------------------------------------------------


@pytest.mark.anyio
async def test_the_loop_that_runs_here() -> None:
    loop = eventloop.current()
    assert loop.is_running_here()
    assert eventloop.current().is_running_here()
    assert not await anyio.to_thread.run_sync(loop.is_running_here)
    assert loop.is_of_this_process


def test_no_loop_runs_here() -> None:
    with pytest.raises(RuntimeError):
        eventloop.current()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_another_loop(backend: str) -> None:
    async def current() -> eventloop.EventLoop:
        return eventloop.current()

    first = anyio.run(current, backend=backend)

    async def second() -> bool:
        return first.is_running_here()

    for other in ("asyncio", "trio"):
        assert not anyio.run(second, backend=other)


@pytest.mark.anyio
async def test_a_thread_calls_soon() -> None:
    loop, called = eventloop.current(), anyio.Event()
    threading.Thread(target=loop.call_soon, args=(called.set,)).start()
    with anyio.fail_after(5):
        await called.wait()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_loop_that_has_ended_is_not_called(backend: str) -> None:
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
async def test_it_waits_until_a_descriptor_is_readable(pipe: tuple[int, int]) -> None:
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
async def test_a_wait_is_given_up(pipe: tuple[int, int]) -> None:
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
async def test_a_wait_is_cancelled(pipe: tuple[int, int]) -> None:
    for _ in range(2):
        with anyio.move_on_after(0.01) as scope:
            await eventloop.current().wait_readable(pipe[0]).finish()
        assert scope.cancelled_caught


def test_a_wait_is_given_up_while_the_loop_does_not_run(pipe: tuple[int, int]) -> None:
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
