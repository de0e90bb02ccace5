"""The fake kernel records the requests that it receives, and a test may reply to them."""

from __future__ import annotations

import pytest
from support import flows

from conntrack_aio import (
    Flow,
    Match,
    NATRange,
    TCPInfo,
)
from conntrack_aio.testing import FakeKernel, FakeSocket, ReceivedRequest

pytestmark = pytest.mark.anyio


# -- received requests -------------------------------------------------------------------------


async def test_received_requests_are_decoded() -> None:
    kernel = FakeKernel()
    async with kernel.connect() as conn:
        await conn.create(flows.tcp(mark=3), nat_src=NATRange.of("192.0.2.1", 99))
        await conn.update(flows.tcp().orig, mark=1, mark_mask=0xF, protoinfo=TCPInfo(state=4))
        await conn.list(Match(mark=1))
        await conn.delete(flows.tcp().orig)
        await conn.flush()
    by_verb = {request.verb: request for request in kernel.requests}
    verbs = ("create", "update", "dump", "delete", "flush")
    create, update, dump, delete, flush = (by_verb[verb] for verb in verbs)
    assert [request.verb for request in kernel.requests][:3] == ["count", "create", "get"]
    assert kernel.requests[-2:] == [delete, flush]
    assert (create.subsystem, create.message, create.family) == (1, 0, 2)
    assert create.attributes["orig"] == flows.tcp().orig
    assert create.attributes["nat_src"] == NATRange.of("192.0.2.1", 99)
    assert create.attributes["mark"] == 3
    assert update.attributes["mark_mask"] == 0xF
    assert update.attributes["protoinfo"] == TCPInfo(state=4)
    assert (dump.is_dump, dump.attributes["mark"]) == (True, 1)
    assert (flush.attributes, flush.version, flush.is_dump) == ({}, 0, False)
    assert str(flush) == "flush()"
    assert "mark=1" in str(update)
    assert {request.port_id for request in kernel.requests} == {
        kernel.sockets[0].port_id,
        kernel.sockets[1].port_id,
    }
    assert kernel.sockets[1].requests == [dump]
    assert kernel.sockets[1].sent[0][16:] == dump.payload


@pytest.mark.parametrize(
    ("payload", "attributes"),
    [
        (b"", {}),
        (b"\2\0\0\0", {}),
        (b"\2\0\0\0\7", {}),
        (b"\2\0\0\0" + b"\x05\0\x63\0x\0\0\0", {"99": b"x"}),
        (b"\2\0\0\0" + b"\x06\0\x08\0\0\1\0\0", {"8": b"\0\1"}),
    ],
)
def test_malformed_requests_can_be_inspected(payload: bytes, attributes: dict[str, object]) -> None:
    request = ReceivedRequest(0x101, 5, 1, payload, 7, "get", (Flow,))
    attributes_by_name = {
        ("8" if key == "mark" else key): value for key, value in request.attributes.items()
    }
    assert attributes_by_name == attributes


def test_an_incomplete_tuple_is_shown_as_a_dictionary() -> None:
    from support.raw_requests import CTA, be16, pack_nest

    part = pack_nest(CTA.TUPLE_ORIG, pack_nest(2, b"\5\0\1\0\6\0\0\0", be16(3, 80)))
    request = ReceivedRequest(0x101, 5, 1, b"\2\0\0\0" + part, 7, "dump", (Flow,))
    assert request.attributes == {"orig": {"proto": 6, "dport": 80}}


# -- custom replies ---------------------------------------------------------------------------


async def test_on_request_may_answer_instead_of_the_kernel() -> None:
    def acknowledge_delete(socket: FakeSocket, request: ReceivedRequest) -> bool:
        if request.verb != "delete":
            return False
        socket.ack(request)
        return True

    kernel = FakeKernel(flows=[flows.tcp()], on_request=acknowledge_delete)
    async with kernel.connect() as conn:
        await conn.delete(flows.tcp().orig)
        assert await conn.count() == 1
        kernel.on_request = None
        await conn.delete(flows.tcp().orig)
        assert await conn.count() == 0
