"""Test when a live table looks up single entries, on a scripted kernel."""

from __future__ import annotations

import copy
import errno

import anyio
import anyio.lowlevel
import pytest
from support import flows
from support.live_tables import check_fake, received_verbs, update_event

from conntrack_aio import (
    Change,
    ChangeType,
    Flow,
    FlowTable,
    Match,
    PermissionDenied,
    Status,
    Tuple,
)
from conntrack_aio.testing import FakeKernel

pytestmark = pytest.mark.anyio


async def test_an_unknown_entry_is_looked_up(kernel: FakeKernel, fake_table: FlowTable) -> None:
    kernel.sysctls["nf_conntrack_events"] = 0
    silent = kernel.add(flows.tcp(50, mark=9))
    changes = fake_table.changes()
    for _ in range(3):
        await anext(changes)
    kernel.emit(update_event(silent, mark=None))
    await check_fake(kernel, fake_table)
    change: Change = await anext(changes)
    assert (change.type, change.flow.mark) == (ChangeType.ADDED, 9)
    assert received_verbs(kernel) == ["count", "dump", "get"]
    assert fake_table.statistics().looked_up == 1


async def test_an_unknown_entry_may_not_exist(kernel: FakeKernel, fake_table: FlowTable) -> None:
    kernel.emit(update_event(flows.tcp(50), id=77, status=Status.CONFIRMED))
    await check_fake(kernel, fake_table)


async def test_an_update_of_another_entry_with_a_known_tuple_is_looked_up(
    kernel: FakeKernel, fake_table: FlowTable
) -> None:
    """What the kernel returns is right."""
    kernel.emit(update_event(kernel.flows[0], id=77))
    await check_fake(kernel, fake_table)
    assert received_verbs(kernel)[-1] == "get"


async def test_an_entry_with_an_incomplete_tuple_is_not_looked_up(
    kernel: FakeKernel, fake_table: FlowTable
) -> None:
    incomplete = update_event(flows.tcp(50), id=77, status=Status.CONFIRMED)
    incomplete.flow.orig = copy.copy(incomplete.flow.orig)
    incomplete.flow.orig.sport = None
    kernel.emit(incomplete)
    await check_fake(kernel, fake_table)
    assert "get" not in received_verbs(kernel)


@pytest.mark.parametrize("fault", ["leave_unanswered", "garble"])
async def test_a_look_up_without_a_valid_reply_counts_as_a_loss(
    kernel: FakeKernel, fake_table: FlowTable, fault: str
) -> None:
    getattr(kernel, fault)("get")
    kernel.emit(update_event(flows.tcp(50), id=77, status=Status.CONFIRMED))
    await check_fake(kernel, fake_table)
    assert fake_table.statistics().resyncs == 1


async def test_a_refused_look_up_ends_the_table(kernel: FakeKernel, fake_table: FlowTable) -> None:
    kernel.refuse(errno.EPERM, "get")
    kernel.emit(update_event(flows.tcp(50), id=77, status=Status.CONFIRMED))
    with anyio.fail_after(5), pytest.raises(PermissionDenied):
        await fake_table.synced()


@pytest.mark.parametrize("first", [0, 1])
async def test_entries_that_share_tuples_in_zones_of_one_direction_are_distinguished(
    first: int,
) -> None:
    """The original tuple of each entry is the reply tuple of the other."""
    tuple_ = Tuple.udp("10.0.0.1", 1000, "10.0.0.2", 53)
    zoned = copy.copy(tuple_)
    zoned.zone = 1
    pair = [Flow(orig=zoned, reply=tuple_.inverse), Flow(orig=tuple_.inverse, reply=zoned)]
    kernel = FakeKernel(sysctls={"nf_conntrack_events": 1})
    created = [kernel.add(flow) for flow in (pair[first], pair[1 - first])]
    async with kernel.connect() as conn, conn.table(Match(mark=7), reconcile=None) as table:
        for number, flow in enumerate(created):
            kernel.emit(update_event(flow, mark=7))
            entry = next(each for each in kernel._state.table if each.id == flow.id)
            entry.mark = 7
            await table.synced()
            assert len(table) == number + 1
        await check_fake(kernel, table)
