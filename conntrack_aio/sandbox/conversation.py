"""Requests asked and answered on the spot, on a socket of the calling thread's namespace."""

from __future__ import annotations

from contextlib import closing

from ..netlink.exchange import Exchange
from ..netlink.socket import open_socket


def converse(protocol: int, exchange: Exchange) -> None:
    """Send the requests and read the answers. Raises the first refusal, a :exc:`KernelError`.

    Nothing waits: the kernel has answered when ``send`` returns.
    """
    with closing(open_socket(protocol)) as socket:
        socket.send(exchange.data)
        while not exchange.done:
            try:
                size = socket.receive()
            except BlockingIOError:
                exchange.dry()
                break
            exchange.feed(socket.buffer, size)
    for outcome in exchange.outcomes:
        outcome.result()
