"""Test that a cancelled method leaves the connection usable and leaks no descriptor."""

from __future__ import annotations

import asyncio
import itertools
import types
from collections.abc import Awaitable, Callable, Generator
from typing import Any, cast

import anyio
import pytest
from support import flows
from support.connection_operations import OPERATIONS, check_connection, create_flows
from support.effort import stride
from support.lab import Lab
from support.open_files import OpenFiles

from conntrack_aio import connect

pytestmark = [pytest.mark.kernel]

STRIDE = stride(3, 9)
"""The step between cancelled awaits: a thorough run cancels each await on one of three loops."""


class Awaits:
    """Count the awaits of a coroutine, and cancel it during the await of a given number."""

    def __init__(self, number: int, cancel: Callable[[], object]) -> None:
        self.cancelled = False
        self._left = number
        self._cancel = cancel

    @types.coroutine
    def __call__(self, awaitable: Awaitable[object]) -> Generator[object, object, None]:
        steps = cast("Generator[object, object, object]", awaitable.__await__())
        step, value = steps.send, cast("Any", None)
        while True:
            try:
                waited_for = step(value)
            except StopIteration:
                return
            self._left -= 1
            if self._left == 0:
                self.cancelled = True
                self._cancel()
            try:
                step, value = steps.send, (yield waited_for)
            except BaseException as error:
                step, value = steps.throw, error


@pytest.mark.anyio
@pytest.mark.parametrize("offload", [False, True], ids=["on the loop", "offloaded"])
@pytest.mark.parametrize("name", OPERATIONS)
async def test_any_await_can_be_cancelled_by_a_cancel_scope(
    lab: Lab, name: str, offload: bool, anyio_backend: tuple[str, dict[str, bool]]
) -> None:
    backend, options = anyio_backend
    loop = 2 if backend == "trio" else int(options["use_uvloop"])
    first = 1 + loop % STRIDE
    async with connect(netns=lab.netns, offload=offload) as conn:
        await conn.create(flows.tcp(1))
        files = OpenFiles()
        await check_connection(conn)
        await files.closed()
        for number in itertools.count(first, STRIDE):
            await create_flows(lab)
            scope = anyio.CancelScope()
            awaits = Awaits(number, scope.cancel)
            with anyio.fail_after(10), scope:
                await awaits(OPERATIONS[name](conn))
            await files.closed()
            await check_connection(conn)
            await files.closed()
            if not awaits.cancelled:
                break
        assert number > 1


@pytest.mark.asyncio
@pytest.mark.parametrize("offload", [False, True], ids=["on the loop", "offloaded"])
@pytest.mark.parametrize("name", OPERATIONS)
async def test_any_await_can_be_cancelled_by_asyncio(lab: Lab, name: str, offload: bool) -> None:
    """After ``task.cancel()`` the worker thread that the task waited for still runs."""
    async with connect(netns=lab.netns, offload=offload) as conn:
        files = OpenFiles()
        for number in itertools.count(1, STRIDE):
            await create_flows(lab)

            async def body(number: int = number) -> bool:
                task = asyncio.current_task()
                assert task is not None
                awaits = Awaits(number, task.cancel)
                await awaits(OPERATIONS[name](conn))
                return awaits.cancelled

            async with asyncio.timeout(10):
                (result,) = await asyncio.gather(
                    asyncio.create_task(body()), return_exceptions=True
                )
            await files.closed()
            await check_connection(conn)
            if result is False:
                break
            assert result is True or isinstance(result, asyncio.CancelledError)
    statistics = conn.client_statistics()
    assert (
        statistics.open_dumps
        == statistics.open_streams
        == statistics.open_bulk_operations
        == statistics.open_tables
        == 0
    )
