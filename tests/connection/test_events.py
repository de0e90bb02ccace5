"""Test the event stream, on this machine's kernel."""

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
from conntrack_aio.streams import event_receiver

pytestmark = [pytest.mark.kernels, pytest.mark.anyio, pytest.mark.kernel]


async def take_events(stream: EventStream[FlowEvent], count: int) -> list[FlowEvent]:
    """Return the next ``count`` events. Fail if they do not arrive within 5 seconds."""
    with anyio.fail_after(5):
        return [await anext(stream) for _ in range(count)]


async def events_until_loss(stream: EventStream[FlowEvent]) -> tuple[int, EventsLost]:
    """Return the number of events before the next loss, and the loss, within 5 seconds."""
    received = 0
    with anyio.fail_after(5):
        try:
            async for _ in stream:
                received += 1
        except EventsLost as loss:
            return received, loss
    raise AssertionError("unreachable")


async def test_new_update_and_destroy_events_have_their_types(conn: Connection) -> None:
    async with conn.events() as stream:
        created = await conn.create(flows.tcp())
        await conn.update(created, mark=5)
        await conn.delete(created)
        new, update, destroy = await take_events(stream, 3)
    assert (new.type, update.type, destroy.type) == tuple(EventType)
    assert {event.flow.id for event in (new, update, destroy)} == {created.id}
    assert update.flow.mark == 5
    assert len({event.port_id for event in (new, update, destroy)} - {0}) == 1


async def test_the_subscription_is_in_effect_when_events_returns(conn: Connection) -> None:
    stream = conn.events()
    created = await conn.create(flows.tcp())
    (event,) = await take_events(stream, 1)
    assert event.flow.id == created.id
    await stream.aclose()


async def test_only_the_requested_types_are_received(conn: Connection) -> None:
    async with conn.events(EventType.DESTROY) as stream:
        created = await conn.create(flows.tcp())
        await conn.update(created, mark=5)
        await conn.delete(created)
        (event,) = await take_events(stream, 1)
    assert event.type is EventType.DESTROY


async def test_tcp_traffic_emits_events_of_its_states(lab: Lab, conn: Connection) -> None:
    lab.track()
    lab.sysctl("nf_conntrack_timestamp", 1)
    async with conn.events() as stream:
        sport, dport = await anyio.to_thread.run_sync(lab.run, traffic.tcp_exchange)
        events = await take_events(stream, 6)
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
async def test_udp_and_icmp_traffic_emits_new_events(
    lab: Lab, conn: Connection, address: str
) -> None:
    lab.track()
    async with conn.events(EventType.NEW) as stream:
        sport, dport = await anyio.to_thread.run_sync(lab.run, traffic.udp_exchange, address)
        await anyio.to_thread.run_sync(lab.run, traffic.ping, address, 77)
        udp, icmp = await take_events(stream, 2)
    assert (udp.flow.orig.sport, udp.flow.orig.dport) == (sport, dport)
    assert str(udp.flow.orig.src) == str(icmp.flow.orig.dst) == address
    assert icmp.flow.orig.icmp_id == icmp.flow.reply.icmp_id == 77
    assert icmp.flow.reply == icmp.flow.orig.inverse


async def test_fields_that_an_event_lacks_are_none(lab: Lab, conn: Connection) -> None:
    lab.track()
    lab.sysctl("nf_conntrack_acct", 1)
    async with conn.events() as stream:
        await anyio.to_thread.run_sync(lab.run, traffic.udp_exchange)
        new, update = await take_events(stream, 2)
        await conn.flush()
        (destroy,) = await take_events(stream, 1)
    assert update.flow.status is not None
    assert update.flow.status & Status.SEEN_REPLY
    for event in (new, update):
        assert (event.flow.counters_orig, event.flow.use, event.flow.mark) == (None, None, None)
    assert destroy.flow.counters_orig is not None
    assert destroy.flow.counters_orig.packets == 1


@pytest.mark.parametrize(
    ("mode", "covers", "level", "text"),
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
async def test_covers_older_flows_follows_nf_conntrack_events(
    lab: Lab,
    conn: Connection,
    caplog: pytest.LogCaptureFixture,
    mode: int,
    covers: bool,
    level: int | None,
    text: str,
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
    assert re.match(text, "".join(map(str, stream.blind_spots)))


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
async def test_events_have_the_time_of_receipt_on_request(
    conn: Connection, on_loss: Literal["raise", "item"]
) -> None:
    async with conn.events(receive_time=True, on_loss=on_loss) as stream:
        before = time.time_ns()
        await conn.create(flows.tcp())
        (event,) = await take_events(stream, 1)
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
        (later,) = await take_events(stream, 1)
        assert later.receive_timestamp is not None
        assert later.receive_timestamp >= after


async def test_the_text_of_an_event_has_its_kernel_timestamp(lab: Lab, conn: Connection) -> None:
    async with conn.events() as stream:
        for number, setting in enumerate((0, 1)):
            lab.sysctl("nf_conntrack_timestamp", setting)
            await conn.create(flows.tcp(number))
            (event,) = await take_events(stream, 1)
            assert (" time=20" in str(event)) is (event.timestamp is not None)
            assert setting or event.timestamp is None


async def test_the_clock_is_not_read_unless_receive_time_is_requested(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoClock:
        def time_ns(self) -> int:
            raise AssertionError

    async with conn.events() as stream:
        await conn.create(flows.tcp())
        monkeypatch.setattr(event_receiver, "time", NoClock())
        (event,) = await take_events(stream, 1)
    assert event.receive_timestamp is None
    assert event.receive_time is None
    assert "receive_timestamp" not in to_dict(event)


async def test_statistics_count_lost_events_before_they_are_reported(lab: Lab) -> None:
    async with connect(netns=lab.netns, receive_buffer=8192) as conn:
        async with conn.events(EventType.NEW) as stream:
            await flows.fill(conn, map(flows.tcp, range(100)))
            lost = stream.statistics().events_lost
            assert lost == conn.client_statistics().events_lost > 0
            received, loss = await events_until_loss(stream)
            assert loss.lost == 100 - received == lost
            # Reported losses are not counted twice.
            assert stream.statistics().events_lost == conn.client_statistics().events_lost == lost
            await flows.fill(conn, map(flows.tcp, range(100, 200)))
            more = stream.statistics().events_lost
            assert more > lost
        # Losses that were not read before the stream was closed stay counted.
        assert stream.statistics().events_lost == conn.client_statistics().events_lost == more


async def test_failed_deliveries_to_a_reliable_stream_are_not_losses(lab: Lab) -> None:
    async with (
        connect(netns=lab.netns, receive_buffer=8192) as conn,
        conn.events(EventType.DESTROY, reliable=True) as stream,
    ):
        await flows.fill(conn, map(flows.tcp, range(100)))
        await conn.flush()
        assert stream.statistics().events_lost == conn.client_statistics().events_lost == 0
        assert len(await take_events(stream, 100)) == 100
        assert stream.statistics().events_lost == conn.client_statistics().events_lost == 0


async def test_a_stream_continues_after_reporting_lost_events(lab: Lab) -> None:
    async with (
        connect(netns=lab.netns, receive_buffer=8192) as conn,
        conn.events(EventType.NEW) as stream,
    ):
        await flows.fill(conn, map(flows.tcp, range(100)))
        received, loss = await events_until_loss(stream)
        assert loss.lost == 100 - received > 0
        created = await conn.create(flows.tcp(1000))
        (event,) = await take_events(stream, 1)
        assert event.flow.id == created.id
        assert conn.client_statistics().events_lost == loss.lost
        assert conn.client_statistics().overruns == 1


async def test_the_receive_buffer_has_the_requested_size(conn: Connection) -> None:
    async with conn.events(receive_buffer=100_000) as stream:
        assert stream.receive_buffer == 200_000


@pytest.mark.parametrize("error", [OSError(errno.ENOMEM, "no memory"), MemoryError()])
async def test_without_memory_for_recvmmsg_events_are_received_singly(
    conn: Connection, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def no_memory(count: int, size: int) -> None:
        raise error

    async with conn.events() as stream:
        await flows.fill(conn, map(flows.tcp, range(3)))
        monkeypatch.setattr("conntrack_aio.netlink.recvmmsg.MessageVector", no_memory)
        assert len(await take_events(stream, 3)) == 3


async def test_client_statistics_include_pending_bytes_of_streams(conn: Connection) -> None:
    async with conn.events() as stream:
        await flows.fill(conn, map(flows.tcp, range(3)))
        assert conn.client_statistics().waiting_bytes == stream.statistics().waiting_bytes > 3 * 500
        await take_events(stream, 3)
        assert conn.client_statistics().waiting_bytes == 0


async def test_pending_events_are_returned_without_a_checkpoint_each(conn: Connection) -> None:
    """Pending events are handed out in batches, with one checkpoint for each batch."""
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
        await take_events(stream, 60)
        assert turns - before < 20
        tasks.cancel_scope.cancel()


async def test_a_steady_stream_lets_other_tasks_run(conn: Connection) -> None:
    """The stream yields to the event loop even if its socket is never empty."""
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async with conn.events(EventType.NEW) as stream, anyio.create_task_group() as tasks:
        await flows.fill(conn, map(flows.tcp, range(3000)))
        tasks.start_soon(count_turns)
        await take_events(stream, 3000)
        assert turns >= 10
        tasks.cancel_scope.cancel()


async def test_a_connection_outlives_the_path_of_its_namespace(lab: Lab) -> None:
    """Streams and dumps of a connection open their sockets without the path it was given."""
    path = f"/proc/self/fd/{lab.descriptor}"
    async with connect(netns=path) as conn:
        copy = os.dup(lab.descriptor)
        os.close(lab.descriptor)
        try:
            async with conn.events() as stream:
                created = await conn.create(flows.tcp())
                (event,) = await take_events(stream, 1)
                assert event.flow.id == created.id
            assert len(await conn.list()) == 1
        finally:
            os.dup2(copy, lab.descriptor)
            os.close(copy)
