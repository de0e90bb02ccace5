"""Test zones of both directions, or of one direction."""

from __future__ import annotations

import anyio.to_thread
import attrs
import pytest
from support.lab import Lab

from conntrack_aio import Connection, EncodeError, Flow, Match, NotFound, Tuple
from conntrack_aio.sandbox import traffic

pytestmark = [pytest.mark.kernels, pytest.mark.anyio, pytest.mark.kernel]

ORIG = Tuple.udp("10.0.0.1", 1000, "10.0.0.2", 53)


def new_flow(*, zone: int | None = None, orig: int | None = None, reply: int | None = None) -> Flow:
    return Flow(
        orig=attrs.evolve(ORIG, zone=orig),
        reply=attrs.evolve(ORIG.inverse, zone=reply),
        zone=zone,
        timeout=60,
    )


FLOWS = {
    "none": new_flow(),
    "both directions": new_flow(zone=7),
    "original direction": new_flow(orig=7),
    "reply direction": new_flow(reply=7),
}


@pytest.mark.parametrize("zone_of", FLOWS)
async def test_entries_and_events_have_the_zones_of_the_created_flow(
    conn: Connection, zone_of: str
) -> None:
    flow = await conn.create(FLOWS[zone_of])
    assert (flow.orig, flow.reply, flow.zone) == (
        FLOWS[zone_of].orig,
        FLOWS[zone_of].reply,
        FLOWS[zone_of].zone,
    )
    async with conn.events() as stream:
        await conn.update(flow, mark=1)
        assert (await anext(stream)).flow.key == flow.key


async def test_one_tuple_in_several_zones_is_several_entries(conn: Connection) -> None:
    created = [await conn.create(new_flow(zone=zone)) for zone in (None, 1, 2, 65535)]
    assert await conn.count() == 4
    for flow in created:
        await conn.update(flow, mark=flow.zone or 0)
    assert {flow.zone: flow.mark for flow in await conn.list()} == {
        None: 0,
        1: 1,
        2: 2,
        65535: 65535,
    }
    await conn.delete(created[1])
    assert {flow.zone for flow in await conn.list()} == {None, 2, 65535}


@pytest.mark.parametrize("zone_of", FLOWS)
async def test_a_flow_finds_its_entry_in_its_zone(conn: Connection, zone_of: str) -> None:
    bystander = await conn.create(new_flow(zone=9))
    flow = await conn.create(FLOWS[zone_of])
    assert (await conn.get(flow)).key == flow.key
    await conn.update(flow, mark=3)
    assert (await conn.get(flow, reset_counters=True)).mark == 3
    await conn.delete(flow)
    with pytest.raises(NotFound):
        await conn.get(flow)
    assert [left.key for left in await conn.list()] == [bystander.key]


@pytest.mark.parametrize(
    ("zone_of", "target", "zone"),
    [
        ("both directions", ORIG, 7),
        ("both directions", ORIG.inverse, 7),
        ("original direction", ORIG, 7),
        ("original direction", ORIG.inverse, None),
        ("reply direction", ORIG, None),
        ("reply direction", ORIG.inverse, 7),
        ("none", ORIG, None),
        ("none", ORIG.inverse, None),
    ],
)
async def test_a_tuple_finds_an_entry_only_with_the_zone_of_its_direction(
    conn: Connection, zone_of: str, target: Tuple, zone: int | None
) -> None:
    flow = await conn.create(FLOWS[zone_of])
    for wrong in {None, 7, 8} - {zone}:
        for method in (conn.get, conn.delete):
            with pytest.raises(NotFound, match="only with its zone"):
                await method(target, zone=wrong)
    assert (await conn.get(target, zone=zone)).key == flow.key
    # The zone may also be given in the tuple.
    assert (await conn.get(attrs.evolve(target, zone=zone))).key == flow.key
    await conn.delete(attrs.evolve(target, zone=zone))
    assert await conn.count() == 0


@pytest.mark.parametrize(
    "flow", [new_flow(zone=1, orig=2), new_flow(zone=1, reply=2), new_flow(orig=1, reply=1)]
)
async def test_an_entry_can_have_only_one_zone(conn: Connection, flow: Flow) -> None:
    with pytest.raises(EncodeError, match="one zone"):
        await conn.create(flow)
    assert await conn.count() == 0


RULES = """
table inet t {{
    chain raw {{
        type filter hook output priority raw
        ct {} zone set 7
    }}
}}
"""


@pytest.mark.program("nft", "nftables")
@pytest.mark.parametrize(
    ("direction", "zones"),
    [("", (7, None, None)), ("original", (None, 7, None)), ("reply", (None, None, 7))],
)
async def test_flows_of_packets_have_the_zones_of_the_rules(
    lab: Lab, conn: Connection, direction: str, zones: tuple[int | None, ...]
) -> None:
    lab.program("nft", "-f", "-", input=RULES.format(direction))
    sport, dport = await anyio.to_thread.run_sync(lab.run, traffic.udp_exchange)
    flow = next(flow for flow in await conn.list() if flow.orig.dport == dport)
    assert (flow.orig.sport, flow.orig.dport) == (sport, dport)
    assert (flow.zone, flow.orig.zone, flow.reply.zone) == zones
    await conn.delete(flow)
    with pytest.raises(NotFound):
        await conn.get(flow)


async def test_counters_of_entries_that_share_tuples_are_reset_once(
    lab: Lab, conn: Connection
) -> None:
    """Each matching entry is read and reset once, and no other entry."""
    lab.sysctl("nf_conntrack_acct", 1)
    plain = Tuple.udp("10.0.0.1", 1000, "10.0.0.2", 53)
    zoned = Tuple.udp("10.0.0.1", 1000, "10.0.0.2", 53, zone=1)
    await conn.create(Flow(orig=zoned, reply=plain.inverse, timeout=600))
    await conn.create(Flow(orig=plain.inverse, reply=zoned, timeout=600))
    both = {flow.id for flow in await conn.list()}
    assert len(both) == 2
    reset = await conn.list(reset_counters=True)
    assert sorted(flow.id or 0 for flow in reset) == sorted(id or 0 for id in both)
    (one,) = await conn.list(Match(orig_src="10.0.0.1"), reset_counters=True)
    assert one.orig == zoned
    assert len(conn._resets) == 0
