"""Check protocols that newer kernels no longer track: entries of real packets, and timeouts."""

from __future__ import annotations

import os
import socket
import struct

import anyio
import pytest
from support.kernel_release import RELEASE
from support.lab import Lab

from conntrack_aio import (
    Connection,
    DCCPInfo,
    DCCPTimeouts,
    EventType,
    FlowEvent,
    TimeoutPolicy,
    Tuple,
    UDPTimeouts,
)
from conntrack_aio.testing import releases

pytestmark = [pytest.mark.kernels, pytest.mark.anyio]

needs_dccp = pytest.mark.skipif(
    not RELEASE.has(releases.DCCP_TRACKED), reason="this kernel tracks no DCCP"
)
needs_udplite = pytest.mark.skipif(
    not RELEASE.has(releases.UDPLITE_TRACKED), reason="this kernel tracks no UDP-Lite"
)

DCCP, UDPLITE = 33, 136
LOOPBACK = "127.0.0.1"
SEQUENCE = 0x123456789A


async def first_event(conn: Connection, lab: Lab, send: object) -> FlowEvent:
    """Call a function that sends packets, and return the first NEW event."""
    assert callable(send)
    async with conn.events(EventType.NEW) as events:
        lab.run(send)
        with anyio.fail_after(60):
            return await anext(events)


def dccp(kind: int, sport: int, dport: int, rest: bytes) -> bytes:
    """Return a packet with a 48-bit sequence number, as in section 5.1 of RFC 4340."""
    offset = (16 + len(rest)) // 4
    header = struct.pack("!HHBBHBB", sport, dport, offset, 0, 0, kind << 1 | 1, 0)
    return header + SEQUENCE.to_bytes(6, "big") + rest


def send_dccp() -> None:
    """Send a DCCP-Request, which creates an entry, and a DCCP-Response."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, DCCP) as raw:
        raw.sendto(dccp(0, 4000, 5000, b"test"), (LOOPBACK, 0))
        raw.sendto(dccp(1, 5000, 4000, bytes(8) + b"test"), (LOOPBACK, 0))


@needs_dccp
async def test_dccp_flows_can_be_read_updated_and_deleted(lab: Lab, conn: Connection) -> None:
    lab.track()
    event = await first_event(conn, lab, send_dccp)
    assert event.flow.orig == Tuple(
        src=event.flow.orig.src, dst=event.flow.orig.dst, proto=DCCP, sport=4000, dport=5000
    )
    assert isinstance(event.flow.protoinfo, DCCPInfo)
    assert event.flow.protoinfo.state == 1  # CT_DCCP_REQUEST
    flow = await conn.get(event.flow)
    info = flow.protoinfo
    assert isinstance(info, DCCPInfo)
    assert (info.state, info.handshake_seq) == (2, SEQUENCE)  # CT_DCCP_RESPOND
    assert "dccp" in str(flow)
    await conn.update(flow, timeout=33)
    await conn.delete(flow)


def send_udplite() -> None:
    """Send one UDP-Lite datagram."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM, UDPLITE) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM, UDPLITE) as client,
    ):
        server.bind((LOOPBACK, 5000))
        client.bind((LOOPBACK, 4000))
        client.sendto(b"x", (LOOPBACK, 5000))


@needs_udplite
async def test_udplite_flows_can_be_read(lab: Lab, conn: Connection) -> None:
    lab.track()
    event = await first_event(conn, lab, send_udplite)
    orig = event.flow.orig
    assert (orig.proto, orig.sport, orig.dport) == (UDPLITE, 4000, 5000)
    assert (await conn.get(orig)).id == event.flow.id


@needs_dccp
async def test_default_timeouts_of_dccp_can_be_set(conn: Connection) -> None:
    await conn.timeouts.set_defaults(DCCPTimeouts(request=7))
    assert (await conn.timeouts.get_defaults(DCCPTimeouts)).request == 7


@needs_udplite
async def test_timeout_policies_of_udplite_can_be_created(conn: Connection) -> None:
    policy = TimeoutPolicy.of(
        f"lite{os.getpid()}", UDPTimeouts(replied=7), family=socket.AF_INET, proto=UDPLITE
    )
    created = await conn.timeouts.create(policy)
    try:
        assert created.proto == UDPLITE
        assert isinstance(created.timeouts, UDPTimeouts)
        assert created.timeouts.replied == 7
    finally:
        await conn.timeouts.delete(created.name)
