"""Receive the answers to requests.

The kernel carries a request out, and queues the answer, before ``sendmsg`` returns. So receiving
follows sending at once, and EAGAIN means that the kernel has nothing more to send. What stands in
for the kernel, as in tests, may answer later: :func:`wait_for_answers` gives it time.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import closing
from typing import Final

from .. import eventloop
from ..errors import DecodeError
from .exchange import Answers, Exchange, Response
from .opening import open_socket
from .socket import NetlinkSocket

_MANY: Final = 32
"""The number of unanswered requests from which on several answers are received at a time."""

_AT_A_TIME: Final = 256
"""The most answers that are received at a time: each call may have to wait for another thread."""


def receive_answers(socket: NetlinkSocket, answers: Answers) -> bool:
    """Feed ``answers`` with what the socket has received, until all requests are answered.

    ENOBUFS means that the kernel dropped answers. This then continues with those in the receive
    buffer.

    :returns: whether all requests are answered; if not, the socket has nothing more to read.
    :raises DecodeError: when a datagram is not netlink.
    :raises OSError: when the socket cannot be read.
    """
    receive, buffer, feed = socket.receive, socket.buffer, answers.feed
    while answers.open:
        try:
            while answers.open >= _MANY:
                _receive_some(socket, answers)
            while answers.open:
                feed(buffer, receive())
        except BlockingIOError:
            answers.note_drained()
            return not answers.open
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            answers.note_lost()
    return True


def _receive_some(socket: NetlinkSocket, answers: Answers) -> None:
    """Feed ``answers`` with what the socket has received, up to :data:`_AT_A_TIME` datagrams.

    :raises DecodeError: when a datagram is not netlink; the others were fed.
    :raises OSError: when there is no datagram, or the socket cannot be read.
    """
    received = socket.fill_own(_AT_A_TIME)
    if received is None:
        answers.feed(socket.buffer, socket.receive())
        return
    successes = socket.take_successes(*received)
    if successes is not None:
        answers.add_successes(successes)
        return
    failure: DecodeError | None = None
    for datagram in socket.take(*received, join=False):
        try:
            if isinstance(datagram, DecodeError):
                raise datagram
            answers.feed(datagram, len(datagram))
        except DecodeError as error:
            failure = failure or error
    if failure is not None:
        raise failure


async def wait_for_answers(
    socket: NetlinkSocket, answers: Answers, reply_timeout: float, receive: Callable[[], object]
) -> None:
    """Call ``receive`` whenever the socket is readable, until all requests are answered.

    Give up after ``reply_timeout`` seconds, and as soon as answers are known to be lost: the kernel
    does not send them again.

    :raises anyio.ClosedResourceError: when the socket is closed in the meantime.
    :raises OSError: when the socket cannot be watched, or ``receive`` raises it.
    """
    with eventloop.move_on_after(reply_timeout):
        while answers.open and not answers.lossy:
            await socket.wait_readable()
            receive()


def send_and_receive(socket: NetlinkSocket, exchange: Exchange) -> list[Response]:
    """Send requests and return their responses, in the calling thread and without waiting.

    A request that the kernel has not answered at once has a response without a completion, of which
    :meth:`Response.result` raises :exc:`NoReply`.

    :raises DecodeError: when the kernel's answer is not netlink.
    :raises OSError: when the system refuses to send or to receive.
    """
    socket.send(exchange.data)
    receive_answers(socket, exchange)
    return exchange.responses


def run_exchange(protocol: int, exchange: Exchange) -> list[Response]:
    """Send requests on a new socket in the calling thread's network namespace.

    :param protocol: the netlink protocol of the socket.
    :param exchange: the requests.
    :returns: a response for each request, all successful.
    :raises KernelError: when the kernel refused a request; the error is that of the first one.
    :raises NoReply: when the kernel did not answer a request.
    """
    with closing(open_socket(protocol)) as socket:
        responses = send_and_receive(socket, exchange)
    for response in responses:
        response.result()
    return responses
