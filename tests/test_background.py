"""Tasks that belong to objects."""

from __future__ import annotations

import contextvars

import anyio
import pytest

from conntrack_aio import background

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="")


@pytest.mark.anyio
async def test_it_runs_beside_and_outlives_who_started_it() -> None:
    done, go = anyio.Event(), anyio.Event()

    async def work() -> None:
        await go.wait()
        done.set()

    async def starter() -> None:
        background.start(work, "work")
        await anyio.sleep_forever()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(starter)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        go.set()
        await done.wait()


@pytest.mark.anyio
async def test_it_has_the_context_of_who_started_it() -> None:
    seen: list[str] = []
    done = anyio.Event()

    async def work() -> None:
        seen.append(variable.get())
        done.set()

    variable.set("theirs")
    background.start(work, "work")
    with anyio.fail_after(5):
        await done.wait()
    assert seen == ["theirs"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_it_ends_with_the_event_loop(backend: str) -> None:
    ended: list[type[BaseException]] = []

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        except BaseException as error:
            ended.append(type(error))
            raise

    async def main() -> None:
        background.start(work, "work")
        await anyio.wait_all_tasks_blocked()

    anyio.run(main, backend=backend)
    assert len(ended) == 1
    assert "Cancelled" in ended[0].__name__


@pytest.mark.anyio
async def test_its_scopes_can_be_cancelled_from_outside() -> None:
    scope, done = anyio.CancelScope(), anyio.Event()

    async def work() -> None:
        with scope:
            await anyio.sleep_forever()
        done.set()

    background.start(work, "work")
    await anyio.wait_all_tasks_blocked()
    scope.cancel()
    with anyio.fail_after(5):
        await done.wait()
