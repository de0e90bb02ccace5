"""Check that threads run work, and that they can wake a task."""

from __future__ import annotations

import threading

import anyio
import pytest
from support.open_files import OpenFiles

from conntrack_aio.netlink.threads import Threads, Wakeup


@pytest.mark.anyio
class TestWakeup:
    async def test_a_notification_wakes_the_waiting_task(self) -> None:
        wakeup = Wakeup()
        threads = Threads(1)
        woken: list[int] = []
        async with anyio.create_task_group() as group:

            async def wait() -> None:
                await wakeup.wait()
                woken.append(1)

            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            assert not woken
            threads.start(wakeup.notify)
        assert woken == [1]
        wakeup.close()
        threads.close()

    async def test_a_wait_after_a_notification_returns_at_once(self) -> None:
        files = OpenFiles()
        wakeup = Wakeup()
        wakeup.notify()
        wakeup.notify()
        await wakeup.wait()
        assert not files.new()
        wakeup.close()

    async def test_each_wait_needs_its_own_notification(self) -> None:
        wakeup = Wakeup()
        wakeup.notify()
        await wakeup.wait()
        with anyio.move_on_after(0.01) as scope:
            await wakeup.wait()
        assert scope.cancelled_caught
        wakeup.notify()
        await wakeup.wait()
        wakeup.close()

    async def test_closing_wakes_the_task_with_an_error(self) -> None:
        wakeup = Wakeup()
        files = OpenFiles()
        async with anyio.create_task_group() as group:

            async def wait() -> None:
                with pytest.raises(anyio.ClosedResourceError):
                    await wakeup.wait()

            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            wakeup.close()
        assert not files.new()
        wakeup.notify()  # a thread may not have noticed the close yet
        wakeup.close()


class TestThreads:
    def test_started_work_is_finished_after_closing(self) -> None:
        threads = Threads(1)
        gate, done = threading.Event(), threading.Event()
        threads.start(gate.wait)
        threads.start(done.set)
        threads.close()
        threads.close()
        gate.set()
        assert done.wait(10)
