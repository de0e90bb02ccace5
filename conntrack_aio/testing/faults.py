"""Kernels that misbehave: requests refused, unanswered, answered wrongly or late."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .asked import Asked
from .protocol import Receiver
from .sockets import FakeSocket, Held

When = str | Callable[[Asked], bool] | None
"""Which requests: those of a verb (:attr:`Asked.verb`), those of which a function is true, or
any."""

GARBAGE: Final = b"\xff\xff\xff\xff" * 6
"""A datagram that is not netlink."""


class Delayed:
    """A request that was, or will be, carried out at once, and whose answer is kept back."""

    def __init__(self) -> None:
        self.asked: Asked | None = None
        """The request, once it has come."""
        self._released = False
        self._held: Held | None = None

    def release(self) -> None:
        """Let the answer go; if the request is still to come, it is not delayed any more."""
        self._released = True
        if self._held is not None:
            self._held.release()
            self._held = None

    def hold(self, asked: Asked, held: Held) -> None:
        """Keep an answer back."""
        self.asked, self._held = asked, held
        if self._released:
            self.release()


Fault = Callable[[FakeSocket, Asked, Receiver], None]
"""What happens to a request instead."""


class Faults:
    """The faults that wait for a request, the oldest first."""

    def __init__(self) -> None:
        self._waiting: list[tuple[When, int, Fault]] = []

    def add(self, when: When, times: int, fault: Fault) -> None:
        """Have a fault befall so many requests. Raises :exc:`ValueError` for less than one."""
        if times < 1:
            raise ValueError(f"a fault befalls one request or more, not {times}")
        self._waiting.append((when, times, fault))

    def take(self, asked: Asked) -> Fault | None:
        """The one that a request meets."""
        for index, (when, times, fault) in enumerate(self._waiting):
            if when is None or (asked.verb == when if isinstance(when, str) else when(asked)):
                if times > 1:
                    self._waiting[index] = (when, times - 1, fault)
                else:
                    del self._waiting[index]
                return fault
        return None


def refusal(code: int, detail: str | None, offset: int | None) -> Fault:
    def refuse(socket: FakeSocket, asked: Asked, receiver: Receiver) -> None:
        socket.deliver(socket.error_message(asked, code, detail, offset))

    return refuse


def silence(carried_out: bool) -> Fault:
    def keep_silent(socket: FakeSocket, asked: Asked, receiver: Receiver) -> None:
        if carried_out:
            with socket.holding() as held:
                receiver.carry_out(socket, asked)
            held.drop()

    return keep_silent


def garbage() -> Fault:
    def garble(socket: FakeSocket, asked: Asked, receiver: Receiver) -> None:
        socket.deliver(GARBAGE)

    return garble


def delay(delayed: Delayed) -> Fault:
    def keep_back(socket: FakeSocket, asked: Asked, receiver: Receiver) -> None:
        with socket.holding() as held:
            receiver.carry_out(socket, asked)
        delayed.hold(asked, held)

    return keep_back
