"""Protocols that newer kernels no longer track: entries that real packets made, and timeouts."""

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
HOME = "127.0.0.1"
SEQUENCE = 0x123456789A


async def first_of(conn: Connection, lab: Lab, send: object) -> FlowEvent:
    """The first event of what is sent."""
    assert callable(send)
    async with conn.events(EventType.NEW) as events:
        lab.run(send)
        with anyio.fail_after(60):
            return await anext(events)


def dccp(kind: int, sport: int, dport: int, rest: bytes) -> bytes:
    """A packet with a long sequence number (RFC 4340, 5.1)."""
    offset = (16 + len(rest)) // 4
    header = struct.pack("!HHBBHBB", sport, dport, offset, 0, 0, kind << 1 | 1, 0)
    return header + SEQUENCE.to_bytes(6, "big") + rest


def send_dccp() -> None:
    """A DCCP-Request begins a connection, and a DCCP-Response goes on with it."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, DCCP) as end:
        end.sendto(dccp(0, 4000, 5000, b"test"), (HOME, 0))
        end.sendto(dccp(1, 5000, 4000, bytes(8) + b"test"), (HOME, 0))


@needs_dccp
async def test_dccp(lab: Lab, conn: Connection) -> None:
    lab.track()
    event = await first_of(conn, lab, send_dccp)
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
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM, UDPLITE) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM, UDPLITE) as client,
    ):
        server.bind((HOME, 5000))
        client.bind((HOME, 4000))
        client.sendto(b"x", (HOME, 5000))


@needs_udplite
async def test_udplite(lab: Lab, conn: Connection) -> None:
    lab.track()
    event = await first_of(conn, lab, send_udplite)
    orig = event.flow.orig
    assert (orig.proto, orig.sport, orig.dport) == (UDPLITE, 4000, 5000)
    assert (await conn.get(orig)).id == event.flow.id


@needs_dccp
async def test_timeouts_of_dccp(conn: Connection) -> None:
    await conn.timeouts.set_defaults(DCCPTimeouts(request=7))
    assert (await conn.timeouts.get_defaults(DCCPTimeouts)).request == 7


@needs_udplite
async def test_timeouts_of_udplite(conn: Connection) -> None:
    given = TimeoutPolicy.of(
        f"lite{os.getpid()}", UDPTimeouts(replied=7), family=socket.AF_INET, proto=UDPLITE
    )
    made = await conn.timeouts.create(given)
    try:
        assert made.proto == UDPLITE
        assert isinstance(made.timeouts, UDPTimeouts)
        assert made.timeouts.replied == 7
    finally:
        await conn.timeouts.delete(made.name)
