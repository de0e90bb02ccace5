"""Live tables of scripted kernels and of this machine's kernel."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support import flows

from conntrack_aio import Connection, FlowTable
from conntrack_aio.testing import FakeKernel

# The module that fills large tables is in benchmarks, which is not installed.
sys.path.append(str(Path(__file__).parents[2]))


@pytest.fixture
async def table(conn: Connection) -> AsyncIterator[FlowTable]:
    """A live table of this machine's kernel, without periodic reconciliations."""
    async with conn.table(reconcile=None) as table:
        yield table


@pytest.fixture
def kernel() -> FakeKernel:
    """A scripted kernel with three flows."""
    return FakeKernel(flows=[flows.tcp(n) for n in range(3)], sysctls={"nf_conntrack_events": 1})


@pytest.fixture
async def fake_table(kernel: FakeKernel) -> AsyncIterator[FlowTable]:
    """A live table of the scripted kernel, without periodic reconciliations."""
    async with kernel.connect(reply_timeout=0.1) as conn, conn.table(reconcile=None) as table:
        yield table


@pytest.fixture
def short_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the delays after failed attempts."""
    monkeypatch.setattr("conntrack_aio.table.failures._RETRY_DELAY", 0.001)
    monkeypatch.setattr("conntrack_aio.table.failures._MAX_RETRY_DELAY", 0.005)
    monkeypatch.setattr("conntrack_aio.table.event_follower._READ_RETRY_DELAY", 0.001)


@pytest.fixture
def short_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the automatic interval between reconciliations to 0.01 seconds."""
    monkeypatch.setattr("conntrack_aio.table.reconciler._AUTO_INTERVAL", 0.01)


@pytest.fixture
def short_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the delays of the search for unreported changes to a few hundredths of a second."""
    for name, value in {
        "unreported_changes._CHECK_INTERVAL": 0.01,
        "unreported_changes._MAX_EVENT_DELAY": 0.02,
        "reconciler._AUTO_INTERVAL": 0.05,
    }.items():
        monkeypatch.setattr(f"conntrack_aio.table.{name}", value)
    monkeypatch.setattr("conntrack_aio.table.expiry._ROUNDING", 0.0)
    monkeypatch.setattr("conntrack_aio.table.mirror.RECHECK_DELAY", 0.05)
