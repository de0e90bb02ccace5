"""The event stream, on this machine's kernel."""

from __future__ import annotations

import errno
import logging
import os
import re
import time
from typing import Literal

import anyio
import anyio.to_thread
import pytest
from support import flows
from support.lab import Lab

from conntrack_aio import (
    Connection,
    EventsLost,
    EventStream,
    EventType,
    FlowEvent,
    Status,
    TCPInfo,
    TCPState,
    connect,
    from_dict,
    to_dict,
)
from conntrack_aio.sandbox import traffic
from conntrack_aio.streams import events as events_module

pytestmark = [pytest.mark.kernels, pytest.mark.anyio, pytest.mark.kernel]


async def take(stream: EventStream[FlowEvent], count: int) -> list[FlowEvent]:
    """The next events, if they come within 5 seconds."""
    with anyio.fail_after(5):
        return [await anext(stream) for _ in range(count)]


async def until_loss(stream: EventStream[FlowEvent]) -> tuple[int, EventsLost]:
    """How many events came before the loss that must come within 5 seconds, and the loss."""
    received = 0
    with anyio.fail_after(5):
        try:
            async for _ in stream:
                received += 1
        except EventsLost as loss:
            return received, loss
    raise AssertionError("unreachable")


async def test_new_update_and_destroy_are_told_apart(conn: Connection) -> None:
    async with conn.events() as stream:
        made = await conn.create(flows.tcp())
        await conn.update(made, mark=5)
        await conn.delete(made)
        new, update, destroy = await take(stream, 3)
    assert (new.type, update.type, destroy.type) == tuple(EventType)
    assert {event.flow.id for event in (new, update, destroy)} == {made.id}
    assert update.flow.mark == 5
    assert len({event.port_id for event in (new, update, destroy)} - {0}) == 1


async def test_it_is_subscribed_when_events_returns(conn: Connection) -> None:
    stream = conn.events()
    made = await conn.create(flows.tcp())
    (event,) = await take(stream, 1)
    assert event.flow.id == made.id
    await stream.aclose()


async def test_only_the_types_asked_for(conn: Connection) -> None:
    async with conn.events(EventType.DESTROY) as stream:
        made = await conn.create(flows.tcp())
        await conn.update(made, mark=5)
        await conn.delete(made)
        (event,) = await take(stream, 1)
    assert event.type is EventType.DESTROY


async def test_real_tcp_over_loopback(lab: Lab, conn: Connection) -> None:
    lab.track()
    lab.sysctl("nf_conntrack_timestamp", 1)
    async with conn.events() as stream:
        sport, dport = await anyio.to_thread.run_sync(lab.run, traffic.tcp_exchange)
        events = await take(stream, 6)
    assert [event.type for event in events] == [EventType.NEW] + [EventType.UPDATE] * 5
    assert {(event.flow.orig.sport, event.flow.orig.dport) for event in events} == {(sport, dport)}
    assert {event.port_id for event in events} == {0}
    states = [
        event.flow.protoinfo.state for event in events if isinstance(event.flow.protoinfo, TCPInfo)
    ]
    assert states[:3] == [TCPState.SYN_SENT, TCPState.SYN_RECV, TCPState.ESTABLISHED]
    assert states[-1] is TCPState.TIME_WAIT
    times = [event.timestamp for event in events if event.timestamp is not None]
    assert times == sorted(times)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_real_udp_and_icmp_over_loopback(lab: Lab, conn: Connection, address: str) -> None:
    lab.track()
    async with conn.events(EventType.NEW) as stream:
        sport, dport = await anyio.to_thread.run_sync(lab.run, traffic.udp_exchange, address)
        await anyio.to_thread.run_sync(lab.run, traffic.ping, address, 77)
        udp, icmp = await take(stream, 2)
    assert (udp.flow.orig.sport, udp.flow.orig.dport) == (sport, dport)
    assert str(udp.flow.orig.src) == str(icmp.flow.orig.dst) == address
    assert icmp.flow.orig.icmp_id == icmp.flow.reply.icmp_id == 77
    assert icmp.flow.reply == icmp.flow.orig.inverse


async def test_partial_updates_stay_partial(lab: Lab, conn: Connection) -> None:
    lab.track()
    lab.sysctl("nf_conntrack_acct", 1)
    async with conn.events() as stream:
        await anyio.to_thread.run_sync(lab.run, traffic.udp_exchange)
        new, update = await take(stream, 2)
        await conn.flush()
        (destroy,) = await take(stream, 1)
    assert update.flow.status is not None
    assert update.flow.status & Status.SEEN_REPLY
    for event in (new, update):
        assert (event.flow.counters_orig, event.flow.use, event.flow.mark) == (None, None, None)
    assert destroy.flow.counters_orig is not None
    assert destroy.flow.counters_orig.packets == 1


@pytest.mark.parametrize(
    ("mode", "covers", "level", "words"),
    [
        (0, False, logging.WARNING, "no flow emits events here: .*_events is 0"),
        (1, True, None, ""),
        (
            2,
            False,
            logging.INFO,
            "flows that were created while no program listened emit no events here: .* is 2",
        ),
    ],
)
async def test_whether_older_flows_are_covered(
    lab: Lab,
    conn: Connection,
    caplog: pytest.LogCaptureFixture,
    mode: int,
    covers: bool,
    level: int | None,
    words: str,
) -> None:
    await conn.create(flows.tcp())
    lab.sysctl("nf_conntrack_events", mode)
    with caplog.at_level(logging.INFO, logger="conntrack_aio"):
        async with conn.events() as stream:
            assert stream.covers_older_flows is covers
    assert [record.levelno for record in caplog.records] == ([] if level is None else [level])
    assert [record.getMessage() for record in caplog.records] == [
        str(spot) for spot in stream.blind_spots
    ]
    assert re.match(words, "".join(map(str, stream.blind_spots)))


async def test_an_empty_table_is_reported(
    lab: Lab, conn: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="conntrack_aio"):
        async with conn.events() as stream:
            (spot,) = stream.blind_spots
    assert (spot.setting, spot.what) == ("count", "the table is empty")
    assert "if no firewall rule needs connection tracking, nothing is tracked" in caplog.text
    await conn.create(flows.tcp())
    async with conn.events() as stream:
        assert stream.blind_spots == ()


@pytest.mark.parametrize("on_loss", ["raise", "item"])
async def test_the_time_of_receipt(conn: Connection, on_loss: Literal["raise", "item"]) -> None:
    async with conn.events(receive_time=True, on_loss=on_loss) as stream:
        before = time.time_ns()
        await conn.create(flows.tcp())
        (event,) = await take(stream, 1)
        after = time.time_ns()
        assert event.receive_timestamp is not None
        assert before <= event.receive_timestamp <= after
        assert event.receive_time is not None
        assert event.receive_time.timestamp() == pytest.approx(
            event.receive_timestamp / 1e9, abs=1e-5
        )
        assert to_dict(event)["receive_timestamp"] == event.receive_timestamp
        assert from_dict(FlowEvent, to_dict(event)) == event
        await conn.create(flows.tcp(2))
        (later,) = await take(stream, 1)
        assert later.receive_timestamp is not None
        assert later.receive_timestamp >= after


async def test_the_kernels_own_time_is_in_the_text(lab: Lab, conn: Connection) -> None:
    async with conn.events() as stream:
        for number, setting in enumerate((0, 1)):
            lab.sysctl("nf_conntrack_timestamp", setting)
            await conn.create(flows.tcp(number))
            (event,) = await take(stream, 1)
            assert (" time=20" in str(event)) is (event.timestamp is not None)
            assert setting or event.timestamp is None


async def test_no_time_of_receipt_unless_asked(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoClock:
        def time_ns(self) -> int:
            raise AssertionError

    async with conn.events() as stream:
        await conn.create(flows.tcp())
        monkeypatch.setattr(events_module, "time", NoClock())
        (event,) = await take(stream, 1)
    assert event.receive_timestamp is None
    assert event.receive_time is None
    assert "receive_timestamp" not in to_dict(event)


async def test_losses_are_in_the_statistics_before_they_are_read(lab: Lab) -> None:
    async with connect(netns=lab.netns, receive_buffer=8192) as conn:
        async with conn.events(EventType.NEW) as stream:
            await flows.fill(conn, map(flows.tcp, range(100)))
            lost = stream.statistics().events_lost
            assert lost == conn.client_statistics().events_lost > 0
            received, loss = await until_loss(stream)
            assert loss.lost == 100 - received == lost
            # What was told is not counted again.
            assert stream.statistics().events_lost == conn.client_statistics().events_lost == lost
            await flows.fill(conn, map(flows.tcp, range(100, 200)))
            more = stream.statistics().events_lost
            assert more > lost
        # Nor is it forgotten when a stream is closed that nobody has read.
        assert stream.statistics().events_lost == conn.client_statistics().events_lost == more


async def test_failed_tries_of_a_reliable_stream_are_no_losses(lab: Lab) -> None:
    async with (
        connect(netns=lab.netns, receive_buffer=8192) as conn,
        conn.events(EventType.DESTROY, reliable=True) as stream,
    ):
        await flows.fill(conn, map(flows.tcp, range(100)))
        await conn.flush()
        assert stream.statistics().events_lost == conn.client_statistics().events_lost == 0
        assert len(await take(stream, 100)) == 100
        assert stream.statistics().events_lost == conn.client_statistics().events_lost == 0


async def test_a_loss_is_told_and_the_stream_goes_on(lab: Lab) -> None:
    async with (
        connect(netns=lab.netns, receive_buffer=8192) as conn,
        conn.events(EventType.NEW) as stream,
    ):
        await flows.fill(conn, map(flows.tcp, range(100)))
        received, loss = await until_loss(stream)
        assert loss.lost == 100 - received > 0
        made = await conn.create(flows.tcp(1000))
        (event,) = await take(stream, 1)
        assert event.flow.id == made.id
        assert conn.client_statistics().events_lost == loss.lost
        assert conn.client_statistics().overruns == 1


async def test_the_buffer_is_as_large_as_asked(conn: Connection) -> None:
    async with conn.events(receive_buffer=100_000) as stream:
        assert stream.receive_buffer == 200_000


@pytest.mark.parametrize("error", [OSError(errno.ENOMEM, "no memory"), MemoryError()])
async def test_without_memory_for_many_they_come_one_by_one(
    conn: Connection, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def no_memory(count: int, size: int) -> None:
        raise error

    async with conn.events() as stream:
        await flows.fill(conn, map(flows.tcp, range(3)))
        monkeypatch.setattr("conntrack_aio.netlink.recvmmsg.MessageVector", no_memory)
        assert len(await take(stream, 3)) == 3


async def test_what_waits_is_in_the_connections_books(conn: Connection) -> None:
    async with conn.events() as stream:
        await flows.fill(conn, map(flows.tcp, range(3)))
        assert conn.client_statistics().waiting_bytes == stream.statistics().waiting_bytes > 3 * 500
        await take(stream, 3)
        assert conn.client_statistics().waiting_bytes == 0


async def test_one_checkpoint_a_batch(conn: Connection) -> None:
    """Events that wait already are handed over without a turn of the loop for each."""
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async with conn.events(EventType.NEW) as stream, anyio.create_task_group() as tasks:
        await flows.fill(conn, map(flows.tcp, range(60)))
        tasks.start_soon(count_turns)
        before = turns
        await take(stream, 60)
        assert turns - before < 20
        tasks.cancel_scope.cancel()


async def test_a_steady_stream_lets_others_run(conn: Connection) -> None:
    """Even if the socket never runs dry."""
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async with conn.events(EventType.NEW) as stream, anyio.create_task_group() as tasks:
        await flows.fill(conn, map(flows.tcp, range(3000)))
        tasks.start_soon(count_turns)
        await take(stream, 3000)
        assert turns >= 10
        tasks.cancel_scope.cancel()


async def test_the_name_of_the_namespace_may_go(lab: Lab) -> None:
    """What counts is the namespace, not the way it was named."""
    path = f"/proc/self/fd/{lab.descriptor}"
    async with connect(netns=path) as conn:
        copy = os.dup(lab.descriptor)
        os.close(lab.descriptor)
        try:
            async with conn.events() as stream:
                made = await conn.create(flows.tcp())
                (event,) = await take(stream, 1)
                assert event.flow.id == made.id
            assert len(await conn.list()) == 1
        finally:
            os.dup2(copy, lab.descriptor)
            os.close(copy)
