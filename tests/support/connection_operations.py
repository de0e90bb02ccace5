"""Typical operations on a connection, for tests that cancel or interrupt them at any step."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from socket import AF_INET

import anyio

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

from . import expectations, flows
from .lab import Lab

BULK_FLOWS = [*map(flows.tcp, range(5000, 5600))]
"""So many flows that a bulk operation sends them in several portions."""

Operation = Callable[[Connection], Awaitable[object]]


async def _dump(conn: Connection) -> None:
    async with conn.dump() as dump:
        async for _ in dump:
            pass


async def _create_and_delete(conn: Connection) -> None:
    created = await conn.create(flows.tcp(5000))
    await conn.delete(created)


async def _event(conn: Connection) -> None:
    async with conn.events() as stream:
        await conn.update(flows.tcp(1), mark=9)
        await anext(stream)


async def _bulk(conn: Connection) -> None:
    await conn.create_many(BULK_FLOWS)
    await conn.update_many(BULK_FLOWS, status=Status.ASSURED)
    await conn.delete_many(BULK_FLOWS)


async def _bulk_of_a_dump(conn: Connection) -> None:
    async with conn.dump() as dump:
        await conn.delete_many(dump)


async def _policies(conn: Connection) -> None:
    await conn.timeouts.replace(TimeoutPolicy.of("a", ICMPTimeouts(), family=AF_INET))
    await conn.timeouts.update("a", ICMPTimeouts(timeout=5))
    await conn.timeouts.delete_unused()


async def _helper(conn: Connection) -> None:
    """Delete a helper that does not exist. The kernel may not support user-space helpers."""
    with contextlib.suppress(NotFound, NotSupported, PermissionDenied):
        await conn.helpers.delete("nothing", AF_INET, 6)


async def _columns(conn: Connection) -> None:
    async with conn.dump().columns("orig_src", "bytes") as batches:
        async for batch in batches:
            assert len(batch["bytes"].data) == len(batch)


async def _idle_stream(conn: Connection) -> None:
    async with conn.events() as stream:
        with anyio.move_on_after(0.02):
            await anext(stream)


async def _filtered(conn: Connection) -> None:
    """List and delete with a match of a protocol.

    The kernel filters by protocol only within one family. Therefore the library sends one dump, and
    one delete request, for each family.
    """
    async with conn.events(match=Match(proto="tcp")):
        await conn.list(Match(proto="tcp"))
    await conn.delete_matching(Match(proto="tcp"))


async def _table(conn: Connection) -> None:
    async with conn.table(reconcile=None) as table, table.changes() as changes:
        await changes.receive_batch()
        await conn.update(flows.tcp(1), mark=9)
        await table.synced()
        await table.reconcile()
        await changes.receive_batch()


async def _table_after_a_loss(conn: Connection) -> None:
    async with conn.table(reconcile=None, receive_buffer=2048) as table:
        await conn.create_many(map(flows.tcp, range(5000, 5020)))
        await table.synced()
        assert table.by_orig(flows.tcp(5019).orig) is not None


async def _idle_changes(conn: Connection) -> None:
    async with conn.table(reconcile=None) as table, table.changes() as changes:
        with anyio.move_on_after(0.02):
            while True:
                await changes.receive_batch()


async def _expect(conn: Connection) -> None:
    created = await expectations.create_expectation(conn)
    await conn.expectations.update(created, timeout=60)
    assert await conn.expectations.list(master=created.master)
    await conn.expectations.delete(created.tuple)


OPERATIONS: dict[str, Operation] = {
    "get": lambda conn: conn.get(flows.tcp(1)),
    "update": lambda conn: conn.update(flows.tcp(1), mark=3, status=Status.ASSURED),
    "create and delete": _create_and_delete,
    "count": lambda conn: conn.count(),
    "list": lambda conn: conn.list(),
    "dump": _dump,
    "columns": _columns,
    "delete_matching": lambda conn: conn.delete_matching(Match(mark=77)),
    "filtered": _filtered,
    "bulk": _bulk,
    "bulk of a dump": _bulk_of_a_dump,
    "timeout policies": _policies,
    "a helper": _helper,
    "flush": lambda conn: conn.flush(),
    "expect": _expect,
    "event": _event,
    "idle stream": _idle_stream,
    "table": _table,
    "table after a loss": _table_after_a_loss,
    "idle changes": _idle_changes,
}


async def create_flows(lab: Lab) -> None:
    """Create enough flows for a dump of several datagrams."""
    async with connect(netns=lab.netns) as conn:
        await flows.fill_cached(conn, 399)


async def check_connection(conn: Connection) -> None:
    """Check that a connection still works, whatever happened to it before."""
    await conn.flush()
    created = await conn.create(flows.tcp(1))
    assert (await conn.get(created)).id == created.id
    assert await conn.count() == len(await conn.list()) == 1
    async with conn.events() as stream:
        await conn.delete(created)
        with anyio.fail_after(5):
            assert (await anext(stream)).flow.id == created.id
