"""IPv4-mapped IPv6 addresses: what users pass is unmapped, what the kernel sends is kept."""

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

SRC, DST = "::ffff:10.0.0.1", "::ffff:10.0.0.2"
INSERT = f"-I -p tcp -s {SRC} -d {DST} --sport 1000 --dport 80 --state ESTABLISHED -t 600"


async def test_what_dual_stack_sockets_tell_finds_the_ipv4_entry(conn: Connection) -> None:
    made = await conn.create(Flow.tcp("10.0.0.1", 1000, "10.0.0.2", 80, timeout=600))
    packet = Tuple.tcp(SRC, 1000, DST, 80)
    assert (await conn.get(packet)).key == made.key
    await conn.update(packet, mark=3)
    async with conn.table() as table:
        for named in (packet, packet.inverse):
            found = table.find(named)
            assert found is not None
            assert found.id == made.id
    reads = from_dict(Tuple, {"src": SRC, "dst": DST, "proto": 6, "sport": 1000, "dport": 80})
    assert reads == packet
    await conn.delete(packet)
    assert await conn.count() == 0


AGAIN: dict[str, Callable[[Flow], Flow]] = {
    "as it was read": lambda flow: flow,
    "copied": copy.copy,
    "copied deeply": copy.deepcopy,
    "pickled": lambda flow: pickle.loads(pickle.dumps(flow)),
    "evolved": lambda flow: attrs.evolve(flow, mark=5),
    "as JSON": lambda flow: from_dict(Flow, json.loads(json.dumps(to_dict(flow)))),
}


@pytest.mark.program("conntrack", "conntrack")
@pytest.mark.parametrize("again", AGAIN)
async def test_an_ipv6_entry_of_mapped_addresses_is_named_by_what_was_read(
    lab: Lab, conn: Connection, again: str
) -> None:
    lab.program("conntrack", *INSERT.split())
    four = await conn.create(Flow.tcp("10.0.0.1", 1000, "10.0.0.2", 80, timeout=600))
    (six,) = [flow for flow in await conn.list() if flow.id != four.id]
    assert six.orig.src == IPv6Address(SRC)
    flow = AGAIN[again](six)
    assert flow.orig == six.orig
    assert (await conn.get(flow)).id == six.id
    assert (await conn.get(flow.reply)).id == six.id
    await conn.update(flow, mark=9)
    assert (await conn.get(four)).mark == 0
    await conn.delete(flow)
    assert [left.id for left in await conn.list()] == [four.id]
    with pytest.raises(NotFound):
        await conn.get(six)


@pytest.mark.program("conntrack", "conntrack")
async def test_such_an_entry_is_saved_and_restored(lab: Lab, conn: Connection) -> None:
    lab.program("conntrack", *INSERT.split())
    (six,) = await conn.list()
    saved = json.dumps(to_dict(six))
    assert json.loads(saved)["orig"]["mapped"] is True
    await conn.flush()
    read = from_dict(Flow, json.loads(saved))
    assert read == six
    (outcome,) = await conn.create_many(map(NewFlow.from_flow, masters_first([read])))
    assert outcome.ok
    (restored,) = await conn.list()
    assert (restored.orig, restored.reply) == (six.orig, six.reply)


@pytest.mark.parametrize(
    "data",
    [
        {"src": "10.0.0.1", "dst": "10.0.0.2", "proto": 6, "mapped": True},
        {"src": SRC, "dst": "2001:db8::1", "proto": 6, "mapped": True},
        {"src": SRC, "dst": DST, "proto": 6, "mapped": 1},
        {"src": SRC, "dst": DST, "proto": 6, "mapped": None},
    ],
)
async def test_json_that_says_mapped_of_what_is_not(data: dict[str, object]) -> None:
    with pytest.raises(DecodeError) as caught:
        from_dict(Tuple, data)  # type: ignore[arg-type]
    assert caught.value.path == ("mapped",)
    plain = {**data, "mapped": False}
    assert "mapped" not in to_dict(from_dict(Tuple, plain))  # type: ignore[arg-type]
