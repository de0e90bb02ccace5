"""What happens to expectations: their events, their counts, and the packets that meet them."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack

import anyio
import attrs
import pytest
from support import expectations as some
from support.lab import Lab

from conntrack_aio import Connection, EventType, Flow, Status, Tuple
from conntrack_aio.model.enums import ExpectFlags
from conntrack_aio.model.expectations import Expectation

pytestmark = [pytest.mark.kernels, pytest.mark.anyio, pytest.mark.kernel]


async def test_new_and_destroy_are_told_apart(conn: Connection) -> None:
    async with conn.expectations.events() as stream:
        made = await some.create_expectation(conn)
        await conn.expectations.delete(made)
        new, destroy = await some.next_events(stream, 2)
    assert (new.type, destroy.type) == (EventType.NEW, EventType.DESTROY)
    for event in (new, destroy):
        assert some.without_timeout(event.expectation) == some.without_timeout(made)
    assert new.port_id == destroy.port_id != 0


async def test_the_time_of_receipt(conn: Connection) -> None:
    async with (
        conn.expectations.events(receive_time=True) as stamped,
        conn.expectations.events() as plain,
    ):
        master = await conn.create(some.ftp())
        before = time.time_ns()
        await conn.expectations.create(some.data_connection(master))
        with anyio.fail_after(5):
            event, other = await anext(stamped), await anext(plain)
    assert event.time_received is not None
    assert before <= event.time_received <= time.time_ns()
    assert event.received_at is not None
    assert "received=" in str(event)
    assert (other.time_received, other.received_at) == (None, None)


@pytest.mark.parametrize("kind", [EventType.NEW, EventType.DESTROY])
async def test_only_the_types_asked_for(conn: Connection, kind: EventType) -> None:
    async with conn.expectations.events(kind) as stream:
        for master in (some.ftp(), some.irc()):
            await conn.expectations.delete(await some.create_expectation(conn, master))
        assert [event.type for event in await some.next_events(stream, 2)] == [kind, kind]


async def test_there_are_no_updates(conn: Connection) -> None:
    with pytest.raises(ValueError, match="UPDATE"):
        conn.expectations.events(EventType.UPDATE)
    with pytest.raises(TypeError, match="EventType"):
        conn.expectations.events("new")  # type: ignore[arg-type]
    assert conn.client_statistics().open_streams == 0


async def test_a_silent_masters_expectations_are_silent(lab: Lab, conn: Connection) -> None:
    async with conn.expectations.events() as stream:
        lab.sysctl("nf_conntrack_events", 0)
        silent = await some.create_expectation(conn)
        lab.sysctl("nf_conntrack_events", 1)
        heard = await some.create_expectation(conn, some.irc())
        await conn.expectations.delete(silent)
        await conn.expectations.delete(heard)
        events = await some.next_events(stream, 2)
    assert [event.expectation.id for event in events] == [heard.id, heard.id]


async def test_statistics_count_what_was_done(conn: Connection) -> None:
    def total(name: str) -> int:
        return sum(getattr(cpu, name) for cpu in told)

    made = await some.create_expectation(conn)
    await some.create_expectation(conn, some.irc())
    await conn.expectations.delete(made)
    told = await conn.expectations.cpu_statistics()
    assert [cpu.cpu for cpu in told] == sorted({cpu.cpu for cpu in told})
    assert (total("new"), total("create"), total("delete")) == (0, 2, 1)
    assert len(told) == len(await conn.cpu_statistics())


# -- packets --------------------------------------------------------------------------------

LOCAL = Tuple.udp("127.0.0.1", 0, "127.0.0.1", 4000)


async def local_master(conn: Connection) -> Flow:
    flow = Flow.udp("127.0.0.1", 1000, "127.0.0.1", 5060, timeout=60)
    return await conn.create(some.with_helper(flow, "sip"))


def send(lab: Lab, sport: int) -> None:
    """A datagram that :data:`LOCAL` expects, and its answer."""

    def exchange() -> None:
        with ExitStack() as stack:
            ends = [stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in "ab"]
            for end, port in zip(ends, (sport, 4000), strict=True):
                end.settimeout(5)
                end.bind(("127.0.0.1", port))
            ends[0].sendto(b"hello", ("127.0.0.1", 4000))
            said, sender = ends[1].recvfrom(16)
            ends[1].sendto(said, sender)
            ends[0].recv(16)

    lab.run(exchange)


async def test_the_first_packet_that_fits_makes_a_related_flow(lab: Lab, conn: Connection) -> None:
    lab.track()
    master = await local_master(conn)
    async with conn.expectations.events() as stream, conn.events(EventType.NEW) as new:
        made = await conn.expectations.create(Expectation.of(master.orig, LOCAL, any_sport=True))
        send(lab, 1234)
        told, ended = await some.next_events(stream, 2)
        with anyio.fail_after(5):
            related = (await anext(new)).flow
    assert [told.expectation.id, ended.expectation.id] == [made.id, made.id]
    assert (ended.type, ended.port_id) == (EventType.DESTROY, 0)
    assert related.orig == attrs.evolve(LOCAL, sport=1234)
    assert related.master == master.orig
    assert (related.status or 0) & Status.EXPECTED
    assert await conn.expectations.list() == []
    told_by_cpu = await conn.expectations.cpu_statistics()
    assert sum(cpu.new or 0 for cpu in told_by_cpu) == 1


async def test_a_permanent_one_is_met_again_and_again(lab: Lab, conn: Connection) -> None:
    lab.track()
    master = await local_master(conn)
    asked = Expectation.of(master.orig, LOCAL, any_sport=True, flags=ExpectFlags.PERMANENT)
    made = await conn.expectations.create(asked)
    for sport in (1234, 1235):
        send(lab, sport)
        assert (await conn.get(attrs.evolve(LOCAL, sport=sport))).master == master.orig
    assert [found.id for found in await conn.expectations.list()] == [made.id]


async def test_an_inactive_one_is_found_and_not_met(lab: Lab, conn: Connection) -> None:
    lab.track()
    master = await local_master(conn)
    asked = Expectation.of(master.orig, LOCAL, any_sport=True, flags=ExpectFlags.INACTIVE)
    made = await conn.expectations.create(asked)
    packet = attrs.evolve(LOCAL, sport=1234)
    assert (await conn.expectations.find(packet)).id == made.id
    send(lab, 1234)
    assert (await conn.get(packet)).master is None
    assert [found.id for found in await conn.expectations.list()] == [made.id]
