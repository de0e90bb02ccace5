"""Decoders: read all messages of one type, with layouts where possible."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar, cast
from weakref import WeakSet

from ..errors import DecodeError
from ..model.lazy_fields import has_lazy_fields, lazy_classes_of
from ..model.wire import HOST_U32, U16
from ..netlink import messages, nfnetlink
from ..netlink.attributes import BytesLike
from ..netlink.messages import HEADER_SIZE, Message
from ..uapi.netlink import NLM_F
from .header_fields import HeaderField
from .reference import decode_surveyed
from .scalars import scalar_of
from .schema import schema_of
from .skeleton import Survey, survey

if TYPE_CHECKING:
    from .layout_writer import Make, State
    from .layouts import Layout

T = TypeVar("T")
HeaderValues = Mapping[str, object]
"""Values of the fields that are in the headers of a message, by name."""

MAX_LAYOUTS: Final = 256
"""The largest number of layouts of a decoder. Real traffic needs a dozen or two."""

_MAX_SIMILAR: Final = 16
"""The largest number of layouts with the same length, type and flags.

A message is compared with one after the other."""

_COMPILED_IMMEDIATELY: Final = 32
"""How many layouts are compiled as soon as a message needs them."""

_MISSES_PER_LAYOUT: Final = 64
"""How many more messages without a layout it takes to compile each further layout.

Compiling a layout takes as long as reading some 50 messages without one. With this limit, a stream
in which every message has another skeleton takes less than twice the time; without it, fifty times.
"""

NOT_COMPILED = 32
"""How many messages are read before the first layout is compiled. Compiling takes as long as
reading some 50 messages, and many programs read fewer."""

BATCH: Final = 64
"""How many messages are read at a time.

The garbage collector runs after 700 new objects. The objects of two batches are fewer: those just
read, and those of the batch before, which the caller may still have. So a caller that keeps nothing
never triggers the collector, which saves a quarter of the time."""

_READS_PER_CHOICE: Final = 1 << 14
"""After how many batches layouts choose again how to read single messages."""

_MAX_MESSAGE: Final = 4096
"""The largest message, in bytes, that a layout is compiled for.

The kernel sends no message that is larger than a page. A layout for 64 KiB of attributes would take
a fifth of a second to compile, and 5 MB."""

_MIN_RUN: Final = 32
"""The least number of consecutive messages of one skeleton that are compared together."""

_MAX_VARIANTS: Final = 16
"""The largest number of pairs of a state and a sequence number for which readers are kept. Each
dump begins with the same sequence number."""

_SEQ_SHIFT: Final = 64
"""The offset of the sequence number in a message, in bits."""
_SEQ_MASK: Final = 0xFFFFFFFF << _SEQ_SHIFT

_Reader = tuple[int, int, int, int, "Make", "Layout | None", "list[_Reader]"]
"""The size and the step of a layout, its mask and its template with the sequence number, the
function that creates an object, the layout, and the readers of other layouts for messages with the
same first eight bytes."""


def _make_nothing(message: bytes) -> Any:
    raise AssertionError("no message is read by this")


_READS_NOTHING: Final[_Reader] = (0, 0, 0, 1, _make_nothing, None, [])
"""The reader for messages without a layout: no number is 1 after a mask of 0."""

_PORT_ID: Final = HeaderField(12, scalar_of(HOST_U32))
_RESOURCE: Final = HeaderField(18, scalar_of(U16))
_INTERRUPTED: Final = int(NLM_F.DUMP_INTR)
_PAYLOAD: Final = HEADER_SIZE + nfnetlink.SIZE


class DecodeCounters(Protocol):
    """The statistics that a decoder counts in."""

    fallbacks: int
    """The number of messages that were read by the reference, because no layout fits them."""
    decode_errors: int
    """The number of messages that could not be decoded."""


class Datagram:
    """A received datagram, and the position up to which it has been read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.offset = 0
        self.run_end = 0
        """The end of a run: up to this offset all messages are known to have the same skeleton."""
        self.next_search = 0
        """The offset from which on another run may be searched."""
        self._layout: Layout | None = None

    @property
    def done(self) -> bool:
        """Whether all messages have been read."""
        return self.offset >= len(self.data)

    @property
    def remaining(self) -> int:
        """The number of messages that are still to be read.

        Remaining bytes that are not netlink messages count as one.
        """
        count, offset = 0, self.offset
        while offset < len(self.data):
            count += 1
            try:
                offset = (messages.parse_header(self.data, offset, len(self.data)).end + 3) & ~3
            except DecodeError:
                break
        return count

    def find_run(self, layout: Layout, offset: int, seq: bytes | None) -> bool:
        """Look for a run of messages with the skeleton of a layout; return whether there is one."""
        data, step = self.data, layout.step
        self.next_search = offset + _MIN_RUN * step
        last = self.next_search - step
        if data[offset : offset + 8] != data[last : last + 8] or layout.size != step:
            return False
        count = layout.count_run(data, offset, seq)
        if count < _MIN_RUN:
            return False
        self.run_end = offset + count * step
        self._layout = layout
        return True

    def read_run(self, offset: int, limit: int, state: State, items: list[Any]) -> int:
        """Read messages of the run, and return their size in bytes.

        :param offset: the offset of the first message to read.
        :param limit: the largest number of messages to read.
        :param state: the state in which objects are created.
        :param items: the list that the objects are added to.
        """
        layout, before = self._layout, len(items)
        assert layout is not None
        stop = min(self.run_end, offset + limit * layout.step)
        layout.read_run(memoryview(self.data)[offset:stop], state, items.append)
        return (len(items) - before) * layout.step


_decoders: Final[WeakSet[Decoder[Any]]] = WeakSet()


def count_layouts() -> int:
    """Return the number of layouts of all decoders in this process."""
    return sum(decoder.layouts for decoder in _decoders)


class Decoder(Generic[T]):
    """Reads the messages of one type.

    A decoder and its layouts belong to the process. Any number of threads may use them.
    """

    def __init__(
        self,
        cls: type[T],
        description: str,
        header_values: Callable[[int, int], HeaderValues | None],
        *,
        port_id_field: str | None = None,
        resource_field: str | None = None,
    ) -> None:
        """Initialize a decoder without layouts.

        :param cls: the class of the objects.
        :param description: what the messages are, for errors.
        :param header_values: returns the values of fields that follow from the type and the flags
            in a header; ``None`` for a message that is not of this decoder's type.
        :param port_id_field: the field for the port id in the header.
        :param resource_field: the field for ``res_id`` of the nfgenmsg.
        """
        self._cls = cls
        self._description = description
        self._header_values = header_values
        self._port_id_field = port_id_field
        self._resource_field = resource_field
        self._header_fields = {
            name: field
            for name, field in ((port_id_field, _PORT_ID), (resource_field, _RESOURCE))
            if name is not None
        }
        self._inlined: tuple[str, ...] = ()
        self._unread: State = ()
        """The state of objects of which nothing was read."""
        if has_lazy_fields(cls):
            inlines = schema_of(cls).inlines
            self._inlined = tuple([inline.name for inline in inlines])
            lazy = [cls, *[inline.schema.cls for inline in inlines]]
            self._unread = tuple([lazy_classes_of(each).unread for each in lazy])
        self._layouts: dict[bytes, list[Layout]] = {}
        """The layouts, by the first eight bytes of a header: length, type and flags."""
        self._readers: dict[tuple[State, bytes | None], dict[bytes, _Reader]] = {}
        """The same layouts with what :meth:`read` needs of them, by state and sequence number."""
        self._reads = 0
        """How often :meth:`read` was called."""
        self._compiled = 0
        self._missed = 0
        _decoders.add(self)

    @property
    def cls(self) -> type[T]:
        """The class of the objects."""
        return self._cls

    @property
    def layouts(self) -> int:
        """The number of layouts."""
        return sum(map(len, tuple(self._layouts.values())))

    def __call__(self, buffer: BytesLike, message: Message) -> T:
        """Read one message with the reference.

        :raises DecodeError: when the message cannot be decoded.
        """
        values = self._values_of(buffer, message)
        return self._build(self._survey(buffer, message), buffer, values)

    def read(
        self,
        datagram: Datagram,
        accepts: Callable[[bytes, Message], bool],
        seq: bytes | None,
        items: list[T | DecodeError],
        counters: DecodeCounters,
        sample: T | None = None,
    ) -> None:
        """Read the next messages of a datagram, up to :data:`BATCH`.

        :param datagram: the datagram, whose offset is advanced.
        :param accepts: returns whether to read a message that no layout fits.
        :param seq: the sequence number, as in the header, of the messages that layouts may read;
            ``None`` for any.
        :param items: the list that the objects are added to, and an error for each message that
            cannot be decoded.
        :param counters: counts messages without a layout, and errors.
        :param sample: an object of an earlier call. The lazy fields that the caller has read of it
            are set at once in the new objects, because it will read them again.

        :raises DecodeError: when the start of the next message is unknown.
        """
        state = self._unread if sample is None else self._state_of(sample)
        known = self._known_readers(state, seq)
        number, add = int.from_bytes, items.append
        buffer, offset, end = datagram.data, datagram.offset, len(datagram.data)
        if offset < datagram.run_end:
            datagram.offset += datagram.read_run(offset, BATCH, state, items)
            return
        search = datagram.next_search
        for _ in range(BATCH):
            if offset >= end:
                break
            head = buffer[offset : offset + 8]
            try:
                size, step, mask, template, make, layout, others = known[head]
            except KeyError:
                self._add_reader(known, head, state, seq)
                continue
            data = buffer[offset : offset + size]
            value = number(data, "little")
            if value & mask != template or offset + size > end:
                for size, step, mask, template, make, layout, _ in others:  # noqa: B007
                    if value & mask == template and offset + size <= end:
                        break
                else:
                    message = messages.parse_header(buffer, offset, end)
                    if accepts(buffer, message):
                        add(self.read_without_layout(buffer, offset, message, counters))
                    offset = (message.end + 3) & ~3
                    continue
            if offset >= search:
                assert layout is not None
                if datagram.find_run(layout, offset, seq):
                    offset += datagram.read_run(offset, BATCH - len(items), state, items)
                    break
                search = datagram.next_search
            add(make(data))
            offset += step
        datagram.offset = offset

    def _known_readers(self, state: State, seq: bytes | None) -> dict[bytes, _Reader]:
        """Return the readers for messages with a sequence number, by the first eight bytes."""
        self._reads += 1
        if not self._reads % _READS_PER_CHOICE:
            for layout in itertools.chain(*tuple(self._layouts.values())):
                layout.choose_again()
            self._readers.clear()
        known = self._readers.get((state, seq))
        if known is None:
            if len(self._readers) >= _MAX_VARIANTS:
                self._readers.clear()
            known = self._readers[state, seq] = {}
        return known

    def _add_reader(
        self, known: dict[bytes, _Reader], head: bytes, state: State, seq: bytes | None
    ) -> None:
        """Add the reader for messages with some first eight bytes to ``known``."""
        readers: list[_Reader] = []
        for layout in self._layouts.get(head, ()):
            mask, template = layout.mask, layout.template
            if seq is not None:
                mask |= _SEQ_MASK
                template |= int.from_bytes(seq, "little") << _SEQ_SHIFT
            make = layout.chosen_make(state) or _sampling_make(layout, state, known)
            readers.append((layout.size, layout.step, mask, template, make, layout, []))
        size, step, mask, template, make, reads, _ = readers.pop(0) if readers else _READS_NOTHING
        known[head] = size, step, mask, template, make, reads, readers

    def layouts_for(self, head: bytes) -> Sequence[Layout]:
        """Return the layouts for messages whose header begins with these eight bytes."""
        return self._layouts.get(head, ())

    def make(self, layout: Layout, message: bytes) -> T:
        """Return the object of a message that has the skeleton of a layout."""
        return cast("T", layout.make(message, self._unread))

    def read_without_layout(
        self, buffer: bytes, offset: int, message: Message, counters: DecodeCounters
    ) -> T | DecodeError:
        """Read a message that no layout fits, and count that.

        :param buffer: the datagram.
        :param offset: the offset of the message's header.
        :param message: the header.
        :param counters: counts the message, and the error.
        :returns: the object, or the error if the message cannot be decoded.
        """
        counters.fallbacks += 1
        try:
            return self._read(buffer, offset, message)
        except DecodeError as error:
            counters.decode_errors += 1
            return error

    def _state_of(self, sample: T) -> State:
        """Return the state of an object: which of its fields were read."""
        if not self._unread:
            return ()
        inlined: list[object] = [getattr(sample, name) for name in self._inlined]
        return tuple(map(type, (sample, *inlined)))

    def one(self, data: bytes) -> T:
        """Read a single message, which begins with its header.

        :raises DecodeError: when the message cannot be decoded.
        """
        for layout in self._layouts.get(data[:8], ()):
            message = data[: layout.size]
            if layout.reads(message, None):
                return self.make(layout, message)
        return self._read(data, 0, messages.parse_header(data, 0, len(data)))

    def _read(self, buffer: bytes, offset: int, message: Message) -> T:
        """Read a message with the reference, and compile a layout for further ones like it."""
        values = self._values_of(buffer, message)
        result = self._build(self._survey(buffer, message), buffer, values)
        self._missed += 1
        small = message.end - offset <= _MAX_MESSAGE
        # Without a layout for messages with NLM_F_DUMP_INTR, each of them reaches ``accepts``: a
        # dump notes there that it was interrupted.
        if small and self._may_compile() and not message.flags & _INTERRUPTED:
            self._compile(buffer[offset : message.end], message)
        return result

    def _may_compile(self) -> bool:
        if self._missed <= NOT_COMPILED:
            return False
        return self._compiled < _COMPILED_IMMEDIATELY or self._missed > _MISSES_PER_LAYOUT * (
            self._compiled - _COMPILED_IMMEDIATELY
        )

    def _compile(self, message: bytes, header: Message) -> None:
        values = self._header_values(header.type, header.flags)
        assert values is not None
        surveyed = survey(self._cls, message, _PAYLOAD, len(message))
        self._compiled += 1
        # A program that reads a few messages needs neither layouts nor their modules.
        from .layout_writer import can_compile
        from .layouts import Layout

        if not can_compile(surveyed):
            return
        layout = Layout(surveyed, message, values, self._header_fields)
        if self._compiled % MAX_LAYOUTS == 0:
            self._layouts.clear()  # the layouts in use are soon compiled again
            for known in tuple(self._readers.values()):
                known.clear()
        similar = self._layouts.get(message[:8], [])
        self._layouts[message[:8]] = [*similar, layout][-_MAX_SIMILAR:]
        for known in tuple(self._readers.values()):
            known.pop(message[:8], None)

    def _values_of(self, buffer: BytesLike, message: Message) -> dict[str, object]:
        """Return the values of the fields that are in the headers.

        :raises DecodeError: when the message has another type.
        """
        header_values = self._header_values(message.type, message.flags)
        if header_values is None:
            raise DecodeError(f"a message of type {message.type:#x} is not {self._description}")
        head = nfnetlink.parse(buffer, message)
        values = dict(header_values)
        if self._port_id_field is not None:
            values[self._port_id_field] = message.port_id
        if self._resource_field is not None:
            values[self._resource_field] = head.resource
        return values

    def _survey(self, buffer: BytesLike, message: Message) -> Survey:
        return survey(
            cast("type[Any]", self._cls), buffer, message.start + nfnetlink.SIZE, message.end
        )

    def _build(self, surveyed: Survey, buffer: BytesLike, values: HeaderValues) -> T:
        return cast("T", decode_surveyed(surveyed, buffer, values))


def pack_seq(seq: int) -> bytes:
    """Return the bytes of a sequence number in a header, in host byte order."""
    return struct.pack("=I", seq)


def _sampling_make(layout: Layout, state: State, known: dict[bytes, _Reader]) -> Make:
    """Return a function that creates objects until the layout has chosen the function to use.

    :param layout: the layout.
    :param state: the state in which it creates objects.
    :param known: the readers that have the returned function, and get the chosen one.
    """

    def make(message: bytes) -> Any:
        result = layout.make_sampled(message, state)
        if layout.chosen_make(state) is not None:
            known.pop(layout.head, None)
        return result

    return make
