"""Masters and expectations to make, their events, and the bytes of one."""

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
    """A control connection of FTP: its helper has one class, with room for one expectation."""
    return with_helper(Flow.tcp("10.0.0.1", sport, "10.0.0.2", 21, timeout=600, zone=zone), "ftp")


def ftp6() -> Flow:
    return with_helper(Flow.tcp("fd00::1", 1000, "fd00::2", 21, timeout=600), "ftp")


def irc() -> Flow:
    """Of IRC: with room for eight."""
    return with_helper(Flow.tcp("10.0.0.1", 1000, "10.0.0.3", 6667, timeout=600), "irc")


def sip() -> Flow:
    """Of SIP: four classes."""
    return with_helper(Flow.udp("10.0.0.1", 1000, "10.0.0.2", 5060, timeout=600), "sip")


def data_connection(master: Flow, dport: int = 2050) -> Expectation:
    """A TCP connection from any port of the master's client to this port of its server."""
    tuple_ = Tuple.tcp(master.orig.src, 0, master.orig.dst, dport)
    return Expectation.of(master.orig.without_zone, tuple_, any_sport=True)


async def create_expectation(conn: Connection, master: Flow | None = None) -> Expectation:
    """One in the table, of a master that is made first."""
    return await conn.expectations.create(data_connection(await conn.create(master or ftp())))


def without_timeout(expectation: Expectation) -> Expectation:
    """Without its timeout, which runs while a test looks."""
    return attrs.evolve(expectation, timeout=None)


async def next_events(
    stream: EventStream[ExpectEvent], count: int, *, seconds: float = 5
) -> list[ExpectEvent]:
    """The next events, if they come within so many seconds."""
    with anyio.fail_after(seconds * TIMEOUT_FACTOR):
        return [await anext(stream) for _ in range(count)]


def message_payload(expectation: Expectation) -> bytes:
    """What stands in a message about it."""
    return struct.pack("!BBH", expectation.tuple.family, 0, 0) + encode(expectation)
