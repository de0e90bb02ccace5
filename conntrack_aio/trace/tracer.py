"""Who looks on at a socket, and logs what passes through it."""

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
    """A record at level DEBUG for each message that one socket sends and receives."""

    def __init__(self, raw: RawSocket, logger: Logger) -> None:
        self._logger = logger
        self._protocol = int(NETLINK.NETFILTER)
        self._place = f"fd={raw.fileno()}"
        if isinstance(raw, socket.socket):
            self._protocol = raw.proto
            self._place = f"port={raw.getsockname()[0]}"

    def sent(self, data: bytes) -> None:
        self._show(f"sent {self._place}", data, answer=False)

    def received(self, data: bytes, sender: tuple[int, int]) -> None:
        port, groups = sender
        head = f"recv {self._place}"
        if port:  # not the kernel: it is dropped
            head += f" from={port}"
        if groups:
            head += f" group={'|'.join(self._names(groups))}"
        self._show(head, data, answer=True)

    def failed(self, error: OSError, data: bytes | None) -> None:
        call = "recv" if data is None else "send"
        name = errorcode.get(error.errno or 0, "error")
        self._log(f"{call} {self._place} {name} ({error.strerror or error})")
        if data is not None:
            self._show(f"unsent {self._place}", data, answer=False)

    def _names(self, groups: int) -> Iterator[str]:
        """Of the bits, which are those of the first 32 groups."""
        for number in range(1, 33):
            if groups >> (number - 1) & 1:
                named = self._protocol == NETLINK.NETFILTER
                yield _GROUPS.get(number, str(number)) if named else str(number)

    def _show(self, head: str, data: bytes, *, answer: bool) -> None:
        try:
            for text in render(head, data, self._protocol, answer=answer):
                self._log(text)
        except Exception as error:
            # A mistake of ours must not reach the conversation, nor hide what passed.
            self._log("\n".join([f"{head} could not be read: {error!r}", *hexdump(data)]))

    def _log(self, text: str) -> None:
        try:
            self._logger.debug("%s", text)
        except Exception:
            # A handler that fails is the program's affair, not the conversation's.
            pass
