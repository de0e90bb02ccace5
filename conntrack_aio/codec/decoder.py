"""Decoders: all the messages of one kind read, by a layout where there is one."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, Protocol, TypeVar, cast
from weakref import WeakSet

from ..errors import DecodeError
from ..model.declare import HOST_U32, U16
from ..netlink import messages, nfnetlink
from ..netlink.attributes import Buffer
from ..netlink.messages import HEADER_SIZE, Message
from ..uapi.netlink import NLM_F
from .layouts import HeaderField, Layout, LayoutMismatch, compile_layout
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

PORTION: Final = 40
"""Messages read at a time. What is made of them, and of as many before that their reader still
holds, is less than what the garbage collector waits for (700 objects) before it looks through it
all: a reader who keeps nothing is spared that, which is a quarter of the time."""

_LARGEST: Final = 4096
"""Bytes of a message of which a layout is made. The kernel makes none that is larger than a page;
a layout for 64 KiB of attributes would take a fifth of a second to compile, and 5 MB."""

_RUN: Final = 32
"""So many messages alike are compared together."""

_PORT: Final = HeaderField(12, scalar_of(HOST_U32))
_RESOURCE: Final = HeaderField(18, scalar_of(U16))
_INTERRUPTED: Final = int(NLM_F.DUMP_INTR)
_PAYLOAD: Final = HEADER_SIZE + nfnetlink.SIZE


class Counters(Protocol):
    """Where it is counted how reading went."""

    fallbacks: int
    """Messages that no layout fitted."""
    decode_errors: int
    """Those of them that were none."""


class Datagram:
    """A received datagram, and how far it has been read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.offset = 0
        self.alike_until = 0
        """Up to here the messages are of one skeleton, as is known already."""
        self.retry = 0
        """From here on it may be looked for such messages again."""
        self._layout: Layout | None = None

    @property
    def done(self) -> bool:
        return self.offset >= len(self.data)

    @property
    def left(self) -> int:
        """How many messages are still to be read; a rest that is not netlink counts as one."""
        count, offset = 0, self.offset
        while offset < len(self.data):
            count += 1
            try:
                offset = (messages.at(self.data, offset, len(self.data)).end + 3) & ~3
            except DecodeError:
                break
        return count

    def look_ahead(self, layout: Layout, offset: int, seq: bytes | None) -> bool:
        """Whether many messages from here on are of the first one's skeleton."""
        data, step = self.data, layout.step
        self.retry = offset + _RUN * step
        last = self.retry - step
        if data[offset : offset + 8] != data[last : last + 8] or layout.size != step:
            return False
        count = layout.run(data, offset, seq)
        if count < _RUN:
            return False
        self.alike_until = offset + count * step
        self._layout = layout
        return True

    def read_alike(self, offset: int, limit: int, items: list[Any]) -> int:
        """Read some messages of those that are alike; how many bytes they were."""
        layout, already = self._layout, len(items)
        assert layout is not None
        stop = min(self.alike_until, offset + limit * layout.step)
        rows = layout.struct.iter_unpack(memoryview(self.data)[offset:stop])
        try:
            layout.build(rows, items.append)
        except LayoutMismatch:
            self.alike_until = 0  # those before it are read
        return (len(items) - already) * layout.step


_decoders: Final[WeakSet[Decoder[Any]]] = WeakSet()


def count_layouts() -> int:
    """Of all decoders of this process."""
    return sum(decoder.layouts for decoder in _decoders)


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
        self._header_fields = {
            name: field
            for name, field in ((port, _PORT), (resource, _RESOURCE))
            if name is not None
        }
        self._layouts: dict[bytes, list[Layout]] = {}
        """By the first eight bytes of a header: length, type and flags."""
        self._compiled = 0
        self._missed = 0
        _decoders.add(self)

    @property
    def layouts(self) -> int:
        """How many it has."""
        return sum(map(len, tuple(self._layouts.values())))

    def __call__(self, buffer: Buffer, message: Message) -> T:
        """Read one message by the reference. Raises :exc:`DecodeError`."""
        plain = self._plain(buffer, message)
        return self._made(self._survey(buffer, message), buffer, plain)

    def read(
        self,
        datagram: Datagram,
        takes: Callable[[bytes, Message], bool],
        seq: bytes | None,
        items: list[T | DecodeError],
        counters: Counters,
    ) -> None:
        """Read the next messages of a datagram, some :data:`PORTION`, with errors among them.

        ``takes`` is asked of each that no layout knows whether it is one to read. ``seq`` is the
        sequence number, as it stands in the header, that one must have to be read unasked.
        Raises :exc:`DecodeError` where it is not known where the next message starts.
        """
        number, find, add = int.from_bytes, self._layouts.get, items.append
        buffer, offset, end = datagram.data, datagram.offset, len(datagram.data)
        for _ in range(PORTION):
            if offset < datagram.alike_until:
                done = datagram.read_alike(offset, PORTION - len(items), items)
                offset += done
                if done:
                    break
            if offset >= end:
                break
            for layout in find(buffer[offset : offset + 8], ()):
                if (
                    number(buffer[offset : offset + layout.size], "little") & layout.mask
                    == layout.template
                    and (seq is None or buffer[offset + 8 : offset + 12] == seq)
                    and offset + layout.size <= end
                ):
                    if offset >= datagram.retry and datagram.look_ahead(layout, offset, seq):
                        break
                    try:
                        layout.build((layout.struct.unpack_from(buffer, offset),), add)
                    except LayoutMismatch:
                        continue
                    offset += layout.step
                    break
            else:
                message = messages.at(buffer, offset, end)
                if takes(buffer, message):
                    counters.fallbacks += 1
                    try:
                        add(self._read(buffer, offset, message))
                    except DecodeError as error:
                        counters.decode_errors += 1
                        add(error)
                offset = (message.end + 3) & ~3
        datagram.offset = offset

    def one(self, data: bytes) -> T:
        """Read a message that stands alone, headers and all. Raises :exc:`DecodeError`."""
        items: list[T] = []
        for layout in self._layouts.get(data[:8], ()):
            known = int.from_bytes(data[: layout.size], "little") & layout.mask == layout.template
            if known and layout.size <= len(data):
                try:
                    layout.build((layout.struct.unpack_from(data),), items.append)
                except LayoutMismatch:
                    continue
                return items[0]
        return self._read(data, 0, messages.at(data, 0, len(data)))

    def _read(self, buffer: bytes, offset: int, message: Message) -> T:
        """By the reference, and learn from it how to read the next one like it."""
        plain = self._plain(buffer, message)
        made = self._made(self._survey(buffer, message), buffer, plain)
        self._missed += 1
        small = message.end - offset <= _LARGEST
        if small and self._may_learn() and not message.flags & _INTERRUPTED:
            self._learn(buffer[offset : message.end], message)
        return made

    def _may_learn(self) -> bool:
        return self._compiled < _AT_ONCE or self._missed > _PATIENCE * (self._compiled - _AT_ONCE)

    def _learn(self, message: bytes, header: Message) -> None:
        plain = self._kind(header.type, header.flags)
        assert plain is not None
        surveyed = survey(self._cls, message, _PAYLOAD, len(message))
        layout = compile_layout(surveyed, message, plain, self._header_fields)
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


def pack_seq(seq: int) -> bytes:
    """A sequence number as it stands in a header."""
    return struct.pack("=I", seq)
