"""The system calls of a socket, and looking on while they are made."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Protocol


class RawSocket(Protocol):
    """What is used of a :class:`socket.socket`, so that a scripted kernel can stand in for it."""

    def fileno(self) -> int: ...
    def sendto(self, data: bytes, address: tuple[int, int], /) -> int: ...
    def recvfrom_into(
        self, buffer: memoryview, nbytes: int, flags: int, /
    ) -> tuple[int, tuple[int, int]]: ...
    def recvmsg_into(
        self, buffers: list[memoryview], ancbufsize: int, flags: int, /
    ) -> tuple[int, list[tuple[int, int, bytes]], int, tuple[int, int]]: ...
    def getsockopt(self, level: int, option: int, size: int, /) -> bytes: ...
    def setsockopt(self, level: int, option: int, value: int | bytes, /) -> None: ...
    def close(self) -> None: ...


class Observer(Protocol):
    """Who is told what passes through one socket, in the thread that uses it; it never raises."""

    def sent(self, data: bytes) -> None:
        """This datagram went to the kernel, which has carried it out."""
        ...

    def received(self, data: bytes, sender: tuple[int, int]) -> None:
        """This datagram came, from this port and to these groups."""
        ...

    def failed(self, error: OSError, data: bytes | None) -> None:
        """``data`` could not be sent; ``None``: a read failed, other than by finding nothing."""
        ...


class ObservedSocket:
    """A socket whose observer is told."""

    def __init__(self, raw: RawSocket, observer: Observer) -> None:
        self._raw = raw
        self._observer = observer

    def fileno(self) -> int:
        return self._raw.fileno()

    def sendto(self, data: bytes, address: tuple[int, int], /) -> int:
        try:
            size = self._raw.sendto(data, address)
        except OSError as error:
            self._observer.failed(error, data)
            raise
        self._observer.sent(data)
        return size

    def recvfrom_into(
        self, buffer: memoryview, nbytes: int, flags: int, /
    ) -> tuple[int, tuple[int, int]]:
        with self._failures():
            size, sender = self._raw.recvfrom_into(buffer, nbytes, flags)
        self._observer.received(bytes(buffer[: min(size, nbytes)]), sender)
        return size, sender

    def recvmsg_into(
        self, buffers: list[memoryview], ancbufsize: int, flags: int, /
    ) -> tuple[int, list[tuple[int, int, bytes]], int, tuple[int, int]]:
        with self._failures():
            size, control, told, sender = self._raw.recvmsg_into(buffers, ancbufsize, flags)
        self._observer.received(b"".join(buffers)[:size], sender)
        return size, control, told, sender

    @contextmanager
    def _failures(self) -> Generator[None]:
        """Of a read, other than by finding nothing."""
        try:
            yield
        except BlockingIOError:
            raise
        except OSError as error:
            self._observer.failed(error, None)
            raise

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        return self._raw.getsockopt(level, option, size)

    def setsockopt(self, level: int, option: int, value: int | bytes, /) -> None:
        self._raw.setsockopt(level, option, value)

    def close(self) -> None:
        self._raw.close()


def _nobody(raw: RawSocket) -> Observer | None:
    return None


_choose: Callable[[RawSocket], Observer | None] = _nobody


def observe(choose: Callable[[RawSocket], Observer | None]) -> None:
    """Have ``choose`` asked at each new socket who wants to look on, if anybody does."""
    global _choose
    _choose = choose


def observed(raw: RawSocket) -> RawSocket:
    """The socket as it is, if nobody looks on: then it costs nothing."""
    observer = _choose(raw)
    return raw if observer is None else ObservedSocket(raw, observer)
