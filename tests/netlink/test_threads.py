"""Work on other threads, and being woken by it."""

from __future__ import annotations

import threading

import anyio
import pytest
from support.files import OpenFiles

from conntrack_aio.netlink.threads import Doorbell, Threads


@pytest.mark.anyio
class TestDoorbell:
    async def test_it_wakes_a_task_that_waits(self) -> None:
        bell = Doorbell()
        threads = Threads(1)
        rung: list[int] = []
        async with anyio.create_task_group() as group:

            async def wait() -> None:
                await bell.wait()
                rung.append(1)

            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            assert not rung
            threads.start(bell.ring)
        assert rung == [1]
        bell.close()
        threads.close()

    async def test_rung_before_it_is_not_waited_for(self) -> None:
        files = OpenFiles()
        bell = Doorbell()
        bell.ring()
        bell.ring()
        await bell.wait()
        assert not files.new()
        bell.close()

    async def test_each_wait_needs_a_ring_of_its_own(self) -> None:
        bell = Doorbell()
        bell.ring()
        await bell.wait()
        with anyio.move_on_after(0.01) as scope:
            await bell.wait()
        assert scope.cancelled_caught
        bell.ring()
        await bell.wait()
        bell.close()

    async def test_closing_wakes_the_task_with_an_error(self) -> None:
        bell = Doorbell()
        files = OpenFiles()
        async with anyio.create_task_group() as group:

            async def wait() -> None:
                with pytest.raises(anyio.ClosedResourceError):
                    await bell.wait()

            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            bell.close()
        assert not files.new()
        bell.ring()  # by a thread that has not heard of it: nothing is written anywhere
        bell.close()


class TestThreads:
    def test_work_that_was_started_is_done_though_it_is_closed(self) -> None:
        threads = Threads(1)
        gate, done = threading.Event(), threading.Event()
        threads.start(gate.wait)
        threads.start(done.set)
        threads.close()
        threads.close()
        gate.set()
        assert done.wait(10)
