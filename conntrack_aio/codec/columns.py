"""Batches of columns: what :meth:`Dump.columns` and :meth:`EventStream.columns` yield."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator, Mapping
from functools import partial
from ipaddress import IPv6Address
from socket import AF_INET6, inet_ntoa, inet_ntop
from struct import Struct
from typing import Final, NoReturn

from ..model.protocols import DCCP, PROTOCOL_NAMES, SCTP, TCP
from ..model.protoinfo import STATE_TYPES
from ..suggestions import suggestion
from .arrow import Addresses, array_of, schema_of_columns, stream_of
from .column import Column, ColumnValue, DictionaryColumn, FixedColumn, NumberColumn, VariableColumn
from .column_fields import EVENT_TYPES, ColumnSource, StoredField
from .column_records import PRESENT, PRESENT_IPV6, Rows
from .scalars import from_words

_ASCII: Final = bytes(range(128))
_split_16: Final = Struct("16s").iter_unpack
_split_ipv4: Final = Struct("12x4s").iter_unpack
_LARGEST: Final = (1 << 64) - 1

_ADDRESS_MEMO: Final = 1 << 13
"""About how many texts of IPv6 addresses are kept. The addresses of one tuple are in the other one,
too, in the same batch. Finding a text takes a fraction of the time of making it."""

_ipv6_texts: Final[dict[bytes, str]] = {}

_EVENT_TYPES: Final = tuple([event_type.value for event_type in EVENT_TYPES])


class _Names:
    """The names of numbers from 0 to 255; digits if a number has no name."""

    def __init__(self, names: Mapping[int, str]) -> None:
        self._all = tuple([names.get(number, str(number)) for number in range(256)])
        self._named = self._all[: max(names) + 1]
        self._known = bytes(range(len(self._named)))

    def of(self, numbers: memoryview) -> tuple[str, ...]:
        """Return the names of all numbers up to the largest that has a name, or that is there."""
        unknown = numbers.tobytes().translate(None, self._known)
        return self._all[: max(unknown) + 1] if unknown else self._named


_PROTOCOLS: Final = _Names(PROTOCOL_NAMES)
_STATES: Final = tuple(
    [
        _Names({state.value: state.name for state in STATE_TYPES[proto]})
        for proto in (TCP, SCTP, DCCP)
    ]
)
"""The names of states, of each of the fields that the column ``state`` is made of."""


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
        self._count = rows.count
        self._rows: Rows | None = rows
        """What columns are made of; ``None`` if all of them exist."""
        self._sources = sources
        self._addresses: Addresses = addresses
        self._columns: dict[str, Column] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(self._sources)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, name: str) -> Column:
        column = self._columns.get(name)
        if column is None:
            source = self._sources.get(name)
            if source is None:
                hint = suggestion(name, self._sources) if isinstance(name, str) else ""  # pyright: ignore[reportUnnecessaryIsInstance]
                raise KeyError(f"this batch has no column {name!r}{hint}")
            assert self._rows is not None
            column = self._columns[name] = self._make(source, self._rows)
        return column

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def to_dict(self) -> dict[str, list[ColumnValue | None]]:
        """Return the values of each column as a list, by the column's name."""
        return {name: self[name].to_list() for name in self._sources}

    def drop_rows(self) -> None:
        """Make all columns, and release what they are made of."""
        for name in self._sources:
            self[name].complete()
        self._rows = None

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return the rows as an Arrow stream: a capsule of the Arrow PyCapsule interface.

        :raises ModuleNotFoundError: when nanoarrow is not installed.
        """
        schema = schema_of_columns(self._sources, self._addresses)
        return stream_of([self.to_array(schema)], schema).__arrow_c_stream__(requested_schema)

    def to_array(self, schema: object) -> object:
        """Return the rows as a nanoarrow array with this schema."""
        return array_of([self[name] for name in self._sources], self._count, schema)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a ColumnBatch cannot be pickled or copied; use its to_dict()")

    def __repr__(self) -> str:
        return f"<ColumnBatch: {self._count} rows, {len(self._sources)} columns>"

    def _make(self, source: ColumnSource, rows: Rows) -> Column:
        name, field = source.name, source.fields[0]
        if source.computation == "sum":
            return _sum(source, rows)
        if source.computation == "state":
            return _state(source, rows)
        present = rows.presence(field)
        if source.computation == "protocol":
            numbers = rows.numbers(field)
            return DictionaryColumn(name, present, numbers, _PROTOCOLS.of(numbers))
        if source.computation == "type":
            return DictionaryColumn(name, present, rows.numbers(field), _EVENT_TYPES)
        if field.content == "number":
            return NumberColumn(name, present, rows.numbers(field))
        if field.content == "bitmap":
            return FixedColumn(name, present, rows.sixteens(field), from_words)
        if field.content == "address":
            packed = rows.sixteens(field)
            if self._addresses == "bytes":
                return FixedColumn(name, present, packed, None)
            return VariableColumn(name, present, partial(_texts, packed, present))
        payloads = rows.payloads
        if field.content == "text":
            texts = list(map(_text, payloads))
            return DictionaryColumn(name, present, rows.numbers(field), texts)
        return VariableColumn(name, present, partial(_opaque, rows, field))


def _opaque(rows: Rows, field: StoredField) -> list[bytes]:
    """Return the opaque data of a field; empty where there is none."""
    return list(map(rows.payloads.__getitem__, rows.numbers(field).tolist()))


def _sum(source: ColumnSource, rows: Rows) -> Column:
    """Return the column of the sums of two fields, where at least one is present."""
    one, other = source.fields
    present, also = rows.presence(one), rows.presence(other)
    if also != present:
        present = bytes(map(max, present, also))
    return NumberColumn(source.name, present, add_numbers(rows.numbers(one), rows.numbers(other)))


def _state(source: ColumnSource, rows: Rows) -> Column:
    """Return the column of the states of all protocols, of which a row has one."""
    found = [(rows.presence(each), kind) for kind, each in enumerate(source.fields)]
    found = [(present, kind) for present, kind in found if any(present)]
    if len(found) <= 1:
        present, kind = found[0] if found else (bytes(rows.count), 0)
        numbers = rows.numbers(source.fields[kind])
        return DictionaryColumn(source.name, present, numbers, _STATES[kind].of(numbers))
    codes = array("H", bytes(2 * rows.count))
    names: list[str] = []
    for present, kind in found:
        numbers = rows.numbers(source.fields[kind])
        for row in [row for row, has in enumerate(present) if has]:
            codes[row] = len(names) + numbers[row]
        names += _STATES[kind].of(numbers)
    anywhere = bytes(map(max, *[present for present, _ in found]))
    return DictionaryColumn(source.name, anywhere, memoryview(codes), names)


def _text(payload: bytes) -> str:
    """Return the text of a payload, which ends at a NUL."""
    return payload.split(b"\0", 1)[0].decode(errors="surrogateescape")


def _texts(addresses: memoryview, present: bytes) -> list[str]:
    """Return addresses as text, each as :class:`str` returns it; empty where there is none."""
    if present.count(PRESENT) == len(present):
        return [inet_ntoa(packed) for (packed,) in _split_ipv4(addresses)]
    if len(_ipv6_texts) > _ADDRESS_MEMO:
        _ipv6_texts.clear()
    known = _ipv6_texts.get
    return [
        (known(packed) or _make_ipv6_text(packed))
        if kind == PRESENT_IPV6
        else inet_ntoa(packed[12:])
        if kind == PRESENT
        else ""
        for (packed,), kind in zip(_split_16(addresses), present, strict=True)
    ]


def _make_ipv6_text(packed: bytes) -> str:
    text = _ipv6_texts[packed] = ipv6_text(packed)
    return text


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
