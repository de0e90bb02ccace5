"""Another program with CAP_NET_ADMIN sends what looks like the kernel's."""

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
def forger(lab: Lab) -> socket.socket:
    return lab.run(lambda: socket.socket(AF_NETLINK, socket.SOCK_RAW, NETLINK.NETFILTER))


@pytest.mark.kernel
async def test_forged_events(conn: Connection, forger: socket.socket) -> None:
    with forger:
        async with conn.events() as stream:
            port = stream._socket.raw.getsockname()[0]  # type: ignore[attr-defined]
            for group in (1, 2, 4):
                forger.sendto(flows.new_event(flows.tcp(1)), (0, group))
            with pytest.raises(ConnectionRefusedError):
                forger.sendto(flows.new_event(flows.tcp(2)), (port, 0))
            made = await conn.create(flows.tcp(3))
            with anyio.fail_after(5):
                assert (await anext(stream)).flow.id == made.id
            assert conn.client_statistics().forged == 3


@pytest.mark.kernel
async def test_nobody_else_can_send_to_the_request_socket(
    conn: Connection, forger: socket.socket
) -> None:
    port = conn._session.requester.socket.raw.getsockname()[0]  # type: ignore[attr-defined]
    with forger, pytest.raises(ConnectionRefusedError):
        forger.sendto(error_message(2), (port, 0))
    assert await conn.count() == 0


async def test_a_forged_answer() -> None:
    """Even if it got through: who sent it is looked at."""

    def script(socket: FakeSocket, asked: ReceivedRequest) -> None:
        socket.deliver(error_message(asked.seq, 2), sender=FORGED_SENDER)
        socket.ack(asked)

    async with ScriptedKernel(script).connect() as conn:
        await conn.delete(flows.tcp())
        assert await conn.list() == []
        assert conn.client_statistics().forged == 2


async def test_a_forged_entry_in_a_dump() -> None:
    def script(socket: FakeSocket, asked: ReceivedRequest) -> None:
        socket.deliver(b"anything", sender=FORGED_SENDER)
        socket.reply(asked, CT_NEW, flows.message_payload(flows.tcp()))
        socket.done(asked)

    async with ScriptedKernel(script).connect() as conn:
        assert await conn.list() == [flows.tcp()]
