"""Sort rows, of which only the first few may be wanted."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class SortedRows(Generic[T]):
    """Collects rows with the values to sort them by.

    With a limit only so many rows are kept. Rows without a value come last in either order.
    """

    def __init__(self, key: Callable[[Any], Any], *, reverse: bool, limit: int | None) -> None:
        """Collect no rows yet.

        :param key: returns what values are compared by; it is not called with ``None``.
        :param reverse: whether the largest values come first.
        :param limit: how many rows to keep, instead of all.
        """
        self._key = key
        self._reverse = reverse
        self._limit = limit
        self._rows: list[tuple[tuple[Any, ...], T]] = []

    def add(self, rows: Iterable[tuple[Any, T]]) -> None:
        """Add rows.

        :param rows: each with the value to sort it by, and the row.
        """
        present, absent = (1, 0) if self._reverse else (0, 1)
        key = self._key
        for value, row in rows:
            self._rows.append(((absent,) if value is None else (present, key(value)), row))
        if self._limit is not None and len(self._rows) > 2 * self._limit + 4096:
            self._rows = self._first()

    def _first(self) -> list[tuple[tuple[Any, ...], T]]:
        def by(pair: tuple[tuple[Any, ...], T]) -> tuple[Any, ...]:
            return pair[0]

        if self._limit is None:
            return sorted(self._rows, key=by, reverse=self._reverse)
        choose = heapq.nlargest if self._reverse else heapq.nsmallest
        return choose(self._limit, self._rows, key=by)

    def result(self) -> list[T]:
        """Return the rows in order."""
        return [row for _, row in self._first()]
