"""Test that forged messages of other programs with CAP_NET_ADMIN are dropped."""

from __future__ import annotations

import socket

import anyio
import pytest
from support import flows
from support.lab import Lab
from support.scripted_kernel import FORGED_SENDER, ScriptedKernel, error_message

from conntrack_aio import Connection
from conntrack_aio.codec.messages import CT_NEW
from conntrack_aio.testing import FakeSocket, ReceivedRequest
from conntrack_aio.uapi.netlink import AF_NETLINK, NETLINK

pytestmark = [pytest.mark.kernels, pytest.mark.anyio]


@pytest.fixture
def foreign_socket(lab: Lab) -> socket.socket:
    return lab.run(lambda: socket.socket(AF_NETLINK, socket.SOCK_RAW, NETLINK.NETFILTER))


@pytest.mark.kernel
async def test_forged_events_are_dropped_and_counted(
    conn: Connection, foreign_socket: socket.socket
) -> None:
    with foreign_socket:
        async with conn.events() as stream:
            port = stream._socket.raw.getsockname()[0]  # type: ignore[attr-defined]
            for group in (1, 2, 4):
                foreign_socket.sendto(flows.new_event(flows.tcp(1)), (0, group))
            with pytest.raises(ConnectionRefusedError):
                foreign_socket.sendto(flows.new_event(flows.tcp(2)), (port, 0))
            created = await conn.create(flows.tcp(3))
            with anyio.fail_after(5):
                assert (await anext(stream)).flow.id == created.id
            assert conn.client_statistics().forged == 3


@pytest.mark.kernel
async def test_the_kernel_refuses_messages_of_others_to_the_request_socket(
    conn: Connection, foreign_socket: socket.socket
) -> None:
    port = conn._session.requester.socket.raw.getsockname()[0]  # type: ignore[attr-defined]
    with foreign_socket, pytest.raises(ConnectionRefusedError):
        foreign_socket.sendto(error_message(2), (port, 0))
    assert await conn.count() == 0


async def test_a_forged_reply_is_dropped() -> None:
    """The library checks the sender even if the kernel let such a message through."""

    def script(socket: FakeSocket, request: ReceivedRequest) -> None:
        socket.deliver(error_message(request.seq, 2), sender=FORGED_SENDER)
        socket.ack(request)

    async with ScriptedKernel(script).connect() as conn:
        await conn.delete(flows.tcp())
        assert await conn.list() == []
        assert conn.client_statistics().forged == 2


async def test_a_forged_entry_in_a_dump_is_dropped() -> None:
    def script(socket: FakeSocket, request: ReceivedRequest) -> None:
        socket.deliver(b"anything", sender=FORGED_SENDER)
        socket.reply(request, CT_NEW, flows.message_payload(flows.tcp()))
        socket.done(request)

    async with ScriptedKernel(script).connect() as conn:
        assert await conn.list() == [flows.tcp()]
