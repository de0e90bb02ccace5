"""Build distinct flows, encode them and their events, and create many of them."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import cache

import attrs

from conntrack_aio import Connection, Flow
from conntrack_aio.codec.messages import CT_DELETE, CT_NEW
from conntrack_aio.codec.reference import encode
from conntrack_aio.codec.requests import flows as requests
from conntrack_aio.netlink import messages
from conntrack_aio.netlink.exchange import Request


def tcp(number: int = 1, *, timeout: int = 600, mark: int | None = None) -> Flow:
    """Return the TCP flow of this number. The numbers below 65,536 give distinct flows."""
    source = f"10.1.{number >> 8 & 255}.{number & 255}"
    return Flow.tcp(source, 40000, "10.2.0.1", 80, timeout=timeout, mark=mark)


def udp6(number: int = 1, *, timeout: int = 600, mark: int | None = None) -> Flow:
    """Return the UDP flow over IPv6 of this number."""
    return Flow.udp(f"2001:db8::{number:x}", 40000, "2001:db8:1::1", 53, timeout=timeout, mark=mark)


def without_timeout(flow: Flow) -> Flow:
    """Return a copy without the timeout, which decreases while a test runs."""
    return attrs.evolve(flow, timeout=None)


def message_payload(flow: Flow) -> bytes:
    """Return the payload of a message about a flow."""
    return struct.pack("!BBH", flow.orig.family, 0, 0) + encode(flow)


def new_event(flow: Flow) -> bytes:
    return messages.pack(CT_NEW, 0x600, 0, message_payload(flow))


def update_event(flow: Flow) -> bytes:
    return messages.pack(CT_NEW, 0, 0, message_payload(flow))


def destroy_event(flow: Flow) -> bytes:
    return messages.pack(CT_DELETE, 0, 0, message_payload(flow))


async def fill_cached(conn: Connection, count: int) -> None:
    """Create the TCP flows 1 to ``count``; the odd ones have the mark 77.

    The requests are encoded once, for tests that create the same flows hundreds of times.
    """
    await conn._session.run([*_requests_for(count)])


@cache
def _requests_for(count: int) -> list[Request]:
    numbers = range(1, count + 1)
    return [requests.create(tcp(n, mark=77 if n % 2 else 0)) for n in numbers]


async def fill(conn: Connection, created: Iterable[Flow]) -> None:
    """Create many flows, several per datagram. Entries that exist already are not changed."""
    await conn._session.run([requests.create(flow) for flow in created])
