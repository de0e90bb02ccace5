"""The system calls of a socket, and an observer for them."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Protocol


class RawSocket(Protocol):
    """The methods of :class:`socket.socket` in use, so that tests can replace the kernel."""

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
    """Observe the datagrams of one socket, in the thread that uses it. Methods must not raise."""

    def sent(self, data: bytes) -> None:
        """Observe a datagram to the kernel, which has carried it out."""
        ...

    def received(self, data: bytes, sender: tuple[int, int]) -> None:
        """Observe a received datagram; the sender is a port id and a mask of groups."""
        ...

    def failed(self, error: OSError, data: bytes | None) -> None:
        """Observe that ``data`` could not be sent, or that a read failed if it is ``None``.

        A read that finds nothing is no failure.
        """
        ...


class ObservedSocket:
    """A raw socket that reports its datagrams to an observer."""

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
        with self._report_failure():
            size, sender = self._raw.recvfrom_into(buffer, nbytes, flags)
        self._observer.received(bytes(buffer[: min(size, nbytes)]), sender)
        return size, sender

    def recvmsg_into(
        self, buffers: list[memoryview], ancbufsize: int, flags: int, /
    ) -> tuple[int, list[tuple[int, int, bytes]], int, tuple[int, int]]:
        with self._report_failure():
            size, control, set_flags, sender = self._raw.recvmsg_into(buffers, ancbufsize, flags)
        self._observer.received(b"".join(buffers)[:size], sender)
        return size, control, set_flags, sender

    @contextmanager
    def _report_failure(self) -> Generator[None]:
        """Report a failed read to the observer, unless it only found nothing."""
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


def _no_observer(raw: RawSocket) -> Observer | None:
    return None


_choose: Callable[[RawSocket], Observer | None] = _no_observer


def observe(choose: Callable[[RawSocket], Observer | None]) -> None:
    """Call ``choose`` for each new socket; it returns the socket's observer, or ``None``."""
    global _choose
    _choose = choose


def observed(raw: RawSocket) -> RawSocket:
    """Wrap a new socket for its observer; without one, return it as it is, at no cost."""
    observer = _choose(raw)
    return raw if observer is None else ObservedSocket(raw, observer)
