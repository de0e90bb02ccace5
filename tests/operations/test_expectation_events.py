"""Test events and statistics of expectations, and the packets that fulfill them."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack

import anyio
import attrs
import pytest
from support import expectations
from support.lab import Lab

from conntrack_aio import Connection, EventType, Flow, Status, Tuple
from conntrack_aio.model.enums import ExpectFlags
from conntrack_aio.model.expectations import Expectation

pytestmark = [pytest.mark.kernels, pytest.mark.anyio, pytest.mark.kernel]


async def test_new_and_destroy_events_have_their_types(conn: Connection) -> None:
    async with conn.expectations.events() as stream:
        created = await expectations.create_expectation(conn)
        await conn.expectations.delete(created)
        new, destroy = await expectations.next_events(stream, 2)
    assert (new.type, destroy.type) == (EventType.NEW, EventType.DESTROY)
    for event in (new, destroy):
        assert expectations.without_timeout(event.expectation) == expectations.without_timeout(
            created
        )
    assert new.port_id == destroy.port_id != 0


async def test_events_have_the_time_of_receipt_on_request(conn: Connection) -> None:
    async with (
        conn.expectations.events(receive_time=True) as stamped,
        conn.expectations.events() as plain,
    ):
        master = await conn.create(expectations.ftp())
        before = time.time_ns()
        await conn.expectations.create(expectations.data_connection(master))
        with anyio.fail_after(5):
            event, other = await anext(stamped), await anext(plain)
    assert event.receive_timestamp is not None
    assert before <= event.receive_timestamp <= time.time_ns()
    assert event.receive_time is not None
    assert "received=" in str(event)
    assert (other.receive_timestamp, other.receive_time) == (None, None)


@pytest.mark.parametrize("event_type", [EventType.NEW, EventType.DESTROY])
async def test_only_the_requested_types_are_received(
    conn: Connection, event_type: EventType
) -> None:
    async with conn.expectations.events(event_type) as stream:
        for master in (expectations.ftp(), expectations.irc()):
            await conn.expectations.delete(await expectations.create_expectation(conn, master))
        assert [event.type for event in await expectations.next_events(stream, 2)] == [
            event_type,
            event_type,
        ]


async def test_update_events_of_expectations_are_refused(conn: Connection) -> None:
    with pytest.raises(ValueError, match="UPDATE"):
        conn.expectations.events(EventType.UPDATE)
    with pytest.raises(TypeError, match="EventType"):
        conn.expectations.events("new")  # type: ignore[arg-type]
    assert conn.client_statistics().open_streams == 0


async def test_expectations_of_a_master_without_events_emit_none(
    lab: Lab, conn: Connection
) -> None:
    async with conn.expectations.events() as stream:
        lab.sysctl("nf_conntrack_events", 0)
        without_events = await expectations.create_expectation(conn)
        lab.sysctl("nf_conntrack_events", 1)
        with_events = await expectations.create_expectation(conn, expectations.irc())
        await conn.expectations.delete(without_events)
        await conn.expectations.delete(with_events)
        events = await expectations.next_events(stream, 2)
    assert [event.expectation.id for event in events] == [with_events.id, with_events.id]


async def test_cpu_statistics_count_created_and_deleted_expectations(conn: Connection) -> None:
    def total(name: str) -> int:
        return sum(getattr(cpu, name) for cpu in statistics)

    created = await expectations.create_expectation(conn)
    await expectations.create_expectation(conn, expectations.irc())
    await conn.expectations.delete(created)
    statistics = await conn.expectations.cpu_statistics()
    assert [cpu.cpu for cpu in statistics] == sorted({cpu.cpu for cpu in statistics})
    assert (total("new"), total("create"), total("delete")) == (0, 2, 1)
    assert len(statistics) == len(await conn.cpu_statistics())


# -- packets --------------------------------------------------------------------------------

LOCAL = Tuple.udp("127.0.0.1", 0, "127.0.0.1", 4000)


async def local_master(conn: Connection) -> Flow:
    flow = Flow.udp("127.0.0.1", 1000, "127.0.0.1", 5060, timeout=60)
    return await conn.create(expectations.with_helper(flow, "sip"))


def exchange_datagrams(lab: Lab, sport: int) -> None:
    """Send a UDP datagram that :data:`LOCAL` expects, and a reply."""

    def exchange() -> None:
        with ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in "ab"]
            for socket_, port in zip(sockets, (sport, 4000), strict=True):
                socket_.settimeout(5)
                socket_.bind(("127.0.0.1", port))
            sockets[0].sendto(b"hello", ("127.0.0.1", 4000))
            payload, sender = sockets[1].recvfrom(16)
            sockets[1].sendto(payload, sender)
            sockets[0].recv(16)

    lab.run(exchange)


async def test_the_first_expected_packet_creates_a_related_flow(lab: Lab, conn: Connection) -> None:
    lab.track()
    master = await local_master(conn)
    async with conn.expectations.events() as stream, conn.events(EventType.NEW) as new:
        created = await conn.expectations.create(Expectation.of(master.orig, LOCAL, any_sport=True))
        exchange_datagrams(lab, 1234)
        new_event, destroy_event = await expectations.next_events(stream, 2)
        with anyio.fail_after(5):
            related = (await anext(new)).flow
    assert [new_event.expectation.id, destroy_event.expectation.id] == [created.id, created.id]
    assert (destroy_event.type, destroy_event.port_id) == (EventType.DESTROY, 0)
    assert related.orig == attrs.evolve(LOCAL, sport=1234)
    assert related.master == master.orig
    assert (related.status or 0) & Status.EXPECTED
    assert await conn.expectations.list() == []
    statistics = await conn.expectations.cpu_statistics()
    assert sum(cpu.new or 0 for cpu in statistics) == 1


async def test_a_permanent_expectation_is_fulfilled_repeatedly(lab: Lab, conn: Connection) -> None:
    lab.track()
    master = await local_master(conn)
    permanent = Expectation.of(master.orig, LOCAL, any_sport=True, flags=ExpectFlags.PERMANENT)
    created = await conn.expectations.create(permanent)
    for sport in (1234, 1235):
        exchange_datagrams(lab, sport)
        assert (await conn.get(attrs.evolve(LOCAL, sport=sport))).master == master.orig
    assert [found.id for found in await conn.expectations.list()] == [created.id]


async def test_an_inactive_expectation_is_found_but_not_fulfilled(
    lab: Lab, conn: Connection
) -> None:
    lab.track()
    master = await local_master(conn)
    inactive = Expectation.of(master.orig, LOCAL, any_sport=True, flags=ExpectFlags.INACTIVE)
    created = await conn.expectations.create(inactive)
    packet = attrs.evolve(LOCAL, sport=1234)
    assert (await conn.expectations.find(packet)).id == created.id
    exchange_datagrams(lab, 1234)
    assert (await conn.get(packet)).master is None
    assert [found.id for found in await conn.expectations.list()] == [created.id]
