"""Helpers for tests of the live table, on scripted kernels and on this machine's."""

from __future__ import annotations

import copy
import socket
from collections.abc import Callable

import anyio

from conntrack_aio import (
    Change,
    Changes,
    Connection,
    EventType,
    Flow,
    FlowEvent,
    FlowTable,
    Match,
    Tuple,
)
from conntrack_aio.testing import FakeKernel


async def read(changes: Changes, count: int) -> list[Change]:
    """Return the next changes."""
    with anyio.fail_after(5):
        return [await anext(changes) for _ in range(count)]


# -- on this machine's kernel -------------------------------------------------------------------


def comparable(flow: Flow) -> Flow:
    """Return a copy of a flow without the fields that change without events."""
    copied = copy.copy(flow)
    copied.timeout = copied.use = copied.timestamp = None
    copied.counters_orig = copied.counters_reply = None
    copied.mark = copied.mark or 0
    return copied


def by_tuple(found: FlowTable | list[Flow]) -> dict[tuple[Tuple, int | None], Flow]:
    """Return comparable flows by original tuple and zone."""
    return {(flow.orig, flow.zone): comparable(flow) for flow in found}


async def check(conn: Connection, table: FlowTable, match: Match | None = None) -> None:
    """Check that a table has the flows that the kernel has."""
    await table.synced()
    assert by_tuple(table) == by_tuple(await conn.list(match))


def send_one_datagram() -> None:
    """Create a flow with one packet, which emits one event."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"", ("127.0.0.1", 9))


# -- on a scripted kernel -----------------------------------------------------------------------


async def wait_for_condition(condition: Callable[[], object]) -> None:
    """Wait for a condition that the table meets after one of its delays."""
    with anyio.fail_after(5):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.001)


def received_verbs(kernel: FakeKernel) -> list[str]:
    """Return which requests a scripted kernel received."""
    return [request.verb for request in kernel.requests]


async def check_fake(kernel: FakeKernel, table: FlowTable) -> None:
    """Check that a table has the flows that a scripted kernel has."""
    with anyio.fail_after(5):
        await table.synced()
    assert {flow.id for flow in table} == {flow.id for flow in kernel.flows}


def update_event(flow: Flow, **fields: object) -> FlowEvent:
    """Return an UPDATE event of a flow, with these fields."""
    reported = copy.copy(flow)
    for name, value in fields.items():
        setattr(reported, name, value)
    return FlowEvent(type=EventType.UPDATE, flow=reported)


def expire_all(table: FlowTable) -> None:
    """Make a table assume that the timeout of every entry has expired."""
    for key in tuple(table._entries.keys):
        table._mirror.set_time_of(key, -10_000.0)
