"""Test how a live table finds changes whose events rules suppress, on a scripted kernel."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import anyio.lowlevel
import pytest
from support import flows
from support.live_tables import check_fake, expire_all, received_verbs, wait_for_condition
from support.polling import wait_until

from conntrack_aio import (
    Cause,
    ChangeType,
    Counters,
    FlowTable,
    Helper,
    Status,
    TableMode,
    TCPInfo,
    TCPState,
)
from conntrack_aio.testing import FakeKernel

pytestmark = pytest.mark.anyio


SUPPRESSED: dict[str, tuple[set[str], Callable[[FakeKernel], object]]] = {
    "end": ({"new"}, lambda kernel: kernel.remove(flows.tcp(7).orig)),
    "mark": ({"new", "destroy"}, lambda kernel: kernel.change(flows.tcp(7).orig, mark=9)),
    "status": (
        {"new", "mark"},
        lambda kernel: kernel.change(
            flows.tcp(7).orig, status=Status.CONFIRMED | Status.SEEN_REPLY | Status.ASSURED
        ),
    ),
    "TCP state": (
        {"new", "destroy"},
        lambda kernel: kernel.change(
            flows.tcp(7).orig, protoinfo=TCPInfo(state=TCPState.TIME_WAIT)
        ),
    ),
    "another entry with the tuple": ({"new"}, lambda kernel: _create_again(kernel)),
    "creation": (set(), lambda kernel: kernel.add(flows.tcp(8))),
}
"""Changes, with the only events that the entry emits."""


def _create_again(kernel: FakeKernel) -> None:
    kernel.event_mask = []
    kernel.remove(flows.tcp(7).orig)
    kernel.add(flows.tcp(20))  # takes the slot, and so the id
    kernel.add(flows.tcp(7))


@pytest.mark.usefixtures("short_checks")
@pytest.mark.parametrize("which", SUPPRESSED)
async def test_a_change_without_its_event_is_found_by_a_reconciliation(which: str) -> None:
    """From then on the mode shows that events are missing."""
    names, change = SUPPRESSED[which]
    kernel = FakeKernel(sysctls={"nf_conntrack_events": 1})
    kernel.event_mask = names
    async with kernel.connect() as conn, conn.table(reconcile=0.02) as table:
        if names:
            kernel.add(flows.tcp(7))
            await table.synced()
        assert table.mode is TableMode.FOLLOWED
        change(kernel)
        await wait_for_condition(lambda: table.mode is TableMode.PARTIAL)
        assert table.statistics().unreported_changes >= 1
        await check_fake(kernel, table)
        done = table.statistics().reconciliations
        await wait_for_condition(lambda: table.statistics().reconciliations > done)
        assert table.mode is TableMode.PARTIAL, "the rule is still there"


REPORTED: dict[str, Callable[[FakeKernel], object]] = {
    "end": lambda kernel: kernel.remove(flows.tcp(1).orig),
    "mark": lambda kernel: kernel.change(flows.tcp(1).orig, mark=9),
    "timeout": lambda kernel: kernel.change(flows.tcp(1).orig, timeout=9),
    "counters": lambda kernel: kernel.change(
        flows.tcp(1).orig, counters_orig=Counters(packets=1, bytes=2)
    ),
    "helper": lambda kernel: kernel.change(flows.tcp(1).orig, helper=Helper(name="ftp")),
    "creation": lambda kernel: kernel.add(flows.tcp(7)),
    "expiry": lambda kernel: kernel.advance(10_000),
    "loss": lambda kernel: _lose_a_destroy_event(kernel),
}
"""Changes that have events, or need none, or whose events are lost."""


def _lose_a_destroy_event(kernel: FakeKernel) -> None:
    kernel.overrun()
    kernel.remove(flows.tcp(1).orig)


@pytest.mark.usefixtures("short_checks")
@pytest.mark.parametrize("which", REPORTED)
@pytest.mark.parametrize("during", [False, True])
async def test_a_reported_change_does_not_count_as_unreported(
    kernel: FakeKernel, which: str, during: bool
) -> None:
    """The change may come before a reconciliation or during one."""
    async with kernel.connect() as conn, conn.table(reconcile=0.02) as table:
        if during:
            delayed = kernel.delay("dump")
            await wait_until(lambda: delayed.request is not None)
        REPORTED[which](kernel)
        if during:
            delayed.release()
        done = table.statistics().reconciliations
        await wait_for_condition(lambda: table.statistics().reconciliations >= done + 5)
        assert table.mode is TableMode.FOLLOWED
        assert table.statistics().unreported_changes == 0


@pytest.mark.usefixtures("short_checks")
@pytest.mark.parametrize("setting", [1, 2])
@pytest.mark.parametrize("reconcile", [None, "auto"])
async def test_an_entry_whose_timeout_has_expired_is_looked_up(
    setting: int, reconcile: None
) -> None:
    """It is removed without a reconciliation.

    A silent older entry does not change the mode if the setting explains it.
    """
    kernel = FakeKernel(
        flows=[flows.tcp(1)] if setting == 2 else [], sysctls={"nf_conntrack_events": setting}
    )
    async with kernel.connect() as conn, conn.table(reconcile=reconcile) as table:
        kernel.event_mask = ["new"]
        if setting == 1:
            kernel.add(flows.tcp(1))
        await table.synced()
        changes = table.changes()
        assert (await anext(changes)).type is ChangeType.ADDED
        kernel.advance(10_000)
        expire_all(table)
        with anyio.fail_after(5):
            change = await anext(changes)
        assert (change.type, change.cause) == (ChangeType.REMOVED, Cause.RECONCILED)
        assert table.statistics().unreported_changes == (setting == 1)
        assert table.mode is (TableMode.PARTIAL if setting == 1 else TableMode.FOLLOWED)


@pytest.mark.usefixtures("short_checks")
async def test_an_expired_entry_that_still_exists_is_looked_up_after_a_delay(
    kernel: FakeKernel, fake_table: FlowTable
) -> None:
    """Packets extend its timeout, which no event reports."""
    gets = received_verbs(kernel).count("get")
    expire_all(fake_table)
    await wait_for_condition(lambda: received_verbs(kernel).count("get") >= gets + 3)
    for _ in range(10):
        await anyio.sleep(0.01)
    assert received_verbs(kernel).count("get") == gets + 3, "each of the three is looked up once"
    assert len(fake_table) == 3


@pytest.mark.usefixtures("short_checks")
async def test_an_end_that_the_look_up_makes_the_kernel_report_is_an_event(
    kernel: FakeKernel, fake_table: FlowTable
) -> None:
    """The look-up makes the kernel remove the expired entry, and report that."""
    changes = fake_table.changes()
    for _ in range(3):
        await anext(changes)
    kernel._state.now += 10_000  # the kernel has not removed the entries yet
    expire_all(fake_table)
    with anyio.fail_after(5):
        causes = [(await anext(changes)).cause for _ in range(3)]
    assert causes == [Cause.EVENT] * 3
    assert fake_table.statistics().unreported_changes == 0
    assert fake_table.mode is TableMode.FOLLOWED
