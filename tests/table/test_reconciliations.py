"""Test when a live table is reconciled with the kernel's, and with which dumps, on a scripted
kernel."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest
from support import flows
from support.live_tables import check_fake, received_verbs, wait_for_condition
from support.polling import wait_until

from conntrack_aio import (
    FlowTable,
    Match,
    TableMode,
)
from conntrack_aio.codec.messages import CT_NEW
from conntrack_aio.netlink.socket import RECEIVE_SIZE
from conntrack_aio.testing import FakeKernel, FakeSocket, ReceivedRequest

pytestmark = pytest.mark.anyio


async def test_without_losses_one_dump_is_enough(kernel: FakeKernel, fake_table: FlowTable) -> None:
    kernel.add(flows.tcp(7))
    kernel.change(flows.tcp(1).orig, mark=7)
    kernel.remove(flows.tcp(2).orig)
    await check_fake(kernel, fake_table)
    assert received_verbs(kernel) == ["count", "dump"]


# -- incomplete dumps ---------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 1000])
@pytest.mark.usefixtures("short_retries")
async def test_a_dump_that_ends_with_an_invalid_message_is_retried(
    kernel: FakeKernel, fake_table: FlowTable, times: int
) -> None:
    """Nothing behind it can be decoded.

    If every dump is like this, entries are looked up one by one.
    """
    left = times

    def answer(socket: FakeSocket, asked: ReceivedRequest) -> bool:
        nonlocal left
        if asked.verb != "dump" or not left:
            return False
        left -= 1
        socket.deliver(bytes(RECEIVE_SIZE + 4))
        return True

    kernel.on_request = answer
    kernel.overrun()
    kernel.remove(kernel.flows[0])
    await check_fake(kernel, fake_table)
    assert fake_table.statistics().reconciliations == (3 if times == 1 else 6)


async def test_a_dump_during_a_resize_of_the_hash_table_is_repeated(
    kernel: FakeKernel, fake_table: FlowTable
) -> None:
    """Such a dump may have missed entries. Entries that it lacks may still exist."""
    delayed = kernel.delay("dump")
    kernel.overrun()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fake_table.synced)
        while delayed.request is None:
            await anyio.lowlevel.checkpoint()
        _resize(kernel)
        delayed.release()
    await check_fake(kernel, fake_table)
    assert fake_table.statistics().reconciliations == 3


def _resize(kernel: FakeKernel) -> None:
    kernel.sysctls["nf_conntrack_buckets"] = 2 * int(kernel.sysctls["nf_conntrack_buckets"])


@pytest.mark.usefixtures("short_retries")
async def test_with_a_resize_during_every_dump_entries_are_looked_up(
    kernel: FakeKernel, fake_table: FlowTable
) -> None:
    """After the last attempt, each entry that the dump lacked is looked up."""

    def resize(socket: FakeSocket, asked: ReceivedRequest) -> bool:
        if asked.verb == "dump":
            _resize(kernel)
        return False

    kernel.on_request = resize
    with anyio.fail_after(5):
        await fake_table.reconcile()
    await check_fake(kernel, fake_table)
    assert fake_table.statistics().reconciliations == 6


async def test_an_entry_that_cannot_be_decoded_does_not_affect_the_others(
    kernel: FakeKernel, fake_table: FlowTable
) -> None:
    """The table looks up which of the entries that the dump lacks still exist."""
    kernel.overrun()
    for flow in kernel.flows[:2]:
        kernel.remove(flow)  # its event is lost, too

    def reply_with_an_invalid_entry(socket: FakeSocket, asked: ReceivedRequest) -> bool:
        if asked.verb == "dump":
            socket.reply(asked, CT_NEW, b"\2\0\0\0" + b"\xff" * 8)
            socket.done(asked)
        return asked.verb == "dump"

    kernel.on_request = reply_with_an_invalid_entry
    await check_fake(kernel, fake_table)
    assert len(fake_table) == 1
    assert received_verbs(kernel).count("get") == 3
    assert fake_table.statistics().reconciliations == 2


# -- the setting nf_conntrack_events ------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), [(0, 1), (0, 2), (1, 2), (None, 1), (1, None)])
@pytest.mark.parametrize("reconcile", ["auto", 0.01])
@pytest.mark.usefixtures("short_interval")
async def test_a_change_of_the_setting_causes_a_reconciliation(
    before: int | None, after: int | None, reconcile: float
) -> None:
    """Entries that were created before the change may be silent."""
    kernel = FakeKernel()
    _set_events(kernel, before)
    async with kernel.connect() as conn, conn.table(reconcile=reconcile) as table:
        await wait_until(lambda: len(table) == 0)
        kernel.sysctls["nf_conntrack_events"] = 0  # the table does not read it in between
        kernel.add(flows.tcp(7))
        _set_events(kernel, after)
        await wait_for_condition(lambda: len(table) > 0)
        await check_fake(kernel, table)


def _set_events(kernel: FakeKernel, setting: int | None) -> None:
    if setting is None:
        kernel.sysctls.pop("nf_conntrack_events", None)
    else:
        kernel.sysctls["nf_conntrack_events"] = setting


@pytest.mark.usefixtures("short_interval")
async def test_a_setting_that_cannot_be_read_may_be_zero() -> None:
    kernel = FakeKernel()
    async with kernel.connect() as conn, conn.table() as table:
        kernel.sysctls["nf_conntrack_events"] = 0
        kernel.add(flows.tcp(7))
        del kernel.sysctls["nf_conntrack_events"]
        await wait_for_condition(lambda: len(table) > 0)
        assert table.mode is TableMode.PARTIAL
        done = table.statistics().reconciliations
        await wait_for_condition(lambda: table.statistics().reconciliations >= done + 3)


@pytest.mark.usefixtures("short_interval")
async def test_without_silent_entries_only_an_explicit_interval_reconciles(
    kernel: FakeKernel,
) -> None:
    for flow in kernel.flows:
        kernel.remove(flow)
    async with (
        kernel.connect() as conn,
        conn.table() as default,
        conn.table(reconcile="auto") as auto,
        conn.table(reconcile=None) as none,
        conn.table(reconcile=0.01) as often,
    ):
        await wait_for_condition(lambda: often.statistics().reconciliations >= 5)
        for table in (default, auto, none):
            assert table.statistics().reconciliations == 1
            assert table.mode is TableMode.FOLLOWED


@pytest.mark.usefixtures("short_interval")
async def test_an_older_entry_that_does_not_match_yet_may_be_silent() -> None:
    """Such an entry is not in the table, so the table does not count it in `without_events`."""
    kernel = FakeKernel(flows=[flows.tcp(1)])  # with the setting at 2
    async with (
        kernel.connect() as conn,
        conn.table(Match(mark=7)) as marked,
        conn.table(lambda flow: flow.mark == 7) as chosen,
        conn.table(Match(orig_src="192.0.2.1")) as others,
    ):
        assert marked.mode is chosen.mode is TableMode.PARTIAL
        assert others.mode is TableMode.FOLLOWED, "a source never changes"
        kernel.change(flows.tcp(1).orig, mark=7)
        await wait_for_condition(lambda: len(marked) and len(chosen))
        assert others.statistics().reconciliations == 1


async def test_a_kernel_without_the_setting_is_supported() -> None:
    kernel = FakeKernel("4.19")
    async with kernel.connect() as conn, conn.table() as table:
        kernel.add(flows.tcp(1))
        await check_fake(kernel, table)
        assert table.mode in TableMode
