"""Columns: what a batch has of each name."""

from __future__ import annotations

from abc import abstractmethod
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from struct import Struct
from typing import Final, NoReturn, cast, overload

ColumnValue = int | str | bytes
"""A value of a column."""

_IS_PRESENT: Final = bytes([0, *[1] * 255])
_split_16: Final = Struct("16s").iter_unpack


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

    def complete(self) -> None:
        """Compute :attr:`data`."""
        _ = self.data

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

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Column cannot be pickled or copied; use its to_list()")

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
