"""Test that labels are set, added and removed without changing others."""

from __future__ import annotations

import pytest
from support import flows
from support.lab import Lab

from conntrack_aio import Connection, EncodeError, Flow, LabelNames, ResourceExhausted

pytestmark = [
    pytest.mark.kernels,
    pytest.mark.anyio,
    pytest.mark.kernel,
    pytest.mark.program("nft", "nftables"),
]

RULE = """
table inet t {
    chain c {
        type filter hook output priority 0
        ct label set 5
    }
}
"""
"""A rule that uses labels. Entries created without such a rule have no room for labels."""


@pytest.fixture
async def flow(lab: Lab, conn: Connection) -> Flow:
    lab.program("nft", "-f", "-", input=RULE)
    conn.label_names = LabelNames({"web": 3, "last": 127})
    return await conn.create(flows.tcp())


async def bits(conn: Connection, flow: Flow) -> list[object]:
    labels = (await conn.get(flow)).labels
    return [*conn.label_names.names(labels)]


async def test_labels_can_be_given_by_bit_and_by_name(conn: Connection, flow: Flow) -> None:
    await conn.set_labels(flow, "web", 64, 65)
    assert await bits(conn, flow) == ["web", 64, 65]
    await conn.add_labels(flow, "last", 0)
    assert await bits(conn, flow) == [0, "web", 64, 65, "last"]
    await conn.remove_labels(flow, 64, "web", 90)
    assert await bits(conn, flow) == [0, 65, "last"]
    await conn.set_labels(flow, 1)
    assert await bits(conn, flow) == [1]
    await conn.set_labels(flow)
    assert (await conn.get(flow)).labels is None


async def test_each_bit_is_set_and_removed_alone(conn: Connection, flow: Flow) -> None:
    full = (1 << 128) - 1
    for bit in range(128):
        await conn.set_labels(flow, bit)
        assert (await conn.get(flow)).labels == 1 << bit
        await conn.update(flow, labels=full)
        await conn.remove_labels(flow, bit)
        assert (await conn.get(flow)).labels == full ^ 1 << bit
        await conn.add_labels(flow, bit)
        assert (await conn.get(flow)).labels == full


async def test_adding_and_removing_no_labels_changes_nothing(conn: Connection, flow: Flow) -> None:
    await conn.set_labels(flow, 1, 2)
    await conn.add_labels(flow)
    await conn.remove_labels(flow)
    assert await bits(conn, flow) == [1, 2]


async def test_labels_are_added_to_an_entry_given_by_tuple_and_zone(
    lab: Lab, conn: Connection, flow: Flow
) -> None:
    other = await conn.create(Flow.udp("10.0.0.1", 1, "10.0.0.2", 2, timeout=60, zone=7))
    await conn.add_labels(other.orig, 9, zone=7)
    assert await bits(conn, other) == [9]


async def test_an_unknown_label_is_refused(conn: Connection, flow: Flow) -> None:
    await conn.set_labels(flow, 1)
    for method in (conn.set_labels, conn.add_labels, conn.remove_labels):
        with pytest.raises(EncodeError, match="unknown label 'mail'"):
            await method(flow, "web", "mail")
        with pytest.raises(EncodeError, match="from 0 to 127"):
            await method(flow, 128)
    assert await bits(conn, flow) == [1]


async def test_the_error_explains_why_an_entry_has_no_room_for_labels(
    lab: Lab, conn: Connection
) -> None:
    flow = await conn.create(flows.tcp())
    for method in (conn.set_labels, conn.add_labels):
        with pytest.raises(
            ResourceExhausted, match="before any rule of this namespace used labels"
        ):
            await method(flow, 5)
    await conn.remove_labels(flow, 5)
    # Setting or adding no labels needs no room.
    await conn.set_labels(flow)
    await conn.add_labels(flow)
    # A rule added later gives no room to the entry, but to entries created after it.
    lab.program("nft", "-f", "-", input=RULE)
    with pytest.raises(ResourceExhausted):
        await conn.set_labels(flow, 5)
    await conn.delete(flow)
    flow = await conn.create(flow)
    await conn.set_labels(flow, 5)
    assert (await conn.get(flow)).labels == 1 << 5
