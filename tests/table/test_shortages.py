"""Test that shortages and missing replies do not end a live table, on a scripted kernel."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable

import anyio
import anyio.lowlevel
import pytest
from support import flows
from support.live_tables import check_fake, update_event, wait_for_condition

from conntrack_aio import (
    ChangeType,
    DumpInterrupted,
    Flow,
    FlowTable,
    KernelError,
    NoReply,
)
from conntrack_aio.testing import FakeKernel

pytestmark = pytest.mark.anyio


TEMPORARY = (KernelError, NoReply, DumpInterrupted)


Shortage = Callable[[FlowTable, FakeKernel, pytest.MonkeyPatch], None]


def _no_memory(table: FlowTable, kernel: FakeKernel, patch: pytest.MonkeyPatch) -> None:
    kernel.refuse(errno.ENOMEM, "dump", times=1_000_000)


def _no_valid_replies(table: FlowTable, kernel: FakeKernel, patch: pytest.MonkeyPatch) -> None:
    kernel.garble("dump", times=1_000_000)


def _no_descriptors(code: int) -> Shortage:
    def begin(table: FlowTable, kernel: FakeKernel, patch: pytest.MonkeyPatch) -> None:
        def fail(*_: object, **__: object) -> None:
            raise OSError(code, os.strerror(code))

        patch.setattr(kernel._socket_factory, "open", fail)

    return begin


def _no_settings(table: FlowTable, kernel: FakeKernel, patch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> str:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    patch.setattr(kernel._socket_factory.sysctls, "read", fail)


def _no_threads(table: FlowTable, kernel: FakeKernel, patch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    patch.setattr(table._kernel_table._session._threads, "start", fail)


def _no_threads_for_settings(
    table: FlowTable, kernel: FakeKernel, patch: pytest.MonkeyPatch
) -> None:
    async def fail(function: object) -> None:
        await anyio.lowlevel.checkpoint()
        raise RuntimeError("can't start new thread")

    patch.setattr(table._kernel_table._session, "run_on_thread", fail)


def _no_events(table: FlowTable, kernel: FakeKernel, patch: pytest.MonkeyPatch) -> None:
    """Let reading the event socket fail, and waiting for it."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    patch.setattr(table._kernel_table.stream, "receive_batch_nowait", fail)
    patch.setattr(table._kernel_table.stream._socket, "wait_readable", fail)
    _no_memory(table, kernel, patch)


EXHAUSTION_ERRNOS = {
    "memory": _no_memory,
    "replies": _no_valid_replies,
    **{name: _no_descriptors(getattr(errno, name)) for name in ("EMFILE", "ENFILE", "ENOBUFS")},
    "settings": _no_settings,
    "threads": _no_threads,
    "threads for settings": _no_threads_for_settings,
    "events": _no_events,
}
shortages = pytest.mark.parametrize("begin", EXHAUSTION_ERRNOS.values(), ids=EXHAUSTION_ERRNOS)


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.usefixtures("short_retries")
async def test_a_dump_is_retried_until_there_is_memory(
    kernel: FakeKernel, fake_table: FlowTable, times: int
) -> None:
    kernel.refuse(errno.ENOMEM, "dump", times=times)
    kernel.overrun()
    await check_fake(kernel, fake_table)
    assert fake_table.statistics().reconciliations == times + 2


@shortages
@pytest.mark.usefixtures("short_retries")
async def test_no_shortage_ends_a_table(
    kernel: FakeKernel, fake_table: FlowTable, begin: Shortage, caplog: pytest.LogCaptureFixture
) -> None:
    """Callers that wait for a reconciliation get an error after some attempts.

    After the shortage the table is correct again.
    """
    caplog.set_level(logging.INFO, "conntrack_aio")
    changes = fake_table.changes()
    with pytest.MonkeyPatch.context() as patch:
        begin(fake_table, kernel, patch)
        kernel.overrun()
        kernel.remove(flows.tcp(2).orig)
        for wait in (fake_table.reconcile, fake_table.synced, fake_table.reconcile):
            with anyio.fail_after(5), pytest.raises(TEMPORARY):
                await wait()
        assert fake_table.behind
        assert isinstance(fake_table.last_error, TEMPORARY)
        assert fake_table.statistics().last_error == str(fake_table.last_error)
        assert fake_table.statistics().failures >= 6
        with anyio.CancelScope() as scope:
            scope.cancel()
            await fake_table.reconcile()
        assert len(fake_table) == 3
        warnings = [each for each in caplog.records if "will retry" in each.message]
        assert len(warnings) == 1, "the failure is logged once"
    kernel._faults._pending.clear()
    await wait_for_condition(lambda: not fake_table.behind)
    kernel.add(flows.tcp(7))
    await check_fake(kernel, fake_table)
    statistics = fake_table.statistics()
    assert statistics.last_error is None
    assert statistics.reconciliations > statistics.failures
    assert sum("failed attempts" in each.message for each in caplog.records) == 1
    replay: dict[object, Flow] = {}
    while changes.waiting:
        change = await anext(changes)
        if change.type is ChangeType.REMOVED:
            del replay[change.flow.orig]
        else:
            replay[change.flow.orig] = change.flow
    assert replay.keys() == {flow.orig for flow in kernel.flows}


@pytest.mark.usefixtures("short_retries")
@pytest.mark.parametrize("code", [errno.ENOMEM, errno.ENFILE, errno.EBADMSG])
async def test_a_shortage_during_a_look_up_does_not_end_the_table(
    kernel: FakeKernel, fake_table: FlowTable, code: int
) -> None:
    kernel.refuse(code, "get", times=20)
    kernel.emit(update_event(kernel.flows[0], id=77))
    await check_fake(kernel, fake_table)


@shortages
@pytest.mark.usefixtures("short_retries")
async def test_entering_a_table_under_a_shortage_raises_after_some_attempts(
    kernel: FakeKernel, begin: Shortage
) -> None:
    if begin is _no_events:
        return  # the socket does not exist yet
    async with kernel.connect(reply_timeout=0.1) as conn:
        table = conn.table()
        with pytest.MonkeyPatch.context() as patch:
            begin(table, kernel, patch)
            with anyio.fail_after(5), pytest.raises(TEMPORARY):
                await table.__aenter__()
        kernel._faults._pending.clear()
        assert conn.client_statistics().open_tables == conn.client_statistics().open_streams == 0
        async with conn.table() as table:
            assert len(table) == 3


@pytest.mark.parametrize("fault", ["leave_unanswered", "garble"])
@pytest.mark.usefixtures("short_retries")
async def test_a_dump_without_a_valid_reply_is_retried(
    kernel: FakeKernel, fake_table: FlowTable, fault: str
) -> None:
    getattr(kernel, fault)("dump")
    kernel.overrun()
    await check_fake(kernel, fake_table)
