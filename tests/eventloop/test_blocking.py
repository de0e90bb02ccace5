"""Test requests without an event loop."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import pytest
from support.lab import Lab

from conntrack_aio import (
    Connection,
    EventType,
    Flow,
    Match,
    NotFound,
    PermissionDenied,
    UsedElsewhere,
    connect,
)
from conntrack_aio.eventloop import blocking, checkpoint, current, move_on_after
from conntrack_aio.testing import FakeKernel

T = TypeVar("T")

FLOW = Flow.tcp("10.0.0.1", 1000, "10.0.0.2", 80, timeout=600, mark=3)

SHORT_PROGRAM = """
import sys
from conntrack_aio.connecting import connect
from conntrack_aio.eventloop import blocking

async def main():
    async with connect() as conn:
        return await conn.count()

print(blocking.run(main))
print([name for name in ("asyncio", "anyio", "attrs", "logging", "inspect") if name in sys.modules])
"""


def use(action: Callable[[Connection], Awaitable[T]], **options: float) -> T:
    """Run an action with a connection to this thread's namespace, without an event loop."""

    async def main() -> T:
        async with connect(**options) as conn:  # type: ignore[arg-type]
            return await action(conn)

    return blocking.run(main)


@pytest.mark.kernel
def test_requests_are_carried_out(lab: Lab) -> None:
    async def action(conn: Connection) -> list[object]:
        created = await conn.create(FLOW)
        await conn.update(created, mark=5)
        mark = (await conn.get(FLOW.orig)).mark
        count = await conn.count()
        await conn.delete(created)
        with pytest.raises(NotFound):
            await conn.get(FLOW.orig)
        await conn.create(FLOW)
        await conn.flush()
        entries = (await conn.table_statistics()).entries
        return [mark, count, entries, (await conn.sysctls.read()).acct]

    assert lab.run(lambda: use(action)) == [5, 1, 0, False]


@pytest.mark.kernel
def test_tables_are_dumped(lab: Lab) -> None:
    flows = [Flow.tcp("10.0.0.1", port, "10.0.0.2", 80, timeout=600) for port in range(1, 1001)]

    async def create() -> None:
        async with connect(netns=lab.netns) as conn:
            async for outcome in conn.create_many(flows):
                outcome.result()

    async def action(conn: Connection) -> tuple[int, int, int]:
        listed = await conn.list()
        matching = await conn.list(Match("orig.sport <= 10"))
        return len(listed), len(matching), await conn.count(Match("proto tcp"))

    anyio.run(create)
    assert lab.run(lambda: use(action)) == (1000, 10, 1000)


@pytest.mark.kernel
def test_little_is_imported(lab: Lab) -> None:
    command = [sys.executable, "-c", SHORT_PROGRAM]
    done = lab.run(lambda: subprocess.run(command, capture_output=True, text=True, check=True))
    assert done.stdout == "0\n[]\n"


@pytest.mark.parametrize(
    "action",
    [
        lambda conn: conn.create_many([FLOW]),
        lambda conn: conn.events(EventType.NEW).__aenter__(),
        lambda conn: conn.table().__aenter__(),
    ],
)
def test_what_needs_an_event_loop_says_so(
    action: Callable[[Connection], Awaitable[object]],
) -> None:
    async def awaited(conn: Connection) -> None:
        await action(conn)

    # The second text is that of old versions of anyio.
    says = pytest.raises(RuntimeError, match=r"event loop|async library")
    with FakeKernel().installed(), says:
        use(awaited)


def test_a_foreign_awaitable_is_refused() -> None:
    class Forever:
        def __await__(self):  # type: ignore[no-untyped-def]
            yield self

    async def main() -> None:
        await Forever()

    with pytest.raises(RuntimeError, match="this needs an event loop"):
        blocking.run(main)
    with pytest.raises(RuntimeError, match="no running event loop"):
        current()


def test_it_cannot_be_nested() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="already"):
            blocking.run(main)
        await checkpoint()

    blocking.run(main)


def test_errors_leave_it() -> None:
    async def main() -> None:
        raise PermissionDenied(1, "test")

    with pytest.raises(PermissionDenied):
        blocking.run(main)


def test_waits_end_when_data_arrives_or_the_time_is_over() -> None:
    first, second = socket.socketpair()

    async def main() -> tuple[bool, bool]:
        with move_on_after(0.01) as short:
            await current().wait_readable(first.fileno()).finish()
        second.send(b"x")
        with move_on_after(60) as long:
            await current().wait_readable(first.fileno()).finish()
        return short.cancelled_caught, long.cancelled_caught

    with first, second:
        assert blocking.run(main) == (True, False)


def test_the_time_of_an_outer_block_ends_an_inner_one() -> None:
    first, second = socket.socketpair()

    async def main() -> list[bool]:
        with move_on_after(0.01) as outer, move_on_after(60) as inner:
            await current().wait_readable(first.fileno()).finish()
        return [outer.cancelled_caught, inner.cancelled_caught]

    with first, second:
        assert blocking.run(main) == [True, False]


def test_a_connection_is_not_used_in_another_loop() -> None:
    async def open_one() -> Connection:
        return await connect()

    async def elsewhere(conn: Connection) -> None:
        with pytest.raises(UsedElsewhere):
            await conn.count()

    with FakeKernel().installed():
        conn = blocking.run(open_one)
        anyio.run(elsewhere, conn)
        conn.close()
