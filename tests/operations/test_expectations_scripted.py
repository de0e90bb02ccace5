"""Test expectations with replies that this machine's kernel does not send."""

from __future__ import annotations

import errno

import attrs
import pytest
from support import expectations
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
from conntrack_aio.codec.expectation_messages import EXP_DELETE, EXP_NEW
from conntrack_aio.model.expectations import Expectation
from conntrack_aio.model.statistics import ExpectCPUStatistics
from conntrack_aio.netlink import attributes, messages
from conntrack_aio.testing import FakeSocket, ReceivedRequest

pytestmark = pytest.mark.anyio

GET = 0x201
ID = 5
EXISTING = attrs.evolve(
    expectations.data_connection(expectations.ftp()), timeout=300, id=0x01020304, helper="ftp"
)


class KernelWithoutIdsInDeletes:
    """A kernel with one expectation that refuses ids in deletes, like Linux 5.4 to 6.1 and 6.8."""

    def __init__(self, existing: Expectation | None = EXISTING) -> None:
        self.existing = existing
        self.requests: list[int] = []
        self.timeouts: list[bytes] = []

    def __call__(self, socket: FakeSocket, request: ReceivedRequest) -> None:
        self.requests.append(request.type)
        numbers = {
            number: request.payload[start:end]
            for number, _, start, end in attributes.walk(request.payload, 4, len(request.payload))
        }
        if request.type == EXP_DELETE and 2 not in numbers:
            raise AssertionError("the kernel would take this for a flush")
        if self.existing is None or (request.type == EXP_DELETE and ID in numbers):
            socket.ack(request, errno.ENOENT)
            return
        if request.type == GET:
            socket.reply(request, EXP_NEW, expectations.message_payload(self.existing))
        elif request.type == EXP_DELETE:
            self.existing = None
        socket.ack(request)


async def test_delete_looks_up_the_id_where_deletes_refuse_ids() -> None:
    kernel = KernelWithoutIdsInDeletes()
    async with ScriptedKernel(kernel).connect() as conn:
        await conn.expectations.delete(EXISTING)
        assert kernel.existing is None
        assert kernel.requests == [EXP_DELETE, GET, EXP_DELETE]
        with pytest.raises(NotFound, match="delete expectation tcp"):
            await conn.expectations.delete(EXISTING)
        assert kernel.requests[3:] == [EXP_DELETE, GET]


async def test_delete_by_tuple_works_where_deletes_refuse_ids() -> None:
    kernel = KernelWithoutIdsInDeletes()
    async with ScriptedKernel(kernel).connect() as conn:
        await conn.expectations.delete(EXISTING.tuple)
        assert kernel.existing is None
        assert kernel.requests == [GET, EXP_DELETE, GET, EXP_DELETE]


async def test_delete_leaves_another_id_alone_where_deletes_refuse_ids() -> None:
    kernel = KernelWithoutIdsInDeletes(attrs.evolve(EXISTING, id=1))
    async with ScriptedKernel(kernel).connect() as conn:
        with pytest.raises(NotFound, match="delete expectation tcp"):
            await conn.expectations.delete(EXISTING)
        assert kernel.existing is not None
        assert kernel.requests == [EXP_DELETE, GET]


async def test_an_expectation_found_only_by_its_mask_is_not_changed() -> None:
    kernel = KernelWithoutIdsInDeletes(
        attrs.evolve(EXISTING, tuple=attrs.evolve(expectations.EXPECTED, sport=9))
    )
    async with ScriptedKernel(kernel).connect() as conn:
        for call in (
            conn.expectations.delete(expectations.EXPECTED),
            conn.expectations.update(expectations.EXPECTED, timeout=7),
        ):
            with pytest.raises(NotFound, match="mask of another one"):
                await call
        assert kernel.requests == [GET, GET]


async def test_a_refused_create_changes_no_timeout() -> None:
    """The library must not send an update in the same datagram: the kernel would carry it out."""
    requests: list[ReceivedRequest] = []

    def exists(socket: FakeSocket, request: ReceivedRequest) -> None:
        requests.append(request)
        if request.type == GET:
            socket.reply(request, EXP_NEW, expectations.message_payload(EXISTING))
        socket.ack(request, errno.EEXIST if request.flags & 0x400 else 0)

    async with ScriptedKernel(exists).connect() as conn:
        with pytest.raises(KernelError, match="EEXIST"):
            await conn.expectations.create(attrs.evolve(EXISTING, timeout=5))
        assert [request.type for request in requests] == [EXP_NEW, GET]


async def test_create_reports_an_expectation_fulfilled_at_once() -> None:
    def script(socket: FakeSocket, request: ReceivedRequest) -> None:
        socket.ack(request, errno.ENOENT if request.type == GET else 0)

    async with ScriptedKernel(script).connect() as conn:
        with pytest.raises(NotFound, match="was gone before it could be read back"):
            await conn.expectations.create(EXISTING)


@pytest.mark.parametrize(
    ("code", "error", "text"),
    [
        (errno.EMFILE, ResourceExhausted, "nf_conntrack_expect_max"),
        (errno.EALREADY, KernelError, "another master"),
        (errno.ESHUTDOWN, KernelError, "lost its helper"),
    ],
)
async def test_rare_refusals_are_explained(code: int, error: type[KernelError], text: str) -> None:
    async with ScriptedKernel(lambda socket, request: socket.ack(request, code)).connect() as conn:
        with pytest.raises(error, match=text) as caught:
            await conn.expectations.create(EXISTING)
        assert caught.value.errno == code


async def test_an_acknowledgement_without_an_expectation_raises_no_reply() -> None:
    async with ScriptedKernel().connect() as conn:
        with pytest.raises(NoReply, match="no expectation"):
            await conn.expectations.get(expectations.EXPECTED)
        assert await conn.expectations.list(master=EXISTING.master) == []


async def read_cpu_statistics(conn: Connection) -> list[ExpectCPUStatistics]:
    return await conn.expectations.cpu_statistics()


@pytest.mark.parametrize("message_type", [0x103, 0x203])
async def test_cpu_statistics_of_both_message_types_are_read(message_type: int) -> None:
    def script(socket: FakeSocket, request: ReceivedRequest) -> None:
        packed = (
            messages.pack(
                message_type, 2, request.seq, bytes((0, 0, 0, cpu)) + attributes.pack_be32(1, cpu)
            )
            for cpu in (0, 3)
        )
        socket.deliver(b"".join(packed))
        socket.done(request)

    async with ScriptedKernel(script).connect() as conn:
        assert await read_cpu_statistics(conn) == [
            ExpectCPUStatistics(cpu=0, new=0),
            ExpectCPUStatistics(cpu=3, new=3),
        ]


async def test_a_stream_continues_after_a_malformed_event() -> None:
    kernel = ScriptedKernel()
    async with kernel.connect() as conn:
        stream = conn.expectations.events(EventType.DESTROY)
        socket = kernel.sockets[-1]
        assert socket.groups == {6}
        payload = expectations.message_payload(EXISTING)
        socket.deliver(messages.pack(EXP_DELETE, 0, 0, payload[:-2]))
        socket.deliver(messages.pack(EXP_DELETE, 0, 0, payload, port_id=7))
        with pytest.raises(DecodeError):
            await anext(stream)
        (event,) = await expectations.next_events(stream, 1)
    assert (event.type, event.expectation, event.port_id) == (EventType.DESTROY, EXISTING, 7)
