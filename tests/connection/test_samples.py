"""A dump decodes at once what its caller has read of earlier flows, and nothing else."""

from __future__ import annotations

import pytest
from support import flows

from conntrack_aio import Flow, connect
from conntrack_aio.codec.messages import decode_flow
from conntrack_aio.model.lazy_fields import lazy_classes_of
from conntrack_aio.testing import FakeKernel

pytestmark = pytest.mark.anyio
FLOW = lazy_classes_of(Flow)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    """Return a kernel with flows of two kinds, of which the decoder knows no layout."""
    for name, empty in (("_layouts", {}), ("_readers", {}), ("_compiled", 0), ("_missed", 0)):
        monkeypatch.setattr(decode_flow, name, empty)
    return FakeKernel(flows=[make(i) for i in range(150) for make in (flows.tcp, flows.udp6)])


async def test_flows_of_which_nothing_is_read(kernel: FakeKernel) -> None:
    """The first flow of each kind is decoded completely, by the reference."""
    with kernel.installed():
        async with connect() as conn:
            found = [flow async for batch in conn.dump().batches() for flow in batch]
    assert len(found) == 300
    classes = [type(flow) for flow in found]
    assert classes.count(FLOW.complete) == 2
    assert classes.count(FLOW.unread) == 298


async def test_flows_of_which_fields_are_read(kernel: FakeKernel) -> None:
    classes: list[type] = []
    with kernel.installed():
        async with connect() as conn:
            async for batch in conn.dump().batches():
                classes += map(type, batch)
                assert all(flow.orig for flow in batch)
    assert classes.count(FLOW.complete) == 2
    assert classes[-1] is FLOW.partly_read
