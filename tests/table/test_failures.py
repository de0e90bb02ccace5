"""Test errors that end a live table, and events that are not valid, on a scripted kernel."""

from __future__ import annotations

import errno

import anyio
import anyio.lowlevel
import pytest
from support import flows
from support.live_tables import check_fake
from support.open_files import OpenFiles

from conntrack_aio import (
    EventType,
    Flow,
    FlowEvent,
    FlowTable,
    PermissionDenied,
)
from conntrack_aio.testing import FakeKernel
from conntrack_aio.uapi.nfnetlink import NFNLGRP

pytestmark = pytest.mark.anyio


async def test_a_refused_first_dump_is_raised_by_entering(kernel: FakeKernel) -> None:
    kernel.refuse(errno.EPERM, "dump")
    async with kernel.connect() as conn:
        table = conn.table()
        with pytest.raises(PermissionDenied) as raised:
            await table.__aenter__()
        assert raised.value.request.startswith("dump")
        with pytest.raises(PermissionDenied):
            len(table)
        assert conn.client_statistics().open_streams == conn.client_statistics().open_tables == 0


async def test_enable_events_raises_without_the_privilege() -> None:
    kernel = FakeKernel(without=["CAP_NET_ADMIN"])
    async with FakeKernel().connect() as conn:
        conn._session.socket_factory = kernel._socket_factory  # type: ignore[attr-defined]
        with pytest.raises(PermissionDenied):
            await conn.table(enable_events=True).__aenter__()
        assert conn.client_statistics().open_tables == 0


async def test_every_method_raises_the_error_that_ended_the_table(
    kernel: FakeKernel, fake_table: FlowTable
) -> None:
    changes = fake_table.changes()
    for _ in range(3):
        await anext(changes)
    kernel.refuse(errno.EPERM, "dump")
    kernel.overrun()
    with anyio.fail_after(5):
        with pytest.raises(PermissionDenied):
            await fake_table.synced()
        with pytest.raises(PermissionDenied):
            await anext(changes)
    depths: list[int] = []
    for use in (
        lambda: len(fake_table),
        lambda: fake_table.by_id(1),
        lambda: fake_table.mode,
        lambda: fake_table.behind,
        lambda: fake_table.last_error,
        lambda: fake_table.changes(),
    ):
        with pytest.raises(PermissionDenied) as raised:
            use()
        depths.append(len(raised.traceback))
    assert len({*depths}) == 1, "each call raises a copy, so that no traceback grows"
    with pytest.raises(PermissionDenied):
        await fake_table.reconcile()


async def test_the_body_may_end_normally_after_the_table_failed(kernel: FakeKernel) -> None:
    async with kernel.connect() as conn, conn.table() as table:
        kernel.refuse(errno.EPERM, "dump")
        with anyio.fail_after(5), pytest.raises(PermissionDenied):
            await table.reconcile()
    assert conn.client_statistics().open_tables == 0


MATCH_ERRORS = [
    OSError(errno.EMFILE, "mine"),
    RuntimeError("can't start new thread"),
    ValueError("mine"),
    MemoryError("mine"),
]


@pytest.mark.parametrize("error", MATCH_ERRORS, ids=[type(each).__name__ for each in MATCH_ERRORS])
@pytest.mark.parametrize("cause", ["event", "reconciliation"])
async def test_an_error_of_the_match_function_ends_the_table(
    kernel: FakeKernel, error: Exception, cause: str
) -> None:
    """This holds for every error, even for one that would be a shortage if the table raised it."""
    failing = False

    def match(flow: Flow) -> bool:
        if failing:
            raise error
        return True

    async with kernel.connect() as conn, conn.table(match, reconcile=None) as table:
        failing = True
        if cause == "event":
            kernel.add(flows.tcp(7))
        with anyio.fail_after(5), pytest.raises(type(error)) as raised:
            await (table.synced() if cause == "event" else table.reconcile())
        assert raised.value.args == error.args


async def test_an_event_that_cannot_be_decoded_counts_as_lost(
    kernel: FakeKernel, fake_table: FlowTable
) -> None:
    kernel.emit(b"\xff" * 32, group=NFNLGRP.CONNTRACK_NEW)
    await check_fake(kernel, fake_table)
    statistics = fake_table.statistics()
    assert statistics.stream.decode_errors == 1
    assert (statistics.resyncs, statistics.reconciliations) == (1, 2)


async def test_forged_events_change_nothing(kernel: FakeKernel, fake_table: FlowTable) -> None:
    event = FlowEvent(type=EventType.DESTROY, flow=kernel.flows[0])
    kernel.emit(event, sender=4711)
    await check_fake(kernel, fake_table)
    assert fake_table.statistics().stream.forged == 1


async def test_a_table_that_failed_leaves_no_descriptor_open(kernel: FakeKernel) -> None:
    async with kernel.connect() as conn:
        async with conn.table():
            pass
        files = OpenFiles()
        kernel.refuse(errno.EPERM, "dump", times=3)
        for _ in range(3):
            with pytest.raises(PermissionDenied):
                await conn.table().__aenter__()
        await files.closed()
