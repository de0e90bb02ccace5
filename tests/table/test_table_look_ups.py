"""Test the look-ups of a live table, on this machine's kernel."""

from __future__ import annotations

import copy
from collections.abc import Callable
from ipaddress import IPv6Address
from typing import Any

import pytest
from support import flows
from support.attribute_encoding import with_values
from support.hostile_arguments import (
    INTEGERS,
    OverriddenIPv4,
    OverriddenIPv6,
    RaisingObject,
    case_name,
    enum_member,
)

from conntrack_aio import (
    Connection,
    EncodeError,
    Flow,
    FlowTable,
    NATRange,
    Tuple,
)

pytestmark = [pytest.mark.kernels, pytest.mark.anyio, pytest.mark.kernel]


async def test_entries_are_found_by_tuple_and_id(conn: Connection, table: FlowTable) -> None:
    plain = await conn.create(flows.tcp(1))
    translated = await conn.create(flows.tcp(2), nat_src="192.0.2.1")
    ping = await conn.create(Flow.icmp("10.0.0.1", "10.0.0.2", id=7, timeout=30))
    zoned = await conn.create(Flow.udp("10.0.0.1", 1, "10.0.0.2", 2, timeout=30, zone=9))
    await table.synced()
    for created in (plain, translated, ping, zoned):
        assert created.id is not None
        found = table.by_orig(created.orig, zone=created.zone)
        assert found is not None
        assert found.id == created.id
        assert table.by_reply(created.reply, zone=created.zone) == found
        assert table.get(created.reply, zone=created.zone) == found
        assert table.by_id(created.id) == [found]
        assert created in table
        assert copy.copy(created) in table
    assert ping.orig in table
    assert zoned.orig not in table
    assert table.by_orig(zoned.orig, zone=8) is None
    assert table.by_reply(plain.orig) is None
    assert table.by_orig(plain.reply) is None
    assert table.by_reply(translated.orig.inverse) is None
    assert table.by_id(1) == []
    assert "tcp" not in table
    assert flows.tcp(5) not in table
    # The low 16 bits of this port are those of another tuple.
    broken = Flow.tcp("10.1.0.1", 40000, "10.2.0.0", 80, timeout=600)
    broken.orig.sport = 40000 | 1 << 16  # an assignment is not checked
    assert broken not in table
    other = copy.copy(plain)
    other.id = 1
    assert other not in table
    assert {flow.id for flow in table} == {flow.id for flow in await conn.list()}


async def test_packets_are_translated_in_both_directions(
    conn: Connection, table: FlowTable
) -> None:
    client, router, server = "10.0.0.1", "192.0.2.1", "198.51.100.9"
    created = await conn.create(
        Flow.tcp(client, 4000, router, 80, timeout=60),
        nat_src=NATRange.of("203.0.113.5", 6000),
        nat_dst=NATRange.of(server, 8080),
    )
    await conn.create(Flow.udp(client, 1, server, 2, timeout=60))
    await table.synced()
    inside, outside = created.orig, Tuple.tcp("203.0.113.5", 6000, server, 8080)
    assert table.translate(inside) == outside
    assert table.translate(outside) == inside
    assert table.translate(outside.inverse) == inside.inverse
    assert table.translate(inside.inverse) == outside.inverse
    plain = Tuple.udp(client, 1, server, 2)
    assert table.translate(plain) == plain
    for packet in (inside, outside, inside.inverse, outside.inverse):
        found = table.find(packet)
        assert found is not None
        assert found.id == created.id
    assert table.find(Tuple.udp(client, 1, server, 3)) is None
    assert table.translate(plain.inverse) == plain.inverse
    assert table.translate(Tuple.udp(client, 1, server, 3)) is None
    assert table.translate(inside, zone=3) is None
    assert table.translate(Tuple.icmp(client, server, id=1, type=5)) is None


# -- values of look-ups ---------------------------------------------------------------------------


LOOK_UPS = ("by_orig", "by_reply", "get", "find", "translate")


@pytest.mark.parametrize("make", [*INTEGERS.values()], ids=[*INTEGERS])
async def test_look_ups_accept_any_kind_of_integer_and_address(
    conn: Connection, table: FlowTable, make: Callable[[int], Any]
) -> None:
    created = await conn.create(Flow.udp("10.0.0.1", 1, "10.0.0.2", 2, timeout=30, zone=9))
    six = await conn.create(Flow.udp("fd00::1", 1, "fd00::2", 2, timeout=30, zone=9))
    await table.synced()
    for flow, kind in ((created, OverriddenIPv4), (six, OverriddenIPv6)):
        assert flow.id is not None
        assert [each.id for each in table.by_id(make(flow.id))] == [flow.id]
        for values in (
            {"sport": make(flow.orig.sport or 0)},
            {"dport": make(flow.orig.dport or 0), "proto": make(17)},
            {"src": kind(str(flow.orig.src)), "dst": kind(str(flow.orig.dst))},
            {"src": type(flow.orig.src)(enum_member(int(flow.orig.src)))},
        ):
            odd = with_values(flow.orig, **values)
            reply = with_values(flow.reply, sport=make(flow.reply.sport or 0))
            for zone in (9, make(9)):
                found = table.by_orig(odd, zone=zone)
                assert found is not None
                assert found.id == flow.id
                assert table.by_reply(reply, zone=zone) == found
                assert table.get(odd, zone=zone) == table.find(odd, zone=zone) == found
                assert table.get(reply, zone=zone) == found
                assert table.translate(odd, zone=zone) == flow.orig
            within = with_values(odd, zone=make(9))
            assert table.by_orig(within) == found
            assert within in table
            assert with_values(flow, orig=odd, zone=make(9)) in table
            assert table.by_orig(odd, zone=make(8)) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("src", "10.0.0.1"),
        ("src", None),
        ("src", IPv6Address("::1")),
        ("src", RaisingObject(KeyError)),
        ("proto", "udp"),
        ("proto", None),
        *[
            (field, value)
            for field in ("proto", "sport", "dport", "zone", "icmp_id", "icmp_type", "icmp_code")
            for value in ("1", 1.0, -1, 1 << 16, 10**5000, RaisingObject(RecursionError), object())
        ],
    ],
    ids=case_name,
)
async def test_look_ups_refuse_values_that_do_not_fit_their_field(
    table: FlowTable, field: str, value: object
) -> None:
    broken = with_values(Tuple.icmp("10.0.0.1", "10.0.0.2", id=1), **{field: value})
    for name in LOOK_UPS:
        with pytest.raises(EncodeError) as caught:
            getattr(table, name)(broken)
        assert caught.value.path
    assert broken not in table
    assert Flow(orig=broken, reply=broken) not in table


async def test_look_ups_refuse_other_types(table: FlowTable) -> None:
    tuple_ = flows.tcp().orig
    for wrong in ("1", 1.0, b"1", RaisingObject(KeyError), object()):
        for name in LOOK_UPS:
            with pytest.raises(TypeError, match="zone must be a number"):
                getattr(table, name)(tuple_, zone=wrong)
            with pytest.raises(TypeError, match="look-up takes a Tuple"):
                getattr(table, name)(wrong)
        with pytest.raises(TypeError, match="id must be a number"):
            table.by_id(wrong)  # type: ignore[arg-type]
        assert wrong not in table
    for zone in (-1, 1 << 16, 10**5000):
        for name in LOOK_UPS:
            with pytest.raises(EncodeError, match="zone"):
                getattr(table, name)(tuple_, zone=zone)
    for id in (-1, 1 << 32, 10**5000):
        assert table.by_id(id) == []
