"""Reading a stream without waiting, and knowing that what was queued has been handed out."""

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


class Fed:
    """A stream, and the socket that it reads."""

    def __init__(self, stream: EventStream[FlowEvent], socket: FakeSocket) -> None:
        self.stream = stream
        self.socket = socket
        self.queued = 0

    def queue(self, count: int) -> None:
        """Events, numbered one after the other."""
        for _ in range(count):
            self.socket.deliver(flows.new_event(flows.tcp(self.queued)))
            self.queued += 1

    def lose(self, count: int) -> None:
        self.socket.overrun(count)


def numbers(events: list[FlowEvent]) -> list[int]:
    """The numbers that the flows were made with."""
    return [int.from_bytes(event.flow.orig.src.packed[2:]) for event in events]


@pytest.fixture
async def fed() -> AsyncIterator[Fed]:
    kernel = ScriptedKernel()
    async with kernel.connect() as conn, conn.events() as stream:
        yield Fed(stream, kernel.sockets[-1])


# -- without waiting ------------------------------------------------------------------------


async def test_what_waits_is_had_at_once(fed: Fed) -> None:
    assert fed.stream.receive_batch_nowait() == []
    fed.queue(100)
    assert numbers(fed.stream.receive_batch_nowait()) == list(range(100))
    assert fed.stream.receive_batch_nowait() == []


async def test_what_was_received_comes_first(fed: Fed) -> None:
    fed.queue(100)
    assert numbers([await anext(fed.stream)]) == [0]
    fed.queue(100)
    assert numbers(fed.stream.receive_batch_nowait()) == list(range(1, 100))
    assert numbers(fed.stream.receive_batch_nowait()) == list(range(100, 200))


async def test_no_more_than_some_hundreds_at_once(fed: Fed) -> None:
    fed.queue(1000)
    batches = []
    while batch := fed.stream.receive_batch_nowait():
        assert len(batch) <= 256
        batches += numbers(batch)
    assert batches == list(range(1000))


async def test_forged_ones_are_read_over(fed: Fed) -> None:
    for _ in range(300):
        fed.socket.deliver(EVENT, sender=FORGED_SENDER)
    fed.queue(1)
    assert numbers(fed.stream.receive_batch_nowait()) == [0]
    assert fed.stream.statistics().forged == 300


async def test_errors_are_raised_in_their_places(fed: Fed) -> None:
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


async def test_a_loss_that_nothing_waits_behind(fed: Fed) -> None:
    fed.lose(2)
    with pytest.raises(EventsLost):
        fed.stream.receive_batch_nowait()
    fed.socket.fail(errno.ENOBUFS)  # of no memory: the drops are not counted
    with pytest.raises(EventsLost):
        fed.stream.receive_batch_nowait()


async def test_another_task_reads(fed: Fed) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anext, fed.stream)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError, match="nother task is already reading"):
            fed.stream.receive_batch_nowait()
        with pytest.raises(anyio.BusyResourceError, match="nother task is already reading"):
            await fed.stream.receive_batch()
        fed.queue(1)


async def test_closed(fed: Fed) -> None:
    mark = fed.stream.position()
    await fed.stream.aclose()
    for call in (
        fed.stream.receive_batch_nowait,
        fed.stream.position,
        lambda: fed.stream.has_passed(mark),
    ):
        with pytest.raises(anyio.ClosedResourceError):
            call()


async def test_not_of_all_namespaces() -> None:
    async with ScriptedKernel().connect() as conn, conn.events(all_netns=True) as stream:
        with pytest.raises(RuntimeError, match="all namespaces"):
            stream.receive_batch_nowait()
        assert stream.has_passed(stream.position())


@pytest.mark.kernel
async def test_what_the_kernel_queued(lab: Lab) -> None:
    async with connect(netns=lab.netns) as conn, conn.events() as stream:
        await flows.fill(conn, map(flows.tcp, range(1000)))
        mark = stream.position()
        made = []
        while batch := stream.receive_batch_nowait():
            assert not stream.has_passed(mark) or len(made) + len(batch) == 1000
            made += numbers(batch)
        assert stream.has_passed(mark)
        assert made == list(range(1000))


# -- marks ----------------------------------------------------------------------------------


async def test_nothing_waits(fed: Fed) -> None:
    assert fed.stream.has_passed(fed.stream.position())
    fed.queue(3)
    assert numbers(fed.stream.receive_batch_nowait()) == [0, 1, 2]
    assert fed.stream.has_passed(fed.stream.position())


async def test_what_waits_in_the_kernel(fed: Fed) -> None:
    fed.queue(3)
    mark = fed.stream.position()
    fed.queue(2)
    for number in range(5):
        assert not fed.stream.has_passed(mark)
        assert numbers([await anext(fed.stream)]) == [number]
    assert fed.stream.has_passed(mark)


async def test_what_was_received_already(fed: Fed) -> None:
    fed.queue(3)
    await anext(fed.stream)
    mark = fed.stream.position()
    await anext(fed.stream)
    assert not fed.stream.has_passed(mark)
    await anext(fed.stream)
    assert fed.stream.has_passed(mark)


async def test_marks_are_passed_in_their_order(fed: Fed) -> None:
    marks = []
    for _ in range(5):
        fed.queue(200)
        marks.append(fed.stream.position())
        await fed.stream.receive_batch()
        passed = [fed.stream.has_passed(mark) for mark in marks]
        assert passed == sorted(passed, reverse=True)
    assert marks == sorted(marks)


@pytest.mark.parametrize("waiting", [0, 1, 90, 250, 600])
async def test_a_storm_in_which_the_queue_is_never_empty(fed: Fed, waiting: int) -> None:
    """Whatever is read, as much comes: never too early, and after a few times as much as waited."""
    fed.queue(waiting + 300)
    last = fed.queued
    mark = fed.stream.position()
    read = 0
    while not fed.stream.has_passed(mark):
        assert read <= 4 * last
        batch = await fed.stream.receive_batch()
        read += len(batch)
        fed.queue(len(batch))
    assert read >= last


async def test_all_that_waited_is_forged(fed: Fed) -> None:
    for _ in range(10):
        fed.socket.deliver(EVENT, sender=FORGED_SENDER)
    mark = fed.stream.position()
    assert not fed.stream.has_passed(mark)
    assert fed.stream.receive_batch_nowait() == []
    assert fed.stream.has_passed(mark)


async def test_a_kernel_that_does_not_tell_what_waits(
    fed: Fed, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = fed.socket.getsockopt(1, 8, 4)
    monkeypatch.setattr(fed.socket, "getsockopt", lambda level, option, _: size * (option == 8))
    fed.queue(1)
    mark = fed.stream.position()
    assert not fed.stream.has_passed(mark)
    assert numbers(fed.stream.receive_batch_nowait()) == [0]
    assert fed.stream.has_passed(mark)


# -- marks and losses -----------------------------------------------------------------------


@pytest.mark.parametrize("waiting", [0, 1, 50])
@pytest.mark.parametrize("seen", [False, True])
async def test_the_loss_is_told_before_a_mark_is_passed(fed: Fed, waiting: int, seen: bool) -> None:
    """Whether the overrun was noticed when the mark was made, or not."""
    fed.queue(waiting)
    fed.lose(3)
    if seen and waiting:
        await anext(fed.stream)
    mark = fed.stream.position()
    while True:
        assert not fed.stream.has_passed(mark)
        try:
            await anext(fed.stream)
        except EventsLost:
            break
    assert fed.stream.has_passed(mark)


async def test_overruns_one_after_the_other_in_a_storm(fed: Fed) -> None:
    """The queue is never found empty, yet it ran over again and again."""
    fed.queue(200)
    fed.lose(1)
    mark = fed.stream.position()
    losses = read = 0
    while not fed.stream.has_passed(mark):
        assert read < 4000
        try:
            read += len(await fed.stream.receive_batch())
        except EventsLost:
            losses += 1
            fed.lose(1)
        fed.queue(max(0, 200 - len(fed.socket._queue)))
    assert read >= 200
    assert losses


# -- the books ------------------------------------------------------------------------------


async def test_what_a_stream_tells_of_itself(fed: Fed) -> None:
    size = len(EVENT)
    fed.queue(100)
    before = fed.stream.statistics()
    assert (before.datagrams_received, before.queued) == (0, 0)
    assert before.waiting_bytes == sum(each.size for each in fed.socket._queue) > 0
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


async def test_a_connection_sums_its_streams_up() -> None:
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
                    await get(stream, error)
            assert stream.statistics().events_decoded == times
            if times == 1:
                await stream.aclose()
            else:
                kept = stream  # the second one is dropped, the third stays
        check(conn, 6)
        await kept.aclose()
        check(conn, 6)


async def get(stream: EventStream[FlowEvent], error: type[Exception] | None) -> None:
    """The next event, or this error."""
    if error is None:
        assert len(await stream.receive_batch()) == 1
    else:
        with pytest.raises(error):
            await stream.receive_batch()


def check(conn: Connection, times: int) -> None:
    told = conn.client_statistics()
    assert (told.events_decoded, told.decode_errors, told.forged) == (times, times, times)
    assert (told.overruns, told.events_lost) == (times, 2 * times)
    assert told.fallbacks >= times  # the bad ones at least


async def test_wait_readable_and_batches_without_waiting(fed: Fed) -> None:
    """A program that reads without waiting can wait without reading."""
    async with anyio.create_task_group() as group:
        group.start_soon(fed.stream.wait_readable)
        await anyio.wait_all_tasks_blocked()
        fed.queue(3)
    await fed.stream.wait_readable()  # there is something: it returns at once
    assert numbers(fed.stream.receive_batch_nowait()) == [0, 1, 2]
    assert fed.stream.receive_batch_nowait() == []


async def test_wait_readable_of_a_stream_that_is_closed(fed: Fed) -> None:
    async with anyio.create_task_group() as group:

        async def wait() -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await fed.stream.wait_readable()

        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        fed.stream.close()
    with pytest.raises(anyio.ClosedResourceError):
        await fed.stream.wait_readable()
