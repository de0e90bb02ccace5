"""A fake kernel whose replies a test scripts, except those that count entries."""

from __future__ import annotations

import struct
from collections.abc import Callable

from conntrack_aio.connecting import Connecting
from conntrack_aio.netlink import messages
from conntrack_aio.netlink.socket import NetlinkSocket
from conntrack_aio.testing import FakeKernel, FakeSocket, ReceivedRequest

from . import flows

FORGED_SENDER = (4711, 0)
"""The address of a sender that is not the kernel: its port id is not 0."""

Script = Callable[[FakeSocket, ReceivedRequest], None]
"""A function that handles a request: it usually calls :meth:`FakeSocket.deliver`."""


class ScriptedKernel(FakeKernel):
    """A kernel that has three entries, and whose replies are scripted.

    Without a script it acknowledges every request.
    """

    def __init__(self, script: Script | None = None) -> None:
        super().__init__(flows=map(flows.tcp, range(3)), on_request=self._respond)
        self.answer: Script = script or (lambda socket, request: socket.ack(request))

    def connect(  # type: ignore[override]
        self, *, offload: bool = False, reply_timeout: float = 0.05
    ) -> Connecting:
        """Return a connection with a short reply timeout, whose streams buffer 166 events."""
        return super().connect(receive_buffer=106496, offload=offload, reply_timeout=reply_timeout)

    def _respond(self, socket: FakeSocket, request: ReceivedRequest) -> bool:
        if request.verb == "count":
            return False
        self.answer(socket, request)
        return True


def standalone_socket(script: Script | None = None) -> tuple[NetlinkSocket, FakeSocket]:
    """Return a socket that belongs to no connection, and the kernel's end of it.

    The kernel sends nothing unless the script does.
    """

    def respond(socket: FakeSocket, request: ReceivedRequest) -> bool:
        if script is not None:
            script(socket, request)
        return True

    kernel = FakeKernel(on_request=respond)
    socket = kernel._socket_factory.open()
    return socket, kernel.sockets[0]


def error_message(seq: int, code: int = 0) -> bytes:
    """Return an NLMSG_ERROR of the kernel, with only the header of the request."""
    echoed = struct.pack("=IHHII", 20, 0x101, 5, seq, 0)
    return messages.pack(messages.ERROR, 0x100, seq, struct.pack("=i", -code) + echoed)
