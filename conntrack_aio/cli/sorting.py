"""Sort rows, of which only the first few may be wanted."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from functools import total_ordering
from typing import Any, Final, Generic, NamedTuple, TypeVar

T = TypeVar("T")


class SortKey(NamedTuple):
    """A value to sort rows by."""

    key: Callable[[Any], Any]
    """Returns what values are compared by; it is not called with ``None``."""
    descending: bool
    """Whether the largest values come first."""


class SortedRows(Generic[T]):
    """Collects rows with the values to sort them by.

    With a limit only so many rows are kept. Rows without a value come last in either order.
    """

    def __init__(self, keys: Sequence[SortKey], *, limit: int | None) -> None:
        """Collect no rows yet.

        :param keys: the values to sort by. Rows with the same first value are sorted by the second
            one, and so on.
        :param limit: how many rows to keep, instead of all.
        """
        # Comparisons of plain values are much faster than those of _Descending. So all rows are
        # reversed if the first value is descending, and only values of the other order are wrapped.
        self._reverse = keys[0].descending
        self._keys = [
            key.key if key.descending is self._reverse else _reversed(key.key) for key in keys
        ]
        self._limit = limit
        self._rows: list[tuple[tuple[Any, ...], T]] = []

    def add(self, rows: Iterable[tuple[Sequence[Any], T]]) -> None:
        """Add rows.

        :param rows: each with the values to sort it by, and the row.
        """
        present, absent = ((1,), (0, 0)) if self._reverse else ((0,), (1, 0))
        keys = self._keys
        for values, row in rows:
            order: tuple[Any, ...] = ()
            for value, key in zip(values, keys, strict=True):
                order += absent if value is None else (*present, key(value))
            self._rows.append((order, row))
        if self._limit is not None and len(self._rows) > 2 * self._limit + 4096:
            self._rows = self._first()

    def _first(self) -> list[tuple[tuple[Any, ...], T]]:
        if self._limit is None:
            return sorted(self._rows, key=_order_of, reverse=self._reverse)
        choose = heapq.nlargest if self._reverse else heapq.nsmallest
        return choose(self._limit, self._rows, key=_order_of)

    def result(self) -> list[T]:
        """Return the rows in order."""
        return [row for _, row in self._first()]


def _order_of(pair: tuple[tuple[Any, ...], object]) -> tuple[Any, ...]:
    return pair[0]


@total_ordering
class _Descending:
    """A value that is compared in the other direction."""

    def __init__(self, value: Any) -> None:
        self._value: Final = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Descending) and self._value == other._value

    def __lt__(self, other: _Descending) -> bool:
        less: bool = other._value < self._value
        return less

    __hash__ = None  # type: ignore[assignment]


def _reversed(key: Callable[[Any], Any]) -> Callable[[Any], _Descending]:
    return lambda value: _Descending(key(value))
