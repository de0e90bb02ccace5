"""Test opening and closing live tables, on this machine's kernel."""

from __future__ import annotations

import math
import os

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from support import flows
from support.lab import Lab
from support.polling import wait_until

from conntrack_aio import (
    Connection,
    Flow,
    connect,
)

pytestmark = [pytest.mark.kernels, pytest.mark.anyio, pytest.mark.kernel]


async def test_an_error_of_the_body_is_raised_unchanged(conn: Connection) -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        async with conn.table():
            raise ZeroDivisionError
    assert raised.value.__context__ is None
    assert conn.client_statistics().open_tables == conn.client_statistics().open_streams == 0


@pytest.mark.parametrize("error", [KeyError("mine"), ExceptionGroup("mine", [KeyError()])])
async def test_an_error_of_the_match_function_is_raised_unchanged(
    conn: Connection, error: Exception
) -> None:
    def match(flow: Flow) -> bool:
        raise error

    async with conn.table(match) as table:
        await conn.create(flows.tcp())
        with pytest.raises(type(error)) as raised:
            await anext(table.changes())
        assert raised.value.args == error.args


async def test_a_cancelled_body_closes_the_table(conn: Connection) -> None:
    with anyio.CancelScope() as scope:
        async with conn.table() as table:
            scope.cancel()
            await table.changes().receive_batch()
    assert scope.cancelled_caught
    assert conn.client_statistics().open_tables == conn.client_statistics().open_streams == 0


async def test_any_task_may_close_the_table(conn: Connection) -> None:
    table = await conn.table().__aenter__()
    waiting: list[str] = []

    async def wait(name: str) -> None:
        waiting.append(name)
        with pytest.raises(anyio.ClosedResourceError):
            await anext(table.changes())
        waiting.remove(name)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait, "one")
        tasks.start_soon(wait, "two")
        await anyio.wait_all_tasks_blocked()
        await table.aclose()
    assert not waiting
    await table.aclose()


async def test_a_table_is_usable_only_inside_its_block(conn: Connection) -> None:
    table = conn.table()
    with pytest.raises(anyio.ClosedResourceError, match="async with"):
        len(table)
    async with table:
        changes = table.changes()
        with pytest.raises(RuntimeError, match="entered before"):
            await table.__aenter__()
        assert len(table) == 0
    for use in (
        lambda: len(table),
        lambda: list(table),
        lambda: table.by_id(1),
        lambda: table.get(flows.tcp().orig),
        lambda: flows.tcp() in table,
        lambda: table.translate(flows.tcp().orig),
        lambda: table.mode,
        lambda: table.behind,
        lambda: table.changes(),
    ):
        with pytest.raises(anyio.ClosedResourceError, match="the table is closed"):
            use()
    for wait in (table.synced, table.reconcile, changes.receive_batch):
        with pytest.raises(anyio.ClosedResourceError, match="the table is closed"):
            await wait()
    assert table.statistics().entries == 0


async def test_the_table_ends_with_the_connection(lab: Lab) -> None:
    async with connect(netns=lab.netns) as conn, conn.table() as table:
        await conn.aclose()
        with pytest.raises(anyio.ClosedResourceError):
            len(table)
    with pytest.raises(anyio.ClosedResourceError):
        conn.table()


async def test_a_table_may_be_closed_while_it_is_entered(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it has not subscribed yet, no stream stays open."""
    table = conn.table()

    async def read_setting(setting: str) -> None:
        table.close()

    monkeypatch.setattr(table._kernel_table, "read_setting", read_setting)
    with pytest.raises(anyio.ClosedResourceError):
        await table.__aenter__()
    assert conn.client_statistics().open_streams == 0


async def asynchronous(flow: Flow) -> bool:
    return True


async def test_wrong_parameters_are_refused(conn: Connection) -> None:
    for wrong, error in (
        ({"match": 7}, TypeError),
        ({"match": asynchronous}, TypeError),
        ({"reconcile": "60"}, TypeError),
        ({"reconcile": "Auto"}, TypeError),
        ({"reconcile": math.nan}, ValueError),
        ({"reconcile": math.inf}, ValueError),
        ({"reconcile": 10**400}, ValueError),
        ({"reconcile": 0}, ValueError),
        ({"reconcile": -1.0}, ValueError),
        ({"receive_buffer": 0}, ValueError),
    ):
        with pytest.raises(error):
            conn.table(**wrong)  # type: ignore[arg-type]
    async with conn.table() as table:
        for look_up in (table.by_orig, table.by_reply, table.get, table.translate):
            with pytest.raises(TypeError, match="Tuple"):
                look_up("10.0.0.1")  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="pass its orig"):
                look_up(flows.tcp())  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="zone"):
                look_up(flows.tcp().orig, zone="a")  # type: ignore[arg-type]


async def test_closed_tables_leave_no_descriptors_open(conn: Connection) -> None:
    await conn.create(flows.tcp(1))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        async with conn.table() as table:
            await table.reconcile()
    # Not "==", because an older descriptor may be closed, too.
    await wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before)
