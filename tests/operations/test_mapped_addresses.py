"""Test that IPv4-mapped addresses are unmapped in arguments and kept in replies."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from ipaddress import IPv6Address

import attrs
import pytest
from support.lab import Lab

from conntrack_aio import (
    Connection,
    DecodeError,
    Flow,
    NewFlow,
    NotFound,
    Tuple,
    from_dict,
    masters_first,
    to_dict,
)

pytestmark = [pytest.mark.kernels, pytest.mark.anyio, pytest.mark.kernel]

MAPPED_SRC, MAPPED_DST = "::ffff:10.0.0.1", "::ffff:10.0.0.2"
INSERT = (
    f"-I -p tcp -s {MAPPED_SRC} -d {MAPPED_DST} --sport 1000 --dport 80 --state ESTABLISHED -t 600"
)


async def test_mapped_addresses_of_dual_stack_sockets_find_the_ipv4_entry(conn: Connection) -> None:
    created = await conn.create(Flow.tcp("10.0.0.1", 1000, "10.0.0.2", 80, timeout=600))
    packet = Tuple.tcp(MAPPED_SRC, 1000, MAPPED_DST, 80)
    assert (await conn.get(packet)).key == created.key
    await conn.update(packet, mark=3)
    async with conn.table() as table:
        for direction in (packet, packet.inverse):
            found = table.find(direction)
            assert found is not None
            assert found.id == created.id
    decoded = from_dict(
        Tuple, {"src": MAPPED_SRC, "dst": MAPPED_DST, "proto": 6, "sport": 1000, "dport": 80}
    )
    assert decoded == packet
    await conn.delete(packet)
    assert await conn.count() == 0


COPIES: dict[str, Callable[[Flow], Flow]] = {
    "as it was read": lambda flow: flow,
    "copied": copy.copy,
    "copied deeply": copy.deepcopy,
    "pickled": lambda flow: pickle.loads(pickle.dumps(flow)),
    "evolved": lambda flow: attrs.evolve(flow, mark=5),
    "as JSON": lambda flow: from_dict(Flow, json.loads(json.dumps(to_dict(flow)))),
}


@pytest.mark.program("conntrack", "conntrack")
@pytest.mark.parametrize("copy_name", COPIES)
async def test_a_flow_with_mapped_addresses_finds_its_ipv6_entry(
    lab: Lab, conn: Connection, copy_name: str
) -> None:
    lab.program("conntrack", *INSERT.split())
    ipv4_flow = await conn.create(Flow.tcp("10.0.0.1", 1000, "10.0.0.2", 80, timeout=600))
    (mapped_flow,) = [flow for flow in await conn.list() if flow.id != ipv4_flow.id]
    assert mapped_flow.orig.src == IPv6Address(MAPPED_SRC)
    flow = COPIES[copy_name](mapped_flow)
    assert flow.orig == mapped_flow.orig
    assert (await conn.get(flow)).id == mapped_flow.id
    assert (await conn.get(flow.reply)).id == mapped_flow.id
    await conn.update(flow, mark=9)
    assert (await conn.get(ipv4_flow)).mark == 0
    await conn.delete(flow)
    assert [left.id for left in await conn.list()] == [ipv4_flow.id]
    with pytest.raises(NotFound):
        await conn.get(mapped_flow)


@pytest.mark.program("conntrack", "conntrack")
async def test_an_ipv6_entry_with_mapped_addresses_can_be_restored_from_json(
    lab: Lab, conn: Connection
) -> None:
    lab.program("conntrack", *INSERT.split())
    (mapped_flow,) = await conn.list()
    saved = json.dumps(to_dict(mapped_flow))
    assert json.loads(saved)["orig"]["mapped"] is True
    await conn.flush()
    read = from_dict(Flow, json.loads(saved))
    assert read == mapped_flow
    (outcome,) = await conn.create_many(map(NewFlow.from_flow, masters_first([read])))
    assert outcome.ok
    (restored,) = await conn.list()
    assert (restored.orig, restored.reply) == (mapped_flow.orig, mapped_flow.reply)


@pytest.mark.parametrize(
    "data",
    [
        {"src": "10.0.0.1", "dst": "10.0.0.2", "proto": 6, "mapped": True},
        {"src": MAPPED_SRC, "dst": "2001:db8::1", "proto": 6, "mapped": True},
        {"src": MAPPED_SRC, "dst": MAPPED_DST, "proto": 6, "mapped": 1},
        {"src": MAPPED_SRC, "dst": MAPPED_DST, "proto": 6, "mapped": None},
    ],
)
async def test_mapped_in_json_is_checked(data: dict[str, object]) -> None:
    with pytest.raises(DecodeError) as caught:
        from_dict(Tuple, data)  # type: ignore[arg-type]
    assert caught.value.path == ("mapped",)
    plain = {**data, "mapped": False}
    assert "mapped" not in to_dict(from_dict(Tuple, plain))  # type: ignore[arg-type]
