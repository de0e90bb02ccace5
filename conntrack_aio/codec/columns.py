"""Batches of columns: what :meth:`Dump.columns` and :meth:`EventStream.columns` yield."""

from __future__ import annotations

import sys
from abc import abstractmethod
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from ipaddress import IPv6Address
from itertools import accumulate
from socket import AF_INET6, inet_ntoa, inet_ntop
from struct import Struct
from typing import Final, Literal, cast, overload

from ..model.protocols import DCCP, PROTOCOL_NAMES, SCTP, TCP
from ..model.protoinfo import STATE_TYPES
from ..suggestions import suggestion
from .column_fields import EVENT_TYPES, ColumnSource, StoredField
from .column_records import PRESENT, PRESENT_IPV6, Rows
from .scalars import from_words

Addresses = Literal["bytes", "text"]
"""How columns hold addresses: as 16 bytes, or as text."""

ColumnValue = int | str | bytes
"""A value of a column."""

_IS_PRESENT: Final = bytes([0, *[1] * 255])
_ASCII: Final = bytes(range(128))
_split_16: Final = Struct("16s").iter_unpack
_split_ipv4: Final = Struct("12x4s").iter_unpack
_LARGEST: Final = (1 << 64) - 1

_PROTOCOLS: Final = tuple([PROTOCOL_NAMES.get(number, str(number)) for number in range(256)])
"""The names of protocols, by number."""

_EVENT_TYPES: Final = tuple([event_type.value for event_type in EVENT_TYPES])


def _state_names(proto: int) -> list[str]:
    """Return the names of the states of a protocol, by number; digits if a state has no name."""
    names = {state.value: state.name for state in STATE_TYPES[proto]}
    return [names.get(number, str(number)) for number in range(256)]


_STATES: Final = (*_state_names(TCP), *_state_names(SCTP), *_state_names(DCCP))
"""The names of states: 256 for each of the fields that the column ``state`` is made of."""


class Column(Sequence["ColumnValue | None"]):
    """A column of a batch: a sequence of values, ``None`` where a row has none.

    :attr:`data` has the values as numbers or bytes in one buffer, without an object for each. It
    can be passed to :class:`memoryview`, NumPy's ``frombuffer`` and the like.
    """

    def __init__(self, name: str, present: bytes) -> None:
        """Initialize a column.

        :param name: the name of the column.
        :param present: whether each row has a value: a byte that is 0 if not.
        """
        self._name = name
        self._present = present

    @property
    def name(self) -> str:
        """The name of the column."""
        return self._name

    @property
    @abstractmethod
    def data(self) -> memoryview:
        """The values of all rows.

        - Of numbers, the items are the numbers; the item of a row without a value is 0.
        - Of addresses, unless they are text, and of labels there are 16 bytes for each row. An IPv4
          address is IPv4-mapped: its 4 bytes follow ten bytes 0 and two bytes 255.
        - Of texts of which there are few, such as names of states, the items are indexes in
          :attr:`dictionary`.
        - Of other texts and opaque data, the items are the bytes of all values, one after the
          other, and :attr:`offsets` has their ends. Texts are UTF-8; bytes that the kernel sent and
          that are not UTF-8 are U+FFFD.
        """

    @property
    def offsets(self) -> memoryview | None:
        """The offsets in :attr:`data` at which the texts or opaque data of the rows begin, and one
        more, at which the last one ends. ``None`` for other columns."""
        return None

    @property
    def dictionary(self) -> Sequence[str] | None:
        """The texts that the numbers in :attr:`data` are the indexes of. ``None`` for columns that
        are not indexes."""
        return None

    @cached_property
    def validity(self) -> memoryview | None:
        """Whether each row has a value: a byte of 1 or 0. ``None`` if all rows have one."""
        if b"\0" not in self._present:
            return None
        return memoryview(self._present.translate(_IS_PRESENT))

    @abstractmethod
    def _values(self) -> Sequence[ColumnValue]:
        """Return the values of all rows, any value where a row has none."""

    def to_list(self) -> list[ColumnValue | None]:
        """Return the values as a list, with ``None`` where a row has none."""
        values = self._values()
        if self.validity is None:
            return list(values)
        pairs = zip(values, self._present, strict=True)
        return [value if present else None for value, present in pairs]

    def __len__(self) -> int:
        return len(self._present)

    def __iter__(self) -> Iterator[ColumnValue | None]:
        return iter(self.to_list())

    @overload
    def __getitem__(self, index: int) -> ColumnValue | None: ...
    @overload
    def __getitem__(self, index: slice) -> list[ColumnValue | None]: ...
    def __getitem__(self, index: int | slice) -> ColumnValue | list[ColumnValue | None] | None:
        if isinstance(index, slice):
            return self.to_list()[index]
        return self._value(index) if self._present[index] else None

    def _value(self, index: int) -> ColumnValue:
        return self._values()[index]

    def __repr__(self) -> str:
        return f"<Column {self._name}: {len(self)} rows>"


class NumberColumn(Column):
    """A column of numbers."""

    def __init__(self, name: str, present: bytes, numbers: memoryview) -> None:
        super().__init__(name, present)
        self._numbers = numbers

    @property
    def data(self) -> memoryview:
        return self._numbers

    def _values(self) -> Sequence[int]:
        return self._numbers.tolist()

    def _value(self, index: int) -> int:
        return self._numbers[index]


class FixedColumn(Column):
    """A column of 16 bytes for each row."""

    def __init__(
        self,
        name: str,
        present: bytes,
        data: memoryview,
        convert: Callable[[bytes], ColumnValue] | None,
    ) -> None:
        super().__init__(name, present)
        self._data = data
        self._convert = convert

    @property
    def data(self) -> memoryview:
        return self._data

    def _values(self) -> Sequence[ColumnValue]:
        values = [value for (value,) in _split_16(self._data)]
        return values if self._convert is None else list(map(self._convert, values))

    def _value(self, index: int) -> ColumnValue:
        at = 16 * range(len(self))[index]
        value = bytes(self._data[at : at + 16])
        return value if self._convert is None else self._convert(value)


class VariableColumn(Column):
    """A column of texts or opaque data."""

    def __init__(
        self, name: str, present: bytes, make: Callable[[], Sequence[str] | Sequence[bytes]]
    ) -> None:
        """Initialize a column.

        :param name: the name of the column.
        :param present: whether each row has a value: a byte that is 0 if not.
        :param make: returns the values; empty where a row has none.
        """
        super().__init__(name, present)
        self._make = make

    @cached_property
    def _made(self) -> Sequence[str] | Sequence[bytes]:
        return self._make()

    def _values(self) -> Sequence[str] | Sequence[bytes]:
        return self._made

    @cached_property
    def _buffers(self) -> tuple[bytes, array[int]]:
        """The values as one buffer, and their offsets in it."""
        if not any(self._present):
            return b"", array("i", bytes(4 * len(self) + 4))
        values: Sequence[str] | Sequence[bytes] = self._made
        if isinstance(values[0], str):
            joined = "".join(cast("Sequence[str]", values))
            if joined.isascii():
                return joined.encode(), _offsets(values)
        packed = [encoded(value) for value in values]
        return b"".join(packed), _offsets(packed)

    @property
    def data(self) -> memoryview:
        return memoryview(self._buffers[0])

    @property
    def offsets(self) -> memoryview:
        return memoryview(self._buffers[1])


def _offsets(values: Sequence[str] | Sequence[bytes]) -> array[int]:
    """Return the offset of each value among all of them, and where the last one ends."""
    return array("i", accumulate(map(len, values), initial=0))


def encoded(value: str | bytes) -> bytes:
    """Return a text in UTF-8, with U+FFFD for what is not UTF-8; opaque data as it is."""
    if isinstance(value, bytes):
        return value
    try:
        return value.encode()
    except UnicodeEncodeError:
        return value.encode(errors="surrogateescape").decode(errors="replace").encode()


class DictionaryColumn(Column):
    """A column of texts of which there are few: :attr:`data` has the index of each row's text."""

    def __init__(
        self, name: str, present: bytes, codes: memoryview, dictionary: Sequence[str]
    ) -> None:
        """Initialize a column.

        :param name: the name of the column.
        :param present: whether each row has a value: a byte that is 0 if not.
        :param codes: the index of each row's text, any index where a row has none.
        :param dictionary: the texts.
        """
        super().__init__(name, present)
        self._codes = codes
        self._dictionary = dictionary

    @property
    def data(self) -> memoryview:
        return self._codes

    @property
    def dictionary(self) -> Sequence[str]:
        return self._dictionary

    def _values(self) -> Sequence[str]:
        return list(map(self._dictionary.__getitem__, self._codes.tolist()))

    def _value(self, index: int) -> str:
        return self._dictionary[self._codes[index]]


class ColumnBatch:
    """Rows of a table or a stream, as columns.

    ``batch["orig_src"]`` is a :class:`Column`, and ``len(batch)`` is the number of rows. The rows
    have the order in which the kernel sent them.
    """

    def __init__(
        self, rows: Rows, sources: Mapping[str, ColumnSource], addresses: Addresses
    ) -> None:
        """Initialize a batch.

        :param rows: the rows.
        :param sources: the columns, by name.
        :param addresses: how columns hold addresses.
        """
        self._rows = rows
        self._sources = sources
        self._addresses = addresses
        self._columns: dict[str, Column] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(self._sources)

    def __len__(self) -> int:
        return self._rows.count

    def __getitem__(self, name: str) -> Column:
        column = self._columns.get(name)
        if column is None:
            source = self._sources.get(name)
            if source is None:
                hint = suggestion(name, self._sources) if isinstance(name, str) else ""  # pyright: ignore[reportUnnecessaryIsInstance]
                raise KeyError(f"this batch has no column {name!r}{hint}")
            column = self._columns[name] = self._make(source)
        return column

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def to_dict(self) -> dict[str, list[ColumnValue | None]]:
        """Return the values of each column as a list, by the column's name."""
        return {name: self[name].to_list() for name in self._sources}

    def __repr__(self) -> str:
        return f"<ColumnBatch: {len(self)} rows, {len(self._sources)} columns>"

    def _make(self, source: ColumnSource) -> Column:
        rows, name, field = self._rows, source.name, source.fields[0]
        if source.computation == "sum":
            return self._sum(source)
        if source.computation == "state":
            return self._state(source)
        present = rows.presence(field)
        if source.computation == "protocol":
            return DictionaryColumn(name, present, rows.numbers(field), _PROTOCOLS)
        if source.computation == "type":
            return DictionaryColumn(name, present, rows.numbers(field), _EVENT_TYPES)
        if field.content == "number":
            return NumberColumn(name, present, rows.numbers(field))
        if field.content == "bitmap":
            return FixedColumn(name, present, rows.sixteens(field), from_words)
        if field.content == "address":
            return self._address(name, field, present)
        payloads = rows.payloads
        if field.content == "text":
            texts = list(map(_text, payloads))
            return DictionaryColumn(name, present, rows.numbers(field), texts)
        return VariableColumn(name, present, lambda: self._opaque(field, present))

    def _opaque(self, field: StoredField, present: bytes) -> list[bytes]:
        pairs = zip(self._rows.numbers(field).tolist(), present, strict=True)
        payloads = self._rows.payloads
        return [payloads[index] if is_present else b"" for index, is_present in pairs]

    def _address(self, name: str, field: StoredField, present: bytes) -> Column:
        if self._addresses == "bytes":
            return FixedColumn(name, present, self._rows.sixteens(field), None)
        return VariableColumn(name, present, lambda: _texts(self._rows.sixteens(field), present))

    def _sum(self, source: ColumnSource) -> Column:
        one, other = source.fields
        present = self._rows.presence(one)
        also = self._rows.presence(other)
        if also != present:
            present = bytes(map(max, present, also))
        added = add_numbers(self._rows.numbers(one), self._rows.numbers(other))
        return NumberColumn(source.name, present, added)

    def _state(self, source: ColumnSource) -> Column:
        """Return the column of the states of all protocols, of which a row has one."""
        rows = self._rows
        found = [(rows.presence(each), kind) for kind, each in enumerate(source.fields)]
        found = [(present, kind) for present, kind in found if any(present)]
        if len(found) <= 1:
            present, kind = found[0] if found else (bytes(rows.count), 0)
            names = _STATES[256 * kind : 256 * kind + 256]
            return DictionaryColumn(source.name, present, rows.numbers(source.fields[kind]), names)
        codes = array("H", bytes(2 * rows.count))
        for present, kind in found:
            numbers = rows.numbers(source.fields[kind])
            for row in [row for row, has in enumerate(present) if has]:
                codes[row] = 256 * kind + numbers[row]
        anywhere = bytes(map(max, *[present for present, _ in found]))
        return DictionaryColumn(source.name, anywhere, memoryview(codes), _STATES)


def _text(payload: bytes) -> str:
    """Return the text of a payload, which ends at a NUL."""
    return payload.split(b"\0", 1)[0].decode(errors="surrogateescape")


def _texts(addresses: memoryview, present: bytes) -> list[str]:
    """Return addresses as text, each as :class:`str` returns it; empty where there is none."""
    if present.count(PRESENT) == len(present):
        return [inet_ntoa(packed) for (packed,) in _split_ipv4(addresses)]
    rows = zip(_split_16(addresses), present, strict=True)
    return [
        inet_ntoa(packed[12:])
        if kind == PRESENT
        else ipv6_text(packed)
        if kind == PRESENT_IPV6
        else ""
        for (packed,), kind in rows
    ]


def ipv6_text(packed: bytes) -> str:
    """Return an IPv6 address as :class:`str` returns it.

    The C library is faster, but writes some addresses with an IPv4 address at the end.
    """
    if packed[:8] == bytes(8):
        return str(IPv6Address(packed))
    return inet_ntop(AF_INET6, packed)


def add_numbers(one: memoryview, other: memoryview) -> memoryview:
    """Return the sums of numbers of 64 bits, at most the largest such number.

    All are added at once, as two large integers, unless a sum may need more than 64 bits.
    """
    first, second = one.tobytes(), other.tobytes()
    top = 7 if sys.byteorder == "little" else 0
    high = (first[top::8] + second[top::8]).translate(None, _ASCII)
    if high:
        pairs = zip(one.tolist(), other.tolist(), strict=True)
        return memoryview(array("Q", [min(a + b, _LARGEST) for a, b in pairs]))
    order = sys.byteorder
    total = int.from_bytes(first, order) + int.from_bytes(second, order)
    return memoryview(total.to_bytes(len(first), order)).cast("Q")
