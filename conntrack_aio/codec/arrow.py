"""Columns as Apache Arrow, by nanoarrow: for Polars, DuckDB, pandas, pyarrow and others.

Numbers and addresses are not copied: Arrow gets the buffers of the columns.

nanoarrow is imported at the first use. It is in the extra ``arrow``.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from itertools import accumulate
from struct import Struct
from typing import TYPE_CHECKING, Final, Literal, Protocol, cast

from .column import Column, encoded
from .column_fields import ColumnSource
from .scalars import from_words

if TYPE_CHECKING:
    from types import ModuleType

Addresses = Literal["bytes", "text"]
"""How columns hold addresses: as 16 bytes, or as text."""

TIMES: Final = frozenset({"start", "stop", "timestamp", "receive_timestamp"})
"""The columns that hold times, in nanoseconds since 1970."""

_BITS: Final = b"0" + b"1" * 255
_NUMBER_TYPES: Final = {"B": "uint8", "H": "uint16", "I": "uint32", "i": "int32", "Q": "uint64"}


class ArrowStream(Protocol):
    """An object with a stream."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...


def _nanoarrow() -> ModuleType:
    """Import nanoarrow.

    :raises ModuleNotFoundError: when it is not installed; the error says how to install it.
    """
    try:
        return import_module("nanoarrow")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Arrow needs the package nanoarrow: pip install nanoarrow",
            name=error.name,
        ) from None


def stream_of(arrays: Sequence[object], schema: object) -> ArrowStream:
    """Return a stream of arrays."""
    streams = import_module("nanoarrow.c_array_stream").CArrayStream
    c_schema = _nanoarrow().c_schema(schema)
    return cast("ArrowStream", streams.from_c_arrays(list(arrays), c_schema))


def schema_of_columns(sources: Mapping[str, ColumnSource], addresses: Addresses) -> object:
    """Return the Arrow schema of columns.

    :param sources: the columns, by name.
    :param addresses: how columns hold addresses.
    :raises ModuleNotFoundError: when nanoarrow is not installed.
    """
    types = {name: _type_of(source, addresses) for name, source in sources.items()}
    return cast("object", _nanoarrow().struct(types))


def _type_of(source: ColumnSource, addresses: Addresses) -> object:
    na, field = _nanoarrow(), source.fields[0]
    if source.computation in ("protocol", "state", "type") or field.content == "text":
        return na.string()
    if source.name in TIMES:
        return na.timestamp("ns")
    if field.content == "number":
        make: Callable[[], object] = getattr(na, _NUMBER_TYPES[field.code])
        return make()
    if field.content == "address":
        return na.fixed_size_binary(16) if addresses == "bytes" else na.string()
    return na.list_(na.uint8()) if field.content == "bitmap" else na.binary()


def array_of(columns: Sequence[Column], rows: int, schema: object) -> object:
    """Return columns as an Arrow array of structures.

    :param columns: the columns.
    :param rows: the number of rows.
    :param schema: their schema.
    """
    fields: Iterator[object] = iter(schema.fields)  # type: ignore[attr-defined]
    children = [_child(*pair) for pair in zip(columns, fields, strict=True)]
    return _array(schema, rows, [None], 0, children)


def _child(column: Column, schema: object) -> object:
    """Return a column as an Arrow array."""
    present = column.validity
    nulls = 0 if present is None else bytes(present).count(0)
    validity = None if present is None else bitmap_of(present)
    children: list[object] = []
    if column.name == "labels":
        offsets, numbers = _labels(column)
        buffers: list[object] = [validity, offsets]
        child = _nanoarrow().uint8()
        children.append(_array(child, len(numbers), [None, numbers], 0, []))
    elif column.dictionary is not None:
        buffers = [validity, *_texts(column, column.dictionary)]
    elif column.offsets is not None:
        buffers = [validity, column.offsets, column.data]
    else:
        buffers = [validity, column.data]
    return _array(schema, len(column), buffers, nulls, children)


def _array(
    schema: object, length: int, buffers: list[object], nulls: int, children: list[object]
) -> object:
    make = _nanoarrow().c_array_from_buffers
    return cast("object", make(schema, length, buffers, null_count=nulls, children=children))


def bitmap_of(validity: Sequence[int] | memoryview) -> bytes:
    """Return Arrow's bitmap of bytes that are 0 or 1: one bit each, the lowest bit first."""
    digits = bytes(validity).translate(_BITS)[::-1]
    return int(digits, 2).to_bytes((len(digits) + 7) // 8, "little")


def _texts(column: Column, dictionary: Sequence[str]) -> tuple[array[int], bytes]:
    """Return the offsets and the bytes of the texts of a column with a dictionary.

    A row without a text may have any.
    """
    codes: list[int] = column.data.tolist()
    texts = {code: encoded(dictionary[code]) for code in set(codes)}
    return _joined(list(map(texts.__getitem__, codes)))


def _labels(column: Column) -> tuple[array[int], bytes]:
    """Return the offsets and the bytes of the lists of each flow's labels."""
    if not any(column.validity or b"\1"):
        return array("i", bytes(4 * len(column) + 4)), b""
    bitmaps = [bitmap for (bitmap,) in Struct("16s").iter_unpack(column.data)]
    lists = {bitmap: _bits(from_words(bitmap)) for bitmap in set(bitmaps)}
    return _joined(list(map(lists.__getitem__, bitmaps)))


def _joined(values: Sequence[bytes]) -> tuple[array[int], bytes]:
    """Return the offsets of values in one buffer, and the buffer."""
    return array("i", accumulate(map(len, values), initial=0)), b"".join(values)


def _bits(number: int) -> bytes:
    return bytes([bit for bit in range(number.bit_length()) if number >> bit & 1])
