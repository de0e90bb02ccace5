"""Test columns of dumps and event streams: the rows, errors in their places, and closing."""

from __future__ import annotations

import errno
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from support import flows
from support.other_namespaces import OtherNamespaces
from support.scripted_kernel import ScriptedKernel

from conntrack_aio import (
    ColumnBatch,
    ColumnBatches,
    Connection,
    DecodeError,
    DumpInterrupted,
    EventsLost,
    EventType,
    Flow,
    FlowEvent,
    KernelError,
    Match,
    NoReply,
    UsedElsewhere,
    connect,
)
from conntrack_aio.codec.messages import CT_NEW
from conntrack_aio.netlink import messages
from conntrack_aio.testing import FakeKernel, FakeSocket, ReceivedRequest

pytestmark = pytest.mark.anyio
on_kernel = pytest.mark.kernel

FLOW = flows.message_payload(flows.tcp())
NUMBERS = ("status", "mark", "zone", "id", "use")


def mapped(address: object) -> bytes:
    return IPv6Address(f"::ffff:{address}" if isinstance(address, IPv4Address) else address).packed  # type: ignore[arg-type]


def row_of(flow: Flow) -> tuple[Any, ...]:
    ends = (flow.orig.src, flow.orig.dst, flow.reply.src, flow.reply.dst)
    ports = (flow.orig.sport, flow.orig.dport)
    return *map(mapped, ends), *ports, *[getattr(flow, name) for name in NUMBERS]


NAMES = ("orig_src", "orig_dst", "reply_src", "reply_dst", "orig_sport", "orig_dport", *NUMBERS)


async def fill(conn: Connection, count: int) -> None:
    await flows.fill(conn, (flows.tcp(number, mark=number % 3) for number in range(count)))
    await flows.fill(conn, (flows.udp6(number, mark=7) for number in range(count // 2)))


async def rows_of(batches: ColumnBatches) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    async for batch in batches:
        rows += zip(*batch.to_dict().values(), strict=True)
    return rows


def numbers_of(batch: ColumnBatch) -> list[Any]:
    """Return the number of each flow: the last two bytes of its source address."""
    return [int.from_bytes(address[-2:], "big") for address in batch["orig_src"]]


# Dumps


@on_kernel
@pytest.mark.kernels
async def test_columns_of_a_dump_equal_its_flows(conn: Connection) -> None:
    await fill(conn, 3000)
    expected = [row_of(flow) async for flow in conn.dump()]
    found = await rows_of(conn.dump().columns(*NAMES))
    assert len(expected) == 4500
    assert found == expected  # in the kernel's order, too


@on_kernel
async def test_batches_have_some_thousands_of_rows(conn: Connection) -> None:
    await fill(conn, 4000)
    sizes = [len(batch) async for batch in conn.dump().columns("mark")]
    assert sum(sizes) == 6000
    assert len(sizes) <= 3
    assert conn.client_statistics().entries_decoded == 6000


@on_kernel
@pytest.mark.parametrize(
    "match",
    [Match(mark=7), Match(orig_dport=53), Match("mark 1 or orig.src 2001:db8::1")],
    ids=["by the kernel", "by the library", "by both"],
)
async def test_columns_of_a_match_equal_its_flows(conn: Connection, match: Match) -> None:
    await fill(conn, 300)
    for _ in range(2):
        expected = {row_of(flow) async for flow in conn.dump(match)}
        found = await rows_of(conn.dump(match).columns(*NAMES))
        assert 0 < len(expected) < 450
        assert set(found) == expected
        assert len(found) == len(expected)


@on_kernel
async def test_a_dump_may_be_read_as_flows_first(conn: Connection) -> None:
    await fill(conn, 300)
    dump = conn.dump()
    first = [row_of(await anext(dump)) for _ in range(10)]
    rest = await rows_of(dump.columns(*NAMES))
    assert first + rest == [row_of(flow) async for flow in conn.dump()]


@on_kernel
async def test_the_end_of_a_loop_or_closing_ends_the_dump(conn: Connection) -> None:
    await fill(conn, 3000)
    async with conn.dump().columns("mark") as batches:
        async for _ in batches:
            break
        rest = await rows_of(batches)
        assert 0 < len(rest) < 4500
    assert conn.client_statistics().open_dumps == 0
    dump = conn.dump()
    batches = dump.columns("mark")
    await anext(batches)
    assert conn.client_statistics().open_dumps == 1
    await batches.aclose()
    assert dump.closed
    with pytest.raises(anyio.ClosedResourceError):
        await anext(batches)
    batches = conn.dump().columns("mark")
    await anext(batches)
    del batches, dump
    assert conn.client_statistics().open_dumps == 0


@on_kernel
async def test_no_row_is_lost_by_a_cancellation(conn: Connection) -> None:
    await fill(conn, 4000)
    batches, rows = conn.dump().columns("id"), 0
    more = True
    while more:
        with anyio.CancelScope() as scope:
            scope.cancel()
            more = False
            async for batch in batches:
                rows += len(batch)
        if scope.cancelled_caught:
            more = True
            await anyio.lowlevel.checkpoint()
            batch = await anext(batches, None)
            rows += 0 if batch is None else len(batch)
            more = batch is not None
    assert rows == 6000


def respond(*parts: bytes | int) -> ScriptedKernel:
    """Return a kernel that answers a dump with entries of these payloads."""

    def answer(socket: FakeSocket, request: ReceivedRequest) -> None:
        entries = [messages.pack(CT_NEW, 2, request.seq, part) for part in parts]  # type: ignore[arg-type]
        socket.deliver(b"".join(entries))
        socket.done(request)

    return ScriptedKernel(answer)


async def test_an_entry_that_cannot_be_decoded_raises_between_batches() -> None:
    kernel = respond(FLOW, FLOW, FLOW[:-2], FLOW, FLOW[:-2])
    async with kernel.connect() as conn:
        for _ in range(2):
            batches = conn.dump().columns()
            assert len(await anext(batches)) == 2
            with pytest.raises(DecodeError):
                await anext(batches)
            assert len(await anext(batches)) == 1
            with pytest.raises(DecodeError):
                await anext(batches)
            with pytest.raises(StopAsyncIteration):
                await anext(batches)
        assert conn.client_statistics().decode_errors == 4


async def test_entries_of_other_dumps_are_dropped_and_counted() -> None:
    def answer(socket: FakeSocket, request: ReceivedRequest) -> None:
        mine = messages.pack(CT_NEW, 2, request.seq, FLOW)
        stray = messages.pack(CT_NEW, 2, request.seq + 1, FLOW)
        socket.deliver(mine * 20 + stray + mine + stray * 20)
        socket.done(request)

    async with ScriptedKernel(answer).connect() as conn:
        for number in (1, 2):
            assert [len(batch) async for batch in conn.dump().columns("mark")] == [21]
            assert conn.client_statistics().stray_replies == 21 * number


@pytest.mark.parametrize(
    ("end", "error"),
    [("interrupted", DumpInterrupted), ("refused", KernelError), ("garbage", KernelError)],
)
async def test_what_ends_a_dump_is_raised_after_its_rows(end: str, error: type[Exception]) -> None:
    def answer(socket: FakeSocket, request: ReceivedRequest) -> None:
        flags = 2 | 0x10 if end == "interrupted" else 2
        entry = messages.pack(CT_NEW, flags, request.seq, FLOW)
        socket.deliver(entry * 3 + (b"\xff" * 24 if end == "garbage" else b""))
        if end == "refused":
            socket.ack(request, errno.ENOMEM)
        else:
            socket.done(request)

    async with ScriptedKernel(answer).connect() as conn:
        for _ in range(2):
            batches = conn.dump().columns("mark")
            assert len(await anext(batches)) == 3
            with pytest.raises(error):
                await anext(batches)
            with pytest.raises(anyio.ClosedResourceError):
                await anext(batches)
        assert conn.client_statistics().open_dumps == 0


async def test_rows_come_before_a_timeout() -> None:
    def half(socket: FakeSocket, request: ReceivedRequest) -> None:
        socket.reply(request, CT_NEW, FLOW)

    async with ScriptedKernel(half).connect() as conn:
        batches = conn.dump().columns("mark")
        assert len(await anext(batches)) == 1
        with pytest.raises(NoReply):
            await anext(batches)


async def test_columns_are_checked_at_once() -> None:
    async with FakeKernel().connect() as conn:
        with pytest.raises(ValueError, match="did you mean 'orig_dport'"):
            conn.dump().columns("orig_dprot")
        with pytest.raises(ValueError, match="unknown column 'type'"):
            conn.dump().columns("type")
        with pytest.raises(TypeError, match="there are only columns of flows"):
            conn.expectations.dump().columns()  # the type checkers cannot know


async def test_two_tasks_cannot_iterate_at_once() -> None:
    kernel = ScriptedKernel(lambda socket, request: None)
    async with kernel.connect(reply_timeout=5) as conn, anyio.create_task_group() as tasks:
        batches = conn.dump().columns("mark")
        tasks.start_soon(rows_of, batches)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            await anext(batches)
        tasks.cancel_scope.cancel()


async def test_batches_belong_to_their_process(monkeypatch: pytest.MonkeyPatch) -> None:
    async with respond(FLOW, FLOW[:-2], FLOW).connect() as conn:
        batches = conn.dump().columns("mark")
        assert len(await anext(batches)) == 1
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr("os.getpid", lambda: 0)
            batches._withheld = True
            with pytest.raises(UsedElsewhere):
                await anext(batches)


# Events


@on_kernel
@pytest.mark.kernels
async def test_columns_of_events_equal_the_events(conn: Connection) -> None:
    async with conn.events() as one, conn.events() as other:
        for number in range(20):
            await conn.create(flows.tcp(number, mark=number))
            await conn.update(flows.tcp(number), mark=100)
            await conn.delete(flows.tcp(number))
        events: list[FlowEvent] = []
        while len(events) < 60:
            events += await one.receive_batch()
        rows: list[tuple[Any, ...]] = []
        batches = other.columns("type", "port_id", "timestamp", *NAMES)
        while len(rows) < 60:
            rows += zip(*(await anext(batches)).to_dict().values(), strict=True)
    assert rows == [
        (event.type.value, event.port_id, event.timestamp, *row_of(event.flow)) for event in events
    ]
    assert {row[1] for row in rows} != {0}
    assert [row[0] for row in rows[:3]] == ["new", "update", "destroy"]


@on_kernel
async def test_a_batch_of_events_does_not_wait_for_more(conn: Connection) -> None:
    async with conn.events(EventType.NEW) as stream:
        batches = stream.columns("orig_src")
        for number in range(3):
            await conn.create(flows.tcp(number))
            with anyio.fail_after(5):
                batch = await anext(batches)
            assert numbers_of(batch) == [number]
        assert stream.statistics().events_decoded == 3


@on_kernel
async def test_events_of_a_match(conn: Connection) -> None:
    async with conn.events(EventType.NEW, match=Match("mark 5 or reply.sport 53")) as stream:
        for number in range(10):
            await conn.create(flows.tcp(number, mark=number))
            await conn.create(flows.udp6(number))
        rows: list[Any] = []
        batches = stream.columns("mark", "family")
        while len(rows) < 11:
            rows += zip(*(await anext(batches)).to_dict().values(), strict=True)
    assert [mark for mark, family in rows if family == 2] == [5]


async def test_lost_events_are_raised_in_their_place() -> None:
    for on_loss in ("raise", "item"):
        kernel = ScriptedKernel()
        async with kernel.connect() as conn, conn.events(on_loss=on_loss) as stream:  # type: ignore[call-overload]
            raw = kernel.sockets[-1]
            batches = stream.columns()
            raw.overrun(3)
            raw.deliver(flows.new_event(flows.tcp(1)))
            raw.deliver(flows.destroy_event(flows.tcp(2)))
            with anyio.fail_after(5):
                batch = await anext(batches)
                with pytest.raises(EventsLost) as caught:
                    await anext(batches)
            assert caught.value.lost == 3
            assert batch["type"].to_list() == ["new", "destroy"]
            assert numbers_of(batch) == [1, 2]
            raw.deliver(flows.update_event(flows.tcp(3)))
            with anyio.fail_after(5):
                assert (await anext(batches))["type"].to_list() == ["update"]


async def test_events_that_cannot_be_decoded_are_raised_in_their_place() -> None:
    kernel = ScriptedKernel()
    async with kernel.connect() as conn, conn.events() as stream:
        raw = kernel.sockets[-1]
        batches = stream.columns("type")
        bad = messages.pack(CT_NEW, 0x600, 0, FLOW[:-2])
        for data in (flows.new_event(flows.tcp(1)), bad, b"\xff" * 24):
            raw.deliver(data)
        with anyio.fail_after(5):
            assert len(await anext(batches)) == 1
            for _ in range(2):
                with pytest.raises(DecodeError):
                    await anext(batches)
        assert stream.statistics().decode_errors == 2


async def test_the_time_of_receipt_is_a_column() -> None:
    kernel = ScriptedKernel()
    async with kernel.connect() as conn, conn.events(receive_time=True) as stream:
        raw = kernel.sockets[-1]
        batches = stream.columns("receive_timestamp", "mark")
        times: list[Any] = []
        for number in (1, 2):
            raw.deliver(flows.new_event(flows.tcp(number)))
            raw.deliver(flows.new_event(flows.tcp(number)))
            with anyio.fail_after(5):
                first, second = (await anext(batches))["receive_timestamp"]
            assert first == second
            times.append(first)
        assert 1e18 < times[0] <= times[1]
        assert [event.receive_timestamp for event in stream.receive_batch_nowait()] == []


@on_kernel
async def test_events_of_other_namespaces_have_their_names(
    neighbors: OtherNamespaces, conn: Connection
) -> None:
    blue = neighbors.new("blue", id=4)
    async with conn.events(EventType.NEW, all_netns=True) as stream:
        async with connect(netns=blue.netns) as there:
            await there.create(flows.tcp(1))
        await conn.create(flows.tcp(2))
        rows: list[Any] = []
        batches = stream.columns("orig_src", "nsid", "netns", addresses="text")
        with anyio.fail_after(5):
            while len(rows) < 2:
                rows += zip(*(await anext(batches)).to_dict().values(), strict=True)
    assert rows == [("10.1.0.1", 4, "blue"), ("10.1.0.2", None, None)]
