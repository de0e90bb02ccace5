"""Test extensions that only some entries have: helpers, sequence adjustment, SYNPROXY."""

from __future__ import annotations

import anyio.to_thread
import attrs
import pytest
from support import flows
from support.lab import Lab

from conntrack_aio import (
    Connection,
    EncodeError,
    Flow,
    Helper,
    NotSupported,
    ResourceBusy,
    SeqAdj,
    Status,
    SynProxy,
    Tuple,
)
from conntrack_aio.sandbox import traffic

pytestmark = [pytest.mark.kernels, pytest.mark.anyio, pytest.mark.kernel]


def flow_with(**fields: object) -> Flow:
    return attrs.evolve(flows.tcp(), **fields)


FTP = Helper(name="ftp")


async def test_create_assigns_a_helper(conn: Connection) -> None:
    flow = await conn.create(flow_with(helper=FTP))
    assert flow.helper == FTP
    assert (flow.status or 0) & Status.HELPER
    async with conn.events() as stream:
        await conn.update(flow, helper="ftp")  # the helper that the entry already has
        assert (await anext(stream)).flow.helper == FTP


async def test_a_helper_can_only_be_detached(conn: Connection) -> None:
    flow = await conn.create(flow_with(helper=FTP))
    with pytest.raises(ResourceBusy, match="cannot be replaced"):
        await conn.update(flow, helper="sip")
    await conn.update(flow, helper="")
    assert (await conn.get(flow)).helper is None
    with pytest.raises(ResourceBusy, match="cannot be replaced, only detached"):
        await conn.update(flow, helper="ftp")


async def test_an_existing_entry_cannot_get_a_helper(conn: Connection) -> None:
    flow = await conn.create(flows.tcp())
    with pytest.raises(NotSupported, match="Only a new entry can get a helper"):
        await conn.update(flow, helper="ftp")


@pytest.mark.parametrize("name", ["nosuch", "", "H.245"])
async def test_a_helper_that_the_kernel_lacks_is_refused(conn: Connection, name: str) -> None:
    with pytest.raises(NotSupported, match="no such helper"):
        await conn.create(flow_with(helper=Helper(name=name)))
    assert await conn.count() == 0


ONE = SeqAdj(correction_pos=1000, offset_before=-5, offset_after=5)
TWO = SeqAdj(correction_pos=0xFFFFFFFF, offset_before=0, offset_after=-1)


async def test_sequence_adjustment_is_created_and_updated(conn: Connection) -> None:
    flow = await conn.create(flow_with(seqadj_orig=ONE, seqadj_reply=TWO))
    assert (flow.seqadj_orig, flow.seqadj_reply) == (ONE, TWO)
    assert (flow.status or 0) & Status.SEQ_ADJUST
    await conn.update(flow, seqadj_orig=TWO)
    flow = await conn.get(flow)
    assert (flow.seqadj_orig, flow.seqadj_reply) == (TWO, TWO)
    await conn.update(flow, seqadj_reply=ONE, status=Status.ASSURED)
    assert (await conn.get(flow)).seqadj_reply == ONE


@pytest.mark.parametrize("name", ["correction_pos", "offset_before", "offset_after"])
async def test_an_incomplete_sequence_adjustment_is_refused(conn: Connection, name: str) -> None:
    incomplete = attrs.evolve(ONE, **{name: None})
    with pytest.raises(EncodeError, match=r"seqadj_orig: .* given together"):
        await conn.create(flow_with(seqadj_orig=incomplete))
    flow = await conn.create(flows.tcp())
    with pytest.raises(EncodeError, match=r"seqadj_reply: .* given together"):
        await conn.update(flow, seqadj_reply=incomplete)


async def test_synproxy_is_created_and_updated(conn: Connection) -> None:
    flow = await conn.create(flows.tcp())
    assert flow.synproxy == SynProxy(isn=0, its=0, tsoff=0)
    synproxy = SynProxy(isn=1, its=2, tsoff=0xFFFFFFFF)
    await conn.update(flow, synproxy=synproxy)
    assert (await conn.get(flow)).synproxy == synproxy
    created = await conn.create(attrs.evolve(flows.tcp(2), synproxy=synproxy))
    assert created.synproxy == synproxy


async def test_updates_of_missing_extensions_are_refused(lab: Lab, conn: Connection) -> None:
    """The kernel silently ignores such an update of an entry that packets created."""
    lab.track()
    sport, dport = await anyio.to_thread.run_sync(lab.run, traffic.tcp_exchange)
    target = Tuple.tcp("127.0.0.1", sport, "127.0.0.1", dport)
    with pytest.raises(NotSupported, match="no room for seqadj_orig"):
        await conn.update(target, seqadj_orig=ONE)
    with pytest.raises(NotSupported, match="no room for synproxy"):
        await conn.update(target, synproxy=SynProxy(isn=1, its=1, tsoff=1), mark=5)
    assert (await conn.get(target)).mark == 5
