"""Test the sinks of IPFIX with a collector in this process."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import anyio
import anyio.lowlevel
import attrs
import pytest
from support.export_records import RECORDS, TIME
from support.ipfix_reader import Collector, Message

from conntrack_aio.export.ipfix import sinks
from conntrack_aio.export.ipfix.sinks import FileSink, IPFIXSink, TCPSink, UDPSink
from conntrack_aio.export.records import FlowRecord, LostRecord, Record
from conntrack_aio.export.sinks import SinkError

pytestmark = pytest.mark.anyio


def numbered(*numbers: int) -> list[Record]:
    """Return flow records with different numbers of packets."""
    record = RECORDS["flow"]
    assert isinstance(record, FlowRecord)
    assert record.orig is not None
    return [
        attrs.evolve(record, orig=attrs.evolve(record.orig, packets=number)) for number in numbers
    ]


def numbers_in(messages: Sequence[Message]) -> list[int]:
    return [
        record.number(2)
        for message in messages
        for record in message.records
        if (2, None) in record.values
    ]


def split(data: bytes) -> list[bytes]:
    """Return the messages of a stream."""
    messages: list[bytes] = []
    while data:
        length = int.from_bytes(data[2:4], "big")
        assert 16 <= length <= len(data)
        messages.append(data[:length])
        data = data[length:]
    return messages


def read(messages: Sequence[bytes]) -> list[Message]:
    collector = Collector()
    return [collector.read(each) for each in messages]


async def send(sink: IPFIXSink, *batches: Sequence[Record]) -> None:
    await sink.open()
    for batch in batches:
        assert await sink.write(batch) == len(batch)
    await sink.close()


async def write_forever(sink: IPFIXSink) -> None:
    with anyio.fail_after(10):
        while True:
            await sink.write(numbered(1))
            await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_datagrams_have_whole_messages(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as collector:
        collector.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        collector.bind((host, 0))
        port = collector.getsockname()[1]
        sink = UDPSink(host, port)
        assert sink.name == f"ipfix+udp://{'[::1]' if ':' in host else host}:{port}"
        await send(sink, numbered(*range(1, 101)), numbered(101))
        collector.setblocking(False)
        data: list[bytes] = []
        while True:
            try:
                data.append(collector.recv(65_536))
            except BlockingIOError:
                break
    assert max(map(len, data)) <= 1400
    messages = read(data)
    assert numbers_in(messages) == [*range(1, 102)]
    assert messages[0].sequence == 0
    for one, other in pairwise(messages):
        assert other.sequence == one.sequence + len(one.records)


async def test_a_collector_that_is_absent_is_an_error() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as collector:
        collector.bind(("127.0.0.1", 0))
        port = collector.getsockname()[1]
    sink = UDPSink("127.0.0.1", port)
    await sink.open()
    # The answer to a datagram is the error of a later one.
    with pytest.raises(SinkError, match="a message cannot be sent: Connection refused"):
        await write_forever(sink)
    await sink.close()
    with pytest.raises(SinkError, match="it cannot be reached"):
        await TCPSink("127.0.0.1", port).open()


async def test_templates_are_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "_TEMPLATE_INTERVAL", 0.0)
    with socket.socket(type=socket.SOCK_DGRAM) as collector:
        collector.bind(("127.0.0.1", 0))
        collector.settimeout(5)
        sink = UDPSink("127.0.0.1", collector.getsockname()[1])
        await send(sink, numbered(1), numbered(2))
        data = [collector.recv(65_536) for _ in range(2)]
    assert [len(each.templates) for each in read(data)] == [1, 1]


async def test_a_connection_has_a_session_of_its_own() -> None:
    received: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def collect() -> None:
        connection, _ = listener.accept()
        with connection:
            data = b""
            while some := connection.recv(65_536):
                data += some
        received.append(data)

    sink = TCPSink("127.0.0.1", listener.getsockname()[1], domain=3, uniflow=True)
    for _ in range(2):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, collect)
            await send(sink, numbered(*range(1, 2001)))
    listener.close()
    for data in received:
        messages = read(split(data))
        assert numbers_in(messages)[::2] == [*range(1, 2001)]
        assert (messages[0].sequence, messages[0].domain) == (0, 3)


async def test_gaps_add_up() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as collector:
        collector.bind(("127.0.0.1", 0))
        collector.settimeout(5)
        sink = UDPSink("127.0.0.1", collector.getsockname()[1])
        lost = [LostRecord(time=TIME, records=number) for number in (3, 4)]
        await send(sink, [lost[0], *numbered(1), lost[1]])
        (message,) = read([collector.recv(65_536)])
    gaps = [record.number(166) for record in message.records if (166, None) in record.values]
    assert gaps == [3, 7]


async def test_a_file_has_whole_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "flows.ipfix"
    sink = FileSink(path)
    await send(sink, numbered(1))
    size = path.stat().st_size
    real, room = os.write, 20

    def limited(descriptor: int, data: bytes) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = real(descriptor, data[:room])
        room -= written
        return written

    await sink.open()
    monkeypatch.setattr(sinks.os, "write", limited)
    with pytest.raises(SinkError, match="a message cannot be sent: No space left on device"):
        await sink.write(numbered(2))
    assert path.stat().st_size == size
    room = 1 << 20
    await sink.close()
    await send(sink, numbered(2))
    assert numbers_in(read(split(path.read_bytes()))) == [1, 2]


async def test_a_renamed_file_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "flows.ipfix"
    sink = FileSink(path)
    await sink.open()
    await sink.write(numbered(1))
    path.rename(tmp_path / "old")
    await sink.reopen()
    await sink.write(numbered(2))
    await sink.close()
    for file, number in ((tmp_path / "old", 1), (path, 2)):
        assert numbers_in(read(split(file.read_bytes()))) == [number]


async def test_records_without_a_counterpart_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "flows.ipfix"
    await send(FileSink(path), [RECORDS["event"], RECORDS["snapshot"], RECORDS["resynchronized"]])
    assert path.read_bytes() == b""
