"""Send IPFIX messages to a collector, over UDP or TCP, or write them to a file."""

from __future__ import annotations

import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final

import anyio
import anyio.to_thread
from anyio.abc import ByteStream

from ..records import EventRecord, FlowRecord, LostRecord, Record
from ..sinks import SinkError
from ..sources import now
from .layouts import Values, biflow, nat_event, uniflows
from .messages import MessageWriter

PORT: Final = 4739
"""The port of IPFIX collectors, for UDP and TCP (RFC 7011, section 10)."""

_LARGEST_DATAGRAM: Final = 1400
"""The size of messages over UDP, which must fit into a packet (RFC 7011, section 10.3.3)."""

_TEMPLATE_INTERVAL: Final = 60.0
"""Seconds after which templates are sent again over UDP: collectors may have been restarted."""

_ERRORS: Final = (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError)


class IPFIXSink(ABC):
    """Writes flow records, starts and ends of translations, and gaps.

    Other records have no counterpart in IPFIX and are left out.
    """

    def __init__(
        self, name: str, *, domain: int = 0, uniflow: bool = False, largest: int = 65_535
    ) -> None:
        """Set up the sink.

        :param name: its URL, for messages.
        :param domain: the observation domain id, which tells exporters of one host apart.
        :param uniflow: whether each direction has a record of its own, for collectors that do not
            know biflows (RFC 5103).
        :param largest: the size in bytes that no message exceeds.
        :raises ValueError: when a number is out of range.
        """
        self._name = name
        self._domain = domain
        self._uniflow = uniflow
        self._largest = largest
        self._writer = MessageWriter(domain=domain, largest=largest)
        self._not_sent = 0

    @property
    def name(self) -> str:
        """The URL of the destination."""
        return self._name

    async def open(self) -> None:
        """Begin a session, in which sequence numbers begin with 0.

        :raises SinkError: when the collector cannot be reached.
        """
        self._writer = MessageWriter(domain=self._domain, largest=self._largest)
        try:
            await self._connect()
        except _ERRORS as error:
            raise SinkError(f"it cannot be reached: {_text(error)}") from error

    async def write(self, records: Sequence[Record]) -> int:
        """Send records, and return how many of them were sent.

        :raises SinkError: when none was sent.
        """
        sent = 0
        try:
            for index, record in enumerate(records):
                for message in self._messages(record):
                    await self._send(message)
                    sent = index  # this record may not be in the message
            last = self._writer.flush(now())
            if last is not None:
                await self._send(last)
            return len(records)
        except _ERRORS as error:
            if sent:
                return sent
            raise SinkError(f"a message cannot be sent: {_text(error)}") from error

    def _messages(self, record: Record) -> Iterator[bytes]:
        """Add a record, and yield the messages that are full."""
        time = now()
        if isinstance(record, LostRecord):
            self._not_sent += record.records
            message = self._writer.add_gap(record.time, self._not_sent, time)
            if message is not None:
                yield message
            return
        for values in self._values(record):
            message = self._writer.add(values, time)
            if message is not None:
                yield message

    def _values(self, record: Record) -> Iterator[Values]:
        if isinstance(record, FlowRecord):
            if self._uniflow:
                yield from uniflows(record)
            else:
                yield biflow(record)
        elif isinstance(record, EventRecord) and (values := nat_event(record)) is not None:
            yield values

    async def flush(self) -> None:  # noqa: B027 - most sinks need no other
        """Do nothing: each write sends its messages."""

    async def reopen(self) -> None:  # noqa: B027
        """Do nothing: there is no file that could have been renamed."""

    @abstractmethod
    async def _connect(self) -> None: ...

    @abstractmethod
    async def _send(self, message: bytes) -> None: ...

    @abstractmethod
    async def close(self) -> None:
        """End the session."""


class UDPSink(IPFIXSink):
    """Sends messages as datagrams. What a collector does not receive is lost without a report."""

    def __init__(
        self, host: str, port: int = PORT, *, domain: int = 0, uniflow: bool = False
    ) -> None:
        """Set up the sink.

        :param host: the name or address of the collector.
        :param port: its port.
        :param domain: see :class:`IPFIXSink`.
        :param uniflow: see :class:`IPFIXSink`.
        """
        super().__init__(
            f"ipfix+udp://{_host_text(host)}:{port}",
            domain=domain,
            uniflow=uniflow,
            largest=_LARGEST_DATAGRAM,
        )
        self._address = host, port
        self._socket: socket.socket | None = None
        self._announced = 0.0

    async def _connect(self) -> None:
        found = await anyio.getaddrinfo(*self._address, type=socket.SOCK_DGRAM)
        family, type_, proto, _, address = found[0]
        # asyncio's own transport does not report that nobody receives.
        opened = socket.socket(family, type_ | socket.SOCK_NONBLOCK, proto)
        try:
            opened.connect(address)
        except BaseException:
            opened.close()
            raise
        self._socket = opened
        self._announced = anyio.current_time()

    async def _send(self, message: bytes) -> None:
        assert self._socket is not None
        if anyio.current_time() - self._announced >= _TEMPLATE_INTERVAL:
            self._announced = anyio.current_time()
            self._writer.announce_again()
        while True:
            try:
                self._socket.send(message)
                return
            except BlockingIOError:
                await anyio.wait_writable(self._socket)

    async def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class TCPSink(IPFIXSink):
    """Sends messages over a connection."""

    def __init__(
        self, host: str, port: int = PORT, *, domain: int = 0, uniflow: bool = False
    ) -> None:
        """Set up the sink.

        :param host: the name or address of the collector.
        :param port: its port.
        :param domain: see :class:`IPFIXSink`.
        :param uniflow: see :class:`IPFIXSink`.
        """
        super().__init__(f"ipfix+tcp://{_host_text(host)}:{port}", domain=domain, uniflow=uniflow)
        self._address = host, port
        self._stream: ByteStream | None = None

    async def _connect(self) -> None:
        self._stream = await anyio.connect_tcp(*self._address)

    async def _send(self, message: bytes) -> None:
        assert self._stream is not None
        await self._stream.send(message)

    async def close(self) -> None:
        """Close the connection."""
        if self._stream is not None:
            with suppress(*_ERRORS):
                await self._stream.aclose()
            self._stream = None


class FileSink(IPFIXSink):
    """Appends messages to a file (RFC 5655), each whole."""

    def __init__(
        self, path: str | os.PathLike[str], *, domain: int = 0, uniflow: bool = False
    ) -> None:
        """Set up the sink.

        :param path: the file. What it has already is kept.
        :param domain: see :class:`IPFIXSink`.
        :param uniflow: see :class:`IPFIXSink`.
        """
        self._path = os.fspath(path)
        super().__init__(f"ipfix+file:{self._path}", domain=domain, uniflow=uniflow)
        self._descriptor: int | None = None

    async def _connect(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = await anyio.to_thread.run_sync(os.open, self._path, flags, 0o640)

    async def _send(self, message: bytes) -> None:
        assert self._descriptor is not None
        await anyio.to_thread.run_sync(_append, self._descriptor, message)

    async def reopen(self) -> None:
        """Open the file that has the name now, such as after a rename. A session begins.

        :raises SinkError: when it cannot be opened.
        """
        await self.close()
        await self.open()

    async def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            with suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None


def _append(descriptor: int, message: bytes) -> None:
    """Append a message to a file, or nothing if the disk is full."""
    size = os.fstat(descriptor).st_size
    written = 0
    try:
        while written < len(message):
            written += os.write(descriptor, message[written:])
    except OSError:
        with suppress(OSError):
            os.ftruncate(descriptor, size)
        raise


def _text(error: BaseException) -> str:
    """Return what the system says about an error."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _host_text(host: str) -> str:
    return f"[{host}]" if ":" in host else host
