"""Every sink gets every record, a slow one slows nothing, and gaps are reported."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence

import anyio
import anyio.lowlevel
import pytest
from support.export_records import TIME
from support.polling import wait_until

from conntrack_aio.export import outlets
from conntrack_aio.export.exporter import Exporter
from conntrack_aio.export.records import LostRecord, Record, ResynchronizedRecord
from conntrack_aio.export.sinks import SinkError

pytestmark = pytest.mark.anyio


def numbered(*numbers: int) -> list[Record]:
    return [ResynchronizedRecord(time=TIME, flows=number) for number in numbers]


class Destination:
    """A sink that keeps what it gets, and fails when the test says so."""

    def __init__(self, name: str = "destination") -> None:
        self.name = name
        self.records: list[Record] = []
        self.calls: list[str] = []
        self.absent = False
        self.takes = 1 << 30
        """The most records that one call takes."""
        self.stalled = anyio.Event()
        self.stalled.set()

    async def open(self) -> None:
        self.calls.append("open")
        if self.absent:
            raise SinkError("destination: connection refused")

    async def write(self, records: Sequence[Record]) -> int:
        await self.stalled.wait()
        if self.absent:
            raise SinkError("destination: connection reset")
        some = records[: self.takes]
        self.records += some
        return len(some)

    async def flush(self) -> None:
        self.calls.append("flush")

    async def close(self) -> None:
        self.calls.append("close")

    async def reopen(self) -> None:
        self.calls.append("reopen")

    @property
    def numbers(self) -> list[int | str]:
        """The numbers of the records, and the sizes of gaps as text."""
        return [
            f"{each.records} lost" if isinstance(each, LostRecord) else number_of(each)
            for each in self.records
        ]


def number_of(record: Record) -> int:
    assert isinstance(record, ResynchronizedRecord)
    return record.flows


class Feed:
    """A source that yields what the test puts into it."""

    def __init__(self) -> None:
        self._send, self._receive = anyio.create_memory_object_stream[list[Record]](1000)

    def put(self, *numbers: int) -> None:
        self._send.send_nowait(numbered(*numbers))

    def end(self) -> None:
        self._send.close()

    def __aiter__(self) -> AsyncIterator[list[Record]]:
        return self

    async def __anext__(self) -> list[Record]:
        try:
            return await self._receive.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    def close(self) -> None:
        self._send.close()
        self._receive.close()


@pytest.fixture
def feed() -> Feed:
    return Feed()


@pytest.fixture(autouse=True)
def no_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlets, "_FIRST_DELAY", 0.001)
    monkeypatch.setattr(outlets, "_LONGEST_DELAY", 0.01)


async def test_each_sink_gets_each_record_in_order(feed: Feed) -> None:
    one, other = Destination("one"), Destination("other")
    async with Exporter(feed, [one, other]) as exporter:
        for number in range(0, 100, 2):
            feed.put(number, number + 1)
        feed.end()
        await exporter.wait()
    feed.close()
    assert one.numbers == other.numbers == [*range(100)]
    assert one.calls[0] == "open"
    assert one.calls[-2:] == ["flush", "close"]
    assert {name: each.written for name, each in exporter.statistics().items()} == {
        "one": 100,
        "other": 100,
    }


async def test_leaving_the_block_writes_what_waits(feed: Feed) -> None:
    sink = Destination()
    async with Exporter(feed, [sink]):
        feed.put(1, 2)
        await wait_until(lambda: bool(sink.records))
        feed.put(3)
        await wait_until(lambda: len(sink.records) == 3)
    feed.close()
    assert sink.calls[-1] == "close"


async def test_a_stalled_sink_slows_no_other_and_gets_the_number_of_dropped_records(
    feed: Feed,
) -> None:
    slow, quick = Destination("slow"), Destination("quick")
    slow.stalled = anyio.Event()
    async with Exporter(feed, [slow, quick], queue=3) as exporter:
        for number in range(10):
            feed.put(number)
            await wait_until(lambda number=number: quick.numbers[-1:] == [number])
        assert exporter.statistics()["slow"].waiting == 3
        assert exporter.statistics()["slow"].dropped == 7
        slow.stalled.set()
        await wait_until(lambda: len(slow.records) == 3)
        feed.put(10)
        await wait_until(lambda: len(slow.records) == 5)
        feed.end()
        await exporter.wait()
    feed.close()
    assert quick.numbers == [*range(11)]
    assert slow.numbers == [0, 1, 2, "7 lost", 10]


async def test_a_gap_at_the_end_is_reported(feed: Feed) -> None:
    sink = Destination()
    sink.stalled = anyio.Event()
    async with Exporter(feed, [sink], queue=2) as exporter:
        feed.put(1, 2, 3)
        await wait_until(lambda: exporter.statistics()["destination"].dropped == 1)
        feed.end()
        sink.stalled.set()
        await exporter.wait()
    feed.close()
    assert sink.numbers == [1, 2, "1 lost"]


async def test_an_absent_destination_is_tried_again(
    feed: Feed, caplog: pytest.LogCaptureFixture
) -> None:
    sink = Destination()
    sink.absent = True
    with caplog.at_level(logging.WARNING):
        async with Exporter(feed, [sink]) as exporter:
            feed.put(1, 2)
            await wait_until(lambda: sink.calls.count("open") >= 5)
            statistics = exporter.statistics()["destination"]
            assert statistics.last_error == "destination: connection refused"
            assert statistics.failures >= 4
            sink.absent = False
            await wait_until(lambda: len(sink.records) == 2)
            assert exporter.statistics()["destination"].last_error is None
            feed.end()
            await exporter.wait()
    feed.close()
    assert sink.numbers == [1, 2]
    messages = [record.getMessage() for record in caplog.records]
    assert messages == ["destination: destination: connection refused"]  # once


async def test_what_a_destination_has_not_taken_is_written_again(feed: Feed) -> None:
    sink = Destination()
    sink.takes = 2
    async with Exporter(feed, [sink]) as exporter:
        feed.put(1, 2, 3, 4, 5)
        feed.end()
        await exporter.wait()
    feed.close()
    assert sink.numbers == [1, 2, 3, 4, 5]
    assert exporter.statistics()["destination"].written == 5


async def test_at_the_end_an_absent_destination_delays_for_a_limited_time(
    feed: Feed, caplog: pytest.LogCaptureFixture
) -> None:
    sink = Destination()
    sink.absent = True
    async with Exporter(feed, [sink], drain_timeout=0.05) as exporter:
        feed.put(1, 2)
        await wait_until(lambda: exporter.statistics()["destination"].waiting == 2)
    feed.close()
    assert exporter.statistics()["destination"].dropped == 2
    assert "destination: 2 records were dropped at the end" in caplog.text


async def test_reopening_happens_before_the_next_record(feed: Feed) -> None:
    sink = Destination()
    async with Exporter(feed, [sink]) as exporter:
        feed.put(1)
        await wait_until(lambda: bool(sink.records))
        exporter.reopen()
        await wait_until(lambda: "reopen" in sink.calls)
        feed.put(2)
        await wait_until(lambda: len(sink.records) == 2)
    feed.close()


async def test_an_error_of_the_source_ends_the_export_after_what_was_read() -> None:
    class Broken:
        def __init__(self) -> None:
            self.count = 0

        def __aiter__(self) -> AsyncIterator[list[Record]]:
            return self

        async def __anext__(self) -> list[Record]:
            self.count += 1
            if self.count > 3:
                raise ConnectionError("the table is gone")
            await anyio.lowlevel.checkpoint()
            return numbered(self.count)

    sink = Destination()
    with pytest.raises(BaseExceptionGroup) as caught:
        async with Exporter(Broken(), [sink]) as exporter:
            await exporter.wait()
    assert caught.group_contains(ConnectionError, match="the table is gone")
    assert sink.numbers == [1, 2, 3]
    assert sink.calls[-1] == "close"


def test_invalid_parameters_are_refused(feed: Feed) -> None:
    with pytest.raises(ValueError, match="at least one sink"):
        Exporter(feed, [])
    with pytest.raises(ValueError, match="room for a record; got 0"):
        Exporter(feed, [Destination()], queue=0)
    with pytest.raises(ValueError, match="drain_timeout must not be negative; got -1"):
        Exporter(feed, [Destination()], drain_timeout=-1)
    feed.close()
