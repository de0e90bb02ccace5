"""The live table beside kernels that refuse, fall silent or answer what is none."""

from __future__ import annotations

import copy
import errno
from collections.abc import AsyncIterator

import anyio
import anyio.lowlevel
import pytest
from support import flows
from support.files import OpenFiles

from conntrack_aio import (
    Change,
    ChangeType,
    EventType,
    Flow,
    FlowEvent,
    FlowTable,
    PermissionDenied,
    ResourceExhausted,
    Status,
    TableMode,
)
from conntrack_aio.codec.messages import CT_NEW
from conntrack_aio.netlink.socket import RECEIVE_SIZE
from conntrack_aio.testing import Asked, FakeKernel, FakeSocket
from conntrack_aio.uapi.nfnetlink import NFNLGRP

pytestmark = pytest.mark.anyio


@pytest.fixture
def kernel() -> FakeKernel:
    return FakeKernel(flows=[flows.tcp(n) for n in range(3)], sysctls={"nf_conntrack_events": 1})


@pytest.fixture
async def table(kernel: FakeKernel) -> AsyncIterator[FlowTable]:
    async with kernel.connect(reply_timeout=0.1) as conn, conn.table(reconcile=None) as table:
        yield table


def verbs(kernel: FakeKernel) -> list[str]:
    return [asked.verb for asked in kernel.asked]


async def check(kernel: FakeKernel, table: FlowTable) -> None:
    with anyio.fail_after(5):
        await table.synced()
    assert {flow.id for flow in table} == {flow.id for flow in kernel.flows}


async def test_one_dump_and_nothing_more(kernel: FakeKernel, table: FlowTable) -> None:
    kernel.add(flows.tcp(7))
    kernel.change(flows.tcp(1).orig, mark=7)
    kernel.remove(flows.tcp(2).orig)
    await check(kernel, table)
    assert verbs(kernel) == ["count", "dump"]


async def test_a_refusal_at_the_start(kernel: FakeKernel) -> None:
    kernel.refuse(errno.EPERM, "dump")
    async with kernel.connect() as conn:
        table = conn.table()
        with pytest.raises(PermissionDenied) as raised:
            await table.__aenter__()
        assert raised.value.request.startswith("dump")
        with pytest.raises(PermissionDenied):
            len(table)
        assert conn.statistics().open_streams == conn.statistics().open_tables == 0


async def test_a_setting_that_may_not_be_changed() -> None:
    kernel = FakeKernel(without=["CAP_NET_ADMIN"])
    async with FakeKernel().connect() as conn:
        conn._session.endpoint = kernel._endpoint  # type: ignore[attr-defined]
        with pytest.raises(PermissionDenied):
            await conn.table(enable_events=True).__aenter__()
        assert conn.statistics().open_tables == 0


async def test_a_failure_later_is_raised_everywhere(kernel: FakeKernel, table: FlowTable) -> None:
    changes = table.changes()
    for _ in range(3):
        await anext(changes)
    kernel.refuse(errno.EPERM, "dump")
    kernel.overrun()
    with anyio.fail_after(5):
        with pytest.raises(PermissionDenied):
            await table.synced()
        with pytest.raises(PermissionDenied):
            await anext(changes)
    for use in (
        lambda: len(table),
        lambda: list(table),
        lambda: table.by_orig(flows.tcp(1).orig),
        lambda: table.mode,
        lambda: table.changes(),
    ):
        with pytest.raises(PermissionDenied) as raised:
            use()
        assert len(raised.traceback) < 15
    with pytest.raises(PermissionDenied):
        await table.reconcile()


async def test_the_body_of_a_table_that_failed_leaves_as_it_likes(kernel: FakeKernel) -> None:
    async with kernel.connect() as conn, conn.table() as table:
        kernel.refuse(errno.EPERM, "dump")
        with anyio.fail_after(5), pytest.raises(PermissionDenied):
            await table.reconcile()
    assert conn.statistics().open_tables == 0


@pytest.mark.parametrize("times", [1, 3])
async def test_want_of_memory_is_waited_out(
    kernel: FakeKernel, table: FlowTable, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conntrack_aio.table.keeper._RETRY", 0.001)
    kernel.refuse(errno.ENOMEM, "dump", times=times)
    kernel.overrun()
    await check(kernel, table)
    assert table.statistics().comparisons == times + 2


async def test_but_not_for_ever(
    kernel: FakeKernel, table: FlowTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conntrack_aio.table.keeper._RETRY", 0.001)
    kernel.refuse(errno.ENOMEM, "dump", times=100)
    with anyio.fail_after(5), pytest.raises(ResourceExhausted):
        await table.reconcile()


@pytest.mark.parametrize("fault", ["ignore", "garble"])
async def test_an_answer_that_does_not_come(
    kernel: FakeKernel, table: FlowTable, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conntrack_aio.table.keeper._RETRY", 0.001)
    getattr(kernel, fault)("dump")
    kernel.overrun()
    await check(kernel, table)


@pytest.mark.parametrize("times", [1, 1000])
async def test_a_dump_that_ends_with_what_is_no_message(
    kernel: FakeKernel, table: FlowTable, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing behind it can be read; if that is always so, entries are asked for one by one."""
    monkeypatch.setattr("conntrack_aio.table.keeper._RETRY", 0.001)
    left = times

    def answer(socket: FakeSocket, asked: Asked) -> bool:
        nonlocal left
        if asked.verb != "dump" or not left:
            return False
        left -= 1
        socket.deliver(bytes(RECEIVE_SIZE + 4))
        return True

    kernel.script = answer
    kernel.overrun()
    kernel.remove(kernel.flows[0])
    await check(kernel, table)
    assert table.statistics().comparisons == (3 if times == 1 else 6)


async def test_an_event_that_can_not_be_read_is_a_loss(
    kernel: FakeKernel, table: FlowTable
) -> None:
    kernel.emit(b"\xff" * 32, group=NFNLGRP.CONNTRACK_NEW)
    await check(kernel, table)
    told = table.statistics()
    assert (told.stream.decode_errors, told.resyncs, told.comparisons) == (1, 1, 2)


async def test_forged_events_change_nothing(kernel: FakeKernel, table: FlowTable) -> None:
    event = FlowEvent(type=EventType.DESTROY, flow=kernel.flows[0])
    kernel.emit(event, sender=4711)
    await check(kernel, table)
    assert table.statistics().stream.forged == 1


# -- strangers ----------------------------------------------------------------------------------


def told_of(flow: Flow, **fields: object) -> FlowEvent:
    told = copy.copy(flow)
    for name, value in fields.items():
        setattr(told, name, value)
    return FlowEvent(type=EventType.UPDATE, flow=told)


async def test_an_unknown_flow_is_looked_up(kernel: FakeKernel, table: FlowTable) -> None:
    kernel.sysctls["nf_conntrack_events"] = 0
    silent = kernel.add(flows.tcp(50, mark=9))
    changes = table.changes()
    for _ in range(3):
        await anext(changes)
    kernel.emit(told_of(silent, mark=None))
    await check(kernel, table)
    change: Change = await anext(changes)
    assert (change.type, change.flow.mark) == (ChangeType.APPEARED, 9)
    assert verbs(kernel) == ["count", "dump", "get"]
    assert table.statistics().looked_up == 1


async def test_one_that_is_not_there(kernel: FakeKernel, table: FlowTable) -> None:
    kernel.emit(told_of(flows.tcp(50), id=77, status=Status.CONFIRMED))
    await check(kernel, table)


async def test_one_with_the_tuple_of_one_that_is_known(
    kernel: FakeKernel, table: FlowTable
) -> None:
    """The kernel's is right."""
    kernel.emit(told_of(kernel.flows[0], id=77))
    await check(kernel, table)
    assert verbs(kernel)[-1] == "get"


async def test_a_tuple_that_can_not_be_asked_for(kernel: FakeKernel, table: FlowTable) -> None:
    bad = told_of(flows.tcp(50), id=77, status=Status.CONFIRMED)
    bad.flow.orig = copy.copy(bad.flow.orig)
    bad.flow.orig.sport = None
    kernel.emit(bad)
    await check(kernel, table)
    assert "get" not in verbs(kernel)


@pytest.mark.parametrize("fault", ["ignore", "garble"])
async def test_a_look_up_without_an_answer_is_a_loss(
    kernel: FakeKernel, table: FlowTable, fault: str
) -> None:
    getattr(kernel, fault)("get")
    kernel.emit(told_of(flows.tcp(50), id=77, status=Status.CONFIRMED))
    await check(kernel, table)
    assert table.statistics().resyncs == 1


async def test_a_look_up_that_is_refused_is_a_failure(kernel: FakeKernel, table: FlowTable) -> None:
    kernel.refuse(errno.EPERM, "get")
    kernel.emit(told_of(flows.tcp(50), id=77, status=Status.CONFIRMED))
    with anyio.fail_after(5), pytest.raises(PermissionDenied):
        await table.synced()


# -- settings -----------------------------------------------------------------------------------


async def test_a_table_that_is_rehashed_is_read_again(kernel: FakeKernel, table: FlowTable) -> None:
    """A walk may have missed entries: what it did not tell of may still be there."""
    delayed = kernel.delay("dump")
    kernel.overrun()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(table.synced)
        while delayed.asked is None:
            await anyio.lowlevel.checkpoint()
        _rehash(kernel)
        delayed.release()
    await check(kernel, table)
    assert table.statistics().comparisons == 3


def _rehash(kernel: FakeKernel) -> None:
    kernel.sysctls["nf_conntrack_buckets"] = 2 * int(kernel.sysctls["nf_conntrack_buckets"])


async def test_one_that_is_rehashed_again_and_again(
    kernel: FakeKernel, table: FlowTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At last each entry that was not found is asked for."""
    monkeypatch.setattr("conntrack_aio.table.keeper._RETRY", 0.001)

    def rehash(socket: FakeSocket, asked: Asked) -> bool:
        if asked.verb == "dump":
            _rehash(kernel)
        return False

    kernel.script = rehash
    with anyio.fail_after(5):
        await table.reconcile()
    await check(kernel, table)
    assert table.statistics().comparisons == 6


async def test_an_entry_that_no_dump_can_tell(kernel: FakeKernel, table: FlowTable) -> None:
    """It does not stand in the way of the others; whether they are there is asked one by one."""
    kernel.overrun()
    for flow in kernel.flows[:2]:
        kernel.remove(flow)  # and nobody is told

    def tell_what_is_none(socket: FakeSocket, asked: Asked) -> bool:
        if asked.verb == "dump":
            socket.answer(asked, CT_NEW, b"\2\0\0\0" + b"\xff" * 8)
            socket.done(asked)
        return asked.verb == "dump"

    kernel.script = tell_what_is_none
    await check(kernel, table)
    assert len(table) == 1
    assert verbs(kernel).count("get") == 3
    assert table.statistics().comparisons == 2


async def test_a_kernel_without_the_setting() -> None:
    kernel = FakeKernel("4.19")
    async with kernel.connect() as conn, conn.table() as table:
        kernel.add(flows.tcp(1))
        await check(kernel, table)
        assert table.mode in TableMode


async def test_no_descriptor_is_left(kernel: FakeKernel) -> None:
    async with kernel.connect() as conn:
        async with conn.table():
            pass
        files = OpenFiles()
        kernel.refuse(errno.EPERM, "dump", times=3)
        for _ in range(3):
            with pytest.raises(PermissionDenied):
                await conn.table().__aenter__()
        assert not files.new()
