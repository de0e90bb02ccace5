"""Collect messages into batches of columns: messages of one skeleton together, in groups."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from struct import Struct
from typing import Final, Generic, NamedTuple, TypeVar

from ..errors import ConntrackError, DecodeError
from ..netlink import messages
from ..netlink.messages import Message
from .arrow import Addresses
from .column_fields import ColumnSource, StoredField, select_columns, stored_fields_of
from .column_records import (
    MessageSource,
    Payloads,
    RecordLayout,
    Rows,
    pack_record,
    record_layout_of,
    values_of,
)
from .columns import ColumnBatch
from .decoder import Datagram, DecodeCounters, Decoder
from .layouts import Layout, PackedMessages

T = TypeVar("T")

_MAX_GROUPS: Final = 255
"""The largest number of groups of a batch: rows have the numbers of theirs in one byte."""

_MAX_SOURCES: Final = 256
_MAX_KNOWN: Final = 1024

_EVENT_KEY: Final = 8
"""The bytes of an event that are looked up: its length, type and flags."""

_DUMP_KEY: Final = 28
"""The bytes of an entry of a dump that are looked up: its headers, and the headers of the first two
attributes. The sequence number and the port id are those of the dump."""

_MIN_RUN: Final = 16
"""The least number of consecutive messages with one header that are collected together."""


_SEARCH_EVERY: Final = 64
"""After how many messages a run is looked for again, if there was none."""


class MessageContext(NamedTuple):
    """What a dump or an event stream does with its messages."""

    accepts: Callable[[bytes, Message], bool]
    """Returns whether to read a message that no layout fits."""
    count_decoded: Callable[[int, int], None]
    """Counts decoded messages, and those that could not be decoded."""
    counters: DecodeCounters
    """Counts messages without a layout, and errors."""


class _MessageGroup:
    """Messages of one skeleton, or of one header until that is verified."""

    def __init__(self, number: int, source: MessageSource, pattern: bytes) -> None:
        self.number: Final = number
        self.source: Final = source
        self.pattern: Final = pattern
        self.verified = True
        """Whether all messages are known to have the skeleton."""
        self.parts: Final[list[bytes]] = []
        """The messages. An item may be several consecutive ones."""

    def messages(self) -> Iterator[bytes]:
        """Yield the messages."""
        step = self.source.layout.step
        for part in self.parts:
            if len(part) == step:
                yield part
            else:
                yield from [message for (message,) in Struct(f"{step}s").iter_unpack(part)]

    def pack(self) -> PackedMessages:
        """Return the messages in one buffer."""
        step = self.source.layout.step
        return PackedMessages(list(self.messages()) if step % 8 else self.parts, step)


class _ObjectGroup:
    """Rows that are made from objects, with the same fields present."""

    def __init__(self, number: int, pattern: bytes) -> None:
        self.number: Final = number
        self.pattern: Final = pattern
        self.rows: Final[list[list[object]]] = []
        """The values of the stored fields."""


_Group = _MessageGroup | _ObjectGroup
_Known = tuple[Callable[[bytes], None], int, int, int]
"""What is known of messages that begin with the same bytes. A plain tuple is unpacked faster.

- The function that adds a message to its group, if they have one layout.
- The bytes of a message.
- The number of the group.
- The offset of four bytes that tell the layout of a message, if there are several; otherwise 0."""


class ColumnCollector(Generic[T]):
    """Collects messages and objects, and makes batches of columns of them.

    Results are added to :attr:`results`: batches, and errors in the place of rows that could not be
    read.
    """

    def __init__(
        self,
        decoder: Decoder[T],
        names: tuple[str, ...],
        addresses: Addresses,
        seq: bytes | None,
        context: MessageContext,
    ) -> None:
        """Initialize a collector without rows.

        :param decoder: reads the messages.
        :param names: the names of the columns; all columns if there are none.
        :param addresses: how columns hold addresses.
        :param seq: the sequence number, as in the header, of the messages that layouts may read;
            ``None`` for any.
        :param context: what to do with messages.
        :raises ValueError: when a name is unknown or given twice, or when ``addresses`` is neither.
        :raises TypeError: when a name is not text.
        """
        if addresses not in ("bytes", "text"):
            raise ValueError(f'addresses must be "bytes" or "text"; got {addresses!r:.80}')
        self._decoder = decoder
        self._sources: Mapping[str, ColumnSource] = select_columns(decoder.cls, names)
        needed = [field for source in self._sources.values() for field in source.fields]
        self._fields = tuple(dict.fromkeys(needed))
        self._addresses: Addresses = addresses
        self._also: dict[StoredField, int] = {}
        self._message_sources: dict[Layout, MessageSource] = {}
        self.results: Final[deque[ColumnBatch | ConntrackError]] = deque()
        self._seq = seq
        self._context = context
        self._predicate: Callable[[T], bool] | None = None
        self._begin()

    def _begin(self) -> None:
        """Begin a batch."""
        self._order = bytearray()
        self._groups: list[_Group] = []
        self._by_layout: dict[Layout, _MessageGroup] = {}
        self._by_pattern: dict[bytes, _ObjectGroup] = {}
        self._known: dict[bytes, _Known] = {}
        """What is known of messages, by the first bytes that they have in common, their key. If it
        does not tell, there is also an entry for the key with the four bytes that tell."""
        self._unclear: set[bytes] = set()
        """The keys of messages that must be looked at one by one."""

    @property
    def rows(self) -> int:
        """The number of rows that were collected for the next batch."""
        return len(self._order)

    def set_for_all(self, name: str, value: int) -> None:
        """Set a field of all messages that are collected from now on, in a new batch.

        :param name: the name of the field.
        :param value: its value.
        """
        field = stored_fields_of(self._decoder.cls)[name]
        if field in self._fields and self._also.get(field) != value:
            self.flush()
            self._also[field] = value

    # -- collecting -------------------------------------------------------------------------

    def add_datagram(
        self, datagram: Datagram, predicate: Callable[[T], bool] | None = None
    ) -> None:
        """Collect the messages of a datagram that were not read yet.

        :param datagram: the datagram.
        :param predicate: returns whether to keep an object; ``None`` to keep all.
        :raises DecodeError: when the start of the next message is unknown.
        """
        if self._predicate is not predicate:
            self.flush()
            self._predicate = predicate
        buffer, offset, end = datagram.data, datagram.offset, len(datagram.data)
        datagram.offset = end
        size = _EVENT_KEY if self._seq is None else _DUMP_KEY
        search = offset
        known, append = self._known, self._order.append
        while offset < end:
            key = buffer[offset : offset + size]
            try:
                add, step, number, telling = known[key]
                if telling:
                    key += buffer[offset + telling : offset + telling + 4]
                    add, step, number, telling = known[key]
            except KeyError:
                offset = self._add_next(buffer, offset, end, key[:size])
                known, append = self._known, self._order.append
                continue
            stop = offset + step
            if offset >= search:
                search = offset + _SEARCH_EVERY * step
                count = self._count_run(buffer, offset, step, size)
                if count >= _MIN_RUN and not telling:
                    stop = search = offset + count * step
                    self._order += bytes([number]) * (count - 1)
            if stop > end:
                offset = self._add_next(buffer, offset, end, key[:size])
                known, append = self._known, self._order.append
                continue
            add(buffer[offset:stop])
            append(number)
            offset = stop

    def _count_run(self, buffer: bytes, offset: int, step: int, size: int) -> int:
        """Return how many consecutive messages have the same key; 0 if it is not worth counting.

        :param buffer: the datagram.
        :param offset: the offset of the first message.
        :param step: bytes of a message.
        :param size: bytes of a key.
        """
        last = offset + (_MIN_RUN - 1) * step
        key = buffer[offset : offset + size]
        if buffer[last : last + size] != key:
            return 0
        count = (len(buffer) - offset) // step
        numbers = memoryview(buffer)[offset : offset + count * step].cast("I")
        for at in range(size // 4):
            expected = memoryview(key[4 * at : 4 * at + 4] * count).cast("I")
            found = numbers[at :: step // 4][:count]
            if found != expected:
                (number,) = expected[:1]
                count = next(i for i, other in enumerate(found) if other != number)
        return count

    def _add_next(self, buffer: bytes, offset: int, end: int, key: bytes) -> int:
        """Collect a message with an unknown key; return where the next one begins.

        If all messages with its key can be collected without looking at them, note that instead,
        and return the same offset.

        :raises DecodeError: when the start of the next message is unknown.
        """
        layouts = self._decoder.layouts_for(key[:8])
        if self._predicate is None and key not in self._known and key not in self._unclear:
            if self._know(key, layouts):
                return offset
            if layouts:
                self._unclear.add(key)
        for layout in layouts:
            data = buffer[offset : offset + layout.size]
            if layout.reads(data, self._seq):
                self._add_known(layout, data)
                return offset + layout.step
        message = messages.parse_header(buffer, offset, end)
        self._add_unknown(buffer, offset, message)
        return (message.end + 3) & ~3

    def _add_unknown(self, buffer: bytes, offset: int, message: Message) -> None:
        """Collect a message that no layout fits, if it is accepted."""
        if not self._context.accepts(buffer, message):
            return
        item = self._decoder.read_without_layout(buffer, offset, message, self._context.counters)
        self._known.clear()  # there may be another layout now
        self._unclear.clear()
        if isinstance(item, DecodeError):
            self._context.count_decoded(0, 1)
            self.add_error(item)
            return
        self._context.count_decoded(1, 0)
        if self._predicate is None or self._predicate(item):
            self.add_object(item, self._also)

    def _know(self, key: bytes, layouts: Sequence[Layout]) -> bool:
        """Note that messages with a key can be collected without looking at them.

        They are verified later. If there are several layouts, a few bytes tell which one a message
        has, unless it has none of them.

        :returns: whether that is so.
        """
        start, rest = _EVENT_KEY + 12, key[_EVENT_KEY + 12 :]
        fitting = [each for each in layouts if each.template_bytes(start, len(rest)) == rest]
        # A skeleton may have been compiled twice.
        layouts = list({(each.mask, each.template): each for each in fitting}.values())
        telling = _find_difference(layouts) if len(layouts) > 1 else 0
        if (
            not layouts
            or telling is None
            or not all(self._source_of(each).copyable for each in layouts)
            or not all(each.fixes(start, len(rest)) for each in layouts)
            or key[8:12] not in (b"", self._seq)
        ):
            return False
        if len(self._groups) + len(layouts) > _MAX_GROUPS or len(self._known) > _MAX_KNOWN:
            self.flush()
        for layout in layouts:
            group = self._group_of(layout)
            group.verified = False
            found = group.parts.append, layout.step, group.number
            self._known[key] = (*found, telling)
            if telling:
                self._known[key + layout.template_bytes(telling, 4)] = (*found, 0)
        return True

    def _add_known(self, layout: Layout, data: bytes) -> None:
        """Collect a message that has the skeleton of a layout, unless the predicate drops it."""
        predicate, source = self._predicate, self._source_of(layout)
        if predicate is None and source.copyable:
            group = self._group_of(layout)
        else:
            self._context.count_decoded(1, 0)
            item = self._decoder.make(layout, data)
            if predicate is not None and not predicate(item):
                return
            if not source.copyable:
                self.add_object(item, self._also)
                return
            group = self._group_of(layout)
        group.parts.append(data)
        self._order.append(group.number)

    def add_object(self, item: T, also: Mapping[StoredField, int] | None = None) -> None:
        """Add a row for an object.

        :param item: the object.
        :param also: values of fields that it does not have.
        """
        pattern, values = values_of(self._fields, item)
        if also:
            values = [also.get(field, v) for field, v in zip(self._fields, values, strict=True)]
            present = zip(self._fields, pattern, strict=True)
            pattern = bytes([1 if field in also else kind for field, kind in present])
        self._add_values(pattern, values)

    def _add_values(self, pattern: bytes, values: list[object]) -> None:
        group = self._by_pattern.get(pattern)
        if group is None:
            self._make_room()
            group = self._by_pattern[pattern] = _ObjectGroup(len(self._groups), pattern)
            self._groups.append(group)
        group.rows.append(values)
        self._order.append(group.number)

    def add_error(self, error: ConntrackError) -> None:
        """Add an error, which is raised between the rows before it and those after it."""
        self.flush()
        self.results.append(error)

    def _source_of(self, layout: Layout) -> MessageSource:
        source = self._message_sources.get(layout)
        if source is None:
            if len(self._message_sources) >= _MAX_SOURCES:
                self._message_sources.clear()
            source = self._message_sources[layout] = MessageSource(layout, self._fields)
        return source

    def _group_of(self, layout: Layout) -> _MessageGroup:
        group = self._by_layout.get(layout)
        if group is None:
            self._make_room()
            source = self._source_of(layout)
            pattern = source.pattern(self._also)
            group = self._by_layout[layout] = _MessageGroup(len(self._groups), source, pattern)
            self._groups.append(group)
        return group

    def _make_room(self) -> None:
        """Ensure that there may be one more group."""
        if len(self._groups) >= _MAX_GROUPS:
            self.flush()

    def clear(self) -> None:
        """Drop all rows and results."""
        self._begin()
        self.results.clear()

    # -- making batches -----------------------------------------------------------------------

    def flush(self) -> None:
        """Make a batch of the rows that were collected, and add it to the results.

        If some messages do not have the skeleton that their headers suggested, there may be several
        batches, with errors between them.
        """
        order, groups = bytes(self._order), self._groups
        self._begin()
        if not order:
            return
        packed = self._pack_all(groups)
        if packed is None:
            self._collect_again(order, groups)
            self.flush()
            return
        if self._predicate is None and packed:
            self._context.count_decoded(sum(each.count for each in packed.values()), 0)
        patterns = [group.pattern for group in groups]
        present = [field for field, *has in zip(self._fields, *patterns, strict=True) if any(has)]
        layout = record_layout_of(tuple(present))
        payloads = Payloads()
        blocks = [self._records(group, packed, layout, payloads) for group in groups]
        records = blocks[0] if len(blocks) == 1 else _in_order(layout, blocks, order)
        rows = Rows(layout, bytes(records), order, self._fields, patterns, payloads.all)
        self.results.append(ColumnBatch(rows, self._sources, self._addresses))

    def _pack_all(self, groups: list[_Group]) -> dict[int, PackedMessages] | None:
        """Return the messages of each group, or ``None`` if some have another skeleton."""
        packed: dict[int, PackedMessages] = {}
        for group in groups:
            if isinstance(group, _MessageGroup):
                joined = packed[group.number] = group.pack()
                if not group.verified and not group.source.layout.reads_all(joined, self._seq):
                    return None
        return packed

    def _records(
        self,
        group: _Group,
        packed: Mapping[int, PackedMessages],
        layout: RecordLayout,
        payloads: Payloads,
    ) -> bytes | bytearray:
        """Return the records of the rows of a group."""
        if isinstance(group, _MessageGroup):
            return group.source.records(packed[group.number], layout, self._also, payloads)
        fields = self._fields
        return b"".join([pack_record(layout, fields, row, payloads) for row in group.rows])

    def _collect_again(self, order: bytes, groups: list[_Group]) -> None:
        """Collect messages once more, and look at each of them."""
        rows = [
            group.messages() if isinstance(group, _MessageGroup) else iter(group.rows)
            for group in groups
        ]
        for number in order:
            group, row = groups[number], next(rows[number])
            if isinstance(row, bytes):
                self._add_one(row)
            else:
                self._add_values(group.pattern, list(row))

    def _add_one(self, data: bytes) -> None:
        """Collect one message, after looking at it."""
        for layout in self._decoder.layouts_for(data[:8]):
            if layout.reads(data[: layout.size], self._seq):
                self._add_known(layout, data)
                return
        self._add_unknown(data, 0, messages.parse_header(data, 0, len(data)))


def _in_order(layout: RecordLayout, blocks: Sequence[bytes | bytearray], order: bytes) -> bytes:
    """Return the records of several groups in the order of their rows.

    :param layout: the layout of the records.
    :param blocks: the records of each group.
    :param order: the number of each row's group.
    """
    records = [iter([record for (record,) in layout.split(block)]) for block in blocks]
    return b"".join(map(next, map(records.__getitem__, order)))


def _find_difference(layouts: Sequence[Layout]) -> int | None:
    """Return the offset of four bytes that all messages of a layout share, and only they.

    :param layouts: several layouts of messages of one length.
    :returns: ``None`` if there are no such bytes.
    """
    for offset in range(20, layouts[0].step - 3, 4):
        found = {layout.template_bytes(offset, 4) for layout in layouts}
        if len(found) == len(layouts) and all(each.fixes(offset, 4) for each in layouts):
            return offset
    return None
