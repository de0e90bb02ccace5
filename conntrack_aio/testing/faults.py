"""Inject faults: requests that the kernel refuses, leaves unanswered, garbles or answers late."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .protocol import Receiver
from .received import ReceivedRequest
from .sockets import FakeSocket, HeldMessages

When = str | Callable[[ReceivedRequest], bool] | None
"""Which requests a fault is for: those with this :attr:`ReceivedRequest.verb`, those for which a
function returns ``True``, or any request.

One method may send requests of several verbs. ``create`` sends ``"create"`` and ``"get"``. Since
Linux 6.12, ``delete_matching`` sends a single ``"flush"`` if the kernel can apply the whole match,
else a ``"delete"`` for each flow."""

GARBAGE: Final = b"\xff\xff\xff\xff" * 6
"""A datagram that is not a netlink message."""


class DelayedReply:
    """The reply to a request that the kernel executes at once and answers later.

    :meth:`FakeKernel.delay` returns one.
    """

    def __init__(self) -> None:
        self.request: ReceivedRequest | None = None
        """The request, or ``None`` until the kernel receives it."""
        self._released = False
        self._held: HeldMessages | None = None

    def release(self) -> None:
        """Send the reply; before the request is received, cancel the delay. Idempotent."""
        self._released = True
        if self._held is not None:
            self._held.release()
            self._held = None

    def hold(self, request: ReceivedRequest, held: HeldMessages) -> None:
        """Keep the reply to a request until :meth:`release`."""
        self.request, self._held = request, held
        if self._released:
            self.release()


Fault = Callable[[FakeSocket, ReceivedRequest, Receiver], None]
"""Handle a request in place of the kernel."""


class Faults:
    """The faults that wait for a request, in the order in which they were added."""

    def __init__(self) -> None:
        self._pending: list[tuple[When, int, Fault]] = []

    def add(self, when: When, times: int, fault: Fault) -> None:
        """Apply a fault to the next requests that it is for.

        :param when: which requests the fault is for.
        :param times: the number of requests.
        :param fault: what to do instead of the request.

        :raises ValueError: when ``times`` is less than 1.
        """
        if times < 1:
            raise ValueError(f"times must be at least 1; got {times}")
        self._pending.append((when, times, fault))

    def take(self, request: ReceivedRequest) -> Fault | None:
        """Return the first fault that is for this request, and count it as used."""
        for index, (when, times, fault) in enumerate(self._pending):
            if when is None or (request.verb == when if isinstance(when, str) else when(request)):
                if times > 1:
                    self._pending[index] = (when, times - 1, fault)
                else:
                    del self._pending[index]
                return fault
        return None


def refusal(code: int, detail: str | None, offset: int | None) -> Fault:
    """Return the fault that refuses a request; see :meth:`FakeKernel.refuse`."""

    def refuse(socket: FakeSocket, request: ReceivedRequest, receiver: Receiver) -> None:
        socket.deliver(socket.error_message(request, code, detail, offset))

    return refuse


def no_reply(execute: bool) -> Fault:
    """Return the fault that leaves a request unanswered, and perhaps executes it."""

    def drop_reply(socket: FakeSocket, request: ReceivedRequest, receiver: Receiver) -> None:
        if execute:
            with socket.hold_messages() as held:
                receiver.execute(socket, request)
            held.drop()

    return drop_reply


def garbage() -> Fault:
    """Return the fault that answers a request with :data:`GARBAGE`."""

    def garble(socket: FakeSocket, request: ReceivedRequest, receiver: Receiver) -> None:
        socket.deliver(GARBAGE)

    return garble


def delay(delayed: DelayedReply) -> Fault:
    """Return the fault that executes a request and holds its reply."""

    def hold_reply(socket: FakeSocket, request: ReceivedRequest, receiver: Receiver) -> None:
        with socket.hold_messages() as held:
            receiver.execute(socket, request)
        delayed.hold(request, held)

    return hold_reply
