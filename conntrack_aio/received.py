"""Items that are decoded of what was received: a little at a time, as they are asked for."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Protocol, TypeVar

from .codec.decoder import Counters, Datagram
from .errors import ConntrackError, DecodeError
from .items import Items
from .netlink.attributes import BytesLike
from .netlink.messages import Message
from .netlink.owner import Owner

T = TypeVar("T")


class Reader(Protocol[T]):
    """Makes objects of messages: a :class:`~conntrack_aio.codec.decoder.Decoder`."""

    def read(
        self,
        datagram: Datagram,
        takes: Callable[[bytes, Message], bool],
        seq: bytes | None,
        items: list[T | DecodeError],
        counters: Counters,
        /,
    ) -> None: ...


class Received(Items[T]):
    """Items that come as messages in datagrams."""

    def __init__(self, owner: Owner, reader: Reader[T], counters: Counters) -> None:
        super().__init__(owner)
        self._reader = reader
        self._counters = counters
        self._received: deque[Datagram | ConntrackError] = deque()
        self._seq: bytes | None = None
        """The sequence number, as it stands in headers, of the messages to decode."""

    def _takes(self, buffer: BytesLike, message: Message) -> bool:
        """Whether a message that no layout knows is one to decode."""
        return True

    def _keeps(self, items: list[T | DecodeError]) -> list[T | DecodeError]:
        """Those that are to be handed out."""
        return items

    @abstractmethod
    def _broken(self, error: DecodeError) -> None:
        """The rest of a datagram is not netlink."""

    def _is_ready(self) -> bool:
        while not self._pending and self._received:
            self._flawed = False
            self._decode()
        return super()._is_ready()

    def _decode(self) -> None:
        """Decode the next few messages of what was received."""
        datagram = self._received[0]
        if isinstance(datagram, ConntrackError):
            self._received.popleft()
            self._flawed = True
            self._counters.decode_errors += isinstance(datagram, DecodeError)
            self._pending.append(datagram)
            return
        items: list[T | DecodeError] = []
        errors = self._counters.decode_errors
        try:
            self._reader.read(datagram, self._takes, self._seq, items, self._counters)
        except DecodeError as error:
            self._received.popleft()
            self._broken(error)
        else:
            if datagram.done:
                self._received.popleft()
        self._flawed |= self._counters.decode_errors > errors
        self._pending += self._keeps(items)
