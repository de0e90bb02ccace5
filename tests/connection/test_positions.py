"""Test reading a stream without waiting, and positions in its queue."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator

import anyio
import pytest
from support import flows
from support.lab import Lab
from support.scripted_kernel import FORGED_SENDER, ScriptedKernel, error_message

from conntrack_aio import Connection, DecodeError, EventsLost, EventStream, FlowEvent, connect
from conntrack_aio.testing import FakeSocket

pytestmark = pytest.mark.anyio

EVENT = flows.new_event(flows.tcp())


class FedStream:
    """A stream, and the fake socket that it reads."""

    def __init__(self, stream: EventStream[FlowEvent], socket: FakeSocket) -> None:
        self.stream = stream
        self.socket = socket
        self.queued = 0

    def queue(self, count: int) -> None:
        """Queue this many events of consecutively numbered flows."""
        for _ in range(count):
            self.socket.deliver(flows.new_event(flows.tcp(self.queued)))
            self.queued += 1

    def lose(self, count: int) -> None:
        self.socket.overrun(count)


def numbers(events: list[FlowEvent]) -> list[int]:
    """Return the flow number of each event."""
    return [int.from_bytes(event.flow.orig.src.packed[2:]) for event in events]


@pytest.fixture
async def fed() -> AsyncIterator[FedStream]:
    kernel = ScriptedKernel()
    async with kernel.connect() as conn, conn.events() as stream:
        yield FedStream(stream, kernel.sockets[-1])


# -- without waiting ------------------------------------------------------------------------


async def test_pending_events_are_returned_at_once(fed: FedStream) -> None:
    assert fed.stream.receive_batch_nowait() == []
    fed.queue(100)
    assert numbers(fed.stream.receive_batch_nowait()) == list(range(100))
    assert fed.stream.receive_batch_nowait() == []


async def test_events_received_earlier_are_returned_first(fed: FedStream) -> None:
    fed.queue(100)
    assert numbers([await anext(fed.stream)]) == [0]
    fed.queue(100)
    assert numbers(fed.stream.receive_batch_nowait()) == list(range(1, 100))
    assert numbers(fed.stream.receive_batch_nowait()) == list(range(100, 200))


async def test_a_batch_has_at_most_256_events(fed: FedStream) -> None:
    fed.queue(1000)
    batches = []
    while batch := fed.stream.receive_batch_nowait():
        assert len(batch) <= 256
        batches += numbers(batch)
    assert batches == list(range(1000))


async def test_forged_events_are_skipped(fed: FedStream) -> None:
    for _ in range(300):
        fed.socket.deliver(EVENT, sender=FORGED_SENDER)
    fed.queue(1)
    assert numbers(fed.stream.receive_batch_nowait()) == [0]
    assert fed.stream.statistics().forged == 300


async def test_errors_are_raised_at_their_positions(fed: FedStream) -> None:
    fed.lose(5)
    fed.queue(2)
    fed.socket.deliver(b"\1")
    fed.queue(1)
    assert numbers(fed.stream.receive_batch_nowait()) == [0, 1]
    with pytest.raises(DecodeError):
        fed.stream.receive_batch_nowait()
    assert numbers(fed.stream.receive_batch_nowait()) == [2]
    with pytest.raises(EventsLost) as caught:
        fed.stream.receive_batch_nowait()
    assert caught.value.lost == 5
    assert fed.stream.receive_batch_nowait() == []


async def test_a_loss_is_reported_even_if_no_event_follows(fed: FedStream) -> None:
    fed.lose(2)
    with pytest.raises(EventsLost):
        fed.stream.receive_batch_nowait()
    fed.socket.fail(errno.ENOBUFS)  # for lack of memory, the kernel counts no drops
    with pytest.raises(EventsLost):
        fed.stream.receive_batch_nowait()


async def test_reading_while_another_task_reads_raises_busy_resource_error(fed: FedStream) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anext, fed.stream)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError, match="nother task is already reading"):
            fed.stream.receive_batch_nowait()
        with pytest.raises(anyio.BusyResourceError, match="nother task is already reading"):
            await fed.stream.receive_batch()
        fed.queue(1)


async def test_methods_of_a_closed_stream_raise_closed_resource_error(fed: FedStream) -> None:
    position = fed.stream.position()
    await fed.stream.aclose()
    for call in (
        fed.stream.receive_batch_nowait,
        fed.stream.position,
        lambda: fed.stream.has_passed(position),
    ):
        with pytest.raises(anyio.ClosedResourceError):
            call()


async def test_streams_of_all_namespaces_cannot_be_read_without_waiting() -> None:
    async with ScriptedKernel().connect() as conn, conn.events(all_netns=True) as stream:
        with pytest.raises(RuntimeError, match="all namespaces"):
            stream.receive_batch_nowait()
        assert stream.has_passed(stream.position())


@pytest.mark.kernel
async def test_events_that_the_kernel_queued_are_read_without_waiting(lab: Lab) -> None:
    async with connect(netns=lab.netns) as conn, conn.events() as stream:
        await flows.fill(conn, map(flows.tcp, range(1000)))
        position = stream.position()
        received = []
        while batch := stream.receive_batch_nowait():
            assert not stream.has_passed(position) or len(received) + len(batch) == 1000
            received += numbers(batch)
        assert stream.has_passed(position)
        assert received == list(range(1000))


# -- positions ------------------------------------------------------------------------------


async def test_a_position_in_an_empty_queue_is_passed(fed: FedStream) -> None:
    assert fed.stream.has_passed(fed.stream.position())
    fed.queue(3)
    assert numbers(fed.stream.receive_batch_nowait()) == [0, 1, 2]
    assert fed.stream.has_passed(fed.stream.position())


async def test_a_position_is_passed_after_the_events_queued_in_the_kernel(fed: FedStream) -> None:
    fed.queue(3)
    position = fed.stream.position()
    fed.queue(2)
    for number in range(5):
        assert not fed.stream.has_passed(position)
        assert numbers([await anext(fed.stream)]) == [number]
    assert fed.stream.has_passed(position)


async def test_a_position_is_passed_after_the_events_received_before(fed: FedStream) -> None:
    fed.queue(3)
    await anext(fed.stream)
    position = fed.stream.position()
    await anext(fed.stream)
    assert not fed.stream.has_passed(position)
    await anext(fed.stream)
    assert fed.stream.has_passed(position)


async def test_positions_are_passed_in_their_order(fed: FedStream) -> None:
    positions = []
    for _ in range(5):
        fed.queue(200)
        positions.append(fed.stream.position())
        await fed.stream.receive_batch()
        passed = [fed.stream.has_passed(position) for position in positions]
        assert passed == sorted(passed, reverse=True)
    assert positions == sorted(positions)


@pytest.mark.parametrize("waiting", [0, 1, 90, 250, 600])
async def test_a_position_is_passed_even_if_the_queue_is_never_empty(
    fed: FedStream, waiting: int
) -> None:
    """After each batch, equally many events are queued.

    The position is never passed too early, and at the latest after four times the queued events.
    """
    fed.queue(waiting + 300)
    last = fed.queued
    position = fed.stream.position()
    read = 0
    while not fed.stream.has_passed(position):
        assert read <= 4 * last
        batch = await fed.stream.receive_batch()
        read += len(batch)
        fed.queue(len(batch))
    assert read >= last


async def test_a_position_is_passed_if_only_forged_events_were_queued(fed: FedStream) -> None:
    for _ in range(10):
        fed.socket.deliver(EVENT, sender=FORGED_SENDER)
    position = fed.stream.position()
    assert not fed.stream.has_passed(position)
    assert fed.stream.receive_batch_nowait() == []
    assert fed.stream.has_passed(position)


async def test_positions_work_if_the_kernel_does_not_report_queued_bytes(
    fed: FedStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = fed.socket.getsockopt(1, 8, 4)
    monkeypatch.setattr(fed.socket, "getsockopt", lambda level, option, _: size * (option == 8))
    fed.queue(1)
    position = fed.stream.position()
    assert not fed.stream.has_passed(position)
    assert numbers(fed.stream.receive_batch_nowait()) == [0]
    assert fed.stream.has_passed(position)


# -- positions and losses -------------------------------------------------------------------


@pytest.mark.parametrize("waiting", [0, 1, 50])
@pytest.mark.parametrize("seen", [False, True])
async def test_a_loss_is_reported_before_a_position_is_passed(
    fed: FedStream, waiting: int, seen: bool
) -> None:
    """The stream may have noticed the overrun before the position was taken, or not."""
    fed.queue(waiting)
    fed.lose(3)
    if seen and waiting:
        await anext(fed.stream)
    position = fed.stream.position()
    while True:
        assert not fed.stream.has_passed(position)
        try:
            await anext(fed.stream)
        except EventsLost:
            break
    assert fed.stream.has_passed(position)


async def test_a_position_is_passed_despite_repeated_overruns(fed: FedStream) -> None:
    """The queue is never empty, and the receive buffer overruns repeatedly."""
    fed.queue(200)
    fed.lose(1)
    position = fed.stream.position()
    losses = read = 0
    while not fed.stream.has_passed(position):
        assert read < 4000
        try:
            read += len(await fed.stream.receive_batch())
        except EventsLost:
            losses += 1
            fed.lose(1)
        fed.queue(max(0, 200 - len(fed.socket._queue)))
    assert read >= 200
    assert losses


# -- statistics -----------------------------------------------------------------------------


async def test_the_statistics_of_a_stream_count_each_message(fed: FedStream) -> None:
    size = len(EVENT)
    fed.queue(100)
    before = fed.stream.statistics()
    assert (before.datagrams_received, before.queued) == (0, 0)
    assert before.waiting_bytes == sum(message.size for message in fed.socket._queue) > 0
    assert before.receive_buffer == fed.stream.receive_buffer == fed.socket.receive_buffer
    await anext(fed.stream)
    fed.socket.deliver(EVENT, sender=FORGED_SENDER)
    fed.socket.deliver(b"\1")
    fed.lose(3)
    assert fed.stream.statistics().queued == 99
    for expected in (98, 97):
        await anext(fed.stream)
        assert fed.stream.statistics().queued == expected
    fed.stream.receive_batch_nowait()
    with pytest.raises(DecodeError):
        fed.stream.receive_batch_nowait()
    assert fed.stream.statistics().queued == 1
    with pytest.raises(EventsLost):
        fed.stream.receive_batch_nowait()
    after = fed.stream.statistics()
    assert (after.datagrams_received, after.bytes_received) == (101, 100 * size + 1)
    assert (after.events_decoded, after.decode_errors) == (100, 1)
    assert (after.overruns, after.events_lost, after.forged) == (1, 3, 1)
    assert (after.queued, after.waiting_bytes) == (0, 0)
    await fed.stream.aclose()
    closed = fed.stream.statistics()
    assert (closed.events_decoded, closed.events_lost, closed.forged) == (100, 3, 1)
    assert (closed.queued, closed.waiting_bytes, closed.receive_buffer) == (0, 0, 0)


async def test_client_statistics_sum_up_all_streams() -> None:
    kernel = ScriptedKernel()
    async with kernel.connect() as conn:
        for times in (1, 2, 3):
            stream = conn.events()
            for _ in range(times):
                kernel.sockets[-1].deliver(EVENT)
                kernel.sockets[-1].deliver(error_message(0))
                kernel.sockets[-1].deliver(EVENT, sender=FORGED_SENDER)
                kernel.sockets[-1].overrun(2)
                for error in (None, DecodeError, EventsLost):
                    await read_one(stream, error)
            assert stream.statistics().events_decoded == times
            if times == 1:
                await stream.aclose()
            else:
                kept = stream  # the second stream is garbage-collected, the third is kept
        check_statistics(conn, 6)
        await kept.aclose()
        check_statistics(conn, 6)


async def read_one(stream: EventStream[FlowEvent], error: type[Exception] | None) -> None:
    """Read one event, or expect this error."""
    if error is None:
        assert len(await stream.receive_batch()) == 1
    else:
        with pytest.raises(error):
            await stream.receive_batch()


def check_statistics(conn: Connection, times: int) -> None:
    statistics = conn.client_statistics()
    assert (statistics.events_decoded, statistics.decode_errors, statistics.forged) == (
        times,
        times,
        times,
    )
    assert (statistics.overruns, statistics.events_lost) == (times, 2 * times)
    assert statistics.fallbacks >= times  # at least the malformed messages


async def test_wait_readable_waits_without_reading(fed: FedStream) -> None:
    """``wait_readable`` returns when events are queued, and leaves them in the queue."""
    async with anyio.create_task_group() as group:
        group.start_soon(fed.stream.wait_readable)
        await anyio.wait_all_tasks_blocked()
        fed.queue(3)
    await fed.stream.wait_readable()  # returns at once, because events are queued
    assert numbers(fed.stream.receive_batch_nowait()) == [0, 1, 2]
    assert fed.stream.receive_batch_nowait() == []


async def test_wait_readable_raises_closed_resource_error_when_the_stream_closes(
    fed: FedStream,
) -> None:
    async with anyio.create_task_group() as group:

        async def wait() -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await fed.stream.wait_readable()

        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        fed.stream.close()
    with pytest.raises(anyio.ClosedResourceError):
        await fed.stream.wait_readable()
