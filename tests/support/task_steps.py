"""Run event loops that count the steps of their tasks, and cancel or interrupt them at one step."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from functools import partial
from typing import Any, cast

import trio

import conntrack_aio

from .event_loops import new_asyncio_loop

Main = Callable[[], Coroutine[object, object, object]]

TIMEOUT = 30
"""Seconds after which a loop that has not ended is considered to hang."""


class LoopHangs(BaseException):
    """The loop has not ended. It is no ``Exception``, which the hanging code might catch."""


@contextlib.contextmanager
def limit_duration() -> Iterator[None]:
    """Raise :exc:`LoopHangs` in a body that runs longer than :data:`TIMEOUT`."""

    def on_alarm(number: int, frame: object) -> None:
        raise LoopHangs

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, TIMEOUT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class StepCounter:
    """Counts the steps of all tasks, and calls ``action`` before the step of this number."""

    def __init__(self, number: int, action: Callable[[], object]) -> None:
        self.reached = False
        """Whether the step of this number was reached."""
        self._remaining = number
        self._action = action

    def step(self) -> None:
        """Count a step that is about to begin."""
        self._remaining -= 1
        if self._remaining == 0:
            self.reached = True
            self._action()

    @types.coroutine
    def counted(self, awaitable: Awaitable[object]) -> Generator[object, object, object]:
        """Await an awaitable, and count its steps."""
        steps = cast("Generator[object, object, object]", awaitable.__await__())
        step, value = steps.send, cast("Any", None)
        try:
            while True:
                self.step()
                try:
                    waited_for = step(value)
                except StopIteration as end:
                    return end.value
                try:
                    step, value = steps.send, (yield waited_for)
                except GeneratorExit:
                    raise
                except BaseException as error:
                    step, value = steps.throw, error
        finally:
            steps.close()


def run_until_cancelled(backend: str, main: Main, number: int) -> bool:
    """Run ``main``, and cancel all tasks of the loop before the step of this number.

    Whatever ``main`` raises is raised here, except for its cancellation.

    :returns: whether there were so many steps.
    :raises LoopHangs: when the loop does not end.
    """
    with limit_duration():
        if backend == "trio":
            return _cancel_in_trio(main, number)
        return _cancel_in_asyncio(backend, main, number)


def _cancel_in_asyncio(backend: str, main: Main, number: int) -> bool:
    def action() -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: [task.cancel() for task in asyncio.all_tasks(loop)])

    steps = StepCounter(number, action)

    def factory(
        loop: asyncio.AbstractEventLoop, coro: Coroutine[object, object, object], **options: Any
    ) -> asyncio.Task[object]:
        # counted() returns a generator. Only a task of a coroutine has a name and a context.
        async def body() -> object:
            return await steps.counted(coro)

        task = asyncio.Task(body(), loop=loop, **options)
        # A task that is cancelled before its first step never awaits ``coro``.
        task.add_done_callback(lambda task: coro.close())
        return task

    new_loop = partial(new_asyncio_loop, backend)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.get_loop().set_task_factory(cast("Any", factory))
        with contextlib.suppress(asyncio.CancelledError):
            runner.run(main())
    return steps.reached


class _CountingInstrument(trio.abc.Instrument):
    def __init__(self, steps: StepCounter) -> None:
        self._steps = steps

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._steps.step()


def _cancel_in_trio(main: Main, number: int) -> bool:
    scope = trio.CancelScope()
    # An instrument must not change the scheduler that calls it: cancel in the next iteration.
    steps = StepCounter(
        number, lambda: trio.lowlevel.current_trio_token().run_sync_soon(scope.cancel)
    )

    async def root() -> None:
        with scope:
            await main()

    trio.run(root, instruments=[_CountingInstrument(steps)])
    return steps.reached


# -- SIGINT -------------------------------------------------------------------------------------


def interrupt_at_step(backend: str, main: Main, number: int) -> bool:
    """Run ``main`` as a program does, and raise a SIGINT before the step of this number.

    :returns: whether there were so many steps.
    """
    steps = StepCounter(number, lambda: signal.raise_signal(signal.SIGINT))
    with limit_duration():
        if backend == "trio":
            trio.run(main, instruments=[_CountingInstrument(steps)])
            return steps.reached

        async def counted() -> object:
            return await steps.counted(main())

        new_loop = partial(new_asyncio_loop, backend)
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(counted())
    return steps.reached


_PACKAGE = conntrack_aio.__path__[0]


def interrupt_at_call(backend: str, main: Main, number: int) -> int:
    """Run ``main``, and raise a SIGINT at the call of this number inside the library.

    :returns: how many calls there were until the interrupt, or in total without one.
    """
    calls = 0

    def profile(frame: types.FrameType, event: str, argument: object) -> None:
        nonlocal calls
        if event == "call" and frame.f_code.co_filename.startswith(_PACKAGE):
            calls += 1
            if calls == number:
                sys.setprofile(None)
                signal.raise_signal(signal.SIGINT)

    with limit_duration():
        sys.setprofile(profile)
        try:
            if backend == "trio":
                trio.run(main)
            else:
                new_loop = partial(new_asyncio_loop, backend)
                with asyncio.Runner(loop_factory=new_loop) as runner:
                    runner.run(main())
        finally:
            sys.setprofile(None)
    return calls
