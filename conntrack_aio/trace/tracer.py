"""Log the messages of one socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from errno import errorcode
from logging import Logger
from typing import Final

from ..netlink.raw import RawSocket
from ..uapi.netlink import NETLINK
from ..uapi.nfnetlink import NFNLGRP
from .message import hexdump, render

_GROUPS: Final = {int(group): f"NFNLGRP_{group.name}" for group in NFNLGRP}


class Tracer:
    """An observer of one socket, which logs each message at level DEBUG."""

    def __init__(self, raw: RawSocket, logger: Logger) -> None:
        self._logger = logger
        self._protocol = int(NETLINK.NETFILTER)
        self._socket_name = f"fd={raw.fileno()}"
        if isinstance(raw, socket.socket):
            self._protocol = raw.proto
            self._socket_name = f"port={raw.getsockname()[0]}"

    def sent(self, data: bytes) -> None:
        """Log a datagram that was sent."""
        self._log_datagram(f"sent {self._socket_name}", data, from_kernel=False)

    def received(self, data: bytes, sender: tuple[int, int]) -> None:
        """Log a datagram that was received.

        :param data: the datagram.
        :param sender: the sender's port id, and the multicast groups as a bit mask.
        """
        port, groups = sender
        head = f"recv {self._socket_name}"
        if port:  # The sender is not the kernel. The library drops the datagram.
            head += f" from={port}"
        if groups:
            head += f" group={'|'.join(self._group_names(groups))}"
        self._log_datagram(head, data, from_kernel=True)

    def failed(self, error: OSError, data: bytes | None) -> None:
        """Log a system call that failed.

        :param error: the error of the system call.
        :param data: the datagram that was not sent, or ``None`` if receiving failed.
        """
        call = "recv" if data is None else "send"
        name = errorcode.get(error.errno or 0, "error")
        self._log(f"{call} {self._socket_name} {name} ({error.strerror or error})")
        if data is not None:
            self._log_datagram(f"unsent {self._socket_name}", data, from_kernel=False)

    def _group_names(self, groups: int) -> Iterator[str]:
        """Yield the names of the groups in a bit mask, which covers the groups 1 to 32."""
        for number in range(1, 33):
            if groups >> (number - 1) & 1:
                is_netfilter = self._protocol == NETLINK.NETFILTER
                yield _GROUPS.get(number, str(number)) if is_netfilter else str(number)

    def _log_datagram(self, head: str, data: bytes, *, from_kernel: bool) -> None:
        try:
            for text in render(head, data, self._protocol, from_kernel=from_kernel):
                self._log(text)
        except Exception as error:
            # A bug in the trace must neither disturb the socket's user nor hide the bytes.
            self._log("\n".join([f"{head} could not be decoded: {error!r}", *hexdump(data)]))

    def _log(self, text: str) -> None:
        try:
            self._logger.debug("%s", text)
        except Exception:
            # A logging handler of the program that fails must not disturb the socket's user.
            pass
