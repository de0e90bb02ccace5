"""A fake kernel of which a test answers every request itself, but those that count entries."""

from __future__ import annotations

import struct
from collections.abc import Callable

from conntrack_aio.connecting import Connecting
from conntrack_aio.netlink import messages
from conntrack_aio.netlink.socket import NetlinkSocket
from conntrack_aio.testing import FakeKernel, FakeSocket, ReceivedRequest

from . import flows

FORGED_SENDER = (4711, 0)

Script = Callable[[FakeSocket, ReceivedRequest], None]
"""What the kernel does about a request: mostly, :meth:`FakeSocket.deliver` something."""


class ScriptedKernel(FakeKernel):
    """It has three entries, and acknowledges what no script is for."""

    def __init__(self, script: Script | None = None) -> None:
        super().__init__(flows=map(flows.tcp, range(3)), on_request=self._respond)
        self.answer: Script = script or (lambda socket, asked: socket.ack(asked))

    def connect(  # type: ignore[override]
        self, *, offload: bool = False, reply_timeout: float = 0.05
    ) -> Connecting:
        """A connection that does not wait long, whose streams hold 166 events."""
        return super().connect(receive_buffer=106496, offload=offload, reply_timeout=reply_timeout)

    def _respond(self, socket: FakeSocket, asked: ReceivedRequest) -> bool:
        if asked.verb == "count":
            return False
        self.answer(socket, asked)
        return True


def standalone_socket(script: Script | None = None) -> tuple[NetlinkSocket, FakeSocket]:
    """A socket of no connection, and its other end, which answers nothing by itself."""

    def respond(socket: FakeSocket, asked: ReceivedRequest) -> bool:
        if script is not None:
            script(socket, asked)
        return True

    kernel = FakeKernel(on_request=respond)
    socket = kernel._socket_factory.open()
    return socket, kernel.sockets[0]


def error_message(seq: int, code: int = 0) -> bytes:
    """An NLMSG_ERROR as the kernel makes it, capped."""
    echoed = struct.pack("=IHHII", 20, 0x101, 5, seq, 0)
    return messages.pack(messages.ERROR, 0x100, seq, struct.pack("=i", -code) + echoed)
