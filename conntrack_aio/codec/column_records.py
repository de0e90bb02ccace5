"""Records: one for each row of a batch of columns, all of one size, with the values of fields.

The values of many messages with one skeleton are copied into their records field by field, with
strided slices: no object is created for a value. The records of rows are then put in the order of
the messages, and the columns are cut out of them, again with strided slices.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Mapping, Sequence
from functools import lru_cache
from socket import AF_INET, AF_INET6
from struct import Struct
from typing import Final, NamedTuple, cast

from ..model.enums import EventType
from .column_fields import MAPPED, StoredField, pack_fixed, type_number
from .layouts import Layout, PackedMessages
from .scalars import IntegerCode

ABSENT, PRESENT, PRESENT_IPV6 = 0, 1, 2
"""Whether a value is present, and, for addresses, of which family it is."""

_MAX_LAYOUTS: Final = 256


class RecordLayout:
    """Which stored fields a record has, and where."""

    def __init__(self, fields: tuple[StoredField, ...]) -> None:
        """Lay out records.

        :param fields: the fields.
        """
        self.fields: Final = fields
        self.offsets: Final[dict[StoredField, int]] = {}
        """The offset of each field. Each is a multiple of the largest number in the field."""
        at = 0
        for field in sorted(fields, key=lambda each: -each.width):
            self.offsets[field] = at
            at += field.width
        self.size: Final = max((at + 7) & ~7, 8)
        """Bytes of a record, a multiple of 8."""
        self.split: Final = Struct(f"{self.size}s").iter_unpack
        """Yields each record of consecutive ones, in a tuple."""


@lru_cache(_MAX_LAYOUTS)
def record_layout_of(fields: tuple[StoredField, ...]) -> RecordLayout:
    """Return the layout of records with these fields."""
    return RecordLayout(fields)


class Payloads:
    """The texts and opaque data of the rows of a batch. Records hold their indexes."""

    def __init__(self) -> None:
        self.all: list[bytes] = [b""]
        """The payloads. The first one is empty: absent ones have the index 0."""
        self._indexes: dict[bytes, int] = {b"": 0}

    def index(self, payload: bytes) -> int:
        """Return the index of a payload, which is added unless it is there."""
        index = self._indexes.setdefault(payload, len(self.all))
        if index == len(self.all):
            self.all.append(payload)
        return index


class _Place(NamedTuple):
    """Where a value is in the messages of one skeleton."""

    start: int
    size: int
    pattern: int
    """:data:`PRESENT` or :data:`PRESENT_IPV6`."""


class MessageSource:
    """Where stored fields are in the messages of one skeleton, and how to copy them."""

    def __init__(self, layout: Layout, fields: Sequence[StoredField]) -> None:
        """Find the fields.

        :param layout: the layout of the messages.
        :param fields: the stored fields that the batch needs.
        """
        header_values = layout.header_values
        self.layout: Final = layout
        self.constants: Final[dict[StoredField, int]] = {}
        self._places: Final[dict[StoredField, _Place]] = {}
        self.copyable = layout.size == layout.step
        """Whether the values can be copied. If not, rows are made from objects."""
        for field in fields:
            if field.name in header_values:
                assert field.name == "type"
                self.constants[field] = type_number(cast("EventType", header_values["type"]))
            elif field.name == "family":
                self.constants[field] = self._family(field)
            elif (place := self._place(field)) is not None:
                self._places[field] = place
        self._fields = fields
        self._patterns: dict[tuple[StoredField, ...], bytes] = {}
        self._copiers: dict[RecordLayout, _Copier] = {}

    def pattern(self, also: Mapping[StoredField, int]) -> bytes:
        """Return which fields are present, one byte each.

        :param also: fields that every row has, whatever its message.
        """
        key = tuple(also)
        pattern = self._patterns.get(key)
        if pattern is None:
            pattern = bytes([self._presence(field, also) for field in self._fields])
            self._patterns[key] = pattern
        return pattern

    def _presence(self, field: StoredField, also: Mapping[StoredField, int]) -> int:
        place = self._places.get(field)
        if place is not None:
            return place.pattern
        return PRESENT if field in self.constants or field in also else ABSENT

    def _place(self, field: StoredField) -> _Place | None:
        if field.header_offset is not None:
            return _Place(field.header_offset, field.width, PRESENT)
        found = field.find(self.layout.skeleton)
        if found is None:
            return None
        size = found.end - found.start
        if found.start % 4 or (field.content == "bitmap" and size != 16):
            self.copyable = False
        is_ipv6 = field.content == "address" and size == 16
        return _Place(found.start, size, PRESENT_IPV6 if is_ipv6 else PRESENT)

    def _family(self, field: StoredField) -> int:
        """Return the family of the original tuple's address, which every flow has."""
        found = field.find(self.layout.skeleton)
        assert found is not None
        return AF_INET6 if found.end - found.start == 16 else AF_INET

    def records(
        self,
        messages: PackedMessages,
        records: RecordLayout,
        also: Mapping[StoredField, int],
        payloads: Payloads,
    ) -> bytearray:
        """Return the records of messages, in their order.

        :param messages: the messages.
        :param records: the layout of the records.
        :param also: values of fields that every row has, whatever its message.
        :param payloads: the payloads, to which those of the messages are added.
        """
        copier = self._copiers.get(records)
        if copier is None:
            if len(self._copiers) >= _MAX_LAYOUTS:
                self._copiers.clear()
            copier = self._copiers[records] = _Copier(records, self._places, self.constants)
        return copier.records(messages, also, payloads)


_Copy = tuple[int, int]
"""The index of a number in a record, and its offset in a message."""


class _Copier:
    """Copies the values of messages of one skeleton into records of one layout."""

    def __init__(
        self,
        records: RecordLayout,
        places: Mapping[StoredField, _Place],
        constants: Mapping[StoredField, int],
    ) -> None:
        self._layout = records
        self._template = bytearray(records.size)
        self._payloads: list[tuple[int, _Place]] = []
        self._copies: dict[int, list[_Copy]] = {1: [], 2: [], 4: [], 8: []}
        for field, at in records.offsets.items():
            place = places.get(field)
            if field in constants:
                packed = pack_fixed(field, constants[field])
                self._template[at : at + len(packed)] = packed
            if place is not None:
                self._add(field, at, place)

    def _add(self, field: StoredField, at: int, place: _Place) -> None:
        start, size, pattern = place
        if field.content == "address" and pattern == PRESENT:
            self._template[at : at + 12] = MAPPED
            at += 12
        if field.content in ("text", "bytes"):
            self._payloads.append((at >> 2, place))
        elif size == 16:
            self._copies[8] += [(at >> 3, start), (at + 8 >> 3, start + 8)]
        elif field.content == "number" and size != field.width:
            assert (field.width, size) == (1, 2), "flags, which precede their mask"
            self._copies[1].append((at, start))
        else:
            self._copies[size].append((at // size, start))

    def records(
        self, messages: PackedMessages, also: Mapping[StoredField, int], payloads: Payloads
    ) -> bytearray:
        template = self._template
        for field, value in also.items():
            at = self._layout.offsets.get(field)
            if at is not None:
                template[at : at + field.width] = pack_fixed(field, value)
        records = bytearray(template * messages.count)
        stride = self._layout.size
        data, message_stride = messages.data, messages.stride
        for at, start in self._copies[1]:
            records[at::stride] = data[start::message_stride]
        with memoryview(records) as view:
            for size, code in ((2, "H"), (4, "I"), (8, "Q")):
                copies = self._copies[size]
                if copies:
                    with view.cast(cast("IntegerCode", code)) as numbers:
                        step = stride // size
                        for at, start in copies:
                            numbers[at::step] = messages.numbers(start, size)
            for at, place in self._payloads:
                with view.cast("I") as numbers:
                    numbers[at :: stride // 4] = self._indexes(messages, place, payloads)
        return records

    def _indexes(self, messages: PackedMessages, place: _Place, payloads: Payloads) -> memoryview:
        """Return the indexes of the payloads of messages, in network byte order."""
        data, start, size, stride = messages.data, place.start, place.size, messages.stride
        found = [payloads.index(data[at : at + size]) for at in range(start, len(data), stride)]
        indexes = array("I", found)
        if sys.byteorder == "little":
            indexes.byteswap()
        return memoryview(indexes)


def values_of(fields: Sequence[StoredField], obj: object) -> tuple[bytes, list[object]]:
    """Return which fields of an object are present, one byte each, and their values."""
    values = [field.value_of(obj) for field in fields]
    return bytes(map(_presence_of, fields, values)), values


def _presence_of(field: StoredField, value: object) -> int:
    if value is None:
        return ABSENT
    if field.content == "address":
        return PRESENT_IPV6 if value.version == 6 else PRESENT  # type: ignore[attr-defined]
    return PRESENT


def pack_record(
    records: RecordLayout,
    fields: Sequence[StoredField],
    values: Sequence[object],
    payloads: Payloads,
) -> bytes:
    """Return the record of one row.

    :param records: the layout of the record.
    :param fields: the stored fields.
    :param values: their values; ``None`` for those that are absent.
    :param payloads: the payloads, to which those of the row are added.
    """
    record = bytearray(records.size)
    for field, value in zip(fields, values, strict=True):
        if value is not None:
            at = records.offsets[field]
            if isinstance(value, str):
                value = value.encode(errors="surrogateescape")
            if isinstance(value, bytes):
                packed = payloads.index(value).to_bytes(4, "big")
            else:
                packed = pack_fixed(field, value)
            record[at : at + len(packed)] = packed
    return bytes(record)


class Rows:
    """The rows of a batch: their records, in order, and which values are present in them."""

    def __init__(
        self,
        layout: RecordLayout,
        records: bytes,
        order: bytes,
        fields: Sequence[StoredField],
        patterns: Sequence[bytes],
        payloads: list[bytes],
    ) -> None:
        """Initialize the rows.

        :param layout: the layout of the records. It has the fields that some row has.
        :param records: the records.
        :param order: the number of each row's group, one byte each.
        :param fields: the stored fields.
        :param patterns: which of these fields are present in the rows of each group.
        :param payloads: the texts and opaque data.
        """
        self.count: Final = len(order)
        self.payloads: Final = payloads
        self._layout = layout
        self._records = records
        self._order = order
        self._numbers = {field: number for number, field in enumerate(fields)}
        self._patterns = patterns

    def presence(self, field: StoredField) -> bytes:
        """Return, for each row, whether a field is present, one byte each."""
        number = self._numbers[field]
        table = bytes([pattern[number] for pattern in self._patterns])
        if table.count(table[:1]) == len(table):  # as in most columns
            return (table[:1] or b"\0") * self.count
        return self._order.translate(table.ljust(256, b"\0"))

    def numbers(self, field: StoredField) -> memoryview:
        """Return the values of a field that holds numbers; 0 where it is absent."""
        code = field.code
        at = self._layout.offsets.get(field)
        if at is None:
            return memoryview(bytes(self.count * field.width)).cast(code)
        if code == "B":
            return memoryview(self._records[at :: self._layout.size])
        values = array(code, self._view(code, at, field.width).tobytes())
        if sys.byteorder == "little" and not field.host_order:
            values.byteswap()
        return memoryview(values)

    def sixteens(self, field: StoredField) -> memoryview:
        """Return the values of a field of 16 bytes, one after the other; zeros where absent."""
        at = self._layout.offsets.get(field)
        zeros = bytes(16 * self.count)
        if at is None:
            return memoryview(zeros)
        both = bytearray(zeros)
        with memoryview(both) as view, view.cast("Q") as halves:
            halves[0::2] = self._view("Q", at, 8)
            halves[1::2] = self._view("Q", at + 8, 8)
        return memoryview(both)

    def _view(self, code: IntegerCode, at: int, width: int) -> memoryview:
        """Return the numbers at an offset of each record."""
        return memoryview(self._records).cast(code)[at // width :: self._layout.size // width]
