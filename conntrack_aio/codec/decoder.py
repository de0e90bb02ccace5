"""Decoders: all the messages of one kind read, by a layout where there is one."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar, cast

from ..errors import DecodeError
from ..model.declare import HOST_U32, U16
from ..model.statistics import ConnectionStatistics
from ..netlink import messages, nfnetlink
from ..netlink.attributes import Buffer
from ..netlink.messages import HEADER_SIZE, Message
from ..uapi.netlink import NLM_F
from .layouts import Head, Layout, Unfit, compile_layout
from .reference import decode_surveyed
from .scalars import scalar_of
from .skeleton import Survey, survey

T = TypeVar("T")
Plain = Mapping[str, object]

MOST: Final = 256
"""Layouts of one kind of message. Real traffic has a dozen or two."""

_ALIKE: Final = 16
"""Layouts that only their masks tell apart; a message is compared with one after the other."""

_AT_ONCE: Final = 32
_PATIENCE: Final = 64
"""So many layouts are compiled at sight; each later one only once so many more messages had none.

To compile one takes as long as to read some 50 messages without. A stream in which no message is
like another takes less than twice the time by this; it would take fifty times as long else.
"""

_RUN: Final = 32
"""So many messages alike are compared together."""

_PORT: Final = Head(12, scalar_of(HOST_U32))
_RESOURCE: Final = Head(18, scalar_of(U16))
_INTERRUPTED: Final = int(NLM_F.DUMP_INTR)
_PAYLOAD: Final = HEADER_SIZE + nfnetlink.SIZE


class Decoder(Generic[T]):
    """Reads one kind of message.

    Its layouts are the process's, as is what is compiled; any number of threads may use them.
    """

    def __init__(
        self,
        cls: type[T],
        what: str,
        kind: Callable[[int, int], Plain | None],
        *,
        port: str | None = None,
        resource: str | None = None,
    ) -> None:
        """``kind`` is what a header's type and flags say of the message: values of fields, or
        ``None`` for one that is not ``what``. ``port`` and ``resource`` are the fields that the
        sender's port and the number in nfgenmsg are the values of.
        """
        self._cls = cls
        self._what = what
        self._kind = kind
        self._port = port
        self._resource = resource
        self._heads = {
            name: head for name, head in ((port, _PORT), (resource, _RESOURCE)) if name is not None
        }
        self._layouts: dict[bytes, list[Layout]] = {}
        """By the first eight bytes of a header: length, type and flags."""
        self._compiled = 0
        self._missed = 0

    def __call__(self, buffer: Buffer, message: Message) -> T:
        """Read one message by the reference. Raises :exc:`DecodeError`."""
        plain = self._plain(buffer, message)
        return self._made(self._survey(buffer, message), buffer, plain)

    def read_all(
        self,
        buffer: bytes,
        takes: Callable[[bytes, Message], bool],
        seq: bytes | None,
        items: list[T | DecodeError],
        counters: ConnectionStatistics,
    ) -> None:
        """Read the messages of a datagram into ``items``, with errors in the place of bad ones.

        ``takes`` is asked of each that no layout knows whether it is one to read. ``seq`` is the
        sequence number, as it stands in the header, that one must have to be read unasked.
        Raises :exc:`DecodeError` where it is not known where the next message starts.
        """
        number, find, add = int.from_bytes, self._layouts.get, items.append
        offset, retry, end = 0, 0, len(buffer)
        while offset < end:
            key = buffer[offset : offset + 8]
            for layout in find(key, ()):
                size = layout.size
                if (
                    number(buffer[offset : offset + size], "little") & layout.mask
                    == layout.template
                    and (seq is None or buffer[offset + 8 : offset + 12] == seq)
                    and offset + size <= end
                ):
                    done = 0
                    if offset >= retry:
                        retry = offset + _RUN * layout.step
                        if buffer[retry : retry + 8] == key:
                            done = _read_run(layout, buffer, offset, seq, items)
                    if done:
                        offset += done
                        break
                    try:
                        layout.build((layout.struct.unpack_from(buffer, offset),), add)
                    except Unfit:
                        continue
                    offset += layout.step
                    break
            else:
                message = messages.at(buffer, offset, end)
                if takes(buffer, message):
                    items.append(self._read(buffer, offset, message, counters))
                offset = (message.end + 3) & ~3

    def _read(
        self, buffer: bytes, offset: int, message: Message, counters: ConnectionStatistics
    ) -> T | DecodeError:
        """By the reference, and learn from it how to read the next one like it."""
        counters.fallbacks += 1
        try:
            plain = self._plain(buffer, message)
            surveyed = self._survey(buffer, message)
            made = self._made(surveyed, buffer, plain)
        except DecodeError as error:
            counters.decode_errors += 1
            return error
        self._missed += 1
        if self._may_learn() and not message.flags & _INTERRUPTED:
            self._learn(buffer[offset : message.end], message)
        return made

    def _may_learn(self) -> bool:
        return self._compiled < _AT_ONCE or self._missed > _PATIENCE * (self._compiled - _AT_ONCE)

    def _learn(self, message: bytes, header: Message) -> None:
        plain = self._kind(header.type, header.flags)
        assert plain is not None
        surveyed = survey(self._cls, message, _PAYLOAD, len(message))
        layout = compile_layout(surveyed, message, plain, self._heads)
        self._compiled += 1
        if layout is None:
            return
        if self._compiled % MOST == 0:
            self._layouts.clear()  # those that are still met are soon there again
        alike = self._layouts.get(message[:8], [])
        self._layouts[message[:8]] = [*alike, layout][-_ALIKE:]

    def _plain(self, buffer: Buffer, message: Message) -> dict[str, object]:
        """The values of fields that the headers have."""
        kind = self._kind(message.type, message.flags)
        if kind is None:
            raise DecodeError(f"a message of type {message.type:#x} is not {self._what}")
        head = nfnetlink.parse(buffer, message)
        plain = dict(kind)
        if self._port is not None:
            plain[self._port] = message.port
        if self._resource is not None:
            plain[self._resource] = head.resource
        return plain

    def _survey(self, buffer: Buffer, message: Message) -> Survey:
        return survey(
            cast("type[Any]", self._cls), buffer, message.start + nfnetlink.SIZE, message.end
        )

    def _made(self, surveyed: Survey, buffer: Buffer, plain: Plain) -> T:
        return cast("T", decode_surveyed(surveyed, buffer, plain))


def _read_run(
    layout: Layout, buffer: bytes, offset: int, seq: bytes | None, items: list[T | DecodeError]
) -> int:
    """Read the messages from here on that are alike, if they are many; how many bytes it were."""
    count = layout.run(buffer, offset, seq)
    if count < _RUN or layout.size != layout.step:
        return 0
    already = len(items)
    rows = layout.struct.iter_unpack(memoryview(buffer)[offset : offset + count * layout.step])
    try:
        layout.build(rows, items.append)
    except Unfit:
        pass  # those before it are read
    return (len(items) - already) * layout.step


def pack_seq(seq: int) -> bytes:
    """A sequence number as it stands in a header."""
    return struct.pack("=I", seq)
