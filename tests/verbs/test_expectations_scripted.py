"""Expectations on kernels that this machine does not have, by a scripted one."""

from __future__ import annotations

import errno

import attrs
import pytest
from support import expectations as some
from support.scripted_kernel import ScriptedKernel

from conntrack_aio import (
    Connection,
    DecodeError,
    EventType,
    KernelError,
    NoReply,
    NotFound,
    ResourceExhausted,
)
from conntrack_aio.codec.messages import EXP_DELETE, EXP_NEW
from conntrack_aio.model.expectations import Expectation
from conntrack_aio.model.statistics import ExpectCPUStatistics
from conntrack_aio.netlink import attributes, messages
from conntrack_aio.testing import FakeSocket, ReceivedRequest

pytestmark = pytest.mark.anyio

GET = 0x201
ID = 5
THERE = attrs.evolve(some.data_connection(some.ftp()), timeout=300, id=0x01020304, helper="ftp")


class Table:
    """A kernel with one expectation, which takes no id in a delete: Linux 5.4 to 6.1, and 6.8."""

    def __init__(self, there: Expectation | None = THERE) -> None:
        self.there = there
        self.asked: list[int] = []
        self.timeouts: list[bytes] = []

    def __call__(self, socket: FakeSocket, asked: ReceivedRequest) -> None:
        self.asked.append(asked.type)
        numbers = {
            number: asked.payload[start:end]
            for number, _, start, end in attributes.walk(asked.payload, 4, len(asked.payload))
        }
        if asked.type == EXP_DELETE and 2 not in numbers:
            raise AssertionError("that would have been a flush")
        if self.there is None or (asked.type == EXP_DELETE and ID in numbers):
            socket.ack(asked, errno.ENOENT)
            return
        if asked.type == GET:
            socket.reply(asked, EXP_NEW, some.message_payload(self.there))
        elif asked.type == EXP_DELETE:
            self.there = None
        socket.ack(asked)


async def test_where_no_delete_takes_an_id() -> None:
    table = Table()
    async with ScriptedKernel(table).connect() as conn:
        await conn.expectations.delete(THERE)
        assert table.there is None
        assert table.asked == [EXP_DELETE, GET, EXP_DELETE]
        with pytest.raises(NotFound, match="delete expectation tcp"):
            await conn.expectations.delete(THERE)
        assert table.asked[3:] == [EXP_DELETE, GET]


async def test_where_no_delete_takes_an_id_a_tuple_is_enough() -> None:
    table = Table()
    async with ScriptedKernel(table).connect() as conn:
        await conn.expectations.delete(THERE.tuple)
        assert table.there is None
        assert table.asked == [GET, EXP_DELETE, GET, EXP_DELETE]


async def test_where_no_delete_takes_an_id_another_one_is_left_alone() -> None:
    table = Table(attrs.evolve(THERE, id=1))
    async with ScriptedKernel(table).connect() as conn:
        with pytest.raises(NotFound, match="delete expectation tcp"):
            await conn.expectations.delete(THERE)
        assert table.there is not None
        assert table.asked == [EXP_DELETE, GET]


async def test_where_another_one_answers_to_the_tuple_it_is_left_alone() -> None:
    table = Table(attrs.evolve(THERE, tuple=attrs.evolve(some.EXPECTED, sport=9)))
    async with ScriptedKernel(table).connect() as conn:
        for verb in (
            conn.expectations.delete(some.EXPECTED),
            conn.expectations.update(some.EXPECTED, timeout=7),
        ):
            with pytest.raises(NotFound, match="mask of another one"):
                await verb
        assert table.asked == [GET, GET]


async def test_a_create_that_is_refused_changes_no_timeout() -> None:
    """An update in the same datagram would have been carried out all the same."""
    asked: list[ReceivedRequest] = []

    def exists(socket: FakeSocket, request: ReceivedRequest) -> None:
        asked.append(request)
        if request.type == GET:
            socket.reply(request, EXP_NEW, some.message_payload(THERE))
        socket.ack(request, errno.EEXIST if request.flags & 0x400 else 0)

    async with ScriptedKernel(exists).connect() as conn:
        with pytest.raises(KernelError, match="EEXIST"):
            await conn.expectations.create(attrs.evolve(THERE, timeout=5))
        assert [request.type for request in asked] == [EXP_NEW, GET]


async def test_one_that_is_met_at_once_says_so() -> None:
    def script(socket: FakeSocket, asked: ReceivedRequest) -> None:
        socket.ack(asked, errno.ENOENT if asked.type == GET else 0)

    async with ScriptedKernel(script).connect() as conn:
        with pytest.raises(NotFound, match="was gone before it could be read back"):
            await conn.expectations.create(THERE)


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        (errno.EMFILE, ResourceExhausted, "nf_conntrack_expect_max"),
        (errno.EALREADY, KernelError, "another master"),
        (errno.ESHUTDOWN, KernelError, "lost its helper"),
    ],
)
async def test_refusals_that_are_hard_to_come_by(
    code: int, error: type[KernelError], words: str
) -> None:
    async with ScriptedKernel(lambda socket, asked: socket.ack(asked, code)).connect() as conn:
        with pytest.raises(error, match=words) as caught:
            await conn.expectations.create(THERE)
        assert caught.value.errno == code


async def test_an_answer_without_an_expectation() -> None:
    async with ScriptedKernel().connect() as conn:
        with pytest.raises(NoReply, match="no expectation"):
            await conn.expectations.get(some.EXPECTED)
        assert await conn.expectations.list(master=THERE.master) == []


async def statistics(conn: Connection) -> list[ExpectCPUStatistics]:
    return await conn.expectations.cpu_statistics()


@pytest.mark.parametrize("kind", [0x103, 0x203])
async def test_statistics_of_either_type(kind: int) -> None:
    def script(socket: FakeSocket, asked: ReceivedRequest) -> None:
        both = (
            messages.pack(kind, 2, asked.seq, bytes((0, 0, 0, cpu)) + attributes.pack_be32(1, cpu))
            for cpu in (0, 3)
        )
        socket.deliver(b"".join(both))
        socket.done(asked)

    async with ScriptedKernel(script).connect() as conn:
        assert await statistics(conn) == [
            ExpectCPUStatistics(cpu=0, new=0),
            ExpectCPUStatistics(cpu=3, new=3),
        ]


async def test_an_event_that_is_none_is_told_and_the_stream_goes_on() -> None:
    kernel = ScriptedKernel()
    async with kernel.connect() as conn:
        stream = conn.expectations.events(EventType.DESTROY)
        socket = kernel.sockets[-1]
        assert socket.groups == {6}
        payload = some.message_payload(THERE)
        socket.deliver(messages.pack(EXP_DELETE, 0, 0, payload[:-2]))
        socket.deliver(messages.pack(EXP_DELETE, 0, 0, payload, port=7))
        with pytest.raises(DecodeError):
            await anext(stream)
        (event,) = await some.next_events(stream, 1)
    assert (event.type, event.expectation, event.port_id) == (EventType.DESTROY, THERE, 7)
