"""Cancelled anywhere, a verb leaves the connection usable, and no descriptor behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from socket import AF_INET

import anyio
import pytest
from support import expectations, flows
from support.lab import Lab
from support.waiting import until

from conntrack_aio import (
    Connection,
    Match,
    NotFound,
    NotSupported,
    PermissionDenied,
    Status,
    connect,
)
from conntrack_aio.model.timeouts import ICMPTimeouts, TimeoutPolicy

pytestmark = [pytest.mark.kernel]

Verb = Callable[[Connection], Awaitable[object]]


async def _dump(conn: Connection) -> None:
    async with conn.dump() as dump:
        async for _ in dump:
            pass


async def _create_and_delete(conn: Connection) -> None:
    made = await conn.create(flows.tcp(5000))
    await conn.delete(made)


async def _event(conn: Connection) -> None:
    async with conn.events() as stream:
        await conn.update(flows.tcp(1), mark=9)
        await anext(stream)


async def _bulk(conn: Connection) -> None:
    await conn.create_many(map(flows.tcp, range(5000, 5600)))
    await conn.update_many(map(flows.tcp, range(5000, 5600)), status=Status.ASSURED)
    await conn.delete_many(map(flows.tcp, range(5000, 5600)))


async def _bulk_of_a_dump(conn: Connection) -> None:
    async with conn.dump() as dump:
        await conn.delete_many(dump)


async def _policies(conn: Connection) -> None:
    await conn.timeouts.replace(TimeoutPolicy.of("a", ICMPTimeouts(), family=AF_INET))
    await conn.timeouts.update("a", ICMPTimeouts(timeout=5))
    await conn.timeouts.delete_unused()


async def _helper(conn: Connection) -> None:
    """One that there is not, perhaps on a kernel that has none at all."""
    with contextlib.suppress(NotFound, NotSupported, PermissionDenied):
        await conn.helpers.delete("nothing", AF_INET, 6)


async def _idle_stream(conn: Connection) -> None:
    async with conn.events() as stream:
        await anext(stream)


async def _expect(conn: Connection) -> None:
    made = await expectations.expected(conn)
    await conn.expectations.update(made, timeout=60)
    assert await conn.expectations.list(master=made.master)
    await conn.expectations.delete(made.tuple)


VERBS: dict[str, Verb] = {
    "get": lambda conn: conn.get(flows.tcp(1)),
    "update": lambda conn: conn.update(flows.tcp(1), mark=3, status=Status.ASSURED),
    "create and delete": _create_and_delete,
    "count": lambda conn: conn.count(),
    "list": lambda conn: conn.list(),
    "dump": _dump,
    "delete_matching": lambda conn: conn.delete_matching(Match(mark=77)),
    "bulk": _bulk,
    "bulk of a dump": _bulk_of_a_dump,
    "timeout policies": _policies,
    "a helper": _helper,
    "flush": lambda conn: conn.flush(),
    "expect": _expect,
    "event": _event,
    "idle stream": _idle_stream,
}
MOST = 40
"""Turns of the loop after which each verb has surely ended, or waits for good."""


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def at_rest(before: int) -> None:
    """A thread that was left sending has ended, and closed its socket."""
    await until(lambda: descriptors() == before)


async def prepare(lab: Lab, turns: int) -> None:
    """Enough flows for several chunks of a dump, while that is what is cancelled."""
    async with connect(netns=lab.netns) as conn:
        numbers = range(1, 400 if turns < 10 else 20)
        await flows.fill(conn, (flows.tcp(n, mark=77 if n % 2 else 0) for n in numbers))


async def check(conn: Connection) -> None:
    """The connection answers right, whatever it went through."""
    await conn.flush()
    made = await conn.create(flows.tcp(1))
    assert (await conn.get(made)).id == made.id
    assert await conn.count() == len(await conn.list()) == 1
    async with conn.events() as stream:
        await conn.delete(made)
        with anyio.fail_after(5):
            assert (await anext(stream)).flow.id == made.id


@pytest.mark.anyio
@pytest.mark.parametrize("offload", [False, True], ids=["on the loop", "offloaded"])
@pytest.mark.parametrize("name", VERBS)
async def test_cancelled_at_every_point(lab: Lab, name: str, offload: bool) -> None:
    async with connect(netns=lab.netns, offload=offload) as conn:
        await conn.create(flows.tcp(1))
        before = descriptors()
        await check(conn)
        await at_rest(before)
        for turns in range(MOST):
            await prepare(lab, turns)
            ended = await cancelled_after(turns, lambda: VERBS[name](conn))
            await at_rest(before)
            await check(conn)
            await at_rest(before)
            if ended:
                break


async def cancelled_after(turns: int, verb: Callable[[], Awaitable[object]]) -> bool:
    """Cancel it after so many turns of the loop; whether it had ended by itself."""
    ended = False

    async def body() -> None:
        nonlocal ended
        await verb()
        ended = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(body)
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    return ended


@pytest.mark.asyncio
@pytest.mark.parametrize("offload", [False, True], ids=["on the loop", "offloaded"])
@pytest.mark.parametrize("name", VERBS)
async def test_cancelled_the_way_of_asyncio(lab: Lab, name: str, offload: bool) -> None:
    """``task.cancel()`` tears a task from a worker thread that goes on without it."""
    async with connect(netns=lab.netns, offload=offload) as conn:
        before = descriptors()
        for turns in range(MOST):
            await prepare(lab, turns)

            async def body() -> None:
                await VERBS[name](conn)

            task = asyncio.create_task(body())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            (result,) = await asyncio.gather(task, return_exceptions=True)
            assert result is None or isinstance(result, asyncio.CancelledError)
            await at_rest(before)
            await check(conn)
            if result is None:
                break
    told = conn.statistics()
    assert told.open_dumps == told.open_streams == told.open_bulks == 0
