"""Create master connections and expectations, read their events, and encode them."""

from __future__ import annotations

import struct

import anyio
import attrs

from conntrack_aio import Connection, EventStream, Flow, Helper, Tuple
from conntrack_aio.codec.reference import encode
from conntrack_aio.model.expectations import Expectation, ExpectEvent

from .effort import TIMEOUT_FACTOR

EXPECTED = Tuple.tcp("10.0.0.1", 0, "10.0.0.2", 2050)


def with_helper(flow: Flow, name: str) -> Flow:
    flow.helper = Helper(name=name)
    return flow


def ftp(sport: int = 1000, *, zone: int | None = None) -> Flow:
    """Return an FTP control connection. The helper has one class of at most one expectation."""
    return with_helper(Flow.tcp("10.0.0.1", sport, "10.0.0.2", 21, timeout=600, zone=zone), "ftp")


def ftp6() -> Flow:
    return with_helper(Flow.tcp("fd00::1", 1000, "fd00::2", 21, timeout=600), "ftp")


def irc() -> Flow:
    """Return an IRC connection. The helper allows eight expectations."""
    return with_helper(Flow.tcp("10.0.0.1", 1000, "10.0.0.3", 6667, timeout=600), "irc")


def sip() -> Flow:
    """Return a SIP flow. The helper has four classes of expectations."""
    return with_helper(Flow.udp("10.0.0.1", 1000, "10.0.0.2", 5060, timeout=600), "sip")


def data_connection(master: Flow, dport: int = 2050) -> Expectation:
    """Return an expectation of a data connection.

    It is a TCP connection from any port of the master's client to this port of its server.
    """
    tuple_ = Tuple.tcp(master.orig.src, 0, master.orig.dst, dport)
    return Expectation.of(master.orig.without_zone, tuple_, any_sport=True)


async def create_expectation(conn: Connection, master: Flow | None = None) -> Expectation:
    """Create a master connection and an expectation of it, and return the expectation."""
    return await conn.expectations.create(data_connection(await conn.create(master or ftp())))


def without_timeout(expectation: Expectation) -> Expectation:
    """Return a copy without the timeout, which decreases while a test runs."""
    return attrs.evolve(expectation, timeout=None)


async def next_events(
    stream: EventStream[ExpectEvent], count: int, *, seconds: float = 5
) -> list[ExpectEvent]:
    """Return the next events.

    :raises TimeoutError: when they do not arrive within ``seconds``.
    """
    with anyio.fail_after(seconds * TIMEOUT_FACTOR):
        return [await anext(stream) for _ in range(count)]


def message_payload(expectation: Expectation) -> bytes:
    """Return the payload of a message about an expectation."""
    return struct.pack("!BBH", expectation.tuple.family, 0, 0) + encode(expectation)
